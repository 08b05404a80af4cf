"""The exact in-memory database: the reference that the other engines are tested against."""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Progress, no_progress
from imagesearch.stores.base import (
    CollectionSpec,
    Columns,
    Ids,
    Vectors,
    check_k,
    checked_rows,
    checked_vectors,
    closed,
    columns_of,
    name_taken,
    no_collection,
    require_same_metric,
    require_same_model,
)
from imagesearch.stores.scores import SCORE_DECIMALS, ranked_hits, vectors_of


@dataclass(slots=True)
class _Table:
    """What is kept of one collection."""

    info: CollectionInfo
    rows: dict[int, tuple[ImageRecord, Vectors]] = field(default_factory=dict)
    index: tuple[str, dict[str, Any]] | None = None  # type and parameters, as of the last row


class MemoryDatabase:
    """Rows in dictionaries, compared one by one: slow, exact, gone with the process.

    >>> from imagesearch.records import Fingerprint
    >>> database = MemoryDatabase()
    >>> spec = CollectionSpec("demo", metric=Metric.L2, index_type="FLAT")
    >>> demo = database.create(spec, Fingerprint("toy", "1", "cls", (8, 8), dim=2))
    >>> demo.upsert([ImageRecord("a.jpg"), ImageRecord("b.jpg")], np.array([[0, 0], [3, 4]], np.float32))
    >>> [(hit.path, hit.score) for hit in demo.search(np.zeros((1, 2), np.float32), k=2)[0]]
    [('a.jpg', 0.0), ('b.jpg', 25.0)]
    """

    # Not id(): that of a database which is gone may come again.
    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self._place = f"memory:{next(self._numbers)}"
        self._tables: dict[str, _Table] = {}
        self._lock = threading.RLock()
        self._closed = False
        _databases.add(self)

    @property
    def engine(self) -> str:
        """Human-readable engine name."""
        return "memory of this process"

    @property
    def place(self) -> str:
        """Every database is a place of its own."""
        return self._place

    def names(self) -> list[str]:
        """Names of all collections, sorted."""
        with self._lock:
            self._require_open()
            return sorted(self._tables)

    def open(self, spec: CollectionSpec) -> MemoryCollection:
        """An existing collection."""
        return MemoryCollection(self, replace(spec, metric=self.table(spec.name).info.metric))

    def create(self, spec: CollectionSpec, fingerprint: Fingerprint) -> MemoryCollection:
        """Create the collection, or open it if it is there."""
        with self._lock:
            self._require_open()
            info = CollectionInfo(spec.name, 0, spec.metric, "", fingerprint)
            there = self._tables.setdefault(spec.name, _Table(info)).info
        require_same_model(spec.name, fingerprint, there.fingerprint)
        require_same_metric(spec.name, spec.metric, there.metric)
        return MemoryCollection(self, spec)

    def check(self, spec: CollectionSpec) -> None:
        """Every metric and index type is possible here: search is exact whatever the index."""

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name."""
        with self._lock:
            table = self.table(name)
            if new in self._tables:
                raise name_taken(new, self.engine)
            table.info = replace(table.info, name=new)
            self._tables[new] = self._tables.pop(name)

    def drop(self, name: str) -> None:
        """Remove a whole collection; no error if it is not there."""
        with self._lock:
            self._require_open()
            self._tables.pop(name, None)

    def close(self) -> None:
        """Make the database unusable; its rows are forgotten."""
        with self._lock:
            self._closed = True
            self._tables.clear()

    def table(self, name: str) -> _Table:
        """The rows of a collection.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """
        with self._lock:
            self._require_open()
            if name not in self._tables:
                raise no_collection(name, self.engine)
            return self._tables[name]

    def _require_open(self) -> None:
        if self._closed:
            raise closed(self.engine)


_databases: weakref.WeakSet[MemoryDatabase] = weakref.WeakSet()


def _after_fork() -> None:
    """Only the thread that forked lives on in the child: a lock that another one held would be held for ever."""
    for database in _databases:
        database._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class MemoryCollection:
    """One collection of a :class:`MemoryDatabase`; methods are those of ``Collection``."""

    def __init__(self, database: MemoryDatabase, spec: CollectionSpec) -> None:
        self._database = database
        self._spec = replace(spec, index_type="FLAT" if spec.index_type == "auto" else spec.index_type)

    @property
    def spec(self) -> CollectionSpec:
        """How it is configured."""
        return self._spec

    @property
    def engine(self) -> str:
        """Human-readable engine name."""
        return self._database.engine

    @property
    def place(self) -> str:
        """The database's place."""
        return self._database.place

    @property
    def fingerprint(self) -> Fingerprint:
        """The model of its vectors."""
        return self._table().info.fingerprint

    def info(self) -> CollectionInfo:
        """What it is and how many rows it has."""
        table = self._table()
        return replace(table.info, rows=len(table.rows))

    def count(self) -> int:
        """Number of rows."""
        return len(self._table().rows)

    def upsert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id."""
        table = self._table()
        kept, matrix = checked_rows(pictures, vectors, table.info.fingerprint.dim)
        for picture, vector in zip(kept, matrix, strict=True):
            table.rows[picture.id] = (picture, vector.copy())
            table.index = None

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        table = self._table()
        for key in ids:
            table.rows.pop(key, None)

    def search(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        check_k(k)
        table = self._table()
        queries = checked_vectors(vectors, table.info.fingerprint.dim, "search")
        rows = list(table.rows.values())  # other threads may write
        if among is not None:
            wanted = set(among.tolist())
            rows = [row for row in rows if row[0].id in wanted]
        if not rows:
            return [[] for _ in queries]
        pictures, matrix = zip(*rows, strict=True)
        metric = table.info.metric
        scores = _scores(queries.astype(np.float64), np.stack(matrix).astype(np.float64), metric)
        return [ranked_hits(_best(row, pictures, metric, k), metric, k) for row in scores]

    def search_vectors(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[tuple[Ids, Vectors]]:
        """Ids and vectors of the k closest pictures to each query, closest first."""
        return [vectors_of(self, hits) for hits in self.search(vectors, k, among)]

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        """All rows without their vectors, in batches."""
        pictures = [picture for picture, _ in list(self._table().rows.values())]
        for start in range(0, len(pictures), batch_size):
            yield pictures[start : start + batch_size]

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[Columns]:
        """Some columns of all rows, in batches."""
        for pictures in self.scan(batch_size):
            yield columns_of(pictures, names)

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], Vectors]]:
        """All rows with their vectors, in batches."""
        ids = list(self._table().rows)
        for start in range(0, len(ids), batch_size):
            yield self.fetch(ids[start : start + batch_size])

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        table = self._table()
        found = [row for key in ids if (row := table.rows.get(key)) is not None]
        matrix = np.empty((len(found), table.info.fingerprint.dim), np.float32)
        for number, (_, vector) in enumerate(found):
            matrix[number] = vector
        return [picture for picture, _ in found], matrix

    def index_is_current(self) -> bool:
        """Whether ``build_index`` was called with these settings since the last row came."""
        return self._table().index == (self._spec.index_type, dict(self._spec.index_params))

    def build_index(self, progress: Progress = no_progress) -> None:
        """Record the configured index; exact search needs none."""
        table = self._table()
        table.index = (self._spec.index_type, dict(self._spec.index_params))
        table.info = replace(table.info, index_type=self._spec.index_type)
        progress("index", len(table.rows), len(table.rows))

    def _table(self) -> _Table:
        return self._database.table(self._spec.name)


def _scores(queries: np.ndarray, rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Scores of every query (down) with every row (across), in Milvus's convention."""
    if metric is Metric.L2:
        return np.stack([((rows - query) ** 2).sum(axis=1) for query in queries])
    if metric is Metric.COSINE:
        queries, rows = _unit(queries), _unit(rows)
    return np.asarray(queries @ rows.T)


def _best(
    scores: np.ndarray, pictures: Sequence[ImageRecord], metric: Metric, k: int
) -> Iterator[tuple[float, ImageRecord]]:
    """The k closest rows with their scores, and those that tie with the last once scores are rounded."""
    if k >= len(scores):
        return zip(scores.tolist(), pictures, strict=True)
    close = scores if metric.higher_is_closer else -scores
    last = np.partition(close, -k)[-k]
    chosen = np.flatnonzero(close >= last - 2 * 10.0**-SCORE_DECIMALS).tolist()
    return ((float(scores[row]), pictures[row]) for row in chosen)


def _unit(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a zero row stays zero, so its cosine with anything is 0."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms == 0, 1.0, norms))
