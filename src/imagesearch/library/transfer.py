"""Taking collections elsewhere: to a Parquet file and back, under another name, into another database.

All of it streams, so a collection may be larger than memory, and all of it can be interrupted: a second run
writes what the first one did not get to. For the format of exports see :mod:`~imagesearch.library.parquet`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.atomic import replacing
from imagesearch.errors import StoreError, TransferError
from imagesearch.library.parquet import (
    FIELDS,
    ROWS_AT_ONCE,
    ExportedCollection,
    Rows,
    opened_export,
    parquet_writer,
    read_rows,
    to_batch,
)
from imagesearch.records import CollectionInfo, ImageRecord, Progress, no_progress
from imagesearch.reports import TransferReport
from imagesearch.stores.base import Collection, CollectionSpec, Columns, VectorDatabase, find, require_same_metric
from imagesearch.stores.columns import ID


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
    with _new_export(final) as temporary, parquet_writer(temporary, info) as writer:
        for pictures, vectors in collection.scan_vectors(ROWS_AT_ONCE):
            writer.write_batch(to_batch(pictures, vectors, writer.schema))
            done += len(pictures)
            progress("export", done, info.rows)
    return TransferReport(info.name, str(final), done, 0, time.monotonic() - started)


def read_export(file: str | os.PathLike[str]) -> ExportedCollection:
    """What an export file holds; reads no rows.

    Raises:
        TransferError: the file cannot be read, is no export, or one of a newer version.
    """
    with opened_export(Path(file)) as (_, exported):
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
    with opened_export(Path(file)) as (parquet, exported):
        source = CollectionInfo(exported.name, exported.rows, exported.metric, "", exported.fingerprint)
        rows = read_rows(Path(file), parquet, exported)
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
    rows = source.scan_vectors(ROWS_AT_ONCE)
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
    there = find(database, spec)
    if there is not None and there.spec.metric is not source.metric:
        raise StoreError(
            f"collection {spec.name!r} compares vectors by {there.spec.metric.value}, those of {source.name!r} are"
            f" compared by {source.metric.value}: choose another name"
        )
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
        for rows in collection.scan_columns((ID, *FIELDS), ROWS_AT_ONCE):
            ids.append(np.asarray(rows[ID], np.int64))
            digests.append(_digests(zip(*(_values(rows, name) for name in FIELDS), strict=True)))
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


_all_fields = attrgetter(*FIELDS)


def _values(rows: Columns, name: str) -> list[Any]:
    values = rows[name]
    return values.tolist() if isinstance(values, np.ndarray) else values


def _digests(rows: Iterable[tuple[Any, ...]]) -> NDArray[np.uint64]:
    """64 bits of everything that is known of each picture (size, time, content hash, ...)."""
    # repr is exact for numbers, and writes bytes in paths that are not valid text as escapes.
    digests = [hashlib.blake2b(repr(row).encode(), digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), np.uint64)


# --- writing Parquet ---


@contextlib.contextmanager
def _new_export(final: Path) -> Iterator[Path]:
    """A temporary file beside the final one, whose place it takes once it is complete."""
    try:
        with replacing(final) as temporary:
            yield temporary
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise TransferError(f"cannot write {str(final)!r}: {reason}; nothing was changed there") from error
