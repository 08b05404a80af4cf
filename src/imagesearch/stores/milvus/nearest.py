"""Exact nearest neighbours at the speed of an approximate index.

A query is compared with the :mod:`codes <imagesearch.stores.milvus.codes>` of all vectors, and the best candidates
are then compared exactly. What these score says which estimate a better vector could have at least, and all with
such an estimate are compared exactly too; if they are not known, more are asked for, and at last all vectors are
compared. So the answer does not depend on how vectors are distributed, only the time does: a graph (HNSW) finds a
third of the neighbours among 100,000 random vectors at its usual settings, and loses its way in large groups of
equal vectors.

Comparing is quick in single precision, which is not enough to tell close scores apart (of vectors far from the
origin, for example): whatever may belong to the answer by its score and the rounding error is compared in double
precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Metric
from imagesearch.stores.base import Vectors
from imagesearch.stores.milvus.codes import Codes, Ids, Scores

# Candidates of a first round, at least, and per result; and how many times as many each further round takes. Of
# 100,000 codes 256 candidates cost hardly more than 32. With four per result, where more than some 20 are wanted,
# most first rounds were in vain; fewer than that make no first round worth while.
_CANDIDATES, _CANDIDATES_PER_RESULT, _FEWEST_PER_RESULT, _GROWTH = 256, 12, 4, 8

# So many of them, at least, are compared before it is known which of the others have to be.
_FIRST = 64

# Up to so many vectors are compared in double precision without asking first which of them matter.
_FEW = 128

# From this share of all vectors on it is quicker to compare with each of them.
_EXACT_SHARE = 0.2

# Rows compared directly at once: bounds the memory of temporary copies.
_ROWS_AT_ONCE = 16_384

# How far a score in single precision may be off, for vectors of length 1.
_ROUNDING = 2e-6

# Squares of lengths below this are not computed well in single precision.
_TINY = 1e-30

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a collection.

    Attributes:
        start: number of the first row.
        rows: how many there are.
        vectors: gives them, float32, shape (rows, dim); called when they are needed.
        codes: their codes, if there are any.
        visible: bool, shape (rows,), or None if all are.
    """

    start: int
    rows: int
    vectors: Callable[[], Vectors]
    codes: Codes | None = None
    visible: Mask | None = None


def exact_scores(query: Vectors, vectors: Vectors, metric: Metric) -> Scores:
    """Scores of one query with some vectors in double precision; higher is closer (L2 is negative)."""
    rows, wanted = vectors.astype(np.float64), query.astype(np.float64)
    if metric is Metric.L2:
        return np.asarray(-((rows - wanted) ** 2).sum(axis=1))
    scores = np.einsum("ij,j->i", rows, wanted)
    if metric is Metric.COSINE:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows) * (wanted @ wanted))
        lengths[lengths == 0] = 1.0
        scores /= lengths
    return np.asarray(scores)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is looked for.

    Attributes:
        queries: float64, shape (q, dim); of unit length for cosine.
        k, count: how many are wanted, and how many returned.
    """

    queries: Scores
    k: int
    count: int
    metric: Metric

    def __len__(self) -> int:
        return len(self.queries)

    def only(self, numbers: Ids) -> _Asked:
        """Some of the queries."""
        return _Asked(self.queries[numbers], self.k, self.count, self.metric)


_Found = tuple[Scores, Ids]


def nearest(parts: list[Part], queries: Vectors, k: int, count: int, metric: Metric) -> list[_Found]:
    """The closest rows to each query.

    Args:
        parts: the collection, in order; rows that are not visible are left out.
        queries: float32, shape (q, dim).
        k: how many are wanted.
        count: how many are returned, at least ``k``; those beyond are likely the next.

    Returns:
        For each query scores in Milvus's convention, closest first, and row numbers.
    """
    coded = [part for part in parts if part.codes is not None]
    plain = [part for part in parts if part.codes is None]
    asked = _Asked(_unit(queries) if metric is Metric.COSINE else queries.astype(np.float64), k, count, metric)
    found = _compare_directly(plain, asked)
    if coded:
        more = _search_codes(coded, asked)
        found = [_best(one, other, count) for one, other in zip(found, more, strict=True)]
    return [(-scores if metric is Metric.L2 else scores, rows) for scores, rows in found]


def _unit(queries: Vectors) -> Scores:
    """Queries of length 1, in double precision; a zero vector stays zero."""
    rows = queries.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    lengths[lengths == 0] = 1.0
    return np.asarray(rows / lengths[:, None])


def _nothing() -> _Found:
    return np.empty(0, np.float64), np.empty(0, np.int64)


def _best(one: _Found, other: _Found, count: int) -> _Found:
    """The best of both, best first, the former's first where scores are equal."""
    scores, rows = other
    if len(one[0]):
        scores, rows = np.concatenate([one[0], scores]), np.concatenate([one[1], rows])
    order = np.argsort(-scores, kind="stable")[:count]
    return scores[order], rows[order]


