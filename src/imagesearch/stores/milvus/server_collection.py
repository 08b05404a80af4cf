"""One collection on a Milvus server: written, read, searched and indexed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from imagesearch.errors import StoreError
from imagesearch.records import CollectionInfo, Hit, ImageRecord, Progress, no_progress
from imagesearch.stores.base import (
    CollectionSpec,
    Columns,
    Ids,
    Vectors,
    check_k,
    checked_rows,
    checked_vectors,
    no_collection,
)
from imagesearch.stores.columns import BY_NAME, ID, to_record
from imagesearch.stores.gate import Gate, while_open
from imagesearch.stores.milvus.collection import MilvusCollection
from imagesearch.stores.milvus.index_types import MAX_TOP_K
from imagesearch.stores.milvus.schema import Schema
from imagesearch.stores.milvus.server_connection import (
    CALL_TIMEOUT,
    POLL_SECONDS,
    NotLoadedError,
    ServerConnection,
)
from imagesearch.stores.milvus.server_index import Description, ServerIndex, is_finished
from imagesearch.stores.milvus.server_rows import Row, to_columns, to_matrix, to_rows
from imagesearch.stores.milvus.server_state import CollectionState
from imagesearch.stores.scores import (
    TIE_MARGIN,
    closest_first,
    ranked_hits,
    tidy_scores,
    vectors_of,
    with_all_ties,
)

T = TypeVar("T")

# One upsert: a server takes 64 MB a message, and smaller ones keep other clients' latency low.
_ROWS_PER_CALL = 2_000
_BYTES_PER_CALL = 24_000_000
_BYTES_OF_TEXT = 1_000  # a row without its vector, generously

_IDS_PER_DELETE = 5_000
_IDS_PER_FETCH = 1_000
_QUERIES_PER_CALL = 64
# 200 KB of digits; a server parses them for each call.
_IDS_PER_SEARCH = 10_000

_PATH = "path"

# Rows per page of a scan: a server answers at once, and small messages suit other clients.
ROWS_PER_PAGE = 8_000

# The same with vectors, which are ten times as large in pymilvus's Python lists.
_VECTOR_BYTES_PER_PAGE = 8_000_000

# Vectors of one answer to a search, in bytes: a server sends 100 MB at most.
_VECTOR_BYTES_PER_SEARCH = 32_000_000

# Ids are uniform hashes of 63 bits: equal ranges hold about equally many.
_ID_RANGE = 2**63


class ServerCollection(MilvusCollection):
    """One collection on a server; methods are those of ``Collection``.

    Args:
        connection: of the database.
        spec: how it is configured, with an index type that is not "auto".
        schema: what it says of itself.
        state: shared with others that opened it from the same database.
    """

    def __init__(
        self, connection: ServerConnection, spec: CollectionSpec, schema: Schema, state: CollectionState
    ) -> None:
        super().__init__(connection, spec, schema)
        self._connection, self._state = connection, state
        self._index = ServerIndex(spec, schema, self._call)

    @property
    def schema(self) -> Schema:
        """What it says of itself."""
        return self._schema

    @property
    def gate(self) -> Gate:
        """See :func:`while_open`."""
        return self._connection.gate

    def prepare(self) -> None:
        """Have the server build the configured index of a new collection while rows come in."""
        self._index.create()

    @while_open
    def info(self) -> CollectionInfo:
        """What it is and how many rows it has."""
        index = self._index.describe()
        kind = str(index["index_type"]) if index else ""
        schema = self._schema
        return CollectionInfo(
            self._spec.name, self.count(), schema.metric, kind, schema.fingerprint, schema.missing
        )

    def count(self) -> int:
        """Number of rows."""
        # Not get_collection_stats: it counts deleted and replaced rows as well.
        return self._count()

    # --- writing ---

    @while_open
    def upsert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id; durable on return."""
        dim = self.fingerprint.dim
        kept, matrix = checked_rows(pictures, vectors, dim)
        rows = to_rows(kept, matrix, self._schema)
        step = max(1, min(_ROWS_PER_CALL, _BYTES_PER_CALL // (4 * dim + _BYTES_OF_TEXT)))
        for start in range(0, len(rows), step):
            with self._state.writing():
                self._call("insert pictures", "upsert", data=rows[start : start + step])

    @while_open
    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        for start in range(0, len(ids), _IDS_PER_DELETE):
            part = [int(key) for key in ids[start : start + _IDS_PER_DELETE]]
            self._when_loaded(self._call, "delete pictures", "delete", ids=part)

    # --- reading ---

    @while_open
    def search(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        found = self._candidates(vectors, k, among, self._schema.columns)
        scored = ([(float(hit["distance"]), to_record(hit["entity"])) for hit in hits] for hits in found)
        return [ranked_hits(candidates, self._schema.metric, k) for candidates in scored]

    @while_open
    def search_vectors(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[tuple[Ids, Vectors]]:
        """Ids and vectors of the k closest pictures to each query, closest first."""
        metric, found = self._schema.metric, []
        bytes_per_query = 4 * self.fingerprint.dim * (k + TIE_MARGIN)
        if bytes_per_query > _VECTOR_BYTES_PER_SEARCH:
            return [vectors_of(self, hits) for hits in self.search(vectors, k, among)]
        together = min(_QUERIES_PER_CALL, _VECTOR_BYTES_PER_SEARCH // bytes_per_query)
        for hits in self._candidates(vectors, k, among, [_PATH, self._schema.vector_field], together):
            scores = tidy_scores([float(hit["distance"]) for hit in hits], metric)
            paths = [BY_NAME[_PATH].restored(hit["entity"][_PATH]) for hit in hits]
            rows = [hits[place] for place in closest_first(scores, paths, metric)[:k]]
            ids = np.array([int(hit[ID]) for hit in rows], np.int64)
            found.append((ids, to_matrix([hit["entity"] for hit in rows], self._schema)))
        return found

    def _candidates(
        self,
        vectors: Vectors,
        k: int,
        among: Ids | None,
        columns: Sequence[str],
        together: int = _QUERIES_PER_CALL,
    ) -> Iterator[list[Any]]:
        """For each query raw hits: the k closest and more, in no particular order."""
        check_k(k)
        queries = checked_vectors(vectors, self.fingerprint.dim, "search")
        if k > MAX_TOP_K and self.count() > MAX_TOP_K:
            raise StoreError(f"k = {k}: Milvus returns at most {MAX_TOP_K} results")
        for start in range(0, len(queries), together):
            part = queries[start : start + together]
            found: list[list[Any]] = [[] for _ in part]
            for expression in _id_expressions(among):
                nearest = self._when_loaded(self._nearest, part, k, expression, columns)
                for known, hits in zip(found, nearest, strict=True):
                    known.extend(hits)
            yield from found

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        """All rows without their vectors, in batches."""
        for rows in self._batches(self._schema.columns, ROWS_PER_PAGE, batch_size):
            yield [to_record(row) for row in rows]

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[Columns]:
        """Some columns of all rows, in batches."""
        there = [name for name in names if name in self._schema.columns]
        for rows in self._batches(there or [ID], ROWS_PER_PAGE, batch_size):
            yield to_columns(rows, names, self._schema)

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], Vectors]]:
        """All rows with their vectors, in batches."""
        columns = [*self._schema.columns, self._schema.vector_field]
        page = min(ROWS_PER_PAGE, max(1, _VECTOR_BYTES_PER_PAGE // (4 * self.fingerprint.dim)))
        for rows in self._batches(columns, page, batch_size):
            yield [to_record(row) for row in rows], to_matrix(rows, self._schema)

    @while_open
    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        columns = [ID, *self._schema.columns, self._schema.vector_field]
        pictures: list[ImageRecord] = []
        parts: list[Vectors] = [np.empty((0, self.fingerprint.dim), np.float32)]
        for start in range(0, len(ids), _IDS_PER_FETCH):
            part = [int(key) for key in ids[start : start + _IDS_PER_FETCH]]
            found = {int(row[ID]): row for row in self._rows(f"{ID} in {sorted(set(part))}", columns)}
            rows = [found[key] for key in part if key in found]
            pictures += [to_record(row) for row in rows]
            parts.append(to_matrix(rows, self._schema))
        return pictures, np.concatenate(parts)

    # --- the index ---

    @while_open
    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index with its parameters."""
        there = self._index.describe()
        return there is not None and self._index.fits(there) and self._covers_all(there)

    @while_open
    def build_index(self, progress: Progress = no_progress) -> None:
        """Build what is missing of the configured index; all of it, if another one is there."""
        self._connection.require_index_type(self._spec.index_type)
        rows = self.count()
        progress("index", 0, rows)
        with self._state.loading:
            changes = self._state.changes
            there = self._index.describe()
            fits = self._index.fits(there)
            if there is None or not fits or not self._covers_all(there):
                self._call("flush", "flush", timeout=10 * CALL_TIMEOUT)
                if not fits:
                    self._release()
                    self._index.drop()
                    self._index.create()
                self._index.wait(progress, rows)
                self._load()
            self._state.mark_indexed(changes)
        progress("index", rows, rows)

    def _covers_all(self, index: Description) -> bool:
        """Whether the index, whatever its parameters, covers every row; for all processes that wrote them."""
        known = self._state.covers_all()
        if known is False or not is_finished(index):
            return False
        # Its statistics leave out rows that it has not put into segments; those of other processes are only found
        # by counting. It takes seconds to swap a segment for its indexed form: hence not if we built it.
        return known is True or self._count(ignore_growing=True) == self.count()

    # --- asking ---

    def _call(self, doing: str, method: str, **arguments: Any) -> Any:
        if self._state.is_gone:
            raise no_collection(self._spec.name, self.place)
        return self._connection.call(doing, method, self._spec.name, collection_name=self._spec.name, **arguments)

    def _count(self, **options: Any) -> int:
        rows = self._when_loaded(
            self._call,
            "count pictures",
            "query",
            filter="",
            output_fields=["count(*)"],
            consistency_level="Strong",
            **options,
        )
        return int(rows[0]["count(*)"])

    def _read(self, doing: str, method: str, columns: Sequence[str], **arguments: Any) -> Any:
        """Ask for rows. The first read waits for all that was ever written, later ones for our own writes.

        The former ("Strong") takes a server 0.2 s, the latter ("Session") costs nothing.
        """
        level = "Session" if self._state.synchronised else "Strong"
        found = self._call(doing, method, output_fields=list(columns), consistency_level=level, **arguments)
        self._state.synchronised = True
        return found

    def _rows(self, condition: str, columns: Sequence[str]) -> Sequence[Row]:
        rows: Sequence[Row] = self._when_loaded(self._read, "read pictures", "query", columns, filter=condition)
        return rows

    def _batches(self, columns: Sequence[str], rows_per_page: int, batch_size: int) -> Iterator[Sequence[Row]]:
        """All rows, a range of ids at a time.

        Not pymilvus's ``query_iterator``: it sorts all that is left for every page.
        """
        parts = max(1, -(-self.count() // rows_per_page))
        bounds = [part * _ID_RANGE // parts for part in range(parts + 1)]
        for low, beyond in pairwise(bounds):
            rows = self._rows(f"{ID} >= {low} and {ID} <= {beyond - 1}", columns)
            for start in range(0, len(rows), batch_size):
                yield rows[start : start + batch_size]

    def _nearest(self, queries: Vectors, k: int, expression: str, columns: Sequence[str]) -> list[list[Any]]:
        """Raw hits, with these columns, among the rows of an expression (empty: all), with all that tie.

        All cells of an IVF index are searched where the configured number held too few.
        """

        def closest(some: Vectors, limit: int) -> list[list[Any]]:
            parameters = self._index.search_parameters(self._state.loaded_index or "", limit)
            found = self._search(list(some), limit, parameters, expression, columns)
            if "nprobe" in parameters and min(map(len, found), default=k) < k:
                found = self._search(list(some), limit, self._index.all_cells(parameters), expression, columns)
            return list(found)

        most = MAX_TOP_K
        if self._schema.vector_field in columns:
            most = min(most, max(k + TIE_MARGIN, _VECTOR_BYTES_PER_SEARCH // (4 * self.fingerprint.dim)))
        metric = self._schema.metric
        return with_all_ties(closest, _distances, queries, min(k, most), metric, most=most)

    def _search(
        self, queries: list[Any], limit: int, parameters: dict[str, Any], expression: str, columns: Sequence[str]
    ) -> Any:
        schema = self._schema
        return self._read(
            "search",
            "search",
            columns,
            data=queries,
            anns_field=schema.vector_field,
            limit=limit,
            filter=expression,
            search_params={"metric_type": schema.metric.value, "params": parameters},
        )

    # --- the server's memory ---

    @while_open
    def _when_loaded(self, read: Callable[..., T], *arguments: Any, **options: Any) -> T:
        """Load the collection and call ``read``; once more if another client releases it meanwhile."""
        self._load()
        try:
            return read(*arguments, **options)
        except NotLoadedError:
            self._state.loaded_index = None
        self._load()
        return read(*arguments, **options)

    def _load(self) -> None:
        """Make the server hold the collection in memory, which it needs to be read."""
        if self._state.loaded_index is not None:
            return
        with self._state.loading:
            if self._state.loaded_index is not None:
                return
            index = self._index.describe()
            if index is None:  # a server loads no collection without one
                index = self._create_missing_index()
            while (state := self._load_state()) != "Loaded":
                if state == "NotLoad":  # or not any more
                    self._call("load", "load_collection", _async=True)
                time.sleep(POLL_SECONDS)
            self._state.loaded_index = str(index["index_type"]) if index else ""

    def _create_missing_index(self) -> Description | None:
        try:
            self._index.create()
        except StoreError:
            if self._index.describe() is None:
                raise  # otherwise another process was quicker, if with other settings
        return self._index.describe()

    def _load_state(self) -> str:
        state = self._call("load", "get_load_state")["state"]
        return str(getattr(state, "name", state))

    def _release(self) -> None:
        self._state.loaded_index = None
        self._call("release", "release_collection")


def _id_expressions(among: Ids | None) -> Iterator[str]:
    """Expressions whose rows together are those with these ids; an empty one stands for all rows."""
    if among is None:
        yield ""
        return
    for start in range(0, len(among), _IDS_PER_SEARCH):
        yield f"{ID} in {among[start : start + _IDS_PER_SEARCH].tolist()}"


def _distances(hits: Sequence[Any]) -> list[float]:
    return [float(hit["distance"]) for hit in hits]
