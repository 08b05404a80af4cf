"""The exact in-memory store: the reference that the other stores are tested against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imagesearch.records import CollectionInfo, Fingerprint, Hit, Metric, Picture, Progress, no_progress
from imagesearch.stores.base import (
    CollectionSpec,
    Vectors,
    VectorStore,
    check_k,
    check_same_collection,
    checked_rows,
    checked_vectors,
    name_taken,
    no_collection,
    ranked_hits,
)


@dataclass(slots=True)
class _Collection:
    info: CollectionInfo
    rows: dict[int, tuple[Picture, Vectors]] = field(default_factory=dict)
    index: tuple[str, dict[str, Any]] | None = None  # type and parameters, as of the last row


class MemoryDatabase:
    """What several :class:`MemoryStore` share when they stand for one database."""

    def __init__(self) -> None:
        self.collections: dict[str, _Collection] = {}


class MemoryStore:
    """Rows in a dictionary, compared one by one: slow, exact, gone with the process.

    >>> from imagesearch.records import Fingerprint
    >>> store = MemoryStore(CollectionSpec("demo", metric=Metric.L2, index_type="FLAT"))
    >>> info = store.create(Fingerprint("toy", "1", "cls", (8, 8), dim=2))
    >>> store.upsert([Picture("a.jpg"), Picture("b.jpg")], np.array([[0, 0], [3, 4]], np.float32))
    >>> [(hit.path, hit.score) for hit in store.search(np.zeros((1, 2), np.float32), k=2)[0]]
    [('a.jpg', 0.0), ('b.jpg', 25.0)]
    """

    def __init__(self, spec: CollectionSpec, database: MemoryDatabase | None = None) -> None:
        self._spec = spec
        self._database = database or MemoryDatabase()
        self._collections = self._database.collections

    @property
    def spec(self) -> CollectionSpec:
        """The collection this store works on."""
        return self._spec

    @property
    def engine(self) -> str:
        """The database for people."""
        return "memory of this process"

    def collections(self) -> list[str]:
        """Names of all collections in the database, sorted."""
        return sorted(self._collections)

    def other(self, name: str) -> MemoryStore:
        """A store for another collection of this database, with the same settings."""
        return MemoryStore(replace(self._spec, name=name), self._database)

    def is_same(self, other: VectorStore) -> bool:
        """Whether the other store works on this very collection."""
        return (
            isinstance(other, MemoryStore)
            and other._collections is self._collections
            and other.spec.name == self._spec.name
        )

    def describe(self) -> CollectionInfo | None:
        """The collection as it is, or None if it does not exist."""
        there = self._collections.get(self._spec.name)
        return replace(there.info, rows=len(there.rows)) if there else None

    def fingerprint(self) -> Fingerprint | None:
        """The model of the collection's vectors, or None if it does not exist."""
        there = self._collections.get(self._spec.name)
        return there.info.fingerprint if there else None

    def check(self) -> None:
        """Every metric and index type is possible here: search is exact whatever the index."""

    def create(self, fingerprint: Fingerprint) -> CollectionInfo:
        """Create the collection for this model's vectors, or open it if it is there."""
        spec = self._spec
        there = self.describe()
        if there is None:
            there = CollectionInfo(spec.name, 0, spec.metric, "", fingerprint)
            self._collections[spec.name] = _Collection(there)
        check_same_collection(spec.name, spec.metric, fingerprint, there)
        return there

    def upsert(self, pictures: Sequence[Picture], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id."""
        collection = self._open()
        kept, matrix = checked_rows(pictures, vectors, collection.info.fingerprint.dim)
        for picture, vector in zip(kept, matrix, strict=True):
            collection.rows[picture.id] = (picture, vector.copy())
            collection.index = None

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        collection = self._open()
        for key in ids:
            collection.rows.pop(key, None)

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        check_k(k)
        collection = self._open()
        queries = checked_vectors(vectors, collection.info.fingerprint.dim, "search")
        if not collection.rows:
            return [[] for _ in queries]
        pictures, matrix = zip(*collection.rows.values(), strict=True)
        metric = collection.info.metric
        scores = _scores(queries.astype(np.float64), np.stack(matrix).astype(np.float64), metric)
        return [ranked_hits(zip(row.tolist(), pictures, strict=True), metric, k) for row in scores]

    def scan(self, batch_size: int = 1000) -> Iterator[list[Picture]]:
        """All rows without their vectors, in batches."""
        pictures = [picture for picture, _ in list(self._open().rows.values())]  # other threads may write
        for start in range(0, len(pictures), batch_size):
            yield pictures[start : start + batch_size]

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[Picture], Vectors]]:
        """All rows with their vectors, in batches."""
        ids = list(self._open().rows)
        for start in range(0, len(ids), batch_size):
            yield self.fetch(ids[start : start + batch_size])

    def fetch(self, ids: Sequence[int]) -> tuple[list[Picture], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        collection = self._open()
        found = [collection.rows[key] for key in ids if key in collection.rows]
        matrix = np.empty((len(found), collection.info.fingerprint.dim), np.float32)
        for row, (_, vector) in enumerate(found):
            matrix[row] = vector
        return [picture for picture, _ in found], matrix

    def count(self) -> int:
        """Number of rows; 0 if the collection does not exist."""
        there = self._collections.get(self._spec.name)
        return len(there.rows) if there else 0

    def index_is_current(self) -> bool:
        """Whether ``build_index`` was called with these settings since the last row came."""
        return self._open().index == (self._spec.index_type, dict(self._spec.index_params))

    def build_index(self, progress: Progress = no_progress) -> None:
        """Record the configured index; exact search needs none."""
        collection = self._open()
        collection.index = (self._spec.index_type, dict(self._spec.index_params))
        collection.info = replace(collection.info, index_type=self._spec.index_type)
        progress("index", len(collection.rows), len(collection.rows))

    def rename(self, name: str) -> None:
        """Give the collection another name; the store goes on under it."""
        collection = self._open()
        if name in self._collections:
            raise name_taken(name, self.engine)
        self._collections[name] = self._collections.pop(self._spec.name)
        collection.info = replace(collection.info, name=name)
        self._spec = replace(self._spec, name=name)

    def drop(self) -> None:
        """Remove the whole collection; no error if it is not there."""
        self._collections.pop(self._spec.name, None)

    def close(self) -> None:
        """Nothing to let go of."""

    def _open(self) -> _Collection:
        there = self._collections.get(self._spec.name)
        if there is None:
            raise no_collection(self._spec.name, self.engine)
        return there


def _scores(queries: np.ndarray, rows: np.ndarray, metric: Metric) -> np.ndarray:
    """Scores of every query (down) with every row (across), in Milvus's convention."""
    if metric is Metric.L2:
        return np.stack([((rows - query) ** 2).sum(axis=1) for query in queries])
    if metric is Metric.COSINE:
        queries, rows = _unit(queries), _unit(rows)
    return np.asarray(queries @ rows.T)


def _unit(matrix: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; a zero row stays zero, so its cosine with anything is 0."""
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)
    return np.asarray(matrix / np.where(norms == 0, 1.0, norms))
