"""Ranking the rows of a collection for a query better than by their distance alone.

A method is a :class:`Recipe`: how the query is moved before it is searched with again, and how the closest
candidates are put in order. Every method looks at :data:`CANDIDATES` rows at most, whatever ``k`` is; beyond
them the order is that of the search.

What is nearly the same picture as the query (a cosine of .97 or more) is put in order by distance alone, before
all other candidates: whoever has a small or a cropped copy wants to see the original.

Copies of the query, rows with the same vector, come first and take no part otherwise: a picture that is in the
collection gets the same answer, besides itself, as it got before it was indexed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, Protocol

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.records import Hit, Metric
from imagesearch.search.background import Background, background_of
from imagesearch.search.reordering import (
    Expansion,
    Floats,
    as_compared,
    augmented,
    by_score,
    close_with_labels,
    diffused,
    expanded,
    is_copy,
    reciprocal,
    similarities,
    with_labels,
)
from imagesearch.stores.base import Collection, Ids, Vectors, check_k, checked_vectors
from imagesearch.stores.scores import tidy_scores

Reordering = Literal["", "augment", "reciprocal", "diffuse", "whiten"]

# Rows that a method with re-ranking looks at; and one that compares each by itself: further ones gain less than
# reading them costs.
CANDIDATES, COMPARED_ALONE = 200, 50
# The similarity from which on pictures are nearly the same with every model: see grouping.near_identical.
_NEARLY_EQUAL = 0.97
# Rows beyond a query's neighbours that are read, as some of the first may be copies of it.
_SPARE = 5
# Queries, and rows that they find, whose vectors are in memory at once.
_BLOCK, _ROWS_AT_ONCE = 32, 20_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a method does.

    Attributes:
        expansion: how the query is moved; None: not at all.
        reordering: how the closest candidates are then put in order; ``""``: they stay.
        summary: one line for users.
        by_labels: whether candidates are compared by what the model's labels say of them, too, see
            :func:`~imagesearch.search.reordering.with_labels`; where the model has none, as they are.
        by_patches: whether the first hits are then put in order by what their files show, which takes more than
            vectors: see :class:`~imagesearch.search.patches.PatchMatcher`.
    """

    expansion: Expansion | None
    reordering: Reordering
    summary: str
    by_labels: bool = False
    by_patches: bool = False


_AVERAGE, _ALPHA = Expansion(3, 0.0), Expansion(3, 3.0)
_FEEDBACK = Expansion(3, 3.0, push=2.0)
# The authors' own parameters, but fewer neighbours for lists as short as these.
_AUGMENT = partial(augmented, neighbours=8, power=3.0)
_RECIPROCAL = partial(reciprocal, neighbours=20, smoothing=6, own_part=0.3)
_DIFFUSE = partial(diffused, neighbours=10, power=3.0, damping=0.9)

RECIPES: dict[str, Recipe] = {
    "none": Recipe(None, "", "by distance alone"),
    "average": Recipe(_AVERAGE, "", "the query averaged with its 3 nearest"),
    "expand": Recipe(_ALPHA, "", "the query and its 3 nearest, weighted"),
    "feedback": Recipe(_FEEDBACK, "", "expand, and away from the mean of all"),
    "augment": Recipe(None, "augment", "candidates averaged with their neighbours"),
    "reciprocal": Recipe(None, "reciprocal", "by neighbours in common with the query"),
    "diffuse": Recipe(None, "diffuse", "by diffusion on the candidates' graph"),
    "whiten": Recipe(None, "whiten", "by distance where all directions count alike"),
    "expand+augment": Recipe(_ALPHA, "augment", "expand, then augment"),
    "expand+reciprocal": Recipe(_ALPHA, "reciprocal", "expand, then reciprocal"),
    "expand+diffuse": Recipe(_ALPHA, "diffuse", "expand, then diffuse"),
    "feedback+augment": Recipe(_FEEDBACK, "augment", "feedback, then augment"),
    "feedback+reciprocal": Recipe(_FEEDBACK, "reciprocal", "feedback, then reciprocal"),
    "labels": Recipe(None, "", "by distance and by what the model's labels say", by_labels=True),
    "labels+reciprocal": Recipe(None, "reciprocal", "reciprocal, by distance and labels", by_labels=True),
    "feedback+labels": Recipe(_FEEDBACK, "", "feedback, then by distance and labels", by_labels=True),
    "feedback+labels+reciprocal": Recipe(
        _FEEDBACK, "reciprocal", "feedback, then reciprocal by both", by_labels=True
    ),
    "patches": Recipe(None, "", "by how well the query's parts are found in each", by_patches=True),
}

