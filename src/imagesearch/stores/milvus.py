"""Milvus as a vector store: Milvus Lite for a path, any Milvus server or Zilliz Cloud for an address.

pymilvus is imported by this module's neighbours ``milvus_connection`` and ``milvus_lite`` and by the
functions below, when first used: it takes more than a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from imagesearch.errors import StoreError, UnsupportedIndexError
from imagesearch.records import CollectionInfo, Fingerprint, Hit, Picture, Progress, no_progress
from imagesearch.stores.base import (
    CollectionSpec,
    Vectors,
    check_k,
    check_same_collection,
    checked_rows,
    checked_vectors,
    no_collection,
    ranked_hits,
)
from imagesearch.stores.index_types import MAX_TOP_K, search_parameters
from imagesearch.stores.milvus_connection import (
    CALL_TIMEOUT,
    POLL_SECONDS,
    Connection,
    Tls,
    check_uri,
    connect,
    display_uri,
    is_lite,
    is_not_loaded,
    lite_path,
)
from imagesearch.stores.milvus_index import VectorIndex
from imagesearch.stores.milvus_rows import (
    PICTURE_FIELDS,
    RECORD_PROPERTY,
    Schema,
    new_schema,
    parse_schema,
    to_picture,
    to_row,
)

T = TypeVar("T")

# One upsert: a server takes 64 MB a message, and smaller ones keep other clients' latency low.
_ROWS_PER_CALL = 2_000
_BYTES_PER_CALL = 24_000_000
_BYTES_OF_TEXT = 1_000  # a row without its vector, generously

_IDS_PER_DELETE = 5_000
_QUERIES_PER_CALL = 64

# Asked for beyond k, so that pictures with equal scores at the end are chosen by path, not by chance.
_TIE_MARGIN = 10


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
        self._spec = spec
        self._uri, self._token, self._db_name = uri, token, db_name
        self._tls = Tls(tls_ca, tls_client_cert, tls_client_key, tls_server_name)
        self._timeout = timeout
        self._lite = is_lite(uri)
        self._index = VectorIndex(spec, self._lite, self._call)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._closed = False
        self._forget()

    def _forget(self) -> None:
        """Drop what is remembered of the collection."""
        self._schema: Schema | None = None
        self._loaded = False
        self._index_type = ""  # of the index that is there, which may not be the configured one yet
        self._unindexed = True  # whether there may be rows that the index does not cover
        self._synchronised = False

    @property
    def spec(self) -> CollectionSpec:
        """The collection this store works on."""
        return self._spec

    @property
    def engine(self) -> str:
        """The database for people, e.g. ``"Milvus Lite 3.2.2 at /data/photos.db"``."""
        return f"Milvus Lite at {self._uri} (not there yet)" if self._is_absent() else self._connect().engine

    def collections(self) -> list[str]:
        """Names of all collections in the database, sorted."""
        if self._is_absent():
            return []
        return sorted(self._call("list collections", lambda client: client.list_collections(timeout=CALL_TIMEOUT)))

    def describe(self) -> CollectionInfo | None:
        """The collection as it is in the database, or None if it does not exist."""
        schema = self._read_schema()
        if schema is None:
            return None
        index = self._index.describe(schema)
        kind = str(index["index_type"]) if index else ""
        return CollectionInfo(self._spec.name, self.count(), schema.metric, kind, schema.fingerprint)

    def fingerprint(self) -> Fingerprint | None:
        """The model of the collection's vectors, or None if it does not exist; reads no rows."""
        schema = self._read_schema()
        return schema.fingerprint if schema else None

    def check(self) -> None:
        """Make sure, before any work, that the engine can build this index."""
        connection = self._connect()
        possible = connection.index_types()
        if self._spec.index_type not in possible:
            raise UnsupportedIndexError(
                f"milvus.index_type = {self._spec.index_type!r}: {connection.engine} cannot build it; "
                f"it builds {', '.join(possible)}"
            )

    def create(self, fingerprint: Fingerprint) -> CollectionInfo:
        """Create the collection for this model's vectors, or open it if it is there."""
        spec = self._spec
        if self._read_schema() is None:
            self.check()
            if self._create_collection(fingerprint):
                # Not `describe`: it counts rows, and would make a server load the collection now already.
                kind = "" if self._lite else spec.index_type
                return CollectionInfo(spec.name, 0, spec.metric, kind, fingerprint)
        there = self.describe()
        if there is None:
            raise no_collection(spec.name, self._connect().place)
        check_same_collection(spec.name, spec.metric, fingerprint, there)
        return there

    def upsert(self, pictures: Sequence[Picture], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id; durable on return."""
        schema = self._open()
        dim = schema.fingerprint.dim
        kept, matrix = checked_rows(pictures, vectors, dim)
        rows = [to_row(picture) for picture in kept]
        step = max(1, min(_ROWS_PER_CALL, _BYTES_PER_CALL // (4 * dim + _BYTES_OF_TEXT)))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            for row, vector in zip(part, matrix[start : start + step], strict=True):
                row[schema.vector_field] = vector
            self._unindexed = True
            self._call(
                "insert pictures",
                lambda client, part=part: client.upsert(self._spec.name, part, timeout=CALL_TIMEOUT),  # type: ignore[misc]
            )

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        self._open()
        self._load()
        for start in range(0, len(ids), _IDS_PER_DELETE):
            part = [int(key) for key in ids[start : start + _IDS_PER_DELETE]]
            self._unindexed = True
            self._call(
                "delete pictures",
                lambda client, part=part: client.delete(self._spec.name, ids=part, timeout=CALL_TIMEOUT),  # type: ignore[misc]
            )

    def search(self, vectors: Vectors, k: int) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        check_k(k)
        schema = self._open()
        queries = checked_vectors(vectors, schema.fingerprint.dim, "search")
        if k > MAX_TOP_K and self.count() > MAX_TOP_K:
            raise StoreError(f"k = {k}: Milvus returns at most {MAX_TOP_K} results")
        limit = min(k + _TIE_MARGIN, MAX_TOP_K)
        self._load()
        found: list[list[Hit]] = []
        for start in range(0, len(queries), _QUERIES_PER_CALL):
            part = list(queries[start : start + _QUERIES_PER_CALL])
            for hits in self._nearest(schema, part, k, limit):
                candidates = [(float(hit["distance"]), to_picture(hit["entity"])) for hit in hits]
                found.append(ranked_hits(candidates, schema.metric, k))
        return found

    def scan(self, batch_size: int = 1000) -> Iterator[list[Picture]]:
        """All rows without their vectors, in batches; rows changed meanwhile may be seen either way."""
        self._open()
        self._load()
        pages = self._read("read pictures", self._paging(min(batch_size, MAX_TOP_K)))
        try:
            while page := self._read("read pictures", lambda _: pages.next()):
                yield [to_picture(row) for row in page]
        finally:
            pages.close()

    def count(self) -> int:
        """Number of rows; 0 if the collection does not exist."""
        if self._read_schema() is None:
            return 0
        self._load()

        # Not get_collection_stats: on a server that counts deleted and replaced rows as well.
        def ask(client: Any) -> Any:
            return client.query(
                self._spec.name,
                filter="",
                output_fields=["count(*)"],
                consistency_level="Strong",
                timeout=CALL_TIMEOUT,
            )

        return int(self._read("count pictures", ask)[0]["count(*)"])

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make all rows searchable through the configured index; rebuild it if it is another one."""
        schema = self._open()
        self.check()
        rows = self.count()
        wanted = self._index.wanted(schema, rows)
        progress("index", 0, rows)
        fits = self._index.fits(schema, wanted)
        if not fits or self._unindexed:
            if self._lite:
                self._build_lite(schema, wanted, fits)
            else:
                self._build_server(schema, wanted, fits, progress, rows)
        self._index_type = self._spec.index_type
        self._unindexed = False
        progress("index", rows, rows)

    def drop(self) -> None:
        """Remove the whole collection; no error if it is not there."""
        if self._exists():
            self._call("drop", lambda client: client.drop_collection(self._spec.name, timeout=CALL_TIMEOUT))
        self._forget()

    def close(self) -> None:
        """Let go of the database; the store is unusable afterwards."""
        with self._lock:
            connection, self._connection, self._closed = self._connection, None, True
        if connection:
            connection.close()

    # --- connection and calls ---

    def _connect(self) -> Connection:
        with self._lock:
            if self._closed:
                raise StoreError(f"the store at {display_uri(self._uri)} is closed")
            if self._connection is None:
                self._connection = connect(self._uri, self._token, self._db_name, self._tls, self._timeout)
            return self._connection

    def _call(self, doing: str, call: Callable[[Any], T]) -> T:
        """Run one pymilvus call with its errors translated."""
        connection = self._connect()
        with connection.translating(f"{doing} in collection {self._spec.name!r}", self._spec.name):
            return call(connection.client)

    def _read(self, doing: str, call: Callable[[Any], T]) -> T:
        """Like `_call`; if another client has released the collection, load it and try once more."""

        def reading(client: Any) -> T:
            try:
                return call(client)
            except Exception as error:
                if not is_not_loaded(error):
                    raise
            self._loaded = False
            self._load()
            return call(client)

        return self._call(doing, reading)

    def _nearest(self, schema: Schema, queries: list[Any], k: int, limit: int) -> Any:
        """Raw hits; all cells of an IVF index are searched where the configured number held too few."""
        kind = self._index_type
        parameters = self._index.search_parameters(schema, kind) if kind else {}
        found = self._read("search", self._searching(schema, queries, limit, parameters))
        if "nprobe" in parameters and min(map(len, found), default=k) < k:
            parameters = self._index.all_cells(schema, parameters)
            found = self._read("search", self._searching(schema, queries, limit, parameters))
        return found

    def _searching(
        self, schema: Schema, queries: list[Any], limit: int, parameters: Mapping[str, Any]
    ) -> Callable[[Any], Any]:
        # The first search waits for all that was ever written (Strong, 0.2 s on a server); later ones only
        # for what this process wrote (Session), which costs nothing.
        consistency = "Session" if self._synchronised else "Strong"
        if self._index_type:
            parameters = search_parameters(self._index_type, parameters, limit)

        def ask(client: Any) -> Any:
            hits = client.search(
                self._spec.name,
                data=queries,
                anns_field=schema.vector_field,
                limit=limit,
                output_fields=PICTURE_FIELDS,
                search_params={"metric_type": schema.metric.value, "params": dict(parameters)},
                consistency_level=consistency,
                timeout=CALL_TIMEOUT,
            )
            self._synchronised = True
            return hits

        return ask

    def _paging(self, batch_size: int) -> Callable[[Any], Any]:
        return lambda client: client.query_iterator(
            self._spec.name,
            batch_size=batch_size,
            output_fields=PICTURE_FIELDS,
            consistency_level="Strong",
            timeout=CALL_TIMEOUT,
        )

    # --- the collection ---

    def _is_absent(self) -> bool:
        """Whether there is no Milvus Lite database yet: connecting would make one, and a question shall not."""
        return self._lite and self._connection is None and not lite_path(self._uri).exists()

    def _exists(self) -> bool:
        if self._is_absent():
            return False
        name = self._spec.name
        return bool(self._call("look up", lambda client: client.has_collection(name, timeout=CALL_TIMEOUT)))

    def _open(self) -> Schema:
        schema = self._schema or self._read_schema()
        if schema is None:
            raise no_collection(self._spec.name, self._connect().place)
        return schema

    def _read_schema(self) -> Schema | None:
        """What the collection says of itself, or None if it does not exist."""
        if not self._exists():
            self._forget()
            return None
        name = self._spec.name
        description = self._call("describe", lambda client: client.describe_collection(name, timeout=CALL_TIMEOUT))
        self._schema = parse_schema(name, description)
        return self._schema

    def _create_collection(self, fingerprint: Fingerprint) -> bool:
        """Create it; False if another process was quicker, and ``create`` has to compare."""
        spec = self._spec
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
            self._call("create the collection", make)
        except StoreError:
            if not self._exists():
                raise
            return False
        if not self._lite:
            # A server loads, hence searches, no collection without an index. Milvus Lite does, and
            # is quicker without one while many rows come in.
            self._index.create(schema, self._index.wanted(schema, 0))
        return True

    def _load(self) -> None:
        """Make the collection searchable: one reopened from disk is not."""
        with self._lock:
            if self._loaded:
                return
            schema = self._open()
            if self._index.describe(schema) is None and not self._lite:
                self._index.create(schema, self._index.wanted(schema, 0))
            # No deadline: Milvus Lite builds what is missing of the index within this call.
            name = self._spec.name
            self._call("load", lambda client: client.load_collection(name, _async=True, retry_times=3))
            while not self._call("load", lambda client: _is_loaded(client, name)):
                time.sleep(POLL_SECONDS)
            index = self._index.describe(schema)
            self._index_type = str(index["index_type"]) if index else ""
            self._loaded = True

    def _release(self) -> None:
        name = self._spec.name
        self._call("release", lambda client: client.release_collection(name, timeout=CALL_TIMEOUT))
        self._loaded = False

    def _flush(self) -> None:
        self._call("flush", lambda client: client.flush(self._spec.name, timeout=10 * CALL_TIMEOUT))

    def _build_lite(self, schema: Schema, wanted: Mapping[str, Any], fits: bool) -> None:
        """Milvus Lite indexes flushed rows while it loads them, within one call."""
        there = self._index.describe(schema) is not None
        if there:
            self._release()  # an index is only dropped, and new rows are only added to it, while released
        if there and not fits:
            self._index.drop()
        self._flush()
        if not fits:
            self._index.create(schema, wanted)
        self._loaded = False
        self._load()

    def _build_server(
        self, schema: Schema, wanted: Mapping[str, Any], fits: bool, progress: Progress, rows: int
    ) -> None:
        """A server builds in the background: start it, then ask until it is done."""
        self._flush()
        if not fits:
            self._release()
            self._index.drop()
            self._index.create(schema, wanted)
        self._index.wait(schema, self._connect().engine, progress, rows)
        self._load()


def _is_loaded(client: Any, name: str) -> bool:
    state = client.get_load_state(name, timeout=CALL_TIMEOUT)["state"]
    return str(getattr(state, "name", state)) == "Loaded"
