"""The contracts of a vector database: what the rest of the program asks of one.

There are two. A :class:`VectorDatabase` knows its collections by name: it lists, opens, creates, renames and drops
them. A :class:`Collection` is written, read, searched and indexed. A new database implements both in a folder (or
module) of its own, gets one line in :mod:`imagesearch.stores.engines`, and passes the contract tests
(``tests/stores/test_contract*.py``).

Threads, forks and closing, the same for every engine:

* Databases and collections may be used by several threads at once. Calls that an engine cannot run beside each
  other wait for one another inside it; callers hold no lock.
* A scan returns batches; between two of them others may write, and rows that change meanwhile are seen either way.
* :meth:`VectorDatabase.close` waits for calls that are running. Later calls on the database or on one of its
  collections raise :class:`~imagesearch.errors.StoreError`.
* A process made by ``fork`` cannot use what its parent opened: it gets a ``StoreError`` that says so.
* No vendor exception escapes: every method raises ``StoreError`` or a subclass when the database fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import CollectionNotFoundError, ModelMismatchError, StoreError, UsageError
from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Progress, no_progress

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]

# Columns of some rows by name: text as a list of str, numbers as an array; all of one length.
Columns = Mapping[str, "NDArray[Any] | list[Any]"]

# What a Milvus server takes: 255 ASCII letters, digits and underscores.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """How a collection is named, built and searched.

    ``index_params`` and ``search_params`` are those of the index type, under Milvus's names
    (``{"M": 16, "efConstruction": 200}`` and ``{"ef": 64}`` for HNSW). ``index_type`` may be ``"auto"``; an opened
    collection's spec has the engine's choice in its place, and the metric that the collection was made with.
    """

    name: str
    metric: Metric = Metric.COSINE
    index_type: str = "auto"
    index_params: Mapping[str, Any] = field(default_factory=dict)
    search_params: Mapping[str, Any] = field(default_factory=dict)
    vector_field: str = "embedding"
    index_name: str = "embedding_index"


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What is needed to reach a database besides its address; engines ignore what they have no use for.

    Attributes:
        token: API key or ``user:password``.
        db_name: a database on the server other than its default.
        tls_ca: certificate of the authority that signed the server's (or the server's own).
        tls_client_cert, tls_client_key: together, where the server wants to know its clients (mutual TLS).
        tls_server_name: the name in the server's certificate, if it is not the host of the address.
        timeout: seconds within which the server must answer at first.
    """

    token: str | None = field(default=None, repr=False)
    db_name: str | None = None
    tls_ca: str | Path | None = None
    tls_client_cert: str | Path | None = None
    tls_client_key: str | Path | None = None
    tls_server_name: str | None = None
    timeout: float = 5.0


