"""A collection in Milvus Lite, as the contract has it: checks, turns, and errors around a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from imagesearch.errors import StoreError
from imagesearch.records import CollectionInfo, Hit, ImageRecord, Progress, no_progress
from imagesearch.stores.base import CollectionSpec, Columns, Ids, Vectors, check_k, checked_rows, checked_vectors
from imagesearch.stores.columns import BY_NAME, ID, Kind, to_records
from imagesearch.stores.milvus.arrow import to_numpy
from imagesearch.stores.milvus.collection import Home, MilvusCollection
from imagesearch.stores.milvus.index_types import MAX_TOP_K, with_defaults
from imagesearch.stores.milvus.lite_compaction import merge
from imagesearch.stores.milvus.lite_index import IndexSpec
from imagesearch.stores.milvus.lite_reader import Reader
from imagesearch.stores.milvus.lite_segment import as_matrix
from imagesearch.stores.milvus.lite_table import Table
from imagesearch.stores.milvus.schema import Schema
from imagesearch.stores.scores import closest_first, ranked_hits, tidy_scores

_IDS_PER_CALL = 5_000

# Rows of one upsert: the log is synchronised once per call.
_ROWS_PER_CALL = 20_000


class Tables(Home, Protocol):
    """What such a collection needs of its database."""

    def using(
        self, doing: str, name: str, *, writing: bool = False
    ) -> AbstractContextManager[tuple[Table, Reader]]:
        """The open table of a collection, during one call: takes a turn, and translates errors.

        Raises:
            CollectionNotFoundError: there is no such collection any more.
            StoreError: the database is closed, or was opened by the process that made this one.
        """


class LiteCollection(MilvusCollection):
    """One collection of a ``LiteDatabase``; methods are those of ``Collection``."""

    def __init__(self, tables: Tables, spec: CollectionSpec, schema: Schema) -> None:
        super().__init__(tables, spec, schema)
        self._tables = tables

    def info(self) -> CollectionInfo:
        """What it is and how many rows it has."""
        with self._using("describe it") as (table, _):
            index = table.index
            kind = index.kind if index else ""
            schema = table.schema.ours
            return CollectionInfo(
                self._spec.name, table.count(), schema.metric, kind, schema.fingerprint, schema.missing
            )

    def count(self) -> int:
        """Number of rows."""
        with self._using("count pictures") as (table, _):
            return table.count()

    def upsert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Insert rows, replacing those with the same id; on the disk on return."""
        kept, matrix = checked_rows(pictures, vectors, self._schema.fingerprint.dim)
        for start in range(0, len(kept), _ROWS_PER_CALL):
            with self._using("insert pictures", writing=True) as (table, _):
                table.insert(kept[start : start + _ROWS_PER_CALL], matrix[start : start + _ROWS_PER_CALL])

    def delete(self, ids: Sequence[int]) -> None:
        """Remove rows; ids that are not there are no error."""
        for start in range(0, len(ids), _IDS_PER_CALL):
            with self._using("delete pictures", writing=True) as (table, _):
                table.delete([int(key) for key in ids[start : start + _IDS_PER_CALL]])

    def search(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[list[Hit]]:
        """The k closest pictures to each query, closest first."""
        metric = self._schema.metric
        with self._using("search") as (table, reader):
            found = self._closest(table, reader, vectors, k, among)
            # Equal queries find the same rows, of which there may be very many.
            different = {rows.tobytes(): rows for _, rows in found}
            pictures = {key: reader.pictures(rows) for key, rows in different.items()}
            candidates = [(scores, pictures[rows.tobytes()]) for scores, rows in found]
        return [ranked_hits(zip(*scored, strict=True), metric, k) for scored in candidates]

    def search_vectors(self, vectors: Vectors, k: int, among: Ids | None = None) -> list[tuple[Ids, Vectors]]:
        """Ids and vectors of the k closest pictures to each query, closest first."""
        with self._using("search") as (table, reader):
            found = self._closest(table, reader, vectors, k, among)
            ordered = [self._in_order(reader, scores, rows)[:k] for scores, rows in found]
            return [(reader.ids(rows), reader.vectors(rows)) for rows in ordered]

    def _closest(
        self, table: Table, reader: Reader, vectors: Vectors, k: int, among: Ids | None
    ) -> list[tuple[list[float], Ids]]:
        check_k(k)
        queries = checked_vectors(vectors, self._schema.fingerprint.dim, "search")
        if k > MAX_TOP_K and table.count() > MAX_TOP_K:
            raise StoreError(f"k = {k}: Milvus returns at most {MAX_TOP_K} results")
        return reader.search(queries, min(k, MAX_TOP_K), self._spec.search_params, among)

    def _in_order(self, reader: Reader, scores: list[float], rows: Ids) -> Ids:
        """Rows in the order of their hits: paths are read only where scores are equal."""
        tidy = tidy_scores(scores, self._schema.metric)
        if len(set(tidy)) == len(tidy):
            return rows
        paths = [picture.path for picture in reader.pictures(rows)]
        return rows[closest_first(tidy, paths, self._schema.metric)]

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        """All rows without their vectors, in batches."""
        names = self._schema.columns
        for columns in self._pages(names, batch_size):
            yield _as_pictures(columns, names)

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[Columns]:
        """Some columns of all rows, in batches."""
        stored = [name for name in names if name == ID or name in self._schema.columns]
        for table in self._pages(stored or [ID], batch_size):
            yield {name: _restored(table, name) for name in names}

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], Vectors]]:
        """All rows with their vectors, in batches."""
        names = self._schema.columns
        for table in self._pages([*names, self._schema.vector_field], batch_size):
            yield _as_pictures(table, names), as_matrix(table.column(self._schema.vector_field))

    def _pages(self, names: Sequence[str], size: int) -> Iterator[Any]:
        with self._using("read pictures") as (_, reader):
            pieces = reader.start_scan()
        for piece in pieces:
            with self._using("read pictures") as (_, reader):
                table = reader.read(piece, list(names))
            for start in range(0, table.num_rows, size):
                yield table.slice(start, size)

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], Vectors]:
        """Rows by their ids, with their vectors, in the order of the ids."""
        with self._using("read pictures") as (_, reader):
            return reader.fetch([int(key) for key in ids])

    def index_is_current(self) -> bool:
        """Whether every row is covered by the configured index with its parameters."""
        with self._using("describe the index") as (table, _):
            return table.is_covered(self._wanted())

    def build_index(self, progress: Progress = no_progress) -> None:
        """Make all rows searchable through the configured index; rebuild it if it is another one.

        Others may search between the steps.
        """
        wanted = self._wanted()
        with self._using("describe the index") as (table, _):
            rows = table.count()
            if table.is_covered(wanted):
                progress("index", rows, rows)
                return
        progress("index", 0, rows)
        doing = f"build index {wanted.kind}"
        with self._using(doing, writing=True) as (table, _):
            table.flush()
        while self._merge(doing):
            pass
        with self._using(doing, writing=True) as (table, _):
            table.set_index(wanted)
        done = 0
        while True:
            with self._using(doing, writing=True) as (table, _):
                missing = table.unindexed(wanted)
                if not missing:
                    break
                table.index_segment(missing[0])
                done += len(missing[0])
            progress("index", min(done, rows), rows)
        progress("index", rows, rows)

    def _merge(self, doing: str) -> bool:
        with self._using(doing, writing=True) as (table, _):
            return merge(table)

    def _wanted(self) -> IndexSpec:
        spec, schema = self._spec, self._schema
        build, _ = with_defaults(spec.index_type, spec.index_params, spec.search_params, schema.fingerprint.dim)
        return IndexSpec(schema.vector_field, spec.index_type, schema.metric, build)

    def _using(self, doing: str, *, writing: bool = False) -> AbstractContextManager[tuple[Table, Reader]]:
        return self._tables.using(doing, self._spec.name, writing=writing)


def resolved(spec: CollectionSpec, kind: str) -> CollectionSpec:
    """The spec with the engine's choice of an index type."""
    return replace(spec, index_type=kind)


def _as_pictures(table: Any, names: Sequence[str]) -> list[ImageRecord]:
    return to_records(names, [table.column(name).to_pylist() for name in names])


def _restored(table: Any, name: str) -> Any:
    """One column as the fields of pictures have it; what has no column is its default."""
    if name == ID:
        return to_numpy(table.column(ID))
    column = BY_NAME[name]
    if name not in table.column_names:
        values = [column.default] * table.num_rows
        return np.array(values, np.int64) if column.kind is Kind.INTEGER and not column.nullable else values
    if column.kind is Kind.INTEGER and not column.nullable:
        return to_numpy(table.column(name))
    return column.restored_all(table.column(name).to_pylist())
