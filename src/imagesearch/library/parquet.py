"""The file format of exports: Parquet, with one row per image.

There is one column per field of :class:`~imagesearch.records.ImageRecord`, and the vectors in the column
``vector``; pandas, DuckDB and others read it as it is. JSON under the key ``imagesearch`` of its metadata says
what the file holds. Files may come from strangers, so types and lengths are checked before values are made of
them: a text that is repeated a million times takes no room in a file, but gigabytes in memory.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import TransferError
from imagesearch.images.paths import decode_path, encode_path
from imagesearch.records import CollectionInfo, Fingerprint, ImageRecord, Metric
from imagesearch.stores.columns import BY_NAME, COLUMNS, Column, Kind

# Goes up when an older program could not read what a newer one writes; a new column is no reason.
FORMAT = 1

# Rows read and written at once: 5 MB of vectors at 320 dimensions.
ROWS_AT_ONCE = 4096

FIELDS = tuple(column.name for column in COLUMNS)

_METADATA_KEY = b"imagesearch"
_VECTOR = "vector"

# JSON of a few hundred bytes is expected.
_MOST_METADATA = 2**20

# How many times as large as the file its columns may be: what is compressed are texts.
_INFLATED, _FREE_BYTES = 200, 2**26

Rows = tuple[list[ImageRecord], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class ExportedCollection:
    """What an export file holds.

    Attributes:
        name: the collection's name when it was exported.
        fingerprint: the model of its vectors.
        metric: how they are compared.
        rows: number of image records.
    """

    name: str
    fingerprint: Fingerprint
    metric: Metric
    rows: int


def _parquet_schema(info: CollectionInfo) -> Any:
    """One column per field of an image record, and the vectors; what the file holds, as metadata."""
    import pyarrow as pa

    kinds = {Kind.TEXT: pa.string(), Kind.INTEGER: pa.int64(), Kind.NUMBER: pa.float64()}
    columns = [pa.field(column.name, kinds[column.kind]) for column in COLUMNS]
    vector = pa.list_(pa.field("element", pa.float32(), nullable=False), info.fingerprint.dim)
    about = {
        "format": FORMAT,
        "collection": info.name,
        "fingerprint": json.loads(info.fingerprint.to_json()),
        "metric": info.metric.value,
        "program": metadata.version("imagesearch"),
    }
    return pa.schema(
        [*columns, pa.field(_VECTOR, vector, nullable=False)], {_METADATA_KEY: json.dumps(about).encode()}
    )


@contextlib.contextmanager
def parquet_writer(file: Path, info: CollectionInfo) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetWriter`` whose file is on the disk at the end.

    Text is compressed. Vectors do not compress, and a dictionary of them would be as large again.
    """
    import pyarrow.parquet as pq

    text = [column.name for column in COLUMNS if column.kind is Kind.TEXT]
    packing = dict.fromkeys(FIELDS, "zstd") | {f"{_VECTOR}.list.element": "none"}
    with open(file, "wb") as sink:
        with pq.ParquetWriter(
            *(sink, _parquet_schema(info)),
            compression=packing,
            use_dictionary=text,
            write_page_checksum=True,
        ) as writer:
            yield writer
        sink.flush()
        os.fsync(sink.fileno())


def to_batch(pictures: Sequence[ImageRecord], vectors: NDArray[np.float32], schema: Any) -> Any:
    """The rows as ``pyarrow.RecordBatch``."""
    import pyarrow as pa

    def values(column: Column) -> list[Any]:
        found = [getattr(picture, column.name) for picture in pictures]
        return [encode_path(value) if value else value for value in found] if column.is_path else found

    arrays = [pa.array(values(column), schema.field(column.name).type) for column in COLUMNS]
    flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1), pa.float32())
    arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=schema.field(_VECTOR).type))
    return pa.record_batch(arrays, schema=schema)