class VectorDatabase(Protocol):
    """All collections of one database. It is connected to when first used; making one never fails."""

    @property
    def engine(self) -> str:
        """Human-readable engine name, e.g. ``"Milvus Lite 3.2.2 at photos.db"``."""

    @property
    def place(self) -> str:
        """Where it is, without credentials: equal for two databases exactly when they are the same one."""

    def names(self) -> list[str]:
        """Names of all collections, sorted; also of those that other programs made."""

    def open(self, spec: CollectionSpec) -> Collection:
        """An existing collection. Never creates anything, not even the database's own files.

        Raises:
            CollectionNotFoundError: there is no such collection.
            ForeignCollectionError: this program did not make it.
        """

    def create(self, spec: CollectionSpec, fingerprint: Fingerprint) -> Collection:
        """Create a collection for this model's vectors, or open it if it is there.

        One that an earlier version made gets the columns that it lacks, if the engine can add any.

        Raises:
            UnsupportedIndexError: see :meth:`check`.
            ModelMismatchError: it exists with vectors of another model.
            StoreError: it exists with another metric, or was not made by this program.
        """

    def check(self, spec: CollectionSpec) -> None:
        """Make sure, before any work, that the engine can build this index with this metric.

        Raises:
            UnsupportedIndexError: it cannot; names what it can do.
        """

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name; collections opened under the old one are unusable afterwards.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the name is taken.
        """

    def drop(self, name: str) -> None:
        """Remove a whole collection; no error if it is not there."""

    def close(self) -> None:
        """Let go of the database; idempotent. See the module about threads."""


class Collection(Protocol):
    """The pictures of one collection with their vectors."""

    @property
    def spec(self) -> CollectionSpec:
        """How it is configured, with the engine's choice for ``index_type="auto"``."""

    @property
    def engine(self) -> str:
        """See :attr:`VectorDatabase.engine`."""

    @property
    def place(self) -> str:
        """See :attr:`VectorDatabase.place`."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The model of its vectors; reads no rows."""

    def info(self) -> CollectionInfo:
        """What it is and how many rows it has.

        Raises:
            CollectionNotFoundError: it was dropped or renamed since.
        """

    def count(self) -> int:
        """Number of rows."""

    def upsert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same :attr:`ImageRecord.id`; durable on return.

        Args:
            pictures: n rows.
            vectors: float32, shape (n, dim), finite.

        Raises:
            StoreError: lengths differ, the dimension is wrong, or values are not finite.
        """

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""

    def search(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first.

        Args:
            vectors: float32, shape (q, dim).
            k: at least 1; a collection with fewer rows returns them all.
            among: ids of the rows that count, int64, each once; None: all rows.

        Equal scores are ordered by path; scores are rounded, see :mod:`imagesearch.stores.scores`.
        """

    def search_vectors(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[tuple[Ids, Vectors]]:
        """What :meth:`search` finds, in its order, as ids and vectors: no records are read, which takes longer.

        Returns:
            For each query ids, int64, shape (n,), and the vectors as they were inserted, float32, shape (n, dim).
        """

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        """All rows without their vectors, in no particular order, in batches; memory is bounded."""

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[Columns]:
        """Some columns of all rows, like :meth:`scan`, without making an object per row.

        Args:
            names: fields of :class:`ImageRecord`, or ``"id"``.
        """

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], Vectors]]:
        """All rows with their vectors (float32, shape (n, dim)), like :meth:`scan`."""

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their ids, with their vectors as they were inserted; ids that are not there are left out.

        Returns:
            The rows in the order of ``ids``, and float32, shape (number of rows, dim).
        """

    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index with its parameters; cheap.

        Rows that are not are found all the same, only slower. After :meth:`build_index` it is true until rows
        are inserted, in this process and in later ones; of a collection without rows it says nothing.
        """

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make rows inserted so far searchable through the configured index.

        Replaces an index of another type or with other parameters; does nothing if :meth:`index_is_current`.
        """


def find(database: VectorDatabase, spec: CollectionSpec) -> Collection | None:
    """The collection, or None if it does not exist."""
    try:
        return database.open(spec)
    except CollectionNotFoundError:
        return None


def is_same_collection(one: Collection, other: Collection) -> bool:
    """Whether both are the same collection of the same database."""
    return (one.place, one.spec.name) == (other.place, other.spec.name)


def columns_of(pictures: Sequence[ImageRecord], names: Sequence[str]) -> Columns:
    """What :meth:`Collection.scan_columns` gives for these rows; for engines that read rows as objects."""
    found: dict[str, NDArray[Any] | list[Any]] = {}
    for name in names:
        values = [getattr(picture, name) for picture in pictures]
        number = bool(values) and isinstance(values[0], int)
        found[name] = np.array(values, np.int64) if number else values
    return found


def checked_vectors(vectors: Vectors, dim: int, what: str) -> Vectors:
    """``vectors`` as a contiguous float32 matrix of the collection's dimension.

    Raises:
        StoreError: it has another shape, or values that are not finite.
    """
    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or matrix.shape[1] != dim:
        raise StoreError(f"{what}: vectors of shape {tuple(matrix.shape)}, the collection has dimension {dim}")
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise StoreError(f"{what}: vector {row} has values that are not finite (NaN or infinity)")
    return matrix


def checked_rows(pictures: Sequence[ImageRecord], vectors: Vectors, dim: int) -> tuple[list[ImageRecord], Vectors]:
    """Rows fit to be stored, each path once: of several with one path the last is kept.

    Raises:
        StoreError: lengths differ, or :func:`checked_vectors` refuses.
    """
    if len(pictures) != len(vectors):
        raise StoreError(f"upsert: {len(pictures)} pictures but {len(vectors)} vectors")
    if not pictures:
        return [], np.zeros((0, dim), dtype=np.float32)
    matrix = checked_vectors(vectors, dim, "upsert")
    last = {picture.id: row for row, picture in enumerate(pictures)}
    if len(last) == len(pictures):
        return list(pictures), matrix
    kept = sorted(last.values())
    return [pictures[row] for row in kept], matrix[kept]


def check_name(name: str) -> None:
    """Refuse a name that a collection cannot have everywhere.

    Milvus Lite takes any, even one that leads out of its folder; but what a server would not take could never be
    migrated to one.

    Raises:
        UsageError: it is not made of ASCII letters, digits and underscores, begins with a digit, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a collection: use letters (A-Z, a-z), digits and _, no digit first"
        )


