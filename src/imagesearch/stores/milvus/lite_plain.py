"""A collection in Milvus Lite through Milvus Lite's own Python interface.

For versions whose files :mod:`~imagesearch.stores.milvus.lite_table` was not tested with. It is slower: each
search and each count walk all keys in Python, and rows come as dictionaries. And it promises what Milvus Lite
does: what was written survives a crash of the process, but after a power cut only what was in data files by then.
Its exact search costs hardly more than an approximate index would beside that walk, so ``auto`` is ``FLAT`` here
as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

from imagesearch.errors import StoreError
from imagesearch.records import CollectionInfo, Hit, ImageRecord, Progress, no_progress
from imagesearch.stores.base import CollectionSpec, Columns, Ids, Vectors, check_k, checked_rows, checked_vectors
from imagesearch.stores.columns import ID, to_record
from imagesearch.stores.milvus.collection import Home, MilvusCollection
from imagesearch.stores.milvus.index_types import MAX_TOP_K, search_parameters, with_defaults
from imagesearch.stores.milvus.lite_session import Opened, schema_of
from imagesearch.stores.milvus.nearest import exact_scores
from imagesearch.stores.milvus.schema import Schema
from imagesearch.stores.milvus.server_rows import Row, to_columns, to_matrix, to_rows
from imagesearch.stores.scores import ranked_hits, vectors_of, with_all_ties

# Cells of an IVF index that are searched per result: a small data file has hardly more than one vector in each.
_CELLS_PER_RESULT = 4

# Rows of one call: bounds the memory of dictionaries. Each page of a scan costs a walk over all keys.
_ROWS_PER_CALL, _ROWS_PER_PAGE = 5_000, 20_000

# Ids are uniform hashes of 63 bits: equal ranges hold about equally many.
_ID_RANGE = 2**63


class PlainTables(Home, Protocol):
    """What such a collection needs of its database."""

    def using_lite(
        self, doing: str, name: str, *, writing: bool = False, released: bool = False
    ) -> AbstractContextManager[Opened]:
        """An open collection, during one call: takes a turn, and translates errors.

        Args:
            released: without its index, as it is when it was just opened.

        Raises:
            CollectionNotFoundError: there is no such collection any more.
            StoreError: the database is closed, or was opened by the process that made this one.
        """


class PlainCollection(MilvusCollection):
    """One collection of a ``PlainDatabase``; methods are those of ``Collection``."""

    def __init__(self, tables: PlainTables, spec: CollectionSpec, schema: Schema) -> None:
        super().__init__(tables, spec, schema)
        self._tables = tables

    def info(self) -> CollectionInfo:
        """What it is and how many rows it has."""
        with self._using("describe it") as opened:
            schema = schema_of(self._spec.name, opened.lite)
            kind = (opened.lite.get_index_info(schema.vector_field) or {}).get("index_type", "")
            return CollectionInfo(
                self._spec.name, opened.lite.num_entities, schema.metric, kind, schema.fingerprint, schema.missing
            )

    def count(self) -> int:
        """Number of rows."""
        with self._using("count pictures") as opened:
            return int(opened.lite.num_entities)

    def upsert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id."""
        kept, matrix = checked_rows(pictures, vectors, self._schema.fingerprint.dim)
        for start in range(0, len(kept), _ROWS_PER_CALL):
            stop = start + _ROWS_PER_CALL
            rows = to_rows(kept[start:stop], matrix[start:stop], self._schema)
            for row in rows:
                row[self._schema.vector_field] = row[self._schema.vector_field].tolist()
            with self._using("insert pictures", writing=True) as opened:
                opened.has_recent = True
                opened.lite.upsert(rows)

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        with self._using("delete pictures", writing=True) as opened:
            opened.lite.delete([int(key) for key in ids])

    def search(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        check_k(k)
        queries = checked_vectors(vectors, self._schema.fingerprint.dim, "search")
        if among is not None:
            return self._search_exactly(queries, k, *self.fetch(among.tolist()))
        with self._using("search") as opened:
            rows = int(opened.lite.num_entities)
            if k > MAX_TOP_K and rows > MAX_TOP_K:
                raise StoreError(f"k = {k}: Milvus returns at most {MAX_TOP_K} results")
            if not rows:
                return [[] for _ in queries]
            closest = partial(self._nearest, opened.lite)
            metric = self._schema.metric
            found = with_all_ties(closest, _distances, queries, min(k, rows), metric, most=rows)
        scored = ([(hit["distance"], to_record(hit["entity"])) for hit in hits] for hits in found)
        return [ranked_hits(candidates, metric, k) for candidates in scored]

    def _nearest(self, lite: Any, queries: Vectors, limit: int) -> list[Any]:
        parameters = self._search_parameters(lite, limit)
        found = self._search(lite, queries, limit, parameters)
        if "nprobe" in parameters and min(map(len, found), default=limit) < limit:
            found = self._search(lite, queries, limit, {"nprobe": int(lite.num_entities)})
        return list(found)

    def _search_exactly(
        self, queries: Vectors, k: int, pictures: Sequence[ImageRecord], vectors: Vectors
    ) -> list[list[Hit]]:
        metric = self._schema.metric
        sign = 1.0 if metric.higher_is_closer else -1.0
        scores = (sign * exact_scores(query, vectors, metric) for query in queries)
        return [ranked_hits(zip(row.tolist(), pictures, strict=True), metric, k) for row in scores]

    def _search(self, lite: Any, queries: Vectors, limit: int, parameters: Mapping[str, Any]) -> Any:
        schema = self._schema
        return lite.search(
            list(queries),
            top_k=limit,
            metric_type=schema.metric.value,
            output_fields=list(schema.columns),
            anns_field=schema.vector_field,
            search_params=dict(parameters),
        )

    def _search_parameters(self, lite: Any, limit: int) -> dict[str, Any]:
        """For the index that is there, which need not be the configured one."""
        index = lite.get_index_info(self._schema.vector_field)
        if index is None:
            return {}
        kind, build = str(index["index_type"]), index["build_params"]
        given = self._spec.search_params if kind == self._spec.index_type else {}
        build, parameters = with_defaults(kind, build, given)
        parameters = search_parameters(kind, parameters, limit)
        if "nprobe" in parameters:
            wanted = max(int(parameters["nprobe"]), _CELLS_PER_RESULT * limit)
            parameters["nprobe"] = min(wanted, int(build["nlist"]))
        return parameters

    def search_vectors(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[tuple[Ids, Vectors]]:
        """Ids and vectors of the k closest pictures to each query, closest first."""
        return [vectors_of(self, hits) for hits in self.search(vectors, k, among)]

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        """All rows without their vectors, in batches."""
        for rows in self._pages(self._schema.columns, batch_size):
            yield [to_record(row) for row in rows]

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[Columns]:
        """Some columns of all rows, in batches."""
        there = [name for name in names if name in self._schema.columns]
        for rows in self._pages(there or [ID], batch_size):
            yield to_columns(rows, names, self._schema)

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], Vectors]]:
        """All rows with their vectors, in batches."""
        for rows in self._pages([*self._schema.columns, self._schema.vector_field], batch_size):
            yield [to_record(row) for row in rows], to_matrix(rows, self._schema)

    def _pages(self, columns: Sequence[str], batch_size: int) -> Iterator[Sequence[Row]]:
        parts = max(1, -(-self.count() // _ROWS_PER_PAGE))
        bounds = [part * _ID_RANGE // parts for part in range(parts + 1)]
        for low, beyond in pairwise(bounds):
            with self._using("read pictures") as opened:
                rows = opened.lite.query(f"{ID} >= {low} and {ID} <= {beyond - 1}", output_fields=list(columns))
            for start in range(0, len(rows), batch_size):
                yield rows[start : start + batch_size]

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        columns = [*self._schema.columns, self._schema.vector_field]
        with self._using("read pictures") as opened:
            rows = opened.lite.get([int(key) for key in ids], output_fields=columns)
        return [to_record(row) for row in rows], to_matrix(rows, self._schema)

    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index; Milvus Lite covers data files by itself."""
        with self._using("describe the index") as opened:
            return self._is_wanted(opened.lite) and not opened.has_recent

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make all rows searchable through the configured index; rebuild it if it is another one."""
        if self.index_is_current():
            rows = self.count()
            progress("index", rows, rows)
            return
        column = self._schema.vector_field
        doing = f"build index {self._spec.index_type}"
        # Without the index Milvus Lite has nothing to do in the background, which would come in between.
        with self._using(doing, writing=True, released=True) as opened:
            opened.lite.flush()
            opened.has_recent = False
            rows = int(opened.lite.num_entities)
            progress("index", 0, rows)
            if not self._is_wanted(opened.lite):
                if opened.lite.has_index(column):
                    opened.lite.drop_index(column)
                opened.lite.release()
                opened.lite.create_index(column, self._wanted())
            opened.lite.release()
            opened.lite.load()
        progress("index", rows, rows)

    def _wanted(self) -> dict[str, Any]:
        spec, schema = self._spec, self._schema
        build, _ = with_defaults(spec.index_type, spec.index_params, spec.search_params, schema.fingerprint.dim)
        return {"index_type": spec.index_type, "metric_type": schema.metric.value, "params": build}

    def _is_wanted(self, lite: Any) -> bool:
        index, wanted = lite.get_index_info(self._schema.vector_field), self._wanted()
        if index is None:
            return False
        there = {name: index[name] for name in ("index_type", "metric_type")}
        return bool({**there, "params": dict(index["build_params"] or {})} == wanted)

    def _using(self, doing: str, **how: bool) -> AbstractContextManager[Opened]:
        return self._tables.using_lite(doing, self._spec.name, **how)


def _distances(hits: Any) -> list[float]:
    return [hit["distance"] for hit in hits]
