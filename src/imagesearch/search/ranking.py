"""Ranking the rows of a collection for a query better than by their distance alone.

A method is a :class:`Recipe`: how the query is moved before it is searched with again, and how the closest
candidates are put in order. Every method looks at :data:`CANDIDATES` rows at most, whatever ``k`` is; beyond
them the order is that of the search.

Copies of the query, rows with the same vector, come first and take no part otherwise: a picture that is in the
collection gets the same answer, besides itself, as it got before it was indexed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.search.reordering import (
    Expansion,
    Floats,
    as_compared,
    augmented,
    by_score,
    diffused,
    expanded,
    is_copy,
    reciprocal,
    similarities,
)
from imagesearch.stores.base import Collection, Ids, Vectors, check_k, checked_vectors, tidy_score

Reordering = Literal["", "augment", "reciprocal", "diffuse"]

# Rows that a method with re-ranking looks at.
CANDIDATES = 200
# Queries whose candidates are in memory at once.
_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a method does.

    Attributes:
        expansion: how the query is moved; None: not at all.
        reordering: how the closest candidates are then put in order; ``""``: they stay.
        summary: one line for users.
    """

    expansion: Expansion | None
    reordering: Reordering
    summary: str


_AVERAGE, _ALPHA = Expansion(3, 0.0), Expansion(3, 3.0)
# As few rows as will do: reading them is most of what it costs.
_FEEDBACK = Expansion(3, 3.0, push=0.5, depth=50)
_DEEP_FEEDBACK = Expansion(5, 3.0, push=0.7, depth=200)
# The authors' own parameters, but fewer neighbours for lists as short as these.
_AUGMENT = partial(augmented, neighbours=8, power=3.0)
_RECIPROCAL = partial(reciprocal, neighbours=20, smoothing=6, own_part=0.3)
_DIFFUSE = partial(diffused, neighbours=10, power=3.0, damping=0.9)

RECIPES: dict[str, Recipe] = {
    "none": Recipe(None, "", "by distance alone"),
    "average": Recipe(_AVERAGE, "", "the query averaged with its 3 nearest"),
    "expand": Recipe(_ALPHA, "", "the query and its 3 nearest, weighted"),
    "feedback": Recipe(_FEEDBACK, "", "expand, and away from ranks 26 to 50"),
    "augment": Recipe(None, "augment", "candidates averaged with their neighbours"),
    "reciprocal": Recipe(None, "reciprocal", "by neighbours in common with the query"),
    "diffuse": Recipe(None, "diffuse", "by diffusion on the candidates' graph"),
    "expand+augment": Recipe(_ALPHA, "augment", "expand, then augment"),
    "expand+reciprocal": Recipe(_ALPHA, "reciprocal", "expand, then reciprocal"),
    "expand+diffuse": Recipe(_ALPHA, "diffuse", "expand, then diffuse"),
    "feedback+augment": Recipe(_DEEP_FEEDBACK, "augment", "feedback from 200 candidates, then augment"),
    "feedback+reciprocal": Recipe(_DEEP_FEEDBACK, "reciprocal", "feedback from 200 candidates, then reciprocal"),
}

METHODS: tuple[str, ...] = tuple(RECIPES)


class Finder(Protocol):
    """What a method asks of a collection."""

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""

    def search(self, vectors: Vectors, k: int) -> Sequence[Sequence[int]]:
        """Keys of the k closest rows to each query, closest first.

        Args:
            vectors: float32, shape (q, dim).
            k: at least 1.
        """

    def fetch(self, keys: Sequence[int]) -> tuple[Sequence[int], Vectors]:
        """Those of the rows that are there, and their vectors: float32, shape (number of them, dim)."""


def rank(
    method: str, collection: Collection, vectors: Vectors, k: int, among: Ids | None = None
) -> list[list[Hit]]:
    """The k best rows for each query.

    Args:
        method: one of :data:`METHODS`.
        collection: of any engine and metric.
        vectors: float32, shape (q, dim).
        k: at least 1; a smaller collection gives all of its rows.
        among: ids of the rows that are found and looked at; None: all.

    Returns:
        For each query its hits. Their order is the method's; their scores are the raw similarities (or
        distances) to the query, as from ``Collection.search``, and so need not fall with the rank. A query's
        answer does not depend on the others of its call.

    Raises:
        UsageError: there is no such method, or ``k`` is below 1.
        StoreError: the database fails.
    """
    check_method(method)
    check_k(k)
    if method == "none":
        return collection.search(vectors, k, among)
    queries = checked_vectors(vectors, collection.fingerprint.dim, "search")
    found: list[list[Hit]] = []
    for start in range(0, len(queries), _BLOCK):
        finder = _Rows(collection, among)
        block = queries[start : start + _BLOCK]
        orders = order(RECIPES[method], finder, block, k)
        found += [finder.hits(query, keys) for query, keys in zip(block, orders, strict=True)]
    return found


