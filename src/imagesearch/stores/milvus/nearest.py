"""Exact nearest neighbours at the speed of an approximate index.

Each vector has a short code: after a random rotation, four bits for every two dimensions (product quantisation,
Jégou et al., 2011, in the layout of FAISS's fast scan, André et al., 2015), an eighth of half its size. A query is
compared with all codes, which takes 0.3 ms for 100,000 codes of 320 dimensions; the best candidates are then
compared exactly. From the difference between estimated and exact scores of the candidates follows how far
estimates err, and whether a vector that is no candidate can belong to the answer; if so, more candidates are
taken. So the answer does not depend on how vectors are distributed: a graph (HNSW) finds a third of the neighbours
among 100,000 random vectors at its usual settings, and loses its way in large groups of equal vectors.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import DamagedError
from imagesearch.records import Metric
from imagesearch.stores.base import Vectors

# Fewer vectors are compared directly; it takes no longer.
MIN_CODED = 2_000

# The rotation is the same for all, so that codes of one vector are equal everywhere.
_ROTATION_SEED = 20_261_124
_BITS = 4
_TRAINING = 8_192

# How far estimates err is measured with so many of the vectors as queries.
_MEASURED = 32
_HEADER, _MAGIC = struct.Struct("<8sd"), b"IScodes1"

# Candidates of a first round, at least, and per result; and how many times as many each further round takes.
_CANDIDATES, _CANDIDATES_PER_RESULT, _GROWTH = 128, 4, 3

# Candidates of every part, whatever those of others.
_PROBES = 8

# A vector is left out if it had to be estimated this many standard deviations too low to belong to the answer. The
# candidates, being the best estimates, err less than the others: their deviation counts as this share at least.
_DEVIATIONS, _LEAST_SHARE = 2.5, 0.5

# From this share of all vectors on it is quicker to compare with each of them.
_EXACT_SHARE = 0.2

# Rows compared directly at once: bounds the memory of temporary copies.
_ROWS_AT_ONCE = 16_384

Ids = NDArray[np.int64]
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


class Codes:
    """The codes of some vectors.

    Attributes:
        spread: standard deviation of the difference between exact and estimated scores, for a query of length 1.
    """

    def __init__(self, index: Any, spread: float) -> None:
        self._index, self.spread = index, spread

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def build(cls, vectors: Vectors, metric: Metric) -> Codes:
        """Learn a code book from some of the vectors, and code all of them.

        Args:
            vectors: float32, shape (n, dim), n at least :data:`MIN_CODED`.
        """
        dim = vectors.shape[1]
        width = -(-dim // 2) * 2  # the rotation adds a dimension to an odd number
        distance = faiss.METRIC_L2 if metric is Metric.L2 else faiss.METRIC_INNER_PRODUCT
        rotation = faiss.RandomRotationMatrix(dim, width)
        rotation.init(_ROTATION_SEED)
        index = faiss.IndexPreTransform(rotation, faiss.IndexPQFastScan(width, width // 2, _BITS, distance))
        sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), _TRAINING), replace=False)
        index.train(prepared(vectors[np.sort(sample)], metric))
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            index.add(prepared(vectors[start : start + _ROWS_AT_ONCE], metric))
        codes = cls(index, 0.0)
        codes.spread = codes._measured(vectors, prepared(vectors[np.sort(sample[:_MEASURED])], metric), metric)
        return codes

    def _measured(self, vectors: Vectors, queries: Vectors, metric: Metric) -> float:
        estimates, rows = self.best(queries, _CANDIDATES)
        errors = [
            (_exact(query, vectors[numbers], metric) - scores) / max(float(np.linalg.norm(query)), 1e-30)
            for query, numbers, scores in zip(queries, rows, estimates, strict=True)
        ]
        return _deviation(np.concatenate(errors))

    def save(self, file: Path) -> None:
        """Write them to a file."""
        with open(file, "wb") as stream:
            stream.write(_HEADER.pack(_MAGIC, self.spread))
            stream.write(faiss.serialize_index(self._index).data)

    @classmethod
    def load(cls, file: Path, rows: int) -> Codes:
        """Read them.

        Args:
            rows: how many there must be.

        Raises:
            DamagedError: the file holds something else.
        """
        data = np.fromfile(file, np.uint8)
        try:
            magic, spread = _HEADER.unpack(data[: _HEADER.size].tobytes())
            if magic != _MAGIC:
                raise RuntimeError("not a file of codes")
            codes = cls(faiss.deserialize_index(data[_HEADER.size :]), spread)
        except (RuntimeError, struct.error):
            raise DamagedError(file, "is not as it was written") from None
        if len(codes) != rows:
            raise DamagedError(file, f"has {len(codes):,} codes instead of {rows:,}")
        return codes

    def best(self, queries: Vectors, count: int) -> tuple[NDArray[np.float32], Ids]:
        """Estimated scores (higher is closer) and row numbers of the best, each of shape (queries, count)."""
        scores, rows = self._index.search(queries, min(count, len(self)))
        return (-scores if self._index.metric_type == faiss.METRIC_L2 else scores), rows


def prepared(vectors: Vectors, metric: Metric) -> Vectors:
    """Vectors whose inner product is the score: of unit length for cosine; a zero vector stays zero."""
    matrix = np.ascontiguousarray(vectors, np.float32)
    if metric is not Metric.COSINE:
        return matrix
    lengths = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))[:, None]
    unit: Vectors = matrix / np.where(lengths == 0, np.float32(1), lengths)
    return unit


def exact_scores(query: Vectors, vectors: Vectors, metric: Metric) -> NDArray[np.float64]:
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


def nearest(
    parts: list[Part], queries: Vectors, k: int, count: int, metric: Metric
) -> list[tuple[NDArray[np.float64], Ids]]:
    """The closest rows to each query.

    Args:
        parts: the collection, in order; rows that are not visible are left out.
        queries: float32, shape (q, dim).
        k: how many are wanted.
        count: how many are returned, at least ``k``; those beyond are likely the next.

    Returns:
        For each query scores in Milvus's convention, closest first, and row numbers.
    """
    ready = prepared(queries, metric)
    coded = [part for part in parts if part.codes is not None]
    plain = [part for part in parts if part.codes is None]
    direct = _compare_directly(plain, ready, count, metric) if plain or not coded else []
    found = _search_codes(coded, ready, k, count, metric) if coded else direct
    if coded and len(coded) < len(parts):
        found = [
            (np.concatenate([scores, more]), np.concatenate([rows, others]))
            for (scores, rows), (more, others) in zip(direct, found, strict=True)
        ]
    return [_finished(parts, query, rows, count, metric) for query, (_, rows) in zip(queries, found, strict=True)]


_Found = tuple[NDArray[np.float32], Ids]


def _nothing() -> _Found:
    return np.empty(0, np.float32), np.empty(0, np.int64)


def _compare_directly(parts: list[Part], queries: Vectors, count: int, metric: Metric) -> list[_Found]:
    """The best rows of parts by comparing with every vector; more than asked for are returned."""
    found = [_nothing() for _ in queries]
    for part in parts:
        vectors = part.vectors()
        for start in range(0, part.rows, _ROWS_AT_ONCE):
            piece = prepared(vectors[start : start + _ROWS_AT_ONCE], metric)
            scores = _scores(queries, piece, metric)
            if part.visible is not None:
                scores = np.where(part.visible[start : start + _ROWS_AT_ONCE], scores, -np.inf)
            for number, row in enumerate(scores):
                best = _top(row, count)
                best = best[row[best] > -np.inf]
                merged = np.concatenate([found[number][0], row[best]])
                rows = np.concatenate([found[number][1], best + part.start + start])
                kept = _top(merged, count)
                found[number] = merged[kept], rows[kept]
    return found


def _scores(queries: Vectors, vectors: Vectors, metric: Metric) -> NDArray[np.float32]:
    """Scores of prepared vectors, shape (queries, vectors); higher is closer."""
    products = queries @ vectors.T
    if metric is not Metric.L2:
        return np.asarray(products)
    own = np.einsum("ij,ij->i", vectors, vectors)
    asked = np.einsum("ij,ij->i", queries, queries)[:, None]
    return np.asarray(2 * products - own - asked)


def _top(scores: NDArray[Any], count: int) -> Ids:
    """Places of the highest scores, in no order."""
    if len(scores) <= count:
        return np.arange(len(scores))
    return np.asarray(np.argpartition(scores, len(scores) - count)[len(scores) - count :], np.int64)


def _search_codes(parts: list[Part], queries: Vectors, k: int, count: int, metric: Metric) -> list[_Found]:
    """The best rows of coded parts: candidates by their codes, compared exactly, until no other can be better."""
    total = sum(part.rows for part in parts)
    found = [_nothing() for _ in queries]
    waiting = np.arange(len(queries))
    candidates = max(_CANDIDATES, _CANDIDATES_PER_RESULT * k)
    while len(waiting):
        if candidates > _EXACT_SHARE * total:
            for number, answer in zip(
                waiting, _compare_directly(parts, queries[waiting], count, metric), strict=True
            ):
                found[number] = answer
            break
        unsure = []
        for number, chosen in zip(waiting, _candidates(parts, queries[waiting], candidates), strict=True):
            exact = _exact(queries[number], _gather(parts, chosen.rows), metric)
            best = _top(exact, count)
            found[number] = exact[best], chosen.rows[best]
            if len(best) < k or np.partition(exact[best], -k)[-k] < chosen.bound(exact):
                unsure.append(number)
        waiting = np.array(unsure, np.int64)
        candidates *= _GROWTH
    return found


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Rows of all parts that may belong to the answer to one query.

    Attributes:
        estimates: float32, shape (n,): scores by their codes.
        rows: int64, shape (n,): row numbers.
        ends: where each part's candidates end.
        cuts: the best estimate of those left out, per part; minus infinity if there are none.
        least_deviations: of the estimates' errors, per part.
    """

    estimates: NDArray[np.float32]
    rows: Ids
    ends: list[int]
    cuts: list[float]
    least_deviations: list[float]

    def bound(self, exact: NDArray[np.float32]) -> float:
        """A score that hardly any row reaches that was left out.

        Codes of one part err in one way: of vectors close to the query they all estimate about as much too little.

        Args:
            exact: the candidates' true scores.
        """
        errors = exact - self.estimates
        start, highest = 0, -math.inf
        spread = _deviation(errors)
        for end, cut, least in zip(self.ends, self.cuts, self.least_deviations, strict=True):
            if cut > -math.inf:
                own = errors[start:end]
                bias = max(0.0, float(own.sum()) / max(1, len(own)))
                doubt = bias + _DEVIATIONS * max(spread, _deviation(own), least)
                highest = max(highest, cut + doubt)
            start = end
        return highest


