"""Better queries and better orders, from nothing but vectors: the algorithms of :mod:`imagesearch.search.ranking`.

Everything here is about one query and its candidates, the rows that a search found. The neighbours of a
candidate are looked for among the candidates only, so that the work is bounded whatever the size of the
collection: the papers look in all of it. All sums are in float64, and scores that are equal but for rounding
tie: the earlier candidate stays first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Metric
from imagesearch.stores.base import Vectors

Floats = NDArray[np.float64]

# Scores of re-ranking that agree to this many decimals are equal: sums in another order differ from the 15th on.
_DECIMALS = 9
# Vectors that are less similar than this are not equal, not even in float32.
_MAY_BE_EQUAL = 0.999


@dataclass(frozen=True, slots=True)
class Expansion:
    """How a query is moved towards its nearest neighbours, and away from rows that are none.

    Attributes:
        neighbours: how many are added, the closest.
        power: each is weighted with its similarity to this power: 0 in average query expansion (Chum et al.,
            "Total recall: Automatic query expansion with a generative feature model for object retrieval", ICCV
            2007), more in alpha-weighted query expansion (Radenovic, Tolias & Chum, "Fine-tuning CNN image
            retrieval with no human annotation", TPAMI 2018).
        push: how far, relative to its distance from it, it is then moved away from the mean of the collection:
            negative feedback (Rocchio, "Relevance feedback in information retrieval", 1971) where all rows count
            as unrelated, which nearly all are. What all pictures have in common says nothing about any (Jegou &
            Chum, "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening",
            ECCV 2012).
    """

    neighbours: int = 3
    power: float = 3.0
    push: float = 0.0


def expanded(
    query: Floats, candidates: Floats, expansion: Expansion, metric: Metric, background: Floats | None = None
) -> Floats:
    """A query moved as told.

    Args:
        query: shape (dim,), as :func:`as_compared` gives it.
        candidates: shape (n, dim), likewise, closest first, without copies of the query.
        expansion: how.
        metric: of the collection.
        background: the mean of its rows, shape (dim,), as they are compared; needed for a push.

    Returns:
        Shape (dim,), to be searched with by the same metric.
    """
    near = candidates[: expansion.neighbours]
    weights = np.maximum(similarities(query[None], near, metric)[0], 0.0) ** expansion.power
    centre = (query + weights @ near) / (1 + weights.sum())
    if expansion.push and background is not None:
        centre = centre + expansion.push * (centre - background)
    return np.asarray(centre)


def as_compared(vectors: Vectors, metric: Metric) -> Floats:
    """Vectors in float64, for cosine scaled to unit length (a zero vector stays zero)."""
    rows = np.asarray(vectors, np.float64)
    return _unit(rows) if metric is Metric.COSINE else rows


def similarities(rows: Floats, others: Floats, metric: Metric) -> Floats:
    """Similarities in [-1, 1] of all rows to all others, 1 for equal ones.

    The cosine; for L2 the like of it that knows lengths, ``1 - |x - y|^2 / (|x|^2 + |y|^2)``: for unit vectors
    it is the cosine.

    Returns:
        float64, shape (number of rows, number of others).
    """
    if metric is Metric.L2:
        squares = (rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
        return np.asarray(2 * (rows @ others.T) / np.where(squares == 0, 1.0, squares))
    if metric is Metric.IP:
        rows, others = _unit(rows), _unit(others)
    return np.asarray(rows @ others.T)


def with_labels(vectors: Floats, axes: Floats) -> Floats:
    """Vectors beside what a classifier makes of them: how much more each label is meant than all of them together.

    Pictures of classes that nobody trained on are told apart by how much of each known class they have (query by
    semantic example: Rasiwasia, Moreno & Vasconcelos, "Bridging the gap: query by semantic example", IEEE
    Transactions on Multimedia 2007; classemes: Torresani, Szummer & Fitzgibbon, "Efficient object category
    recognition using classemes", ECCV 2010). There, what matters to no label, such as how bright a picture is, is
    gone; the vector itself keeps it, for pictures of which the labels know nothing.

    Args:
        vectors: shape (n, dim).
        axes: of the labels, shape (axes, dim): see :func:`imagesearch.models.label_axes.label_axes`.

    Returns:
        Unit vectors, shape (n, dim + axes), whose cosine is the mean of both cosines.
    """
    said = vectors @ axes.T
    return _unit(np.hstack([_unit(vectors), _unit(said)]))


def close_with_labels(query: Floats, candidates: Floats, metric: Metric, axes: Floats) -> Floats:
    """The similarities of :func:`with_labels` of a query, shape (dim,), with some candidates, shape (n, dim)."""
    have_unit_length = metric is Metric.COSINE
    return (_cosines(query, candidates, have_unit_length) + _cosines(axes @ query, candidates @ axes.T)) / 2


def _cosines(one: Floats, rows: Floats, have_unit_length: bool = False) -> Floats:
    """Of one row with each of the others, which may be known to have unit length (or to be zero)."""
    length = float(_lengths(one[None])[0])
    return np.asarray(rows @ one / (length if have_unit_length else _lengths(rows) * length))


def is_copy(query: Floats, candidates: Floats, similar: Floats) -> NDArray[np.bool_]:
    """Which candidates equal the query but for rounding in float32: shape (n,).

    Args:
        similar: their :func:`similarities` to it; only the most similar ones are compared number by number.
    """
    copies = similar >= _MAY_BE_EQUAL if query.any() else np.ones(len(similar), bool)
    if copies.any():
        distances = ((candidates[copies] - query) ** 2).sum(axis=1)
        copies[copies] = distances <= 1e-10 * max(float(query @ query), 1e-30)
    return copies


def by_score(scores: Floats) -> NDArray[np.int64]:
    """Positions, highest score first; equal scores stay in their order."""
    return np.argsort(-np.round(scores, _DECIMALS), kind="stable")


def augmented(similar: Floats, query: Floats, candidates: Floats, neighbours: int, power: float) -> Floats:
    """Scores of candidates that are replaced by weighted means of themselves and their own neighbours.

    Database-side augmentation (Turcot & Lowe, "Better matching with fewer features", ICCV workshops 2009;
    Arandjelovic & Zisserman 2012), weighted like the query's expansion.

    Args:
        similar: :func:`similarities` of query (first) and candidates, shape (n + 1, n + 1).
        query: shape (dim,).
        candidates: shape (n, dim).
        neighbours: of each candidate.
        power: weights are similarities to this power.

    Returns:
        Shape (n,), higher is closer.
    """
    own = similar[1:, 1:]
    weights = np.where(_nearest(own, neighbours + 1), np.maximum(own, 0.0) ** power, 0.0)
    return np.asarray(_unit(weights @ candidates) @ _unit(query[None])[0])


def reciprocal(similar: Floats, neighbours: int, smoothing: int, own_part: float) -> Floats:
    """Scores by how many reciprocal neighbours a candidate shares with the query.

    k-reciprocal encoding (Zhong, Zheng, Cao & Li, "Re-ranking person re-identification with k-reciprocal
    encoding", CVPR 2017): sets of mutual neighbours, extended by those of their members, compared by the Jaccard
    index.

    Args:
        similar: :func:`similarities` of query (first) and candidates, shape (n + 1, n + 1).
        neighbours: k1 of the paper.
        smoothing: k2 of the paper: neighbours over which an encoding is averaged.
        own_part: lambda of the paper: the weight of the similarity itself.

    Returns:
        Shape (n,), higher is closer.
    """
    distances = np.maximum(1 - similar, 0.0)
    distances /= np.maximum(distances.max(axis=1, keepdims=True), 1e-12)
    near, nearer = _nearest(similar, neighbours + 1), _nearest(similar, neighbours // 2 + 1)
    mutual, core = near & near.T, nearer & nearer.T
    # A member's own set joins where two thirds of it are in already. Counts are small: float32 is exact.
    counts = core.astype(np.float32)
    joins = mutual & (mutual.astype(np.float32) @ counts > 2 / 3 * counts.sum(axis=1))
    extended = mutual | (joins.astype(np.float32) @ counts > 0)
    codes = np.where(extended, np.exp(-distances), 0.0)
    codes /= np.maximum(codes.sum(axis=1, keepdims=True), 1e-12)
    if smoothing > 1:
        around = _nearest(similar, smoothing).astype(np.float64)
        codes = (around @ codes) / around.sum(axis=1, keepdims=True)
    shared = np.minimum(codes[0], codes[1:]).sum(axis=1)
    return np.asarray((1 - own_part) * shared / (2 - shared) + own_part * (1 - distances[0, 1:]))


def diffused(similar: Floats, neighbours: int, power: float, damping: float) -> Floats:
    """Scores after diffusion from the query on the graph of mutual neighbours.

    The closed form with symmetric normalisation (Donoser & Bischof, "Diffusion processes for retrieval revisited",
    CVPR 2013; Iscen et al., "Efficient diffusion on region manifolds", CVPR 2017).

    Args:
        similar: :func:`similarities` of query (first) and candidates, shape (n + 1, n + 1).
        neighbours: edges of a node, if they are mutual.
        power: an edge weighs its similarity to this power.
        damping: part of the mass that moves on in each step, below 1.

    Returns:
        Shape (n,), higher is closer; candidates that nothing reaches follow by similarity.
    """
    edges = np.maximum(similar, 0.0) ** power
    near = _nearest(similar, neighbours + 1)
    edges = np.where(near & near.T, edges, 0.0)
    np.fill_diagonal(edges, 0.0)
    scale = 1 / np.sqrt(np.maximum(edges.sum(axis=1), 1e-12))
    start = np.zeros(len(edges))
    start[0] = 1.0
    reached = np.linalg.solve(np.eye(len(edges)) - damping * edges * scale[:, None] * scale, start)[1:]
    return np.asarray(reached + 1e-3 * similar[0, 1:])


def _nearest(similar: Floats, count: int) -> NDArray[np.bool_]:
    """Which columns are the most similar ones of each row, itself included; all that tie with the last are."""
    rounded = np.round(similar, _DECIMALS)
    count = min(count, rounded.shape[1])
    last = np.partition(rounded, -count, axis=1)[:, -count]
    return np.asarray(rounded >= last[:, None])


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / _lengths(rows)[:, None])


def _lengths(rows: Floats) -> Floats:
    """Of each row; 1 for zeros, which may be divided by it."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1.0
    return np.asarray(lengths)
