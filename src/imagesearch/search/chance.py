"""What a collection's pictures score by chance: scores of the nearest *unrelated* picture, found without labels.

Rows of the collection are the queries. For each, its cluster is taken away, as if its kind were not in the
collection, and the best score among the rest is drawn. Clusters are found in neighbourhoods of some hundred rows
around random ones (k-means: Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory
28, 1982), so the work hardly grows with the collection.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Metric
from imagesearch.stores.base import Collection, Vectors
from imagesearch.stores.scores import SCORE_DECIMALS

# Neighbourhoods that are looked at, rows of each, and rows of each that become queries.
_BALLS, _BALL, _PER_BALL = 40, 256, 10
# Neighbours of each query that are asked for. A cluster may hold more: then the neighbourhood's own rows help.
_NEIGHBOURS = 32
# Collections with at most so many rows are read as a whole and compared here. A search would also read what is
# known of each hit's picture, and that takes longer.
_COMPARED = 3000
# Random rows compared with one another.
_PAIRED = 256
# Mean rows of a cluster. Which pictures are of one kind nobody knows; taking the coarse ones away tells how much
# the collection is made of clusters at all.
FINE, COARSE = 16, 32
_STEPS = 8

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True, slots=True)
class Draws:
    """Scores as closeness: higher is closer, whatever the metric.

    Attributes:
        rows: of the collection.
        nearest: of each query's nearest other row; float64, shape (q,).
        fine, coarse: of its nearest row outside its cluster, for small and for larger clusters; float64, (q,).
        pairs: of random pairs of rows, sorted; float64.
    """

    rows: int
    nearest: Floats
    fine: Floats
    coarse: Floats
    pairs: Floats


def closeness(scores: Floats, metric: Metric) -> Floats:
    """Scores so that higher is closer."""
    return scores if metric.higher_is_closer else -scores


def draw(collection: Collection, seed: int = 0) -> Draws:
    """Draw scores of nearest unrelated pictures; the same ones for the same rows and seed.

    Args:
        collection: at least 2 rows.
        seed: of the random choices.

    Raises:
        StoreError: the database fails.
    """
    rng, metric = np.random.default_rng(seed), collection.spec.metric
    ids = np.sort(np.concatenate([np.asarray(part["id"], np.int64) for part in collection.scan_columns(["id"])]))
    whole = len(ids) <= _BALL
    _, paired = _fetch(collection, rng.permutation(ids)[:_PAIRED], metric)
    find = _comparison(collection, ids) if _BALL < len(ids) <= _COMPARED else partial(_search, collection)
    balls = [ids] if whole else list(find(paired[:_BALLS], _BALL)[0])
    known, vectors = _fetch(collection, np.unique(np.concatenate(balls)), metric)
    places = [np.searchsorted(known, ball[np.isin(ball, known)]) for ball in balls]
    # The first of a neighbourhood are its centre: what is near to them is in it, too.
    chosen = [np.arange(len(p)) if whole else rng.permutation(len(p) // 3)[:_PER_BALL] for p in places]
    queries = np.concatenate([place[inner] for place, inner in zip(places, chosen, strict=True)])
    hits = _no_hits(len(queries)) if whole else find(vectors[queries], _NEIGHBOURS + 1)
    found, start = [], 0
    for place, inner in zip(places, chosen, strict=True):
        part = slice(start, start := start + len(inner))
        beyond = np.where(np.isin(hits[0][part], known[place]), -np.inf, hits[1][part]).max(axis=1)
        found.append(_nearest(vectors[place], inner, beyond, metric, rng))
    draws = np.concatenate(found)
    draws = draws[np.isfinite(draws).all(axis=1)]  # all rows of a neighbourhood may be one cluster: copies
    upper = np.triu_indices(len(paired), 1)
    pairs = np.sort(_closeness_of(paired, paired, metric)[upper])
    return Draws(len(ids), draws[:, 0], draws[:, 1], draws[:, 2], pairs)


def _nearest(vectors: Vectors, inner: Ids, beyond: Floats, metric: Metric, rng: np.random.Generator) -> Floats:
    """What some rows of a neighbourhood score with their nearest row, without and with clusters taken away.

    Args:
        vectors: of the neighbourhood, shape (n, dim).
        inner: places of the queries among them, shape (q,).
        beyond: each query's best closeness with rows outside, ``-inf`` where none is known; shape (q,).
        metric: the collection's.
        rng: for the first centres.

    Returns:
        float64, shape (q, 3): with any other row, outside the fine cluster, outside the coarse one.
    """
    close = _closeness_of(vectors[inner], vectors, metric)
    close[np.arange(len(inner)), inner] = -np.inf
    best = [close.max(axis=1)]
    for size in (FINE, COARSE):
        labels = _clusters(vectors, max(2, len(vectors) // size), rng)
        same = labels[inner][:, None] == labels[None, :]
        best.append(np.where(same, -np.inf, close).max(axis=1))
    return np.asarray(np.maximum(np.stack(best, axis=1), beyond[:, None]))


def _clusters(vectors: Vectors, number: int, rng: np.random.Generator) -> Ids:
    """The cluster of each row by k-means, int64, shape (n,); some of the clusters may be empty."""
    centres = vectors[rng.permutation(len(vectors))[:number]]
    labels = np.full(len(vectors), -1, np.int64)
    for _ in range(_STEPS):
        before = labels
        labels = np.argmax(vectors @ centres.T - 0.5 * (centres**2).sum(axis=1), axis=1)
        if np.array_equal(labels, before):
            break
        members = np.eye(len(centres), dtype=np.float32)[labels]
        sizes = members.sum(axis=0)[:, None]
        centres = np.where(sizes > 0, members.T @ vectors / np.maximum(sizes, 1), centres)
    return labels


def _comparison(collection: Collection, ids: Ids) -> Callable[[Vectors, int], tuple[Ids, Floats]]:
    """What does the same as :func:`_search` by comparing with every row; there, too, ties are ordered by path."""
    metric = collection.spec.metric
    pictures, vectors = collection.fetch(ids.tolist())
    by_path = sorted(range(len(pictures)), key=lambda place: pictures[place].path)
    known = np.array([pictures[place].id for place in by_path], np.int64)
    rows = _comparable(vectors[by_path].astype(np.float64), metric)

    def find(queries: Vectors, k: int) -> tuple[Ids, Floats]:
        close = _closeness_of(_comparable(queries.astype(np.float64), metric), rows, metric)
        close = np.round(close, SCORE_DECIMALS)
        nearest = np.argsort(-close, axis=1, kind="stable")[:, :k]
        return known[nearest], np.take_along_axis(close, nearest, axis=1)

    return find


def _search(collection: Collection, queries: Vectors, k: int) -> tuple[Ids, Floats]:
    """Ids and closeness of hits, each of shape (q, k); the collection has at least k rows."""
    found = collection.search(queries, k)
    ids = np.full((len(found), k), -1, np.int64)
    close = np.full((len(found), k), -np.inf)
    for row, hits in enumerate(found):
        ids[row, : len(hits)] = [hit.picture.id for hit in hits]
        close[row, : len(hits)] = [hit.score for hit in hits]
    there = ids >= 0
    close[there] = closeness(close[there], collection.spec.metric)
    return ids, close


def _no_hits(queries: int) -> tuple[Ids, Floats]:
    """What :func:`_search` returns where the neighbourhood is the whole collection."""
    return np.full((queries, 1), -1, np.int64), np.full((queries, 1), -np.inf)


def _fetch(collection: Collection, ids: Ids, metric: Metric) -> tuple[Ids, Vectors]:
    """Rows by their ids: the ids that are there, and vectors, of unit length if the metric is the cosine."""
    pictures, vectors = collection.fetch(ids.tolist())
    return np.array([picture.id for picture in pictures], np.int64), _comparable(vectors, metric)


def _comparable(vectors: NDArray[Real], metric: Metric) -> NDArray[Real]:
    """Vectors, of unit length if the metric is the cosine."""
    if metric is not Metric.COSINE:
        return vectors
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms == 0, 1, norms), vectors.dtype)


def _closeness_of(queries: NDArray[Real], rows: NDArray[Real], metric: Metric) -> Floats:
    """Closeness of every query (down) with every row (across), float64; cosine takes vectors of unit length."""
    close: Floats = (queries @ rows.T).astype(np.float64)
    if metric is Metric.L2:
        squares = (queries.astype(np.float64) ** 2).sum(axis=1)[:, None] + (rows.astype(np.float64) ** 2).sum(
            axis=1
        )
        close = np.asarray(np.minimum(2 * close - squares, 0.0))
    return close
