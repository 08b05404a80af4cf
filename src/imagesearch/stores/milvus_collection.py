"""One Milvus collection as this process has it open: made or found, loaded, asked."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from imagesearch.errors import StoreError
from imagesearch.records import Fingerprint
from imagesearch.stores.base import CollectionSpec, no_collection
from imagesearch.stores.milvus_connection import CALL_TIMEOUT, POLL_SECONDS, is_not_loaded
from imagesearch.stores.milvus_index import VectorIndex
from imagesearch.stores.milvus_rows import RECORD_PROPERTY, Schema, new_schema, parse_schema
from imagesearch.stores.milvus_session import Session

T = TypeVar("T")


class MilvusCollection:
    """The collection behind a :class:`~imagesearch.stores.milvus.MilvusStore`; asks when first used.

    Attributes:
        session: the database.
        spec: how it is configured.
        index: the index on its vectors.
        index_type: of the index that is there once it is loaded, which may not be the configured one yet.
        covered: whether the index covers every row: no, once this process wrote some; yes, once it built the
            index; None while it has done neither.
        synchronised: whether this process has read all that was ever written.
    """

    def __init__(self, session: Session, spec: CollectionSpec) -> None:
        self.session, self.spec = session, spec
        self.lite = session.lite
        self.index = VectorIndex(spec, self.lite, self.call)
        self._lock = threading.RLock()
        self.forget()

    def forget(self) -> None:
        """Drop what is remembered of the collection."""
        self._schema: Schema | None = None
        self._loaded = False
        self.index_type = ""
        self.covered: bool | None = None
        self.synchronised = False

    @property
    def name(self) -> str:
        """The collection's name."""
        return self.spec.name

    # --- calls ---

    def call(self, doing: str, call: Callable[[Any], T]) -> T:
        """Run one pymilvus call with its errors translated."""
        return self.session.call(doing, self.name, call)

    def read(self, doing: str, call: Callable[[Any], T]) -> T:
        """Like :meth:`call`; if the collection is not loaded any more, load it and try once more.

        Another client may have released it, or Milvus Lite was started anew.
        """
        self.load()

        def reading(client: Any) -> T:
            try:
                return call(client)
            except Exception as error:
                if not is_not_loaded(error):
                    raise
            self._loaded = False
            self.load()
            return call(client)

        return self.call(doing, reading)

    def consistency(self) -> str:
        """How much a read waits for: the first for all that was ever written, later ones for our own writes.

        The former ("Strong") takes a server 0.2 s, the latter ("Session") costs nothing.
        """
        return "Session" if self.synchronised else "Strong"

    # --- what it is ---

    def exists(self, name: str | None = None) -> bool:
        """Whether the database has a collection of this name; default: this one."""
        if self.session.is_absent():
            return False
        wanted = name or self.name
        return bool(self.call("look up", lambda client: client.has_collection(wanted, timeout=CALL_TIMEOUT)))

    def schema(self) -> Schema:
        """What the collection says of itself, asked once.

        Raises:
            CollectionNotFoundError: it does not exist.
        """
        schema = self._schema or self.read_schema()
        if schema is None:
            raise no_collection(self.name, self.session.connect().place)
        return schema

    def read_schema(self) -> Schema | None:
        """What the collection says of itself now, or None if it does not exist."""
        if not self.exists():
            self.forget()
            return None
        description = self.call(
            "describe", lambda client: client.describe_collection(self.name, timeout=CALL_TIMEOUT)
        )
        self._schema = parse_schema(self.name, description)
        return self._schema

    def count(self) -> int:
        """Number of rows; 0 if the collection does not exist."""
        # Not get_collection_stats: on a server that counts deleted and replaced rows as well.
        return 0 if self.read_schema() is None else self._count()

    def count_sealed(self) -> int:
        """Number of rows that a server has put into segments, which are what it indexes."""
        return self._count(ignore_growing=True)

    def _count(self, **options: Any) -> int:
        rows = self.read(
            "count pictures",
            lambda client: client.query(
                self.name,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=CALL_TIMEOUT,
                **options,
            ),
        )
        return int(rows[0]["count(*)"])

    # --- its life ---

    def make(self, fingerprint: Fingerprint) -> bool:
        """Create it; False if another process was quicker, and the caller has to compare."""
        spec = self.spec
        schema = Schema(fingerprint, spec.metric, spec.vector_field)

        def make(client: Any) -> None:
            client.create_collection(
                spec.name,
                schema=new_schema(client, schema),
                properties={RECORD_PROPERTY: schema.record()},
                consistency_level="Session",
                timeout=CALL_TIMEOUT,
            )

        try:
            self.call("create the collection", make)
        except StoreError:
            if not self.exists():
                raise
            return False
        if not self.lite:
            # A server loads, hence searches, no collection without an index. Milvus Lite does, and
            # is quicker without one while many rows come in.
            self.index.create(schema, self.index.wanted(schema, 0))
        return True

    def load(self) -> None:
        """Make it searchable: a collection reopened from disk is not.

        An index that Milvus Lite cannot load is dropped, and search goes on without: a killed process or a
        full disk leaves half an index file behind, and Milvus Lite would fail over it for ever.
        """
        with self._lock:
            if self._loaded:
                return
            schema = self.schema()
            if self.index.describe(schema) is None and not self.lite:
                self.index.create(schema, self.index.wanted(schema, 0))
            try:
                self.load_index()
            except StoreError as error:
                if not self.lite or self.index.describe(schema) is None:
                    raise
                logging.getLogger(__name__).debug("%s: the index is dropped, to be built again", error)
                self.index.drop()
                self.load_index()

    def load_index(self) -> None:
        """Load it with the index that there is; Milvus Lite builds what is missing of it within this call."""
        name = self.name
        # No deadline: building takes as long as it takes.
        self.call("load", lambda client: client.load_collection(name, _async=True, retry_times=3))
        while not self.call("load", lambda client: _is_loaded(client, name)):
            time.sleep(POLL_SECONDS)
        index = self.index.describe(self.schema())
        self.index_type = str(index["index_type"]) if index else ""
        self._loaded = True

    def release(self) -> None:
        """The opposite of :meth:`load`."""
        self.call("release", lambda client: client.release_collection(self.name, timeout=CALL_TIMEOUT))
        self._loaded = False

    def flush(self) -> None:
        """Make segments of the rows that are still being collected."""
        self.call("flush", lambda client: client.flush(self.name, timeout=10 * CALL_TIMEOUT))


def _is_loaded(client: Any, name: str) -> bool:
    state = client.get_load_state(name, timeout=CALL_TIMEOUT)["state"]
    return str(getattr(state, "name", state)) == "Loaded"