METHODS: tuple[str, ...] = tuple(RECIPES)
# Those that look at vectors only, and so are quick.
QUICK_METHODS: tuple[str, ...] = tuple(name for name, one in RECIPES.items() if not one.by_patches)


class Finder(Protocol):
    """What a method asks of a collection."""

    @property
    def metric(self) -> Metric:
        """How vectors are compared."""

    @property
    def label_axes(self) -> Floats | None:
        """What tells the model's labels apart, shape (labels, dim); None: it has none, or too few."""

    def search(self, vectors: Vectors, k: int) -> Sequence[tuple[Ids, Vectors]]:
        """Keys and vectors of the k closest rows to each query, closest first.

        Args:
            vectors: float32, shape (q, dim).
            k: at least 1.
        """

    def background(self, copies: Sequence[Sequence[int]]) -> Floats:
        """The mean of the collection's rows, or of the :data:`BACKGROUND` of the smallest ids.

        Args:
            copies: for each query the keys of rows that are left out.

        Returns:
            Means of rows as :func:`as_compared` gives them: float64, shape (q, dim).
        """

    def whitened(self, rows: Floats, query: int, copies: Sequence[int]) -> Floats:
        """See :meth:`Background.whitened`; ``query`` is the place of the query among those that were searched."""


def rank(
    method: str,
    collection: Collection,
    vectors: Vectors,
    k: int,
    among: Ids | None = None,
    *,
    label_axes: Floats | None = None,
) -> list[list[Hit]]:
    """The k best rows for each query.

    Args:
        method: one of :data:`METHODS`.
        collection: of any engine and metric.
        vectors: float32, shape (q, dim).
        k: at least 1; a smaller collection gives all of its rows.
        among: ids of the rows that are found and looked at; None: all.
        label_axes: what tells the model's labels apart, :func:`imagesearch.models.label_axes.label_axes`: float64,
            shape (axes, dim); None: it has none, or too few.

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
    finder, found = _Rows(collection, among, label_axes), list[list[Hit]]()
    size = min(_BLOCK, max(1, _ROWS_AT_ONCE // k))
    for start in range(0, len(queries), size):
        block = queries[start : start + size]
        found += finder.hits(block, order(RECIPES[method], finder, block, k))
    return found


def check_method(method: str) -> None:
    """Refuse a method that does not exist.

    Raises:
        UsageError: names those that do.
    """
    if method not in RECIPES:
        raise UsageError(f"there is no ranking method {method!r}: choose one of {', '.join(METHODS)}")


def by_patches(method: str) -> bool:
    """Whether a method looks at pictures' files, too, and so takes long; also for one that there is not."""
    return method in RECIPES and RECIPES[method].by_patches


def order(recipe: Recipe, finder: Finder, queries: Vectors, k: int) -> list[list[int]]:
    """Keys of the k best rows for each query, in the recipe's order.

    Args:
        recipe: what to do.
        finder: the rows.
        queries: float32, shape (q, dim).
        k: at least 1.
    """
    metric, rows = finder.metric, as_compared(queries, finder.metric)
    moved, own = _moved(recipe.expansion, finder, queries, rows) if recipe.expansion else (rows, [[]] * len(rows))
    axes = finder.label_axes if recipe.by_labels else None
    most = CANDIDATES if recipe.reordering else COMPARED_ALONE if axes is not None else 0
    # Of as many rows as are looked at one may be the query's own. Not one more than wanted: engines have a limit.
    looked_at = max(most, min(k, _COPIES)) + 1
    found = finder.search(np.asarray(moved, np.float32), max(k, looked_at))
    orders = []
    for number, (row, query, (ids, vectors), copies) in enumerate(zip(rows, moved, found, own, strict=True)):
        near = _candidates(row, ids[:looked_at], vectors[:looked_at], metric)
        keys = ids.tolist()
        best = near.keys[:most]
        first = list(dict.fromkeys([*copies, *near.copies]))
        if best:
            candidates = near.vectors[:most]
            if recipe.reordering == "whiten":
                scores = finder.whitened(np.concatenate([query[None], candidates]), number, first)
            else:
                scores = _scores(recipe.reordering, query, candidates, metric, axes)
            similar = near.similar[:most]
            scores = np.where(similar >= _NEARLY_EQUAL, scores.max() + similar, scores)
            best = [best[place] for place in by_score(scores).tolist()]
        placed = {*first, *best}
        orders.append([*first, *best, *(key for key in keys if key not in placed)][:k])
    return orders


