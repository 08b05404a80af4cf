"""What a classifier's labels are called, and which of them a word means.

Labels are lists of synonyms, as in ImageNet: ``"goldfish, Carassius auratus"``. A name's last word says what it is
(a "Maltese dog" is a dog), the words before it which one; so it is in nearly all of ImageNet's labels.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

Phrase = tuple[str, ...]

_ARTICLES = frozenset(("a", "an", "the"))
_APOSTROPHES = re.compile(r"['\u2018\u2019]")
_IRREGULAR = {
    "children": "child",
    "feet": "foot",
    "geese": "goose",
    "men": "man",
    "mice": "mouse",
    "oxen": "ox",
    "people": "person",
    "teeth": "tooth",
    "women": "woman",
}
# How alike (difflib's ratio) a word and a name must be for one to be taken as the other, misspelt; they also begin
# alike, as misspellings do. Of 900 names of ImageNet with one typing error, 92 % were taken for the right name and
# 0.9 % for another; of the 791 of ImageNet's names that mean none of the bundled model's labels, 1.1 % for one.
_ALIKE = 0.83
# What is offered where nothing is that alike.
_NEAREST, _SOMEWHAT_ALIKE = 3, 0.6


@dataclass(frozen=True, slots=True)
class Match:
    """The labels that a text means.

    Attributes:
        indices: numbers of the labels, ascending, at least one.
        known_as: the name that the text was taken for, if it is misspelt, else None.
        is_kind: whether the text is a kind of things, and the labels are those of that kind ("dog"); they may have
            got into it by another sense of the word ("hot dog").
    """

    indices: tuple[int, ...]
    known_as: str | None = None
    is_kind: bool = False


class Vocabulary:
    """The names of a classifier's labels.

    Attributes:
        labels: as the checkpoint has them; the position is the class's number.
    """

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = tuple(labels)
        self._whole = [_phrase(label) for label in self.labels]
        self._names = [[name for part in label.split(",") if (name := _phrase(part))] for label in self.labels]

    def match(self, text: str) -> Match | None:
        """The labels that a word or phrase means; case, punctuation, articles and plurals do not matter.

        In this order, the first that is not empty: labels that are called just that in the first place; those
        with a synonym that is that, or ends in it ("dog": "Maltese dog, Maltese terrier"); those that have it
        anywhere in a name, in whole words; and the same for the name that is most alike, if the text may be it,
        misspelt.

        Returns:
            None if there are none.
        """
        wanted = _phrase(text)
        while len(wanted) > 1 and wanted[0] in _ARTICLES:
            wanted = wanted[1:]
        if not wanted:
            return None
        if (match := self._spelt(wanted)) is not None:
            return match
        for name in difflib.get_close_matches(" ".join(wanted), self._phrases(), _NEAREST, _ALIKE):
            if name[0] == wanted[0][0] and (match := self._spelt(tuple(name.split()))) is not None:
                return Match(match.indices, name, match.is_kind)
        return None

    def nearest(self, text: str) -> list[str]:
        """Up to three known names that are somewhat like a text, most alike first."""
        return difflib.get_close_matches(" ".join(_phrase(text)), self._phrases(), _NEAREST, _SOMEWHAT_ALIKE)

    def _spelt(self, wanted: Phrase) -> Match | None:
        called = [
            index
            for index, names in enumerate(self._names)
            if self._whole[index] == wanted or any(_is_same(name, wanted) for name in names[:1])
        ]
        if called:
            return Match(tuple(called))
        if kind := self._where(wanted, _is_kind_of):
            return Match(tuple(kind), is_kind=True)
        parts = self._where(wanted, _has_part)
        return Match(tuple(parts)) if parts else None

    def _where(self, wanted: Phrase, fits: Callable[[Phrase, Phrase], bool]) -> list[int]:
        return [index for index, names in enumerate(self._names) if any(fits(name, wanted) for name in names)]

    def _phrases(self) -> list[str]:
        """What texts may be meant to be: all names, whole and by their last words, and each word of them."""
        every = [name for names in self._names for name in names]
        ends = (" ".join(name[start:]) for name in every for start in range(len(name)))
        return list(dict.fromkeys([*ends, *(word for name in every for word in name)]))


def _phrase(text: str) -> Phrase:
    """Words in lower case, without accents and punctuation; what a hyphen joins are two.

    Examples:
        >>> _phrase("Saint-Bernard's (dog)")
        ('saint', 'bernards', 'dog')
    """
    letters = unicodedata.normalize("NFKD", _APOSTROPHES.sub("", text)).casefold()
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return tuple(re.sub(r"[\W_]+", " ", plain).split())


def _is_same(name: Phrase, wanted: Phrase) -> bool:
    """Whether two phrases are the same but for how words are joined ("school bus", "schoolbus") and plurals."""
    return _same_word("".join(name), "".join(wanted))


def _is_kind_of(name: Phrase, wanted: Phrase) -> bool:
    return _is_same(name, wanted) or (len(name) > len(wanted) and _is_same(name[-len(wanted) :], wanted))


def _has_part(name: Phrase, wanted: Phrase) -> bool:
    length = len(wanted)
    return any(_is_same(name[start : start + length], wanted) for start in range(len(name) - length + 1))


def _same_word(one: str, other: str) -> bool:
    return one == other or (one[:1] == other[:1] and not _forms(one).isdisjoint(_forms(other)))


@lru_cache(maxsize=100_000)
def _forms(word: str) -> frozenset[str]:
    """A word, and what it may be the plural of.

    Examples:
        >>> sorted(_forms("wolves")), sorted(_forms("bus")), sorted(_forms("dishes"))
        (['wolf', 'wolfe', 'wolve', 'wolves'], ['bus'], ['dish', 'dishe', 'dishes'])
    """
    forms = {word, _IRREGULAR.get(word, word)}
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        forms.add(word[:-1])
        if word.endswith("ies"):
            forms.add(word[:-3] + "y")
        if word.endswith("ves"):
            forms.update((word[:-3] + "f", word[:-3] + "fe"))
        if word.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            forms.add(word[:-2])
    return frozenset(forms)