def _compare_directly(parts: list[Part], asked: _Asked) -> list[_Found]:
    """The best rows of parts by comparing with every vector."""
    found = [_nothing()] * len(asked)
    for part in parts:
        vectors = part.vectors()
        for start in range(0, part.rows, _ROWS_AT_ONCE):
            piece = vectors[start : start + _ROWS_AT_ONCE]
            shown = None if part.visible is None else part.visible[start : start + len(piece)]
            found = _compared(found, np.arange(len(piece)) + part.start + start, piece, shown, asked)
    return found


def _compared(found: list[_Found], rows: Ids, vectors: Vectors, shown: Mask | None, asked: _Asked) -> list[_Found]:
    """What was found for each query, and of more rows those that are better: the best of all, scored exactly."""
    if len(rows) <= _FEW:
        if shown is not None:
            rows, vectors = rows[shown], vectors[shown]
        exact = [(exact_scores(query, vectors, asked.metric), rows) for query in asked.queries]
        return [_best(others, own, asked.count) for others, own in zip(found, exact, strict=True)]
    scores, doubts = _scores(asked, vectors)
    if shown is not None:
        scores = np.where(shown, scores, -np.inf)
    merged = []
    for query, own, doubt, others in zip(asked.queries, scores, doubts.tolist(), found, strict=True):
        places = _contenders(own, doubt, others[0], asked.count)
        better = exact_scores(query, vectors[places], asked.metric), rows[places]
        merged.append(_best(others, better, asked.count))
    return merged


def _contenders(scores: NDArray[Any], doubt: float, others: Scores, count: int) -> Ids:
    """Places of rows that may be among the best, by scores that may be off so much, and exact ones of others."""
    least = -math.inf
    if len(scores) > count:
        least = float(np.partition(scores, len(scores) - count)[len(scores) - count]) - 2 * doubt
    if len(others) >= count:
        least = max(least, float(others.min()) - doubt)
    return np.flatnonzero((scores >= least) & (scores > -np.inf))


def _scores(asked: _Asked, vectors: Vectors) -> tuple[NDArray[Any], Scores]:
    """Scores of vectors, shape (queries, vectors), higher is closer; and how far each query's may be off."""
    with np.errstate(over="ignore", invalid="ignore"):
        scores, scale = _scores_in(np.float32, asked, vectors)
        if np.isfinite(scale).all() and np.isfinite(scores).all():
            return scores, scale * _ROUNDING
        scores, scale = _scores_in(np.float64, asked, vectors)
    return scores, scale * _ROUNDING**2


def _scores_in(kind: type[Any], asked: _Asked, vectors: Vectors) -> tuple[NDArray[Any], Scores]:
    """Scores in some precision, and what their errors are in proportion to: not finite if it is not enough."""
    queries, given = asked.queries.astype(kind, copy=False), vectors.astype(kind, copy=False)
    scores = queries @ given.T
    own = np.einsum("ij,ij->i", given, given)
    squares = np.einsum("ij,ij->i", asked.queries, asked.queries)
    longest, lengths = math.sqrt(float(own.max(initial=0))), np.sqrt(squares)
    if asked.metric is Metric.IP:
        return scores, lengths * longest
    if asked.metric is Metric.L2:
        scores *= 2
        scores -= own
        scores -= squares[:, None].astype(kind)
        return scores, (lengths + longest) ** 2
    zero = np.flatnonzero(own < _TINY)
    own[zero] = np.where(own[zero] == 0, 1, own[zero])
    scores /= np.sqrt(own)
    enough = longest < math.inf and (kind is np.float64 or not vectors[zero].any())
    return scores, lengths if enough else np.full(len(asked), math.inf)


# --- searching codes ---


