"""Taking collections elsewhere: to a Parquet file and back, under another name, into another database.

All of it streams, so a collection may be larger than memory, and all of it can be interrupted: a second run
writes what the first one did not get to. An export is one Parquet file with one row per image, one column per
field of :class:`~imagesearch.records.ImageRecord`, and the vectors in the column ``vector``; pandas, DuckDB and
others read it as it is. JSON under the key ``imagesearch`` of its metadata says what the file holds.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.atomic import replacing
from imagesearch.errors import TransferError
from imagesearch.images.paths import decode_path, encode_path
from imagesearch.records import (
    CollectionInfo,
    Fingerprint,
    ImageRecord,
    Metric,
    Progress,
    TransferReport,
    no_progress,
)
from imagesearch.stores.base import Collection, CollectionSpec, Columns, VectorDatabase, require_same_metric
from imagesearch.stores.columns import BY_NAME, COLUMNS, ID, Column, Kind

# Goes up when an older program could not read what a newer one writes; a new column is no reason.
FORMAT = 1

_METADATA_KEY = b"imagesearch"
_VECTOR = "vector"

# Rows read and written at once: 5 MB of vectors at 320 dimensions.
_ROWS = 4096

_FIELDS = tuple(column.name for column in COLUMNS)

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


def export_collection(
    collection: Collection, file: str | os.PathLike[str], progress: Progress = no_progress
) -> TransferReport:
    """Write a collection to a Parquet file; an older file of this name is replaced at the very end.

    Raises:
        CollectionNotFoundError: the collection was dropped meanwhile.
        TransferError: the file cannot be written; an older one is untouched.
    """
    started = time.monotonic()
    info = collection.info()
    final = Path(file)
    done = 0
    progress("export", 0, info.rows)
    with _new_export(final) as temporary, _parquet_writer(temporary, info) as writer:
        for pictures, vectors in collection.scan_vectors(_ROWS):
            writer.write_batch(_to_batch(pictures, vectors, writer.schema))
            done += len(pictures)
            progress("export", done, info.rows)
    return TransferReport(info.name, str(final), done, 0, time.monotonic() - started)


def read_export(file: str | os.PathLike[str]) -> ExportedCollection:
    """What an export file holds; reads no rows.

    Raises:
        TransferError: the file cannot be read, is no export, or one of a newer version.
    """
    with _opened(Path(file)) as (_, exported):
        return exported


def import_collection(
    file: str | os.PathLike[str], database: VectorDatabase, spec: CollectionSpec, progress: Progress = no_progress
) -> TransferReport:
    """Add an export's rows to a collection, which is created if need be, and build its index.

    Rows that are there already, equal in everything but the vector, which is then the same model's of the
    same file, are not written again.

    Raises:
        TransferError: see :func:`read_export`; or the file is damaged.
        ModelMismatchError: the collection holds vectors of another model.
        StoreError: it compares vectors by another metric, or the database fails.
    """
    with _opened(Path(file)) as (parquet, exported):
        source = CollectionInfo(exported.name, exported.rows, exported.metric, "", exported.fingerprint)
        rows = _read_rows(Path(file), parquet, exported)
        return _fill(database, spec, source, rows, stage="import", progress=progress)


def copy_collection(
    source: Collection, database: VectorDatabase, spec: CollectionSpec, progress: Progress = no_progress
) -> TransferReport:
    """Add a collection's rows to another one, of this or another database, and build its index.

    Rows that are there already are not written again: see :func:`import_collection`.

    Args:
        source: the collection to copy.
        database: where the copy goes.
        spec: the copy; created if it is not there.

    Raises:
        TransferError: it would be copied onto itself.
        ModelMismatchError: the target holds vectors of another model.
        StoreError: it compares vectors by another metric, or a database fails.
    """
    # By address: a local database that is open already could not be opened a second time to look.
    if (source.place, source.spec.name) == (database.place, spec.name):
        raise TransferError(f"collection {source.spec.name!r} cannot be copied onto itself: name another target")
    rows = source.scan_vectors(_ROWS)
    return _fill(database, spec, source.info(), rows, stage="copy", progress=progress)


# --- filling a collection ---


def _fill(
    database: VectorDatabase,
    spec: CollectionSpec,
    source: CollectionInfo,
    batches: Iterable[Rows],
    *,
    stage: str,
    progress: Progress,
) -> TransferReport:
    """Write the rows that the target does not hold yet, and index them."""
    started = time.monotonic()
    require_same_metric(spec.name, spec.metric, source.metric)
    database.check(spec)
    rest = iter(batches)
    first = next(rest, None)  # what cannot be read at all must not leave an empty collection
    target = database.create(spec, source.fingerprint)
    held = _HeldRows.of(target)
    written = already_there = 0
    progress(stage, 0, source.rows)
    for pictures, vectors in itertools.chain([] if first is None else [first], rest):
        missing = np.flatnonzero(~held.contains(pictures))
        if len(missing):
            target.upsert([pictures[row] for row in missing], vectors[missing])
        written += len(missing)
        already_there += len(pictures) - len(missing)
        progress(stage, written + already_there, source.rows)
    if not target.index_is_current():
        target.build_index(progress)
    seconds = time.monotonic() - started
    return TransferReport(spec.name, target.engine, written, already_there, seconds)


class _HeldRows:
    """Which rows a collection holds, with what content: 16 bytes per row."""

    def __init__(self, ids: NDArray[np.int64], digests: NDArray[np.uint64]) -> None:
        order = np.argsort(ids)
        self._ids, self._digests = ids[order], digests[order]

    @classmethod
    def of(cls, collection: Collection) -> _HeldRows:
        ids, digests = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
        for rows in collection.scan_columns((ID, *_FIELDS), _ROWS):
            ids.append(np.asarray(rows[ID], np.int64))
            digests.append(_digests(zip(*(_values(rows, name) for name in _FIELDS), strict=True)))
        return cls(np.concatenate(ids), np.concatenate(digests))

    def contains(self, pictures: Sequence[ImageRecord]) -> NDArray[np.bool_]:
        """For each picture, whether the collection holds it as it is."""
        if not len(self._ids):
            return np.zeros(len(pictures), np.bool_)
        ids = np.array([picture.id for picture in pictures], np.int64)
        places = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        digests = _digests(map(_all_fields, pictures))
        same: NDArray[np.bool_] = (self._ids[places] == ids) & (self._digests[places] == digests)
        return same


_all_fields = attrgetter(*_FIELDS)


def _values(rows: Columns, name: str) -> list[Any]:
    values = rows[name]
    return values.tolist() if isinstance(values, np.ndarray) else values


def _digests(rows: Iterable[tuple[Any, ...]]) -> NDArray[np.uint64]:
    """64 bits of everything that is known of each picture (size, time, content hash, ...)."""
    # repr is exact for numbers, and writes bytes in paths that are not valid text as escapes.
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), np.uint64)


# --- writing Parquet ---


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
def _parquet_writer(file: Path, info: CollectionInfo) -> Iterator[Any]:
    """A ``pyarrow.parquet.ParquetWriter`` whose file is on the disk at the end.

    Text is compressed. Vectors do not compress, and a dictionary of them would be as large again.
    """
    import pyarrow.parquet as pq

    text = [column.name for column in COLUMNS if column.kind is Kind.TEXT]
    packing = dict.fromkeys(_FIELDS, "zstd") | {f"{_VECTOR}.list.element": "none"}
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


def _to_batch(pictures: Sequence[ImageRecord], vectors: NDArray[np.float32], schema: Any) -> Any:
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
def _new_export(final: Path) -> Iterator[Path]:
    """A temporary file beside the final one, whose place it takes once it is complete."""
    try:
        with replacing(final) as temporary:
            yield temporary
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TransferError(f"cannot write {str(final)!r}: {reason}; nothing was changed there") from error


# --- reading Parquet ---


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[tuple[Any, ExportedCollection]]:
    """The ``pyarrow.parquet.ParquetFile`` of an export, and what its metadata says."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
    except OSError as error:
        raise TransferError(f"cannot read {str(file)!r}: {(error.strerror or str(error)).lower()}") from error
    except pa.ArrowException as error:
        raise TransferError(f"{str(file)!r} is not a Parquet file, or the end of it is missing") from error
    with parquet:
        yield parquet, _parse_about(file, parquet)


