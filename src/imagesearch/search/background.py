"""Rows that stand for a collection: what its pictures have in common, and along which directions they differ."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from imagesearch.search.reordering import Floats, as_compared
from imagesearch.stores.base import Collection

# Rows whose mean stands for the collection's, and rows that they are chosen from: reading more takes longer.
BACKGROUND = 1000
_SCANNED = 20_000
# By so many of these rows is told whether all are still there as they were: of collections of which half was
# replaced one in 65,536 passes for unchanged.
_WITNESSES = 16
# Seconds until they are looked at again: that takes a fifth of a search, and on a Milvus server a request more.
_TRUSTED = 1.0
# How far the covariance is drawn towards that of a sphere, see Background.whitened.
_SHRINKAGE = 0.8


class Background:
    """Rows that stand for a collection.

    Args:
        keys: at most one more than :data:`BACKGROUND`, smallest first.
        vectors: of these rows, as they are compared: float64, shape (number of keys, dim).
    """

    def __init__(self, keys: Sequence[int], vectors: Floats) -> None:
        self._vectors, self._places = vectors, {key: place for place, key in enumerate(keys)}
        self._sum = vectors[:BACKGROUND].sum(axis=0)
        self._confirmed = time.monotonic()

    def is_of(self, collection: Collection) -> bool:
        """Whether a collection still holds these rows, as far as some of them, evenly spread, can tell.

        They are looked at once in :data:`_TRUSTED` seconds.

        Raises:
            StoreError: the database fails.
        """
        now = time.monotonic()
        if now - self._confirmed < _TRUSTED:
            return True
        keys = list(self._places)
        chosen = np.linspace(0, len(keys) - 1, min(len(keys), _WITNESSES)).astype(int)
        pictures, vectors = collection.fetch([keys[place] for place in chosen])
        there = as_compared(vectors, collection.spec.metric)
        if len(pictures) != len(chosen) or not np.allclose(there, self._vectors[chosen], rtol=1e-6, atol=0):
            return False
        self._confirmed = now
        return True

    def without(self, copies: Sequence[Sequence[int]]) -> Floats:
        """Their mean for each query, without its copies; see ``ranking.Finder.background``."""
        return np.array([self._mean(*self._changes(own)) for own in copies])

    def whitened(self, rows: Floats, copies: Sequence[int]) -> Floats:
        """Cosines of the first row with the others where directions in which all pictures differ count less.

        Whitening: the mean is taken away, and each direction divided by its standard deviation in the collection
        (Jegou & Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and
        whitening", ECCV 2012). A thousand rows tell little of some hundred directions, so their covariance is
        drawn towards a multiple of the identity (Ledoit & Wolf, "A well-conditioned estimator for
        large-dimensional covariance matrices", Journal of Multivariate Analysis 2004), by a fixed part.

        Args:
            rows: a query and its candidates, shape (n + 1, dim), as they are compared.
            copies: keys of rows that are left out: see :meth:`without`.

        Returns:
            Shape (n,).
        """
        more, less = self._changes(copies)
        centred = rows - self._mean(more, less)
        if more or less:
            solved = np.linalg.solve(self._covariance(more, less), centred.T).T
        else:
            solved = centred @ self._precision
        products, squares = solved[1:] @ centred[0], np.einsum("ij,ij->i", solved, centred)
        lengths = np.sqrt(squares[1:] * squares[0])
        return np.asarray(products / np.where(lengths == 0, 1.0, lengths))

    def _changes(self, copies: Sequence[int]) -> tuple[list[int], list[int]]:
        """Places of rows that stand in for copies, and of those among the first."""
        left_out = {self._places[key] for key in copies if key in self._places}
        end = BACKGROUND
        for place in sorted(left_out):
            end += place < end
        end = min(end, len(self._vectors))
        more = [place for place in range(BACKGROUND, end) if place not in left_out]
        return more, [place for place in left_out if place < BACKGROUND]

    def _mean(self, more: list[int], less: list[int]) -> Floats:
        """The mean of the first rows but some; the others need not be added up again."""
        total = self._sum
        if more or less:
            total = total + self._vectors[more].sum(axis=0) - self._vectors[less].sum(axis=0)
        return np.asarray(total / self._count(more, less))

    def _count(self, more: list[int], less: list[int]) -> int:
        return max(1, min(BACKGROUND, len(self._vectors)) + len(more) - len(less))

    @cached_property
    def _squares(self) -> Floats:
        first = self._vectors[:BACKGROUND]
        return np.asarray(first.T @ first)

    @cached_property
    def _precision(self) -> Floats:
        return np.asarray(np.linalg.inv(self._covariance([], [])), np.float64)

    def _covariance(self, more: list[int], less: list[int]) -> Floats:
        """Of the same rows, shrunk: shape (dim, dim)."""
        added, taken, mean = self._vectors[more], self._vectors[less], self._mean(more, less)
        squares = self._squares + added.T @ added - taken.T @ taken
        covariance = (1 - _SHRINKAGE) * (squares / self._count(more, less) - np.outer(mean, mean))
        # The mean of all variances; equal rows have none, but for rounding.
        least = 1e-9 * float(np.trace(squares)) / self._count(more, less) / len(mean)
        sphere = max(float(np.trace(covariance)) / (1 - _SHRINKAGE) / len(mean), least, 1e-12)
        covariance[np.diag_indices_from(covariance)] += _SHRINKAGE * sphere
        return np.asarray(covariance)


# Backgrounds of this process by collection: reading one takes longer than a search. A changed number of rows makes
# it stale, and so do other rows in their place; fewer changes hardly move the mean.
_backgrounds: dict[tuple[str, str, str, int], Background] = {}
_MOST_BACKGROUNDS = 16


def background_of(collection: Collection) -> Background:
    """The background of a collection, read once in a process as long as it hardly changes.

    Ids are hashes of paths: the smallest are a random sample, the same one in every process and engine. Of a
    collection of more than :data:`_SCANNED` rows only as many are looked at, those that a scan gives first.

    Raises:
        StoreError: the database fails.
    """
    name = (collection.place, collection.spec.name, collection.fingerprint.key, collection.count())
    if (known := _backgrounds.get(name)) is not None and known.is_of(collection):
        return known
    keys: list[int] = []
    for columns in collection.scan_columns(["id"]):
        keys += [int(key) for key in columns["id"]]
        if len(keys) >= _SCANNED:
            break
    pictures, vectors = collection.fetch(sorted(keys)[: BACKGROUND + 1])
    background = Background([one.id for one in pictures], as_compared(vectors, collection.spec.metric))
    if len(_backgrounds) >= _MOST_BACKGROUNDS:
        _backgrounds.pop(next(iter(_backgrounds)), None)
    _backgrounds[name] = background
    return background