def check_k(k: int) -> None:
    """Refuse a number of results that makes no sense.

    Raises:
        UsageError: k is below 1.
    """
    if k < 1:
        raise UsageError(f"k = {k}: ask for at least 1 result")


def require_same_model(name: str, wanted: Fingerprint, there: Fingerprint) -> None:
    """Refuse to use one model on a collection of another.

    Raises:
        ModelMismatchError: ``there``, the collection's, is not comparable with ``wanted``.
    """
    if not there.is_comparable(wanted):
        raise ModelMismatchError(_mismatch_text(name, wanted, there))


def require_same_metric(name: str, wanted: Metric, there: Metric) -> None:
    """Refuse to compare a collection's vectors by another metric than the one it was made with.

    Raises:
        StoreError: they differ.
    """
    if there is not wanted:
        raise StoreError(
            f"collection {name!r} compares vectors by {there.value}, but milvus.metric_type is "
            f"{wanted.value}: set it to {there.value}, or index into another milvus.collection_name"
        )


def _mismatch_text(name: str, wanted: Fingerprint, there: Fingerprint) -> str:
    """What to tell somebody who uses one model on a collection of another."""
    if wanted.model != there.model:
        return (
            f"collection {name!r} holds vectors of model {there.model!r}, but the configured model is "
            f"{wanted.model!r}: their vectors cannot be compared. Use the collection's model (--model "
            f"{there.model}, or its folder), or index into another collection (milvus.collection_name)"
        )
    fields = ("revision", "pooling", "input_size", "dim", "normalized")
    changes = ", ".join(
        f"{field} was {getattr(there, field)}, is {getattr(wanted, field)}"
        for field in fields
        if getattr(wanted, field) != getattr(there, field)
    )
    return (
        f"collection {name!r} holds vectors of another version of model {there.model!r} ({changes}; key "
        f"{there.key}, now {wanted.key}): they cannot be compared. Index the pictures into another collection "
        f"(--collection, milvus.collection_name)"
    )


def no_collection(name: str, place: str) -> CollectionNotFoundError:
    """The error for a collection that is not there."""
    return CollectionNotFoundError(
        f"there is no collection {name!r} in {place}: index some pictures first, or check milvus.collection_name"
    )


def name_taken(name: str, place: str) -> StoreError:
    """The error for a collection that is to get the name of another one."""
    return StoreError(f"there is a collection {name!r} in {place} already: drop it first, or choose another name")


def closed(place: str) -> StoreError:
    """The error for using a database after it was closed."""
    return StoreError(f"the database at {place} is closed")