def _deviation(errors: NDArray[np.float32]) -> float:
    """The standard deviation."""
    if not len(errors):
        return 0.0
    mean = float(errors.sum()) / len(errors)
    return math.sqrt(max(0.0, float(errors @ errors) / len(errors) - mean * mean))


def _exact(query: Vectors, vectors: Vectors, metric: Metric) -> NDArray[np.float32]:
    """Scores of a prepared query with vectors that are not prepared; higher is closer."""
    if metric is Metric.L2:
        row: NDArray[np.float32] = _scores(query[None], vectors, metric)[0]
        return row
    products = np.einsum("ij,j->i", vectors, query)  # BLAS would start threads for this little
    if metric is Metric.COSINE:
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        products /= np.where(lengths == 0, np.float32(1), lengths)
    return np.asarray(products)


def _candidates(parts: list[Part], queries: Vectors, count: int) -> Iterator[_Candidates]:
    """For each query the best visible rows by their codes."""
    answers = []
    for part in parts:
        assert part.codes is not None
        # One more than asked for is the best of those left out.
        estimates, numbers = part.codes.best(queries, count + 1)
        if part.visible is not None:
            estimates = np.where(part.visible[numbers], estimates, -np.inf)
        answers.append((estimates, numbers))
    for query in range(len(queries)):
        length = _LEAST_SHARE * math.sqrt(float(queries[query] @ queries[query]))
        found = [(estimates[query], numbers[query]) for estimates, numbers in answers]
        yield _chosen(parts, found, count, [length * part.codes.spread for part in parts if part.codes])


