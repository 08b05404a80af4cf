"""Words as queries: by a text tower, or by the names that a classifier knows.

A text tower makes one vector of any text. A classifier's label has one, too: its prototype (:mod:`heads`); a word
that several labels have in common ("dog") has all of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UnknownWordsError, UsageError
from imagesearch.models.heads import Head, free_text
from imagesearch.models.text import encode_queries, prompts_for
from imagesearch.models.vocabulary import Match, Vocabulary

# Labels that an answer names; the others are counted.
_NAMED = 6
# A label belongs to a kind if one of its fellows is among its nearest prototypes: this share of all, but at least
# so many. Of MobileNetV2's dogs that leaves out the hot dog, of its wolves the killer whale ("sea wolf"), no more.
_NEAR, _FEWEST_NEAR = 0.03, 5


@dataclass(frozen=True, eq=False, slots=True)
class WordQuery:
    """What a text means to a model.

    Attributes:
        text: as it was asked.
        vectors: float32, shape (n, dim), n at least 1, of unit length if those of pictures are: alternatives. A
            picture's score is that of the one it is closest to, see :func:`search.alternatives.best_of`.
        meaning: for answers, in a line: which labels were meant, and what a misspelt word was taken for.
        labels: the labels, as the checkpoint has them; none if the model understands any text.
    """

    text: str
    vectors: NDArray[np.float32]
    meaning: str
    labels: tuple[str, ...] = ()


def words_by_text_tower(
    encode: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str], *, normalized: bool = True
) -> list[WordQuery]:
    """Queries for a model that understands free text; one vector each.

    Args:
        encode, normalized: see :func:`text.encode_queries`.

    Raises:
        UsageError: a text is empty.
        ModelError: see ``encode``.
    """
    _check(texts)
    if not texts:
        return []
    vectors = encode_queries(encode, texts, normalized=normalized)
    return [WordQuery(text, vectors[number : number + 1], _as_prompts(text)) for number, text in enumerate(texts)]


def words_by_head(head: Head, texts: Sequence[str]) -> list[WordQuery]:
    """Queries for a model that knows the names of its labels: the prototypes of those that a text means.

    One vector per label, not their mean, which lies between them where no picture is. Measured for the words that
    two or more labels end in ("bear", "bottle"), against all pictures of these labels, nothing trained:

    ========================================  ====  =======
    mean average precision                    mean  best of
    ========================================  ====  =======
    MobileNetV2, 1,000 photographs            .80   .89
    the same, words of five labels or more    .72   .93
    bundled model, Tiny ImageNet validation   .63   .70
    ========================================  ====  =======

    Raises:
        UsageError: a text is empty or means no label; names the nearest that do.
    """
    _check(texts)
    vocabulary = Vocabulary(head.labels)
    return [_by_head(head, vocabulary, text) for text in texts]


def _check(texts: Sequence[str]) -> None:
    for text in texts:
        if not text.strip():
            raise UsageError("a query of words is empty: say what to look for")


def _as_prompts(text: str) -> str:
    sentences = len(prompts_for(text))
    return f"{text} (mean of {sentences} sentences)" if sentences > 1 else text


def _by_head(head: Head, vocabulary: Vocabulary, text: str) -> WordQuery:
    match = vocabulary.match(text)
    if match is None:
        nearest = vocabulary.nearest(text)
        like = f"the nearest words that it knows: {', '.join(nearest)}" if nearest else "nor anything like it"
        raise UnknownWordsError(
            f"{head.model} does not know {text!r}; {like} ('imagesearch models --words' lists all). {free_text()}",
            tuple(nearest),
        )
    indices = list(_of_one_sense(match.indices, head.prototypes) if match.is_kind else match.indices)
    labels = tuple(head.labels[index] for index in indices)
    return WordQuery(text, head.prototypes[indices], _meaning(text, match, labels), labels)


def _of_one_sense(indices: Sequence[int], prototypes: NDArray[np.float32]) -> Sequence[int]:
    """Labels without those that have a word in another sense: none of the others is among their neighbours.

    Where that is so for half of them or more, the word says little about looks ("box"), and all are kept.
    """
    if len(indices) < 3:
        return indices
    mine = np.asarray(indices)
    similar = prototypes[mine] @ prototypes.T
    similar[np.arange(len(mine)), mine] = -np.inf
    nearest_fellow = similar[:, mine].max(axis=1, keepdims=True)
    closer = (similar > nearest_fellow).sum(axis=1)
    kept = mine[closer < max(_FEWEST_NEAR, _NEAR * len(prototypes))]
    return kept.tolist() if 2 * len(kept) > len(mine) else indices


def _meaning(text: str, match: Match, labels: Sequence[str]) -> str:
    names = [label.partition(",")[0].strip() for label in labels]
    shown = labels[0] if len(labels) == 1 else f"any of {len(labels)} labels: {', '.join(names[:_NAMED])}"
    if len(labels) > _NAMED:
        shown += f" and {len(labels) - _NAMED} more"
    return f"{text}: taken as {match.known_as} ({shown})" if match.known_as else f"{text}: {shown}"
