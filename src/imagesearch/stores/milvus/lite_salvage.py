"""What can still be read of a damaged data file.

Pages of a data file have checksums, so each column of each row group is as it was written, or known not to be.
What is missing can often be had from elsewhere: the key from the path, sequence numbers by counting, vectors from
a ``FLAT`` index. A file is written the same way again, and the digest tells whether the result is what it was.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imagesearch.images.paths import decode_path
from imagesearch.records import picture_id
from imagesearch.stores.base import Vectors
from imagesearch.stores.columns import ID
from imagesearch.stores.milvus.arrow import filtered
from imagesearch.stores.milvus.lite_schema import LiteSchema
from imagesearch.stores.milvus.lite_segment import DELETION_OPTIONS, SEQUENCE, as_matrix, data_options
from imagesearch.stores.milvus.nearest import Mask

_PATH = "path"
LOST = pa.schema([(ID, pa.int64()), (SEQUENCE, pa.uint64()), (_PATH, pa.string())])

# How far vectors of unit length may be from it.
LENGTH_TOLERANCE = 1e-3

# What a damaged file makes Arrow raise. Files that the disk refuses are found before, when they are digested.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError)

_Columns = Mapping[str, Any]  # name -> Arrow array, or None


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What is left of a file.

    Attributes:
        rows: those that are as they were written.
        content: the whole file as it was written, if that is proven; then nothing is lost.
        lost: :data:`LOST` columns of rows that are lost.
        unknown: number of further rows that are lost; None: nobody can tell.
    """

    rows: pa.Table
    content: bytes | None
    lost: pa.Table
    unknown: int | None

    @property
    def paths(self) -> list[str]:
        """Paths of lost pictures that are known."""
        return [decode_path(path) for path in self.lost.column(_PATH).to_pylist()]


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a data file from elsewhere.

    Attributes:
        schema: the collection's columns.
        digest: of the whole file, or None.
        rows: how many there are, or None.
        flat: vectors from a ``FLAT`` index that is whole, or None.
    """

    schema: LiteSchema
    digest: str | None
    rows: int | None
    flat: Vectors | None


def salvage_rows(file: Path, expected: Expected) -> Salvaged:
    """All that can be had of a data file.

    Raises:
        OSError: the disk fails.
    """
    groups = _read_groups(file, expected.rows)
    if not groups:
        return Salvaged(expected.schema.rows.empty_table(), None, LOST.empty_table(), expected.rows)
    span = bounds(file)
    whole = _filled(groups, expected, span)
    content = _as_written(whole, expected) if expected.digest else None
    if content is not None:
        return Salvaged(_joined(whole), content, LOST.empty_table(), 0)
    unexplained = all(column is not None for columns, _ in groups for column in columns.values())
    doubted = unexplained and expected.digest is not None and _is_ours(file)
    parts = [_judged(columns, count, expected.schema, span, doubted) for columns, count in whole]
    rows = pa.concat_tables([expected.schema.rows.empty_table(), *(good for good, _, _ in parts)])
    lost = pa.concat_tables([LOST.empty_table(), *(bad for _, bad, _ in parts)])
    unknown = sum(count for _, _, count in parts)
    if expected.rows is not None:
        unknown = max(0, expected.rows - len(rows) - len(lost))
    return Salvaged(rows, None, lost, unknown)


def salvage_deletions(file: Path, schema: LiteSchema, digest: str | None) -> Salvaged:
    """All that can be had of a file of deletions."""
    groups = [columns for columns, _ in _read_groups(file, None) if all(map(columns.get, schema.deletions.names))]
    nothing = schema.deletions.empty_table()
    if not groups:
        return Salvaged(nothing, None, LOST.empty_table(), None)
    names = schema.deletions.names
    rows = pa.concat_tables([pa.table({name: columns[name] for name in names}) for columns in groups])
    rows = rows.cast(schema.deletions)
    content = _encoded(rows, DELETION_OPTIONS)
    if _digest(content) == digest:
        return Salvaged(rows, content, LOST.empty_table(), 0)
    # Keys without a checksum that is known to be good could delete what nobody has deleted.
    return Salvaged(nothing, None, LOST.empty_table(), None)


def bounds(file: Path) -> tuple[int, int]:
    """The smallest and the largest sequence number that a file may hold, by its name.

    Raises:
        ValueError: it is not named like a file of the database.
    """
    _, low, high = file.stem.rsplit("_", 2)
    return int(low), int(high)


def is_unit(vectors: Vectors) -> Mask:
    """Which vectors have the length 1: bool, shape (n,)."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    unit: Mask = np.abs(lengths - 1.0) <= LENGTH_TOLERANCE
    return unit


# --- reading ---


def _read_groups(file: Path, rows: int | None) -> list[tuple[dict[str, Any], int]]:
    """The columns of each row group, None for those that cannot be read, and its number of rows."""
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        names = parquet.schema_arrow.names
        counts = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
    except _UNREADABLE as error:
        logging.getLogger(__name__).debug("%s: %s", file, error)
        return []
    if min(counts, default=0) < 0 or (rows is not None and sum(counts) != rows):
        return []
    return [
        ({name: _column(parquet, group, name, count) for name in names}, count)
        for group, count in enumerate(counts)
    ]