def _chosen(parts: list[Part], answers: list[_Found], count: int, deviations: list[float]) -> _Candidates:
    """The best of all parts, and some of each, so that it is known how each one's estimates err."""
    limit = -math.inf
    if len(parts) > 1:
        every = np.concatenate([estimates for estimates, _ in answers])
        if len(every) > count:
            limit = float(np.partition(every, len(every) - count)[len(every) - count])
    kept, rows, ends, cuts = [], [], [0], []
    for part, (estimates, numbers) in zip(parts, answers, strict=True):
        truncated = len(estimates) > count
        if part.visible is None:  # sorted, best first
            taken = max(int(np.searchsorted(-estimates, -limit, "right")), _PROBES) if len(parts) > 1 else count
            taken = min(taken, count)
            mine, own = estimates[:taken], numbers[:taken]
            cut = float(estimates[taken]) if taken < len(estimates) else -math.inf
        else:
            order = np.argsort(-estimates, kind="stable")
            seen = int((estimates > -math.inf).sum())
            taken = min(max(int((estimates >= limit).sum()), _PROBES), count, seen)
            mine, own = estimates[order[:taken]], numbers[order[:taken]]
            cut = float(estimates[order[taken]]) if taken < seen else -math.inf
            if truncated:  # none of those that were not returned is estimated better than the worst that was
                cut = max(cut, float(estimates[order[seen - 1]]) if seen else math.inf)
        kept.append(mine)
        rows.append(own + part.start)
        ends.append(ends[-1] + len(own))
        cuts.append(cut)
    return _Candidates(np.concatenate(kept), np.concatenate(rows), ends[1:], cuts, deviations)


def _gather(parts: list[Part], rows: Ids) -> Vectors:
    """The vectors of some rows, in their order."""
    if len(parts) == 1:
        return parts[0].vectors()[rows - parts[0].start]
    starts = np.array([part.start for part in parts])
    owners = np.searchsorted(starts, rows, "right") - 1
    vectors: Vectors | None = None
    for number in np.unique(owners):
        part, mine = parts[number], owners == number
        picked = part.vectors()[rows[mine] - part.start]
        if vectors is None:
            vectors = np.empty((len(rows), picked.shape[1]), np.float32)
        vectors[mine] = picked
    assert vectors is not None
    return vectors


def _finished(
    parts: list[Part], query: Vectors, rows: Ids, count: int, metric: Metric
) -> tuple[NDArray[np.float64], Ids]:
    """The answer to one query, with scores in double precision and Milvus's sign."""
    if not len(rows):
        return np.empty(0), rows
    scores = exact_scores(query, _gather(parts, rows), metric)
    order = np.argsort(-scores, kind="stable")[:count]
    return (-scores if metric is Metric.L2 else scores)[order], rows[order]
