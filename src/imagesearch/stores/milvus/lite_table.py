"""A Milvus Lite collection, read and written in this process in Milvus Lite's own files.

A write goes to the log; once enough has come together, it becomes a data file, and the manifest names it. In this
order, each step on the disk before the next: data file, manifest, deletion of the log. Nothing runs in the
background. After a failed write the table must be opened again (:attr:`Table.failed`): what the log and the
manifest say is what was acknowledged.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagesearch.errors import DamagedError
from imagesearch.records import ImageRecord
from imagesearch.stores.base import Vectors
from imagesearch.stores.columns import ID, stored_columns
from imagesearch.stores.milvus import lite_index, lite_log
from imagesearch.stores.milvus.lite_files import sync_folder
from imagesearch.stores.milvus.lite_index import IndexSpec
from imagesearch.stores.milvus.lite_log import DELETIONS, ROWS, Entry, Log
from imagesearch.stores.milvus.lite_manifest import NAME as MANIFEST
from imagesearch.stores.milvus.lite_manifest import PARTITION, Manifest
from imagesearch.stores.milvus.lite_recent import PARTITION_COLUMN, RecentRows
from imagesearch.stores.milvus.lite_schema import LiteSchema
from imagesearch.stores.milvus.lite_segment import SEQUENCE, Segment, summary, write_data, write_deletions
from imagesearch.stores.milvus.nearest import Mask
from imagesearch.stores.milvus.visibility import CurrentRows

# Rows become a data file when they are this many, or this many bytes. Larger files are searched faster; what is
# not in one is held in memory, and read again from the log after a crash.
MAX_ROWS = 100_000
FLUSH_BYTES = 160_000_000

# Milvus Lite's name for "whatever the partition".
_ALL_PARTITIONS = "_all"


class Table:
    """One collection; not thread-safe, the caller takes turns.

    Attributes:
        folder: the collection's.
        schema: its columns.
        manifest: its files.
        segments: the data files, oldest first.
        recent: what is in none of them yet.
        failed: whether a write failed, after which the table must be opened again.
        generation: goes up when data files or their indexes come or go.
    """

    def __init__(self, folder: Path, schema: LiteSchema, *, read_only: bool = False) -> None:
        """Open it.

        Raises:
            DamagedError: a file is missing or not as it was written; nothing was changed.
            OSError: the disk fails; nothing was changed.
        """
        self.folder, self.schema = folder, schema
        self.failed = False
        self._read_only = read_only
        self.manifest = Manifest.load(folder)
        self._logs = folder / "wal"
        self._require_manifest()
        self.recent = self._replayed()
        for kind in ("data_files", "delta_files"):
            for partition, relative in self.manifest.files(kind):
                file = self._file(partition, relative)
                if (problem := self.manifest.complaint(file)) is not None:
                    raise DamagedError(file, problem)
        self.segments = [Segment(folder, *name) for name in self.manifest.files("data_files")]
        self._sort_segments()
        self._tombstones = self._read_tombstones()
        self._next_sequence = max(self.manifest.last_sequence, self.recent.last_sequence) + 1
        self._log = self._new_log(max([*lite_log.numbers(self._logs), (self.manifest.active_log or 1) - 1]) + 1)
        self._current: CurrentRows | None = None
        self._overlay: tuple[int, Mask, Mask] | None = None
        self.generation = 0
        if not read_only:
            self._delete_unnamed_files()

    @property
    def vector_column(self) -> str:
        """The vectors' column."""
        return self.schema.ours.vector_field

    @property
    def index(self) -> IndexSpec | None:
        """The index, whether or not it covers all rows."""
        return IndexSpec.of(self.manifest, self.vector_column)

    def close(self) -> None:
        """Let go of the files; what is in the log stays there."""
        self._log.close()

    # --- opening ---

    def _require_manifest(self) -> None:
        """Only until the first data file is named may there be none; the rows are in the first log then."""
        has_files = next((self.folder / "partitions").glob("*/*/*"), None) is not None
        if self.manifest.is_new and has_files and 1 not in lite_log.numbers(self._logs):
            raise DamagedError(self.folder / MANIFEST, "is missing")

    def _replayed(self) -> RecentRows:
        recent = RecentRows()
        for entry in lite_log.replay(self._logs, self.manifest.active_log):
            (recent.insert if entry.kind == ROWS else recent.delete)(entry.batch)
        return recent

    def _read_tombstones(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for name in self.manifest.files("delta_files"):
            deletions = Segment(self.folder, *name)
            for key, sequence in zip(deletions.ids.tolist(), deletions.sequences.tolist(), strict=True):
                found[key] = max(sequence, found.get(key, -1))
        return found

    def _sort_segments(self) -> None:
        self.segments.sort(key=lambda segment: int(segment.sequences[0]) if len(segment) else -1)

    def _new_log(self, number: int) -> Log:
        return Log(self._logs, number, self.schema.logged_rows, self.schema.logged_deletions)

    def _delete_unnamed_files(self) -> None:
        """Remove what a crash left behind: data files that the manifest does not name, index files of others."""
        if (self.folder / "snapshots").exists():  # Milvus Lite's, which name files of their own
            return
        named = {
            self._file(partition, relative)
            for kind in ("data_files", "delta_files")
            for partition, relative in self.manifest.files(kind)
        }
        stems = {file.stem for file in named}
        for file in (self.folder / "partitions").glob("*/*/*"):
            is_index = file.parent.name == "indexes"
            if (
                (file.name.partition(".")[0] not in stems or file.suffix == ".tmp")
                if is_index
                else file not in named
            ):
                with contextlib.suppress(OSError):
                    file.unlink()
                    logging.getLogger(__name__).debug("removed %s, which nothing names", file)

    def _file(self, partition: str, relative: str) -> Path:
        return self.folder / "partitions" / partition / relative

    # --- writing ---

    def insert(self, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        """Write rows; an older row of the same key does not count any more. On the disk on return."""
        count = len(pictures)
        batch = self._batch(pictures, vectors, np.arange(self._next_sequence, self._next_sequence + count))
        self._write(Entry(ROWS, batch))
        self._next_sequence += count
        if self.recent.size >= FLUSH_BYTES or len(self.recent) >= MAX_ROWS:
            self.flush()

    def delete(self, ids: Sequence[int]) -> None:
        """Delete rows by their keys; on the disk on return."""
        columns = [pa.array(ids, pa.int64()), pa.array([self._next_sequence] * len(ids), pa.uint64())]
        columns.append(pa.array([_ALL_PARTITIONS] * len(ids)))
        self._write(Entry(DELETIONS, pa.RecordBatch.from_arrays(columns, schema=self.schema.logged_deletions)))
        self._next_sequence += 1
        if self.recent.size >= FLUSH_BYTES or len(self.recent) >= MAX_ROWS:
            self.flush()

    def _write(self, entry: Entry) -> None:
        self.failed = True
        self._log.append(entry)
        (self.recent.insert if entry.kind == ROWS else self.recent.delete)(entry.batch)
        self.failed = False

    def _batch(
        self, pictures: Sequence[ImageRecord], vectors: Vectors, sequences: NDArray[np.int64]
    ) -> pa.RecordBatch:
        ours, count = self.schema.ours, len(pictures)
        columns: dict[str, Any] = stored_columns(pictures, ours.columns)
        columns |= {name: [value] * count for name, value in ours.strange.items()}
        columns[ID] = [picture.id for picture in pictures]
        columns[SEQUENCE] = sequences
        columns[PARTITION_COLUMN] = [PARTITION] * count
        arrays = []
        for field in self.schema.logged_rows:
            if field.name == ours.vector_field:
                flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1), pa.float32())
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
            else:
                arrays.append(pa.array(columns[field.name], field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema.logged_rows)

    def flush(self) -> None:
        """Make a data file of what is in the log."""
        if not len(self.recent):
            return
        self.failed = True
        folder = self.folder / "partitions" / PARTITION
        rows, deletions = self.recent.table(), self.recent.deletions(self.schema.deletions)
        if rows is not None:
            relative = write_data(rows.select(self.schema.rows.names), folder, self.vector_column)
            self._name("data_files", relative, **summary(rows))
        if deletions is not None:
            self._name("delta_files", write_deletions(deletions, folder), rows=deletions.num_rows)
        self._sync_folders(folder)
        self.manifest.last_sequence = self.recent.last_sequence
        self.manifest.active_log = self._log.number + 1
        self.manifest.save()
        if rows is not None:
            self.segments.append(Segment(self.folder, PARTITION, relative))
            self._sort_segments()
        for key, sequence in self.recent.deleted.items():
            self._tombstones[key] = max(sequence, self._tombstones.get(key, -1))
        self._log.close()
        lite_log.delete_logs(self._logs, self._log.number)
        self._log = self._new_log(self._log.number + 1)
        self.recent = RecentRows()
        self._changed()
        self.failed = False

    def _name(self, kind: str, relative: str, **content: Any) -> None:
        self.manifest.add(kind, PARTITION, relative)
        self.manifest.note(self._file(PARTITION, relative), **content)

    def _sync_folders(self, partition: Path) -> None:
        for folder in (partition / "data", partition / "delta", partition, partition.parent, self.folder):
            if folder.exists():
                sync_folder(folder)

    # --- which rows count ---

    def _changed(self) -> None:
        self._current = self._overlay = None
        self.generation += 1

    def current(self) -> CurrentRows:
        """Which rows of the data files count; decided once and kept until a file comes or goes."""
        if self._current is None:
            self._current = CurrentRows(
                [segment.ids for segment in self.segments],
                [segment.sequences for segment in self.segments],
                self._tombstones,
            )
        return self._current

    def visible(self) -> tuple[Mask, Mask]:
        """Which rows of the data files, and which of the recent ones, count now: bool, one per row."""
        if self._overlay is None or self._overlay[0] != self.recent.changes:
            current, recent = self.current(), self.recent
            mask = current.visible
            if len(recent) and len(current):
                mask = mask.copy()
                mask[current.older_than(recent.inserted)] = False
                mask[current.older_than(recent.deleted)] = False
            fresh = np.ones(len(recent.inserted), bool)
            if recent.inserted and (len(current) or self._tombstones):
                # A crash between manifest and deletion of the log leaves rows in both: they are in the files.
                stale = set(current.newer_or_equal(recent.inserted))
                stale |= {key for key, seq in recent.inserted.items() if self._tombstones.get(key, -1) > seq}
                if stale:
                    fresh = ~np.isin(recent.keys(), np.fromiter(stale, np.int64, len(stale)))
            self._overlay = (recent.changes, mask, fresh)
        return self._overlay[1], self._overlay[2]

    def count(self) -> int:
        """Number of rows."""
        mask, fresh = self.visible()
        return int(mask.sum()) + int(fresh.sum())

    # --- index ---

    def unindexed(self, wanted: IndexSpec) -> list[Segment]:
        """Data files that the wanted index does not cover."""
        if self.index != wanted:
            return [segment for segment in self.segments if len(segment)]
        return [
            segment
            for segment in self.segments
            if len(segment) and not lite_index.is_built(wanted, segment, self.manifest)
        ]

    def is_covered(self, wanted: IndexSpec) -> bool:
        """Whether the wanted index is there and covers every row."""
        return self.index == wanted and not self.recent.inserted and not self.unindexed(wanted)

    def set_index(self, wanted: IndexSpec) -> None:
        """Make it the collection's index; files of another one are deleted."""
        there = self.index
        if there == wanted:
            return
        self.failed = True
        gone = [file for segment in self.segments for file in there.files(segment)] if there else []
        self.manifest.index_specs[wanted.column] = wanted.to_json()
        self.manifest.forget(gone)
        self.manifest.save()
        for file in gone:
            file.unlink(missing_ok=True)
        self._changed()
        self.failed = False

    def index_segment(self, segment: Segment) -> None:
        """Build the index of one data file."""
        index = self.index
        assert index is not None
        self.failed = True
        lite_index.build(index, segment, self.manifest)
        self.manifest.save()
        self._changed()
        self.failed = False

    # --- replacing data files ---

    def replace(self, segments: Sequence[Segment], rows: pa.Table) -> None:
        """Write rows as a new data file that takes the place of others, whose rows do not count any more.

        Args:
            segments: the others.
            rows: with the collection's columns and the rows' own sequence numbers; there may be none.
        """
        self.failed = True
        folder = self.folder / "partitions" / PARTITION
        for segment in segments:
            self.manifest.remove("data_files", segment.partition, [segment.relative])
        self.manifest.forget(file for segment in segments for file in self._files_of(segment))
        self.segments = [segment for segment in self.segments if segment not in segments]
        if rows.num_rows:
            relative = write_data(rows.sort_by(SEQUENCE), folder, self.vector_column)
            self._name("data_files", relative, **summary(rows))
            self.segments.append(Segment(self.folder, PARTITION, relative))
        self._sync_folders(folder)
        self._drop_old_tombstones()
        self.manifest.save()
        self._sort_segments()
        self._changed()
        self.failed = False
        self._delete_unnamed_files()

    def _files_of(self, segment: Segment) -> list[Path]:
        index = self.index
        return [segment.path, *(index.files(segment) if index else [])]

    def _drop_old_tombstones(self) -> None:
        """Name deletions no more that are older than every row."""
        oldest = min((int(segment.sequences.min()) for segment in self.segments if len(segment)), default=2**63)
        for partition, relative in list(self.manifest.files("delta_files")):
            newest = int(os.path.splitext(relative)[0].rpartition("_")[2])
            if newest < oldest:
                self.manifest.remove("delta_files", partition, [relative])
                self.manifest.forget([self._file(partition, relative)])
        self._tombstones = {key: sequence for key, sequence in self._tombstones.items() if sequence >= oldest}