def _column(parquet: Any, group: int, name: str, count: int) -> Any:
    try:
        column = parquet.read_row_group(group, columns=[name]).column(name).combine_chunks()
        array = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
        array.validate(full=True)
    except _UNREADABLE as error:
        logging.getLogger(__name__).debug("column %s: %s", name, error)
        return None
    elements = array.flatten() if pa.types.is_fixed_size_list(array.type) else array
    has_nulls = elements.null_count and not parquet.schema_arrow.field(name).nullable
    return None if has_nulls or len(array) != count else array


def _is_ours(file: Path) -> bool:
    """Whether this version of Arrow wrote a file, so that it writes the same one again."""
    return str(pq.read_metadata(file).created_by) == f"parquet-cpp-arrow version {pa.__version__}"


# --- filling gaps ---


def _filled(
    groups: list[tuple[dict[str, Any], int]], expected: Expected, span: tuple[int, int]
) -> list[tuple[dict[str, Any], int]]:
    """The columns with what can be had from elsewhere."""
    total, start, filled = sum(count for _, count in groups), 0, []
    low, high = span
    vector_field = expected.schema.ours.vector_field
    flat = expected.flat if expected.flat is not None and len(expected.flat) == total else None
    for columns, count in groups:
        fuller = dict(columns)
        if columns.get(ID) is None and columns.get(_PATH) is not None:
            fuller[ID] = pa.array(_ids_of(columns[_PATH]), pa.int64())
        if columns.get(SEQUENCE) is None and high - low + 1 == total:
            fuller[SEQUENCE] = pa.array(range(low + start, low + start + count), pa.uint64())
        if flat is not None:
            kind = expected.schema.rows.field(vector_field).type
            values = pa.array(np.ascontiguousarray(flat[start : start + count], np.float32).reshape(-1))
            fuller[vector_field] = pa.FixedSizeListArray.from_arrays(values, type=kind)
        filled.append((fuller, count))
        start += count
    return filled


def _ids_of(paths: pa.Array) -> list[int]:
    return [picture_id(decode_path(path)) for path in paths.to_pylist()]


def _joined(groups: list[tuple[dict[str, Any], int]]) -> pa.Table:
    return pa.concat_tables([pa.table(columns) for columns, _ in groups])


def _as_written(groups: list[tuple[dict[str, Any], int]], expected: Expected) -> bytes | None:
    """The content of the file, if writing it again gives its digest."""
    if any(column is None for columns, _ in groups for column in columns.values()):
        return None
    schema, table = expected.schema, _joined(groups)
    # A file that was merged from others has another name for the elements of vectors.
    for fields in (schema.rows, _as_merged(schema)):
        if table.schema.names == fields.names:
            content = _encoded(table.cast(fields), data_options(table, schema.ours.vector_field))
            if _digest(content) == expected.digest:
                return content
    return None


def _as_merged(schema: LiteSchema) -> pa.Schema:
    place = schema.rows.get_field_index(schema.ours.vector_field)
    field = schema.rows.field(place)
    element = pa.field("element", pa.float32())
    return schema.rows.set(place, field.with_type(pa.list_(element, field.type.list_size)))


def _encoded(table: pa.Table, options: Mapping[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return bytes(sink.getvalue())


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


# --- judging ---


def _judged(
    columns: _Columns, count: int, schema: LiteSchema, span: tuple[int, int], doubted: bool
) -> tuple[pa.Table, pa.Table, int]:
    """The rows of a group that are sound, those that are lost, and how many others there were."""
    paths = columns.get(_PATH)
    if paths is None:
        return schema.rows.empty_table(), LOST.empty_table(), count
    ids = np.array(_ids_of(paths), np.int64)
    named = np.array(columns[ID].to_pylist(), np.int64) == ids
    sound = np.zeros(count, bool) if doubted else named & sound_rows(columns, schema, span)
    rows = schema.rows.empty_table()
    if sound.any():
        rows = filtered(pa.table({name: columns[name] for name in schema.rows.names}).cast(schema.rows), sound)
    gone = named & ~sound
    sequences = columns.get(SEQUENCE)
    numbers = np.full(count, span[1]) if sequences is None else np.array(sequences.to_pylist(), np.uint64)
    numbers = np.clip(numbers, *span)
    found = {ID: ids[gone].tolist(), SEQUENCE: numbers[gone].tolist(), _PATH: filtered_texts(paths, gone)}
    return rows, pa.table(found, schema=LOST), int(count - sound.sum() - gone.sum())


def sound_rows(columns: _Columns, schema: LiteSchema, span: tuple[int, int]) -> Mask:
    """Which rows, whose columns can be read, may be as they were written: bool, shape (n,)."""
    low, high = span
    count = max((len(column) for column in columns.values() if column is not None), default=0)
    if any(columns.get(name) is None for name in schema.rows.names):
        return np.zeros(count, bool)
    vectors = as_matrix(columns[schema.ours.vector_field])
    sequences: NDArray[Any] = np.array(columns[SEQUENCE].to_pylist(), np.uint64)
    sound: Mask = np.isfinite(vectors).all(axis=1) & (sequences >= low) & (sequences <= high)
    if schema.ours.fingerprint.normalized:
        sound &= is_unit(np.where(np.isfinite(vectors), vectors, np.float32(0)))
    return sound


def filtered_texts(texts: pa.Array, mask: Mask) -> list[str]:
    """The texts where the mask is true."""
    return [text for text, wanted in zip(texts.to_pylist(), mask.tolist(), strict=True) if wanted]
