"""Milvus servers, Zilliz Cloud among them: a database whose collections are reached by pymilvus.

``server_connection`` reaches the server and translates its errors, ``server_collection`` works on one collection
with its index (``server_index``) and rows (``server_rows``). pymilvus is imported when the server is first used:
it takes more than a second.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import replace

from imagesearch.errors import CollectionNotFoundError, StoreError
from imagesearch.records import Fingerprint
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import (
    CollectionSpec,
    ConnectionOptions,
    name_taken,
    no_collection,
    require_same_metric,
    require_same_model,
)
from imagesearch.stores.gate import Gate, while_open
from imagesearch.stores.milvus.index_types import chosen_for
from imagesearch.stores.milvus.schema import RECORD_PROPERTY, Schema
from imagesearch.stores.milvus.server_collection import ServerCollection
from imagesearch.stores.milvus.server_connection import ServerConnection, forget_columns
from imagesearch.stores.milvus.server_rows import new_fields, schema_of
from imagesearch.stores.milvus.server_state import CollectionState

# What "auto" stands for: on a server a graph searches fastest and finds most.
_BEST_INDEX = "HNSW"


def open_database(address: DatabaseAddress, options: ConnectionOptions) -> ServerDatabase:
    """The database at a server's address; it is connected to when first used."""
    return ServerDatabase(ServerConnection(address, options))


class ServerDatabase:
    """All collections of one database on a server; methods are those of ``VectorDatabase``."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._states: dict[tuple[str, int], CollectionState] = {}  # by name and Milvus's number of the collection
        self._lock = threading.Lock()

    @property
    def engine(self) -> str:
        """Human-readable engine name."""
        return self._connection.engine

    @property
    def place(self) -> str:
        """The server's address and the database's name, without credentials."""
        return self._connection.place

    @property
    def gate(self) -> Gate:
        """See :func:`while_open`."""
        return self._connection.gate

    def names(self) -> list[str]:
        """Names of all collections, sorted."""
        return sorted(self._connection.call("list collections", "list_collections"))

    def open(self, spec: CollectionSpec) -> ServerCollection:
        """An existing collection."""
        name = spec.name
        description = self._connection.call("describe", "describe_collection", name, collection_name=name)
        schema = schema_of(name, description)
        state = self._state(name, int(description["collection_id"]))
        return ServerCollection(self._connection, _decided(spec), schema, state)

    @while_open
    def create(self, spec: CollectionSpec, fingerprint: Fingerprint) -> ServerCollection:
        """Create the collection, or open it if it is there."""
        try:
            collection = self.open(spec)
        except CollectionNotFoundError:
            self.check(spec)
            collection = self._make(spec, fingerprint)
        there = collection.schema
        require_same_model(spec.name, fingerprint, there.fingerprint)
        require_same_metric(spec.name, spec.metric, there.metric)
        return collection

    def check(self, spec: CollectionSpec) -> None:
        """Make sure, before any work, that the server can build this index; all of them take every metric."""
        self._connection.require_index_type(_decided(spec).index_type)

    @while_open
    def rename(self, name: str, new: str) -> None:
        """Give a collection another name, in one step."""
        if not self._has(name):
            raise no_collection(name, self.place)
        if self._has(new):
            raise name_taken(new, self.place)
        self._connection.call("rename it", "rename_collection", name, old_name=name, new_name=new)
        self._forget(name)

    @while_open
    def drop(self, name: str) -> None:
        """Remove a whole collection; no error if it is not there."""
        with contextlib.suppress(CollectionNotFoundError):
            self._connection.call("drop it", "drop_collection", name, collection_name=name)
        self._forget(name)

    def close(self) -> None:
        """Hang up, once calls that are running have ended; idempotent."""
        self._connection.close()

    def _has(self, name: str) -> bool:
        return bool(self._connection.call("look it up", "has_collection", name, collection_name=name))

    def _make(self, spec: CollectionSpec, fingerprint: Fingerprint) -> ServerCollection:
        """Create it, with an index that the server builds while rows come in; open it if another was quicker."""
        name, schema = spec.name, Schema(fingerprint, spec.metric, spec.vector_field)
        doing = "create it"
        with self._connection.translating(doing, name):
            fields = new_fields(schema)
        try:
            self._connection.call(
                doing,
                "create_collection",
                name,
                collection_name=name,
                schema=fields,
                properties={RECORD_PROPERTY: schema.record()},
                consistency_level="Session",
            )
        except StoreError as refusal:
            try:
                return self.open(spec)
            except CollectionNotFoundError:
                raise refusal from None
        collection = self.open(spec)
        collection.prepare()
        return collection

    def _state(self, name: str, number: int) -> CollectionState:
        with self._lock:
            if (name, number) not in self._states:
                forget_columns()  # the name may have belonged to another collection
                self._states[name, number] = CollectionState()
            return self._states[name, number]

    def _forget(self, name: str) -> None:
        with self._lock:
            for key in [key for key in self._states if key[0] == name]:
                self._states.pop(key).mark_gone()


def _decided(spec: CollectionSpec) -> CollectionSpec:
    return replace(spec, index_type=chosen_for(spec.index_type, _BEST_INDEX))
