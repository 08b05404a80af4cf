"""Short codes of vectors, by which the scores of all of them are estimated quickly; and how far that can be off.

After a random rotation a vector is coded in four bits for every two dimensions (product quantisation, Jégou et
al., 2011, in the layout of FAISS's fast scan, André et al., 2015), an eighth of half its size. A query is compared
with 100,000 codes of 320 dimensions in 0.3 ms.

How far an estimate can be off is known from the residuals (vector minus what its code stands for), which are
measured for every vector when codes are made. The part of a residual along its vector shifts the estimate by a
known share. The rest points anywhere after the rotation, so that its inner product with a query has a standard
deviation of its length by the root of the dimensions, as in RaBitQ (Gao and Long, 2024), and is never more than
its length. The few vectors with the longest residuals are named, to be compared with every query: one outlier
would make all bounds useless.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
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

# Up to so many queries are rotated without BLAS.
_FEW = 8

# Rows coded at once: bounds the memory of temporary copies.
_ROWS_AT_ONCE = 16_384

_HEADER, _MAGIC = struct.Struct("<8sqq"), b"IScodes2"

# This share of the vectors, those with the longest residuals, is compared with every query.
_OUTLIERS = 1 / 4_000

# Standard deviations by which an estimate may be too low. Residuals are taken to be as long as the longest of all,
# so for most vectors it is a fourth more.
_DEVIATIONS = 2.5

# Larger values are coded as zero: FAISS ends the process when it cannot add up their squares.
_LARGEST = 1e15

# Squares of lengths between these are computed well in single precision.
_TINY, _HUGE = 1e-30, 1e30

Ids = NDArray[np.int64]
Scores = NDArray[np.float64]


def prepared(vectors: Vectors, metric: Metric) -> Vectors:
    """Vectors whose inner product is the score: of unit length for cosine; a zero vector stays zero."""
    matrix = np.ascontiguousarray(vectors, np.float32)
    if metric is not Metric.COSINE:
        return matrix
    with np.errstate(over="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    extreme = np.flatnonzero(~((squares > _TINY) & (squares < _HUGE)))
    squares[extreme] = 1.0
    unit: Vectors = matrix / np.sqrt(squares)[:, None]
    if len(extreme):
        rows = matrix[extreme].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        unit[extreme] = rows / np.where(lengths == 0, 1.0, lengths)
    return unit


@dataclass(frozen=True, slots=True)
class Residuals:
    """What vectors minus what their codes stand for have in common, but for those that are outliers.

    Attributes:
        longest: length.
        widest: length of the part across the vector.
        least_kept, most_kept: of a vector's own length, what is left in its code, as a share of it.
        least_along, most_along: length of the part along the vector; negative if the code is too long.
        shortest: length of a vector.
    """

    longest: float
    widest: float
    least_kept: float
    most_kept: float
    least_along: float
    most_along: float
    shortest: float

    @classmethod
    def measured(cls, vectors: NDArray[np.float64], residuals: NDArray[np.float64]) -> NDArray[np.float64]:
        """Length, length across, share kept, length along, and the vector's length, of each: shape (n, 5)."""
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        squares = np.einsum("ij,ij->i", residuals, residuals)
        along = np.einsum("ij,ij->i", vectors, residuals) / np.where(lengths == 0, 1.0, lengths)
        across = np.sqrt(np.maximum(0.0, squares - along**2))
        kept = 1.0 - along / np.where(lengths == 0, 1.0, lengths)
        return np.stack([np.sqrt(squares), across, kept, along, lengths], axis=1)

    @classmethod
    def of(cls, measured: NDArray[np.float64]) -> Residuals:
        """The extremes of what was measured."""
        high, low = measured.max(axis=0).tolist(), measured.min(axis=0).tolist()
        return cls(high[0], high[1], low[2], high[2], low[3], high[3], low[4])

    def lowest_estimate(self, score: float, length: float, spread: float, metric: Metric) -> float:
        """An estimate below which hardly any vector is that has at least this score.

        Args:
            score: higher is closer.
            length: the query's.
            spread: how many times a residual's length its inner product with a query of length 1 can be.
        """
        if metric is Metric.L2:
            return -self._largest_square(max(0.0, -score), length, spread)
        noise = length * spread * self.widest
        # Two bounds that both hold: the former is close for vectors of one length, the latter for others.
        one = score * (self.least_kept if score >= 0 else self.most_kept) if self.least_kept >= 0 else -math.inf
        other = score - length * max(self.most_along, -self.least_along)
        return max(one, other) - noise

    def _largest_square(self, square: float, length: float, spread: float) -> float:
        """The same for squares of distances, which estimates exceed by the residual's square."""
        distance = math.sqrt(square)
        too_short = 2 * distance * max(0.0, self.most_along)
        if self.shortest > 0:  # what points outwards matters only to a query that is further out
            outwards = max(0.0, (length / self.shortest) ** 2 - 1) * self.shortest * max(0.0, self.most_along)
            too_short = min(too_short, outwards)
        shift = max(too_short, 2 * distance * max(0.0, -self.least_along))
        bound = square + self.longest**2 + shift + 2 * distance * spread * self.widest
        return min(bound, (distance + self.longest) ** 2)