@contextlib.contextmanager
def opened_export(file: Path) -> Iterator[tuple[Any, ExportedCollection]]:
    """The ``pyarrow.parquet.ParquetFile`` of an export, and what its metadata says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = pq.read_metadata(file)
        exported = _parse_about(file, about)
        # A text that many rows share is kept once, until its length is known to be right.
        there = about.schema.to_arrow_schema().names
        texts = [column.name for column in COLUMNS if column.kind is Kind.TEXT and column.name in there]
        parquet = pq.ParquetFile(file, page_checksum_verification=True, read_dictionary=texts, metadata=about)
    except OSError as error:
        raise TransferError(f"cannot read {str(file)!r}: {(error.strerror or str(error)).lower()}") from error
    except (pa.ArrowException, ValueError, KeyError, IndexError, OverflowError) as error:  # names that are no text
        raise TransferError(f"{str(file)!r} is not a Parquet file, or the end of it is missing") from error
    with parquet:
        yield parquet, exported


def _check_sizes(file: Path, about: Any) -> None:
    """Refuse a file that says to be many times larger when it is unpacked, or to have fewer bytes than none."""
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    sizes = [group.column(place).total_uncompressed_size for group in groups for place in range(about.num_columns)]
    if min([*sizes, about.num_rows], default=0) < 0 or sum(sizes) > _INFLATED * file.stat().st_size + _FREE_BYTES:
        raise TransferError(f"{str(file)!r} would take {sum(sizes) / 1e9:,.1f} GB when unpacked: it is damaged")


def _parse_about(file: Path, stored: Any) -> ExportedCollection:
    """What a file's metadata, ``pyarrow.parquet.FileMetaData``, says of it; checks its sizes and columns."""
    _check_sizes(file, stored)
    text = (stored.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise TransferError(f"{str(file)!r} is a Parquet file, but was not exported by imagesearch")
    try:
        if len(text) > _MOST_METADATA:
            raise ValueError(f"more than {_MOST_METADATA:,} bytes")
        about = json.loads(text)
        if int(about["format"]) > FORMAT:
            raise TransferError(
                f"{str(file)!r} was exported by a newer imagesearch, {about.get('program')} (format "
                f"{about['format']}; this one reads up to {FORMAT}): update imagesearch"
            )
        fingerprint = Fingerprint.from_json(json.dumps(about["fingerprint"]))
        exported = ExportedCollection(
            str(about["collection"]), fingerprint, Metric(about["metric"]), stored.num_rows
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise TransferError(f"{str(file)!r}: its metadata cannot be understood ({error})") from error
    _check_columns(file, stored.schema.to_arrow_schema(), fingerprint.dim)
    return exported


def _check_columns(file: Path, schema: Any, dim: int) -> None:
    import pyarrow as pa

    kind = schema.field(_VECTOR).type if _VECTOR in schema.names else None
    if "path" not in schema.names or kind is None:
        raise TransferError(f"{str(file)!r} lacks the column 'path' or {_VECTOR!r}: it was changed since")
    if not (pa.types.is_fixed_size_list(kind) and kind.list_size == dim and kind.value_type == pa.float32()):
        raise TransferError(f"{str(file)!r}: its vectors are {kind}, but its model makes {dim} float32 values")
    for name in FIELDS:
        kind = schema.field(name).type if name in schema.names else None
        if kind is not None and not _holds(kind, BY_NAME[name].kind):
            raise TransferError(
                f"{str(file)!r}: its column {name!r} holds {kind}, not {BY_NAME[name].kind.value}s"
            )


def _holds(kind: Any, wanted: Kind) -> bool:
    """Whether a type of Arrow is one of those that a kind of column is written as, here or by other programs."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if wanted is Kind.TEXT:
        return bool(types.is_string(kind) or types.is_large_string(kind))
    return bool(types.is_integer(kind) if wanted is Kind.INTEGER else types.is_floating(kind))


def read_rows(file: Path, parquet: Any, exported: ExportedCollection) -> Iterator[Rows]:
    """All rows; fields that have no column (an older version's export) are unknown.

    Raises:
        TransferError: the file is damaged, or holds what no image record can have.
    """
    import pyarrow as pa

    names = [name for name in FIELDS if name in parquet.schema_arrow.names]
    try:
        for batch in parquet.iter_batches(ROWS_AT_ONCE, columns=[*names, _VECTOR], use_threads=False):
            vectors = _vectors(batch.column(_VECTOR), exported.fingerprint.dim)
            columns = [_values(batch.column(name), BY_NAME[name]) for name in names]
            pictures = [_to_record(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
            yield pictures, vectors
    except (OSError, ValueError, TypeError, OverflowError, pa.ArrowException) as error:
        raise TransferError(f"{str(file)!r} is damaged: {str(error).partition(chr(10))[0]}") from error


def _vectors(stored: Any, dim: int) -> NDArray[np.float32]:
    """The vectors of a column, once it is known that they are such as a database takes."""
    if stored.null_count:
        raise ValueError("a row has no vector")
    vectors: NDArray[np.float32] = stored.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    if not np.isfinite(vectors).all():  # what is missing in a vector is NaN here, too
        raise ValueError("a vector is not finite (NaN or infinity)")
    return vectors


def _values(stored: Any, column: Column) -> list[Any]:
    """The values of a column, once it is known that they are such as a database takes."""
    from pyarrow import types

    if column.kind is Kind.TEXT:
        texts = stored.dictionary if types.is_dictionary(stored.type) else stored
        longest = max((len(text.as_buffer()) for text in texts if text.is_valid), default=0)
        if longest > column.max_bytes:
            raise ValueError(f"a {column.name} has {longest:,} bytes")
        return list(stored.to_pylist())
    values = stored.to_pylist()
    if column.kind is Kind.NUMBER and not all(value is None or math.isfinite(value) for value in values):
        raise ValueError(f"a {column.name} is not a finite number")
    if column.kind is Kind.INTEGER and not all(value is None or abs(value) < 2**63 for value in values):
        raise ValueError(f"a {column.name} has more than 64 bits")
    return list(values)


def _to_record(values: dict[str, Any]) -> ImageRecord:
    if not values["path"] or "\0" in values["path"]:
        raise ValueError("a row has no path")
    known = {name: value for name, value in values.items() if value is not None}
    paths = {name: decode_path(value) for name, value in known.items() if value and BY_NAME[name].is_path}
    return ImageRecord(**known | paths)