@dataclass(frozen=True, slots=True)
class _Estimated:
    """The rows of one part that are estimated best for one query.

    Attributes:
        part, codes: the part, and its codes.
        scores, rows: estimates and row numbers within the part; of those that are visible and no outliers.
        last: no row that is missing here is estimated better; minus infinity if none is missing.
        rounding: see :meth:`Codes.roundings`.
    """

    part: Part
    codes: Codes
    scores: NDArray[np.float32]
    rows: Ids
    last: float
    rounding: float


def _search_codes(parts: list[Part], asked: _Asked) -> list[_Found]:
    """The best rows of coded parts: candidates by their codes, compared exactly, until no other can be better."""
    most = int(_EXACT_SHARE * sum(part.rows for part in parts))
    found = [_nothing()] * len(asked)
    waiting = np.arange(len(asked))
    wanted = max(_CANDIDATES, _CANDIDATES_PER_RESULT * asked.k)
    if max(_CANDIDATES, _FEWEST_PER_RESULT * asked.k) <= most:
        wanted = min(wanted, most)
    while len(waiting) and wanted <= most:
        unsure = []
        queries = asked.queries[waiting].astype(np.float32)
        for number, estimated in zip(waiting, _estimates(parts, queries, wanted), strict=True):
            answer = _verified(estimated, asked.only(np.array([number])))
            if answer is None:
                unsure.append(number)
            else:
                found[number] = answer
        waiting = np.array(unsure, np.int64)
        wanted = min(_GROWTH * wanted, most) if wanted < most else most + 1
    if len(waiting):
        for number, answer in zip(waiting, _compare_directly(parts, asked.only(waiting)), strict=True):
            found[number] = answer
    return found


def _estimates(parts: list[Part], queries: Vectors, wanted: int) -> list[list[_Estimated]]:
    """For each query and part the best visible rows by their codes."""
    found: list[list[_Estimated]] = [[] for _ in queries]
    for part in parts:
        codes = part.codes
        assert codes is not None
        rotated = codes.rotated(queries)
        scores, rows = codes.best(rotated, wanted)
        roundings = codes.roundings(rotated).tolist()
        for number, own in enumerate(found):
            mine, there = scores[number], rows[number]
            last = float(mine[-1]) if len(mine) < part.rows else -math.inf
            if there[-1] < 0 or not (math.isfinite(mine[0]) and math.isfinite(mine[-1])):
                last = math.inf  # too large, or all the same
            shown = ~codes.is_outlier[there]
            if part.visible is not None:
                shown &= part.visible[there]
            mine, there = mine[shown], there[shown]
            own.append(_Estimated(part, codes, mine, there, last, roundings[number]))
    return found


def _verified(estimated: list[_Estimated], asked: _Asked) -> _Found | None:
    """The best rows for one query, or None if there may be better ones among those that are missing."""
    every = np.concatenate([own.scores for own in estimated])
    first = min(len(every), max(_FIRST, 2 * asked.count))
    least = float(np.partition(every, len(every) - first)[len(every) - first]) if first else math.inf
    found = [_nothing()]
    for own in estimated:
        found = _with_some(found, own, own.rows[own.scores >= least], asked, outliers=True)
    scores, k = found[0][0], asked.k
    score = float(scores[k - 1]) if len(scores) >= k else -math.inf
    length = 1.0 if asked.metric is Metric.COSINE else float(np.linalg.norm(asked.queries[0]))
    for own in estimated:
        lowest = own.codes.lowest_estimate(score, length, own.rounding, asked.metric)
        if own.last > -math.inf and own.last >= lowest:
            return None
        found = _with_some(found, own, own.rows[(own.scores < least) & (own.scores >= lowest)], asked)
    return found[0]


def _with_some(
    found: list[_Found], own: _Estimated, rows: Ids, asked: _Asked, *, outliers: bool = False
) -> list[_Found]:
    """What was found, and the best of some rows of a part, and of its outliers."""
    part, codes = own.part, own.codes
    if not outliers and not len(rows):
        return found
    vectors = part.vectors()[rows]
    if outliers:
        rows = np.concatenate([codes.outliers, rows])
        vectors = np.concatenate([codes.outlying(part.vectors), vectors])
    shown = None if part.visible is None else part.visible[rows]
    return _compared(found, rows + part.start, vectors, shown, asked)
