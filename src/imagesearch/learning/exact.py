"""A collection in memory, searched exactly: what rankings are evaluated on, and what indexes are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.metrics import Floats
from imagesearch.records import ImageRecord, Metric, Progress, no_progress
from imagesearch.search.background import BACKGROUND, Background
from imagesearch.search.reordering import as_compared
from imagesearch.stores.base import Collection, Ids, Vectors
from imagesearch.stores.scores import SCORE_DECIMALS


@dataclass(frozen=True, eq=False, slots=True)
class Rows:
    """A collection in memory, sorted by path.

    Attributes:
        pictures: n rows.
        vectors: float32, shape (n, dim).
        metric: how they are compared.
        label_axes: what tells the model's labels apart, see :func:`~imagesearch.search.ranking.rank`.
    """

    pictures: list[ImageRecord]
    vectors: Vectors
    metric: Metric
    label_axes: Floats | None = None


def read_rows(collection: Collection, progress: Progress = no_progress, label_axes: Floats | None = None) -> Rows:
    """All rows with their vectors, and what is known of the model's labels.

    Raises:
        UsageError: there are none.
        StoreError: the database fails.
    """
    pictures: list[ImageRecord] = []
    parts: list[Vectors] = []
    total = collection.count()
    for batch, vectors in collection.scan_vectors():
        pictures += batch
        parts.append(vectors)
        progress("scan", len(pictures), total)
    if not pictures:
        raise UsageError(f"collection {collection.spec.name!r} has no pictures to evaluate: index some first")
    places = sorted(range(len(pictures)), key=lambda place: pictures[place].path)
    vectors = np.concatenate(parts)[places]
    return Rows([pictures[place] for place in places], vectors, collection.spec.metric, label_axes)


class ExactRows:
    """Rows as a :class:`~imagesearch.search.ranking.Finder`, by exact search; each query may lack one of them.

    Args:
        rows: the rows; a row's key is its place.
        absent: int, shape (q,): for each query of a search the row that is not there; negative: none.
    """

    def __init__(self, rows: Rows, absent: NDArray[np.int64]) -> None:
        self.metric = rows.metric
        self.label_axes = rows.label_axes
        self._vectors, self._absent = rows.vectors, absent
        self._compared = as_compared(rows.vectors, rows.metric).astype(np.float32)
        ids = [picture.id for picture in rows.pictures]
        sample = sorted(range(len(ids)), key=ids.__getitem__)[: BACKGROUND + 2]
        self._background = Background(sample, as_compared(rows.vectors[sample], rows.metric))

    def at(self, absent: NDArray[np.int64]) -> ExactRows:
        """The same rows for other queries."""
        other = object.__new__(ExactRows)
        other.metric, other.label_axes = self.metric, self.label_axes
        other._vectors, other._compared = self._vectors, self._compared
        other._absent, other._background = absent, self._background
        return other

    def background(self, copies: Sequence[Sequence[int]]) -> Floats:
        """The mean of the rows, for each query without its copies and the row that is not there."""
        absent = self._absent.tolist()
        return self._background.without([[*own, key] for own, key in zip(copies, absent, strict=True)])

    def whitened(self, rows: Floats, query: int, copies: Sequence[int]) -> Floats:
        """See :class:`~imagesearch.search.ranking.Finder`; the row that is not there is left out."""
        return self._background.whitened(rows, [*copies, int(self._absent[query])])

    def search(self, vectors: Vectors, k: int) -> list[tuple[Ids, Vectors]]:
        """Places and vectors of the k closest rows to each query, of equally close ones in order of path."""
        return [(places, self._vectors[places]) for places in self.closest(vectors, k)]

    def closest(self, vectors: Vectors, k: int) -> list[Ids]:
        """Places of the k closest rows to each query; of equally close ones the first in order of path."""
        closeness = self.closeness(vectors)
        return [_highest(row, k, int(absent)) for row, absent in zip(closeness, self._absent, strict=True)]

    def closeness(self, vectors: Vectors) -> Floats:
        """Similarities, or negative distances, rounded like scores: float64, shape (q, n)."""
        queries = as_compared(vectors, self.metric).astype(np.float32)
        scores = (queries @ self._compared.T).astype(np.float64)
        if self.metric is Metric.L2:
            squares = (self._compared.astype(np.float64) ** 2).sum(axis=1)
            scores = 2 * scores - squares - (queries.astype(np.float64) ** 2).sum(axis=1)[:, None]
        return np.asarray(np.round(scores, SCORE_DECIMALS))


def _highest(scores: Floats, k: int, absent: int) -> Ids:
    if absent >= 0:
        scores[absent] = -np.inf
    count = len(scores) - (absent >= 0)
    if k < count:
        last = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= last)
    else:
        k, places = count, np.arange(len(scores))
    return np.asarray(places[np.argsort(-scores[places], kind="stable")][:k])