def _parse_about(file: Path, parquet: Any) -> ExportedCollection:
    text = (parquet.schema_arrow.metadata or {}).get(_METADATA_KEY)
    if text is None:
        raise TransferError(f"{str(file)!r} is a Parquet file, but was not exported by imagesearch")
    try:
        about = json.loads(text)
        if int(about["format"]) > FORMAT:
            raise TransferError(
                f"{str(file)!r} was exported by a newer imagesearch, {about.get('program')} (format "
                f"{about['format']}; this one reads up to {FORMAT}): update imagesearch"
            )
        fingerprint = Fingerprint.from_json(json.dumps(about["fingerprint"]))
        exported = ExportedCollection(
            str(about["collection"]), fingerprint, Metric(about["metric"]), parquet.metadata.num_rows
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TransferError(f"{str(file)!r}: its metadata cannot be understood ({error})") from error
    _check_columns(file, parquet.schema_arrow, fingerprint.dim)
    return exported


def _check_columns(file: Path, schema: Any, dim: int) -> None:
    import pyarrow as pa

    kind = schema.field(_VECTOR).type if _VECTOR in schema.names else None
    if "path" not in schema.names or kind is None:
        raise TransferError(f"{str(file)!r} lacks the column 'path' or {_VECTOR!r}: it was changed since")
    if not (pa.types.is_fixed_size_list(kind) and kind.list_size == dim and kind.value_type == pa.float32()):
        raise TransferError(f"{str(file)!r}: its vectors are {kind}, but its model makes {dim} float32 values")


def _read_rows(file: Path, parquet: Any, exported: ExportedCollection) -> Iterator[Rows]:
    """All rows; fields that have no column (an older version's export) are unknown."""
    import pyarrow as pa

    columns = [name for name in _FIELDS if name in parquet.schema_arrow.names]
    try:
        for batch in parquet.iter_batches(_ROWS, columns=[*columns, _VECTOR]):
            flat = batch.column(_VECTOR).flatten().to_numpy(zero_copy_only=False)
            rows = zip(*(batch.column(name).to_pylist() for name in columns), strict=True)
            pictures = [_to_record(dict(zip(columns, row, strict=True))) for row in rows]
            yield pictures, flat.reshape(len(pictures), exported.fingerprint.dim)
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise TransferError(f"{str(file)!r} is damaged: {str(error).partition(chr(10))[0]}") from error


def _to_record(values: dict[str, Any]) -> ImageRecord:
    known = {name: value for name, value in values.items() if value is not None}
    paths = {name: decode_path(value) for name, value in known.items() if value and BY_NAME[name].is_path}
    return ImageRecord(**known | paths)
