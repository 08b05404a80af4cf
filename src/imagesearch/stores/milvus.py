"""Milvus as a vector store: Milvus Lite for a path, any Milvus server or Zilliz Cloud for an address.

This module writes, and shows the whole as one class. Its neighbours do the rest: ``milvus_connection`` and
``milvus_session`` reach the database, ``milvus_lite`` opens an embedded one, ``milvus_collection`` opens and
loads a collection, ``milvus_rows`` knows its columns, ``milvus_index`` and ``milvus_build`` its index, and
``milvus_reader`` searches and scans. They import pymilvus when it is first used: it takes more than a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from imagesearch.errors import UnsupportedIndexError
from imagesearch.records import CollectionInfo, Fingerprint, Hit, Picture, Progress, no_progress
from imagesearch.stores import milvus_build, milvus_reader
from imagesearch.stores.base import (
    CollectionSpec,
    Vectors,
    VectorStore,
    check_same_collection,
    checked_rows,
    name_taken,
    no_collection,
)
from imagesearch.stores.index_types import chosen_for
from imagesearch.stores.milvus_collection import MilvusCollection
from imagesearch.stores.milvus_connection import CALL_TIMEOUT, Tls, check_uri
from imagesearch.stores.milvus_rows import to_row
from imagesearch.stores.milvus_session import Session

# One upsert: a server takes 64 MB a message, and smaller ones keep other clients' latency low.
_ROWS_PER_CALL = 2_000
_BYTES_PER_CALL = 24_000_000
_BYTES_OF_TEXT = 1_000  # a row without its vector, generously

_IDS_PER_DELETE = 5_000


class MilvusStore:
    """A collection in Milvus; connects when first used. Methods are those of ``VectorStore``.

    Args:
        spec: the collection.
        uri: a path ending in ``.db``, or ``http(s)://host:port``.
        token: API key or ``user:password``.
        db_name: a database on the server other than its default.
        tls_ca, tls_client_cert, tls_client_key, tls_server_name: see :class:`Tls`.
        timeout: seconds within which the server must answer at first.

    Raises:
        ConfigError: the URI is neither.
    """

    def __init__(
        self,
        spec: CollectionSpec,
        uri: str,
        token: str | None = None,
        db_name: str | None = None,
        *,
        tls_ca: str | Path | None = None,
        tls_client_cert: str | Path | None = None,
        tls_client_key: str | Path | None = None,
        tls_server_name: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        check_uri(uri)
        self._sibling = partial(
            MilvusStore,
            uri=uri,
            token=token,
            db_name=db_name,
            tls_ca=tls_ca,
            tls_client_cert=tls_client_cert,
            tls_client_key=tls_client_key,
            tls_server_name=tls_server_name,
            timeout=timeout,
        )
        tls = Tls(tls_ca, tls_client_cert, tls_client_key, tls_server_name)
        self._session = Session(uri, token, db_name, tls, timeout)
        kind = chosen_for(spec.index_type, lite=self._session.lite)
        self._collection = MilvusCollection(self._session, replace(spec, index_type=kind))

    @property
    def spec(self) -> CollectionSpec:
        """The collection this store works on."""
        return self._collection.spec

    @property
    def engine(self) -> str:
        """The database for people, e.g. ``"Milvus Lite 3.2.2 at /data/photos.db"``."""
        if self._session.is_absent():
            return f"Milvus Lite at {self._session.uri} (not there yet)"
        return self._session.connect().engine

    def collections(self) -> list[str]:
        """Names of all collections in the database, sorted."""
        if self._session.is_absent():
            return []
        return sorted(
            self._collection.call("list collections", lambda client: client.list_collections(timeout=CALL_TIMEOUT))
        )

    def other(self, name: str) -> MilvusStore:
        """A store for another collection of this database, with the same settings; close it separately."""
        return self._sibling(replace(self.spec, name=name))

    def is_same(self, other: VectorStore) -> bool:
        """Whether the other store works on this very collection, as far as names tell."""
        return (
            isinstance(other, MilvusStore)
            and other.spec.name == self.spec.name
            and other._session.place() == self._session.place()
        )

    def describe(self) -> CollectionInfo | None:
        """The collection as it is in the database, or None if it does not exist."""
        collection = self._collection
        schema = collection.read_schema()
        if schema is None:
            return None
        index = collection.index.describe(schema)
        kind = str(index["index_type"]) if index else ""
        return CollectionInfo(collection.name, collection.count(), schema.metric, kind, schema.fingerprint)

    def fingerprint(self) -> Fingerprint | None:
        """The model of the collection's vectors, or None if it does not exist; reads no rows."""
        schema = self._collection.read_schema()
        return schema.fingerprint if schema else None

    def check(self) -> None:
        """Make sure, before any work, that the engine can build this index."""
        connection = self._session.connect()
        possible = connection.index_types()
        if self.spec.index_type not in possible:
            raise UnsupportedIndexError(
                f"milvus.index_type = {self.spec.index_type!r}: {connection.engine} cannot build it; "
                f"it builds {', '.join(possible)}"
            )

    def create(self, fingerprint: Fingerprint) -> CollectionInfo:
        """Create the collection for this model's vectors, or open it if it is there."""
        spec = self.spec
        if self._collection.read_schema() is None:
            self.check()
            if self._collection.make(fingerprint):
                # Not `describe`: it counts rows, and would make a server load the collection now already.
                kind = "" if self._session.lite else spec.index_type
                return CollectionInfo(spec.name, 0, spec.metric, kind, fingerprint)
        there = self.describe()
        if there is None:
            raise no_collection(spec.name, self._session.connect().place)
        check_same_collection(spec.name, spec.metric, fingerprint, there)
        return there

    def upsert(self, pictures: Sequence[Picture], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id; durable on return."""
        schema = self._collection.schema()
        dim = schema.fingerprint.dim
        kept, matrix = checked_rows(pictures, vectors, dim)
        rows = [to_row(picture, schema) for picture in kept]
        step = max(1, min(_ROWS_PER_CALL, _BYTES_PER_CALL // (4 * dim + _BYTES_OF_TEXT)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            for row, vector in zip(part, matrix[start : start + step], strict=True):
                row[schema.vector_field] = vector
            self._collection.covered = False
            self._collection.call(
                "insert pictures",
                lambda client, part=part: client.upsert(self.spec.name, part, timeout=CALL_TIMEOUT),  # type: ignore[misc]
            )

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        self._collection.load()
        for start in range(0, len(ids), _IDS_PER_DELETE):
            part = [int(key) for key in ids[start : start + _IDS_PER_DELETE]]
            self._collection.call(
                "delete pictures",
                lambda client, part=part: client.delete(self.spec.name, ids=part, timeout=CALL_TIMEOUT),  # type: ignore[misc]
            )

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        return milvus_reader.search(self._collection, vectors, k)

    def scan(self, batch_size: int = 1000) -> Iterator[list[Picture]]:
        """All rows without their vectors, in batches; rows changed meanwhile may be seen either way."""
        return milvus_reader.scan(self._collection, batch_size)

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[Picture], Vectors]]:
        """All rows with their vectors, in batches; rows changed meanwhile may be seen either way."""
        return milvus_reader.scan_vectors(self._collection, batch_size)

    def fetch(self, ids: Sequence[int]) -> tuple[list[Picture], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        return milvus_reader.fetch(self._collection, ids)

    def count(self) -> int:
        """Number of rows; 0 if the collection does not exist."""
        return self._collection.count()

    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index with its parameters."""
        return milvus_build.is_current(self._collection)

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make all rows searchable through the configured index; rebuild it if it is another one."""
        self._collection.schema()
        self.check()
        milvus_build.build(self._collection, progress)

    def rename(self, name: str) -> None:
        """Give the collection another name; the store goes on under it.

        Milvus does it in one step. Milvus Lite moves the collection's folder, which is one step too; the name
        within it, written afterwards, only says where it came from.
        """
        collection = self._collection
        collection.schema()
        if collection.exists(name):
            raise name_taken(name, self._session.connect().place)

        def rename(client: Any) -> None:
            from pymilvus.client.cache import GlobalCache

            client.rename_collection(collection.name, name, timeout=CALL_TIMEOUT)
            # pymilvus remembers columns by name, and does not notice that the name means another collection.
            GlobalCache.schema.clear()

        collection.call(f"rename it to {name!r}", rename)
        self._collection = MilvusCollection(self._session, replace(self.spec, name=name))

    def drop(self) -> None:
        """Remove the whole collection; no error if it is not there."""
        if self._collection.exists():
            self._collection.call(
                "drop", lambda client: client.drop_collection(self.spec.name, timeout=CALL_TIMEOUT)
            )
        self._collection.forget()

    def close(self) -> None:
        """Let go of the database; the store is unusable afterwards."""
        self._session.close()