class Codes:
    """The codes of some vectors.

    Attributes:
        outliers: int64: rows that are compared with every query.
        is_outlier: bool, one per row.
    """

    _outlying: Vectors | None = None

    def __init__(self, index: Any, residuals: Residuals, outliers: Ids) -> None:
        self._index, self._residuals, self.outliers = index, residuals, outliers
        self.is_outlier = np.zeros(len(self), bool)
        self.is_outlier[outliers] = True
        self._metric_is_l2 = index.metric_type == faiss.METRIC_L2
        inner: Any = faiss.downcast_index(index.index)
        self._inner = inner
        rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        self._rotation = faiss.vector_to_array(rotation.A).reshape(rotation.d_out, rotation.d_in)
        centres = faiss.vector_to_array(inner.pq.centroids).reshape(inner.pq.M, inner.pq.ksub, inner.pq.dsub)
        self._pairs = len(centres)
        self._widest = float(np.linalg.norm(centres[:, :, None] - centres[:, None], axis=3).max())
        squares = (centres.astype(np.float64) ** 2).sum(axis=2)
        self._widest_range = float((squares.max(axis=1) - squares.min(axis=1)).max())
        self._spread = min(1.0, _DEVIATIONS / math.sqrt(2 * self._pairs))

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
        inner = faiss.IndexPQFastScan(width, width // 2, _BITS, distance)
        index = faiss.IndexPreTransform(rotation, inner)
        sample = np.random.default_rng(0).choice(len(vectors), min(len(vectors), _TRAINING), replace=False)
        index.train(_codable(prepared(vectors[np.sort(sample)], metric)))
        measured = []
        for start in range(0, len(vectors), _ROWS_AT_ONCE):
            piece = prepared(vectors[start : start + _ROWS_AT_ONCE], metric)
            index.add(_codable(piece))
            coded = inner.reconstruct_n(start, len(piece)).astype(np.float64)
            rotated = rotation.apply(piece).astype(np.float64)
            measured.append(Residuals.measured(rotated, rotated - coded))
        return cls(index, *_without_outliers(np.concatenate(measured)))

    def save(self, file: Path) -> None:
        """Write them to a file."""
        residuals = self._residuals
        numbers = np.array([getattr(residuals, name) for name in residuals.__slots__], np.float64)
        with open(file, "wb") as stream:
            stream.write(_HEADER.pack(_MAGIC, len(numbers), len(self.outliers)))
            stream.write(numbers.tobytes())
            stream.write(self.outliers.tobytes())
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
            magic, numbers, outliers = _HEADER.unpack(data[: _HEADER.size].tobytes())
            if magic != _MAGIC:
                raise RuntimeError("not a file of codes")
            first, second = _HEADER.size + 8 * numbers, _HEADER.size + 8 * (numbers + outliers)
            residuals = Residuals(*data[_HEADER.size : first].view(np.float64).tolist())
            codes = cls(faiss.deserialize_index(data[second:]), residuals, data[first:second].view(np.int64))
        except (RuntimeError, ValueError, TypeError, struct.error):
            raise DamagedError(file, "is not as it was written") from None
        if len(codes) != rows:
            raise DamagedError(file, f"has {len(codes):,} codes instead of {rows:,}")
        return codes

    def rotated(self, queries: Vectors) -> Vectors:
        """Queries as :meth:`best` and :meth:`roundings` take them: float32, shape (queries, width)."""
        if len(queries) > _FEW:
            return np.ascontiguousarray(queries @ self._rotation.T)
        return np.asarray(
            np.einsum("qd,wd->qw", queries, self._rotation)
        )  # BLAS would start threads for this little

    def outlying(self, vectors: Callable[[], Vectors]) -> Vectors:
        """The vectors of :attr:`outliers`, side by side in memory; ``vectors`` gives all, and is called once."""
        if self._outlying is None:
            self._outlying = vectors()[self.outliers]
        return self._outlying

    def best(self, rotated: Vectors, count: int) -> tuple[NDArray[np.float32], Ids]:
        """Estimated scores (higher is closer) and row numbers of the best, each of shape (queries, count).

        Row numbers below zero stand for nothing.
        """
        scores, rows = self._inner.search(rotated, min(count, len(self)))
        return (-scores if self._metric_is_l2 else scores), rows

    def lowest_estimate(self, score: float, length: float, rounding: float, metric: Metric) -> float:
        """An estimate below which hardly any vector is that has at least this score and is no outlier.

        Args:
            score: of a candidate, higher is closer.
            length: the query's; 1 for cosine.
            rounding: see :meth:`roundings`.
        """
        if score == -math.inf:
            return score
        lowest = self._residuals.lowest_estimate(score, length, self._spread, metric) - rounding
        return lowest if math.isfinite(lowest) else -math.inf

    def roundings(self, rotated: Vectors) -> Scores:
        """How far estimates may be off because they are summed up in whole numbers, shape (queries,).

        The fast scan rounds what each pair of dimensions adds to one of 256 steps, and the sum to one of 65,536: a
        step is a part of what the pair adds at most.
        """
        spans = math.sqrt(2) * np.abs(rotated).max(axis=1) * self._widest
        if self._metric_is_l2:
            spans = 2 * spans + self._widest_range
        steps = min(self._pairs / 2, _DEVIATIONS * math.sqrt(self._pairs / 12))
        return np.asarray(spans * (max(1 / 255, self._pairs / 65_535) * steps), np.float64)


def _codable(vectors: Vectors) -> Vectors:
    small = np.abs(vectors).max(axis=1, keepdims=True) < _LARGEST
    return vectors if small.all() else np.where(small, vectors, np.float32(0))


def _without_outliers(measured: NDArray[np.float64]) -> tuple[Residuals, Ids]:
    """What the residuals have in common, and the rows with those that are left out."""
    measured[~np.isfinite(measured).all(axis=1)] = math.inf
    few = max(1, int(len(measured) * _OUTLIERS))
    longest = np.argpartition(measured[:, 0], len(measured) - few)[len(measured) - few :]
    kept = np.ones(len(measured), bool)
    kept[longest] = False
    return Residuals.of(measured[kept]), np.sort(longest).astype(np.int64)