def check_method(method: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        UsageError: names those that do.
    """
    if method not in RECIPES:
        raise UsageError(f"there is no ranking method {method!r}: choose one of {', '.join(METHODS)}")


def order(recipe: Recipe, finder: Finder, queries: Vectors, k: int) -> list[list[int]]:
    """Keys of the k best rows for each query, in the recipe's order.

    Args:
        recipe: what to do.
        finder: the rows.
        queries: float32, shape (q, dim).
        k: at least 1.
    """
    metric, rows = finder.metric, as_compared(queries, finder.metric)
    moved, move = rows, recipe.expansion
    own: list[list[int]] = [[] for _ in rows]
    if move is not None:
        looked_at = _candidates(finder, finder.search(queries, move.depth + 1), rows)
        moved = np.stack(
            [
                expanded(row, near.vectors[: move.depth], move, metric)
                for row, near in zip(rows, looked_at, strict=True)
            ]
        )
        # Closest to the query as it was, but perhaps not among the first k of the moved one.
        own = [near.copies for near in looked_at]
    most = CANDIDATES if recipe.reordering else 0
    # Of as many rows as are looked at, or wanted, one may be the query's own.
    found = finder.search(np.asarray(moved, np.float32), max(k, most) + 1)
    looked_at = _candidates(finder, [keys[: max(most, min(k, _COPIES)) + 1] for keys in found], rows)
    orders = []
    for query, keys, near, copies in zip(moved, found, looked_at, own, strict=True):
        best = near.keys[:most]
        first = list(dict.fromkeys([*copies, *near.copies]))
        if best:
            scores = _scores(recipe.reordering, query, near.vectors[:most], metric)
            best = [best[place] for place in by_score(scores).tolist()]
        placed = {*first, *best}
        orders.append([*first, *best, *(key for key in keys if key not in placed)][:k])
    return orders


# So many of the first rows may be copies of the query, where no more are looked at.
_COPIES = 10


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What a search found for one query: keys of its copies; keys and vectors of the others, closest first."""

    copies: list[int]
    keys: list[int]
    vectors: Floats


def _candidates(finder: Finder, found: Sequence[Sequence[int]], queries: Floats) -> list[_Candidates]:
    """What the found rows are, for each query."""
    keys, vectors = finder.fetch(list(dict.fromkeys(key for row in found for key in row)))
    places = {key: place for place, key in enumerate(keys)}
    compared = as_compared(vectors, finder.metric)
    sorted_out = []
    for query, row in zip(queries, found, strict=True):
        there = [key for key in row if key in places]  # others were deleted since
        own = compared[[places[key] for key in there]]
        copies = is_copy(query, own)
        sorted_out.append(
            _Candidates(
                [key for key, copy in zip(there, copies, strict=True) if copy],
                [key for key, copy in zip(there, copies, strict=True) if not copy],
                own[~copies],
            )
        )
    return sorted_out


def _scores(reordering: Reordering, query: Floats, candidates: Floats, metric: Metric) -> Floats:
    """Scores of candidates, higher is closer."""
    together = np.concatenate([query[None], candidates])
    similar = similarities(together, together, metric)
    if reordering == "augment":
        return _AUGMENT(similar, query, candidates)
    if reordering == "reciprocal":
        return _RECIPROCAL(similar)
    return _DIFFUSE(similar)


class _Rows:
    """The rows of a collection that pass a filter, as a :class:`Finder`; what was read is not read again."""

    def __init__(self, collection: Collection, among: Ids | None) -> None:
        self._collection, self._among = collection, among
        self._pictures: dict[int, ImageRecord] = {}
        self._vectors: dict[int, Vectors] = {}

    @property
    def metric(self) -> Metric:
        return self._collection.spec.metric

    def search(self, vectors: Vectors, k: int) -> list[list[int]]:
        found = []
        for hits in self._collection.search(vectors, k, self._among):
            keys = [hit.picture.id for hit in hits]
            self._pictures.update((key, hit.picture) for key, hit in zip(keys, hits, strict=True))
            found.append(keys)
        return found

    def fetch(self, keys: Sequence[int]) -> tuple[list[int], Vectors]:
        if missing := [key for key in keys if key not in self._vectors]:
            pictures, vectors = self._collection.fetch(missing)
            self._vectors.update(zip((picture.id for picture in pictures), vectors, strict=True))
        there = [key for key in keys if key in self._vectors]
        empty = np.empty((0, self._collection.fingerprint.dim), np.float32)
        return there, np.stack([self._vectors[key] for key in there]) if there else empty

    def hits(self, query: Vectors, keys: Sequence[int]) -> list[Hit]:
        """Hits in this order, with their similarity to the query."""
        there, vectors = self.fetch(keys)
        scores = _raw_scores(query, vectors, self.metric)
        return [
            Hit(place, tidy_score(score, self.metric), self._pictures[key])
            for place, (key, score) in enumerate(zip(there, scores, strict=True), start=1)
        ]


def _raw_scores(query: Vectors, vectors: Vectors, metric: Metric) -> list[float]:
    """What ``Collection.search`` gives for these rows, before rounding."""
    rows, own = as_compared(vectors, metric), as_compared(query[None], metric)[0]
    scores: list[float] = (((rows - own) ** 2).sum(axis=1) if metric is Metric.L2 else rows @ own).tolist()
    return scores