def _moved(
    move: Expansion, finder: Finder, queries: Vectors, rows: Floats
) -> tuple[Floats, Sequence[Sequence[int]]]:
    """Queries moved as told, and keys of the copies of each.

    Copies are closest to the query as it was, but perhaps not among the first of the moved one.
    """
    metric = finder.metric
    found = finder.search(queries, move.neighbours + _SPARE + 1)
    nearest = [_candidates(row, *near, metric) for row, near in zip(rows, found, strict=True)]
    copies = [near.copies for near in nearest]
    means = finder.background(copies) if move.push else [None] * len(rows)
    moved = [
        expanded(row, near.vectors[: move.neighbours], move, metric, mean)
        for row, near, mean in zip(rows, nearest, means, strict=True)
    ]
    return np.array(moved), copies


# So many of the first rows may be copies of the query, where no more are looked at.
_COPIES = 10


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What a search found for one query.

    Attributes:
        copies: keys of its copies.
        keys: those of the others, closest first.
        vectors: of these, as they are compared.
        similar: their similarities to the query.
    """

    copies: list[int]
    keys: list[int]
    vectors: Floats
    similar: Floats


def _candidates(query: Floats, keys: Ids, vectors: Vectors, metric: Metric) -> _Candidates:
    compared = as_compared(vectors, metric)
    similar = similarities(query[None], compared, metric)[0]
    copies = is_copy(query, compared, similar)
    if not copies.any():
        return _Candidates([], keys.tolist(), compared, similar)
    return _Candidates(keys[copies].tolist(), keys[~copies].tolist(), compared[~copies], similar[~copies])


def _scores(
    reordering: Reordering, query: Floats, candidates: Floats, metric: Metric, axes: Floats | None
) -> Floats:
    """Scores of candidates, higher is closer."""
    if not reordering:
        return candidates @ query if axes is None else close_with_labels(query, candidates, metric, axes)
    together = np.concatenate([query[None], candidates])
    if axes is not None:
        together, metric = with_labels(together, axes), Metric.COSINE
        query, candidates = together[0], together[1:]
    similar = similarities(together, together, metric)
    if reordering == "augment":
        return _AUGMENT(similar, query, candidates)
    if reordering == "reciprocal":
        return _RECIPROCAL(similar)
    return _DIFFUSE(similar)


class _Rows:
    """The rows of a collection that pass a filter, as a :class:`Finder`."""

    def __init__(self, collection: Collection, among: Ids | None, label_axes: Floats | None) -> None:
        self._collection, self._among = collection, among
        self.label_axes = label_axes

    @property
    def metric(self) -> Metric:
        return self._collection.spec.metric

    def search(self, vectors: Vectors, k: int) -> list[tuple[Ids, Vectors]]:
        """See :class:`Finder`."""
        return self._collection.search_vectors(vectors, k, self._among)

    def background(self, copies: Sequence[Sequence[int]]) -> Floats:
        """See :class:`Finder`."""
        return self._background.without(copies)

    def whitened(self, rows: Floats, _query: int, copies: Sequence[int]) -> Floats:
        """See :class:`Finder`."""
        return self._background.whitened(rows, copies)

    @cached_property
    def _background(self) -> Background:
        return background_of(self._collection)

    def hits(self, queries: Vectors, orders: Sequence[Sequence[int]]) -> list[list[Hit]]:
        """For each query hits in this order, with their similarity to it; rows that were deleted are left out."""
        records, vectors = self._collection.fetch(list(dict.fromkeys(key for keys in orders for key in keys)))
        places = {record.id: place for place, record in enumerate(records)}
        rows = as_compared(vectors, self.metric)
        hits = []
        for query, keys in zip(as_compared(queries, self.metric), orders, strict=True):
            there = [places[key] for key in keys if key in places]
            scores = tidy_scores(_raw_scores(query, rows[there], self.metric), self.metric)
            ranked = enumerate(zip(there, scores, strict=True), start=1)
            hits.append([Hit(rank, score, records[place]) for rank, (place, score) in ranked])
        return hits


def _raw_scores(query: Floats, rows: Floats, metric: Metric) -> Floats:
    """What ``Collection.search`` gives for these rows, before rounding."""
    return np.asarray(((rows - query) ** 2).sum(axis=1) if metric is Metric.L2 else rows @ query)
