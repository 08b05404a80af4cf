"""What a vector index costs and what it misses: recall against exact search, and latency, by its search
parameters."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imagesearch.errors import StoreError
from imagesearch.learning import metrics
from imagesearch.learning.exact import ExactRows, Rows
from imagesearch.learning.metrics import Estimate
from imagesearch.records import Progress, no_progress
from imagesearch.stores.base import CollectionSpec, VectorDatabase, Vectors

# Below this recall the search is noticeably not the exact one.
ENOUGH = 0.99
# The parameter that decides how much of an index is looked at, by the beginning of the index type's name, and
# values to try.
_PARAMETERS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("HNSW", "ef", (16, 32, 64, 128, 256, 512)),
    ("GPU_IVF", "nprobe", (1, 4, 16, 64, 256)),
    ("IVF", "nprobe", (1, 4, 16, 64, 256)),
    ("SCANN", "nprobe", (1, 4, 16, 64, 256)),
    ("DISKANN", "search_list", (16, 32, 64, 128, 256)),
    ("GPU_CAGRA", "itopk_size", (32, 64, 128, 256)),
)
_TIMED = 60
# Medians that differ by less are equal.
_NOISE = 1.1


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """One setting.

    Attributes:
        params: of the search (``milvus.search_params``).
        recall: at k: the part of the k exact results that are found.
        median_ms, p95_ms: milliseconds of one query at a time.
    """

    params: Mapping[str, Any]
    recall: Estimate
    median_ms: float
    p95_ms: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "search_params": dict(self.params),
            "recall": self.recall.to_dict(),
            "median_ms": self.median_ms,
            "p95_ms": self.p95_ms,
        }


@dataclass(frozen=True, slots=True)
class IndexReport:
    """The quality of a collection's index.

    Attributes:
        engine: the database.
        index_type: Milvus's name; empty while none is built.
        rows: of the collection.
        k: results per query.
        points: the settings that were tried, the configured one first.
        recommended: see :func:`recommended`.
    """

    engine: str
    index_type: str
    rows: int
    k: int
    points: list[IndexPoint]
    recommended: IndexPoint

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "engine": self.engine,
            "index": self.index_type or "none",
            "pictures": self.rows,
            "k": self.k,
            "settings": [one.to_dict() for one in self.points],
            "recommended": dict(self.recommended.params),
        }


def evaluate_index(
    database: VectorDatabase,
    spec: CollectionSpec,
    rows: Rows,
    queries: Vectors,
    *,
    k: int = 10,
    progress: Progress = no_progress,
) -> IndexReport:
    """Search with the configured parameters and with others, and compare with exact search.

    Args:
        database: where the collection is.
        spec: of the collection.
        rows: what it holds.
        queries: float32, shape (q, dim); best are those of pictures that are not in it.
        k: results per query.
        progress: told of the stage ``"probe"``.

    Raises:
        StoreError: the database fails with the configured parameters.
    """
    collection = database.open(spec)
    index_type = collection.info().index_type
    exact = ExactRows(rows, np.full(len(queries), -1)).closest(queries, k)
    expected = [{rows.pictures[place].path for place in places.tolist()} for places in exact]
    settings = list(_settings(index_type, spec.search_params, k))
    points = []
    for done, params in enumerate(settings, start=1):
        try:
            points.append(_point(database, replace(spec, search_params=params), queries, expected))
        except StoreError:
            if not points:  # the configured parameters: not a value that this engine happens not to take
                raise
        progress("probe", done, len(settings))
    return IndexReport(collection.engine, index_type, len(rows.pictures), k, points, recommended(points))


def recommended(points: Sequence[IndexPoint]) -> IndexPoint:
    """The fastest setting that finds enough, else the one that finds most; the first if none is clearly faster."""
    enough = [point for point in points if point.recall.value >= ENOUGH]
    if not enough:
        return max(points, key=lambda point: point.recall.value)
    fastest = min(enough, key=lambda point: point.median_ms)
    return enough[0] if enough[0].median_ms <= _NOISE * fastest.median_ms else fastest


def _settings(index_type: str, configured: Mapping[str, Any], k: int) -> Iterator[Mapping[str, Any]]:
    yield dict(configured)
    for prefix, name, values in _PARAMETERS:
        if index_type.startswith(prefix):
            # An index never looks at fewer rows than it has to give.
            yield from (
                {**configured, name: value}
                for value in values
                if (name == "nprobe" or value >= k) and configured.get(name) != value
            )
            return


def _point(
    database: VectorDatabase, spec: CollectionSpec, queries: Vectors, expected: list[set[str]]
) -> IndexPoint:
    k, collection = max(map(len, expected)), database.open(spec)
    found = collection.search(queries, k)
    recalls = [
        len(wanted & {hit.path for hit in hits}) / len(wanted)
        for wanted, hits in zip(expected, found, strict=True)
    ]
    seconds = []
    for query in queries[:_TIMED]:
        began = time.perf_counter()
        collection.search(query[None], k)
        seconds.append(time.perf_counter() - began)
    median, slow = np.quantile(seconds, [0.5, 0.95]) * 1000
    return IndexPoint(dict(spec.search_params), metrics.estimate(recalls), float(median), float(slow))
