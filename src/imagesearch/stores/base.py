"""What the rest of the program asks of a vector database.

A new database is one module beside this one that implements :class:`VectorStore` and passes the
contract tests (``tests/stores/test_contract.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import CollectionNotFoundError, ModelMismatchError, StoreError, UsageError
from imagesearch.records import CollectionInfo, Fingerprint, Hit, Metric, Picture, Progress, no_progress

Vectors = NDArray[np.float32]

# What a Milvus server takes: 255 ASCII letters, digits and underscores.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """How a collection is named, built and searched.

    ``index_params`` and ``search_params`` are those of the index type, under Milvus's names
    (``{"M": 16, "efConstruction": 200}`` and ``{"ef": 64}`` for HNSW).
    """

    name: str
    metric: Metric = Metric.COSINE
    index_type: str = "HNSW"
    index_params: Mapping[str, Any] = field(default_factory=dict)
    search_params: Mapping[str, Any] = field(default_factory=dict)
    vector_field: str = "embedding"
    index_name: str = "embedding_index"


class VectorStore(Protocol):
    """One collection of pictures with their vectors, and the database it lives in.

    Every method raises :class:`~imagesearch.errors.StoreError` or a subclass when the database
    fails; no vendor exception escapes.
    """

    @property
    def spec(self) -> CollectionSpec:
        """The collection this store works on."""

    @property
    def engine(self) -> str:
        """The database for people, e.g. ``"Milvus Lite 3.2.2 at photos.db"``."""

    def collections(self) -> list[str]:
        """Names of all collections in the database, sorted."""

    def other(self, name: str) -> VectorStore:
        """A store for another collection of this database, with the same settings; close it separately."""

    def is_same(self, other: VectorStore) -> bool:
        """Whether the other store works on this very collection, as far as names tell."""

    def describe(self) -> CollectionInfo | None:
        """The collection as it is in the database, or None if it does not exist."""

    def fingerprint(self) -> Fingerprint | None:
        """The model of the collection's vectors, or None if it does not exist; cheaper than :meth:`describe`."""

    def check(self) -> None:
        """Make sure, before any work, that the engine can build this index with this metric.

        Raises:
            UnsupportedIndexError: it cannot; names what it can do.
        """

    def create(self, fingerprint: Fingerprint) -> CollectionInfo:
        """Create the collection for this model's vectors, or open it if it is there.

        Raises:
            ModelMismatchError: it exists with vectors of another model.
            StoreError: it exists with another metric, or was not made by this program.
        """

    def upsert(self, pictures: Sequence[Picture], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same :attr:`Picture.id`; durable on return.

        Args:
            pictures: n rows.
            vectors: float32, shape (n, dim), finite.

        Raises:
            StoreError: lengths differ, the dimension is wrong, or values are not finite.
        """

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first.

        Args:
            vectors: float32, shape (q, dim).
            k: at least 1; a collection with fewer rows returns them all.

        Equal scores are ordered by path; scores have :data:`SCORE_DECIMALS` decimals.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def scan(self, batch_size: int = 1000) -> Iterator[list[Picture]]:
        """All rows without their vectors, in no particular order, in batches; memory is bounded.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[Picture], Vectors]]:
        """All rows with their vectors (float32, shape (n, dim)), like :meth:`scan`.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def fetch(self, ids: Sequence[int]) -> tuple[list[Picture], Vectors]:
        """Rows by their ids, with their vectors as they were inserted; ids that are not there are left out.

        Returns:
            The rows in the order of ``ids``, and float32, shape (number of rows, dim).

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def count(self) -> int:
        """Number of rows; 0 if the collection does not exist."""

    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index with its parameters; cheap.

        Rows that are not are found all the same, only slower. After :meth:`build_index` it is true until rows
        are inserted, in this process and in later ones; of a collection without rows it says nothing.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make rows inserted so far searchable through the configured index.

        Builds it anew if there is one of another type or with other parameters; does nothing if
        :meth:`index_is_current`.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """

    def rename(self, name: str) -> None:
        """Give the collection another name; the store goes on under it.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the name is taken.
        """

    def drop(self) -> None:
        """Remove the whole collection; no error if it is not there."""

    def close(self) -> None:
        """Let go of the database; the store is unusable afterwards."""


# float32 arithmetic differs between engines in the seventh digit (1.0 here, 0.99999994 there, and
# 1.0000001 for the same vectors in another order of summation). Rounded, equal pictures tie in every
# engine, and all of them give one ranking.
SCORE_DECIMALS = 6


def ranked_hits(candidates: Iterable[tuple[float, Picture]], metric: Metric, k: int) -> list[Hit]:
    """The k closest candidates as hits: closest first, ties by path, scores rounded."""
    scored = [(tidy_score(score, metric), picture) for score, picture in candidates]
    sign = -1.0 if metric.higher_is_closer else 1.0
    scored.sort(key=lambda pair: (sign * pair[0], pair[1].path))
    return [Hit(rank, score, picture) for rank, (score, picture) in enumerate(scored[:k], start=1)]


def tidy_score(score: float, metric: Metric) -> float:
    """A score within the metric's true bounds and without float32 noise (never ``-0.0``)."""
    if metric is Metric.COSINE:
        score = min(1.0, max(-1.0, score))
    elif metric is Metric.L2:
        score = max(0.0, score)
    return round(float(score), SCORE_DECIMALS) + 0.0


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


def checked_rows(pictures: Sequence[Picture], vectors: Vectors, dim: int) -> tuple[list[Picture], Vectors]:
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


def check_same_collection(name: str, metric: Metric, wanted: Fingerprint, there: CollectionInfo) -> None:
    """Refuse to mix models or metrics in one collection.

    Raises:
        ModelMismatchError: ``there`` holds vectors of another model than ``wanted``.
        StoreError: ``there`` compares vectors by another metric.
    """
    if there.fingerprint.key != wanted.key:
        raise ModelMismatchError(mismatch_text(name, wanted, there.fingerprint))
    if there.metric is not metric:
        raise StoreError(
            f"collection {name!r} compares vectors by {there.metric.value}, but milvus.metric_type is "
            f"{metric.value}: set it to {there.metric.value}, or index into another milvus.collection_name"
        )


def mismatch_text(name: str, wanted: Fingerprint, there: Fingerprint) -> str:
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
    """The error for a collection that shall get the name of another one."""
    return StoreError(f"there is a collection {name!r} in {place} already: drop it first, or choose another name")
