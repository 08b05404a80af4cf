"""How well words find pictures: each label is asked for by its name, and pictures with that label are right."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Metric, PlainValues
from imagesearch.stores.base import Collection, Vectors
from imagesearch.stores.scores import SCORE_DECIMALS

# How many answers count for precision, and as "among the first".
_FIRST = 10
# ImageNet's number of a class, alone or before its name: "n01443537_goldfish".
_NUMBER = re.compile(r"^n\d{8}(?:[ _-]+|$)")


@dataclass(frozen=True, slots=True)
class WordScore(PlainValues):
    """How one label was found by its name.

    Attributes:
        label: whose pictures are right.
        right: how many of them there are, at least 1.
        rank: of the first right answer, from 1.
        precision: share of right ones among the first ten answers (in all of ten places, even if fewer are right).
        average_precision: mean over all right pictures of the precision at each one's rank.
    """

    label: str
    right: int
    rank: int
    precision: float
    average_precision: float


@dataclass(frozen=True, slots=True)
class WordSummary(PlainValues):
    """Means over labels.

    Attributes:
        words: number of labels.
        first, among_first: shares of labels with a right answer in the first place, and among the first ten.
        precision: mean precision@10.
        mean_average_precision: over the whole ranking.
    """

    words: int
    first: float
    among_first: float
    precision: float
    mean_average_precision: float


def word_of(label: str) -> str:
    """The name to ask for, of a label that is the name of a folder or file; empty if it holds none.

    Examples:
        >>> word_of("n02099601_golden_retriever"), word_of("school bus"), word_of("n02099601")
        ('golden retriever', 'school bus', '')
    """
    return " ".join(_NUMBER.sub("", label).replace("_", " ").split())


def evaluate_words(
    collection: Collection, labels: Mapping[str, str], words: Mapping[str, Vectors]
) -> list[WordScore]:
    """Compare what a search by each word gives, down to the last picture, with what is known of the pictures.

    The ranking is that of :meth:`Collection.search` and :func:`search.alternatives.best_of`, without making an
    object per hit. All vectors are held in memory.

    Args:
        collection: of at least one picture.
        labels: path of a picture -> its label. Pictures without one are never right.
        words: label -> the vectors of its name, float32, shape (n, dim): see :class:`~models.words.WordQuery`.

    Returns:
        One per label that has both a picture in the collection and vectors, in the order of ``words``.

    Raises:
        StoreError: the database fails, or vectors are of another dimension.
    """
    batches = list(collection.scan_vectors())
    paths = np.array([row.path for rows, _ in batches for row in rows])
    order = np.argsort(paths, kind="stable")  # equal scores are ordered by path
    vectors = np.concatenate([vectors for _, vectors in batches])[order]
    known = np.array([labels.get(str(path), "") for path in paths[order]])
    scores = []
    for label, alternatives in words.items():
        right = known == label
        if right.any():
            best = _closeness(alternatives, vectors, collection.spec.metric).max(axis=0)
            scores.append(_score(label, right[np.argsort(-best.round(SCORE_DECIMALS), kind="stable")]))
    return scores


def _closeness(queries: Vectors, vectors: Vectors, metric: Metric) -> NDArray[np.float32]:
    """Higher for closer vectors: shape (queries, vectors)."""
    closeness: NDArray[np.float32] = queries @ vectors.T
    if metric is Metric.L2:
        closeness = 2 * closeness - (vectors**2).sum(axis=1) - (queries**2).sum(axis=1, keepdims=True)
    elif metric is Metric.COSINE:
        lengths = np.linalg.norm(queries, axis=1, keepdims=True) * np.linalg.norm(vectors, axis=1)
        closeness = closeness / np.maximum(lengths, np.finfo(np.float32).tiny)
    return closeness


def _score(label: str, right: NDArray[np.bool_]) -> WordScore:
    ranks = np.flatnonzero(right) + 1
    return WordScore(
        label=label,
        right=len(ranks),
        rank=int(ranks[0]),
        precision=float(right[:_FIRST].sum() / _FIRST),
        average_precision=float(np.mean(np.arange(1, len(ranks) + 1) / ranks)),
    )


def summary(scores: list[WordScore]) -> WordSummary:
    """Means over labels.

    Args:
        scores: at least one.
    """
    ranks = np.array([score.rank for score in scores])
    return WordSummary(
        words=len(scores),
        first=float(np.mean(ranks == 1)),
        among_first=float(np.mean(ranks <= _FIRST)),
        precision=float(np.mean([score.precision for score in scores])),
        mean_average_precision=float(np.mean([score.average_precision for score in scores])),
    )
