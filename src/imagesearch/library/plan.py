"""What a refresh is going to do, computed by reading only.

A plan holds what changes, and counts of what does not; so a dry run can show it, and a run can carry it out.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from imagesearch.errors import PictureError
from imagesearch.images.files import file_content
from imagesearch.images.find import Folders, FoundFile, Walk, below, is_gone
from imagesearch.images.pipeline import batches
from imagesearch.library.encoding import ReadOptions, identify_files, nothing_found, refuse_missing
from imagesearch.library.ledger import Ledger
from imagesearch.library.missing import find_missing
from imagesearch.library.pairing import Moved, by_content, paired
from imagesearch.library.snapshot import Snapshot
from imagesearch.records import ImageRecord, Progress, Skipped, no_progress
from imagesearch.reports import OfflineRoot
from imagesearch.stores.base import Collection

# Rows fetched at a time, to compare their content with files'.
_FETCHED_TOGETHER = 500

# Files compared with their rows at a time, and reported by one call of `progress`.
_COMPARED_TOGETHER = 1000

# A skipped file, with its size and time of change for the ledger.
Tried = tuple[FoundFile, Skipped]


@dataclass(frozen=True, slots=True)
class RefreshOptions:
    """What a refresh may change.

    Attributes:
        prune: remove rows of missing files even where their folder looks offline.
        retry_skipped: try again files that were skipped, whatever the ledger says of them.
        dry_run: change nothing, only say what would be done.
    """

    prune: bool = False
    retry_skipped: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class KeptVector:
    """A file whose content some row has (moved, renamed, copied or touched): it gets that row's vector.

    Attributes:
        record: the row to write, under the file's path and with its time of change.
        source: id of the row whose vector it gets.
        replaces: ids of rows with this content whose files are gone; to be deleted before the record is written.
    """

    record: ImageRecord
    source: int
    replaces: tuple[int, ...] = ()

    @property
    def origin(self) -> tuple[int, str]:
        """Id and content of the row whose vector it gets."""
        return self.source, self.record.content_hash

    @property
    def file(self) -> FoundFile:
        """The file itself."""
        return FoundFile(self.record.path, self.record.root, self.record.size, self.record.mtime_ns)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a refresh is going to do.

    Attributes:
        found: number of files (and folders that cannot be read) below the roots.
        unchanged: number of files whose size and time are those of their rows.
        keep: rows that are written without the network.
        encode: files that have to be read and encoded. Some of them may turn out to be unreadable.
        outdated: ids of the rows that files to encode have already.
        remove: ids of rows to delete: their files are gone, left out now, or cannot be read any more.
        offline: folders whose rows stay although files are missing.
        depleted: folders to be listed in the ledger as having lost most of their pictures: see
            :attr:`~imagesearch.library.ledger.Ledger.depleted`.
        settled: files that the ledger lists as unreadable, and that have not changed since.
        unreadable: files and folders that could not be read just now; to be listed in the ledger.
        forget: paths in the ledger whose files are not there any more.
    """

    found: int
    unchanged: int
    keep: Sequence[KeptVector] = ()
    encode: Sequence[FoundFile] = ()
    outdated: frozenset[int] = frozenset()
    remove: Sequence[int] = ()
    offline: Sequence[OfflineRoot] = ()
    depleted: frozenset[str] = frozenset()
    settled: Sequence[Skipped] = ()
    unreadable: Sequence[Tried] = ()
    forget: Sequence[str] = ()

    @property
    def skipped(self) -> list[Skipped]:
        """Files and folders that are known to be unreadable."""
        return [*self.settled, *(skip for _, skip in self.unreadable)]

    @property
    def removed(self) -> int:
        """Number of rows that go without another taking their place."""
        lost: Counter[str] = Counter()
        for kept in self.keep:  # of two copies, one may have been moved and the other deleted
            lost[kept.record.content_hash] += len(kept.replaces) - 1
        return len(self.remove) + sum(rows for rows in lost.values() if rows > 0)


def make_plan(
    collection: Collection | None,
    walk: Walk,
    ledger: Ledger,
    *,
    reading: ReadOptions,
    options: RefreshOptions,
    progress: Progress = no_progress,
) -> Plan:
    """Compare folders with a collection; nothing is written.

    Args:
        collection: None if it does not exist yet.
        walk: over the folders; not begun yet.
        ledger: the collection's skipped files.

    Raises:
        UsageError: a root cannot be read and never had pictures, or there are no pictures.
        StoreError: the database fails.
    """
    snapshot = Snapshot.read(collection, walk.roots, progress) if collection is not None else Snapshot(walk.roots)
    conditions = None if options.retry_skipped else reading.conditions
    compared = _compare(walk, snapshot, ledger, conditions=conditions, progress=progress)
    _refuse_nothing(compared.found, walk, snapshot)
    keep = _Matching(collection, walk, snapshot, compared.found_below).match(compared.changed, reading, progress)
    kept = {row.record.path for row in keep}
    new = [file for file in compared.changed if file.path not in kept] if kept else compared.changed
    encode, unreadable = _try_again(new, ledger, reading)
    damaged = snapshot.held(file for file, skip in unreadable if not skip.retryable)
    missing = find_missing(collection, walk, snapshot, compared.found_below, ledger.depleted, prune=options.prune)
    return Plan(
        found=compared.found,
        unchanged=compared.unchanged,
        keep=keep,
        encode=encode,
        outdated=snapshot.held(encode),
        remove=[*damaged, *missing.remove],
        offline=missing.offline,
        depleted=missing.depleted,
        settled=compared.settled,
        unreadable=[*((FoundFile(folder.path, "", -1, 0), folder) for folder in walk.closed), *unreadable],
        forget=_to_forget(compared, walk, ledger, prune=options.prune),
    )


# --- what is there ---


@dataclass(slots=True)
class _Comparison:
    """What a walk over the roots found.

    Attributes:
        found, unchanged, settled: see :class:`Plan`.
        changed: files that have to be read.
        found_below: number of files by unit: see :class:`Snapshot`.
        listed: paths of those that the ledger lists.
        roots: folders of the walk that hold any.
    """

    found: int = 0
    unchanged: int = 0
    settled: list[Skipped] = field(default_factory=list)
    changed: list[FoundFile] = field(default_factory=list)
    found_below: Counter[str] = field(default_factory=Counter)
    listed: set[str] = field(default_factory=set)
    roots: set[str] = field(default_factory=set)


def _compare(
    walk: Walk,
    snapshot: Snapshot,
    ledger: Ledger,
    *,
    conditions: str | None,
    progress: Progress,
) -> _Comparison:
    """Walk the roots, and compare size and time of every file with its row.

    Args:
        conditions: under which files that the ledger lists are left alone; None: they are tried again.
    """
    done = _Comparison()
    units = Folders(snapshot.units)
    for files in batches(walk, _COMPARED_TOGETHER):
        done.found += len(files)
        if len(files) == _COMPARED_TOGETHER:
            progress("find", done.found, None)
        paths = [file.path for file in files]
        done.found_below.update(unit for unit in map(units.holding, paths) if unit is not None)
        if len(ledger):
            done.listed.update(path for path in paths if path in ledger)
            done.roots.update(file.root for file in files)
        unchanged = snapshot.see(files)
        done.unchanged += int(unchanged.sum())
        for number in np.flatnonzero(~unchanged).tolist():
            file = files[number]
            settled = ledger.settled(file, conditions) if conditions is not None else None
            if settled is None:
                done.changed.append(file)
            else:
                done.settled.append(settled)
    done.found += len(walk.closed)
    return done


def _to_forget(compared: _Comparison, walk: Walk, ledger: Ledger, *, prune: bool) -> list[str]:
    """Paths in the ledger that were not found, where the walk would have found them.

    A folder without any picture may be where an unplugged disk belongs, so nothing below it is forgotten.
    """
    there = [root for root in walk.roots if root not in walk.missing and (prune or root in compared.roots)]
    return ledger.not_found(compared.listed, there, [folder.path for folder in walk.closed])


def _refuse_nothing(found: int, walk: Walk, snapshot: Snapshot) -> None:
    units = [unit for unit, refreshed in zip(snapshot.units, snapshot.refreshed, strict=True) if refreshed]
    missing = walk.missing.items()
    refuse_missing({root: why for root, why in missing if not any(below(unit, [root]) for unit in units)})
    if not found and not units:
        raise nothing_found(walk)


# --- content that is known ---


@dataclass(slots=True)
class _Matching:
    """Finds rows that have the content of changed files.

    Attributes:
        found_below: number of files found by unit.
    """

    collection: Collection | None
    walk: Walk
    snapshot: Snapshot
    found_below: Counter[str]

    def match(self, changed: Sequence[FoundFile], reading: ReadOptions, progress: Progress) -> list[KeptVector]:
        """The changed files whose content some row has; reads those that have the size of one."""
        candidates = [file for file in changed if self.snapshot.has_size(file.size)]
        known: list[ImageRecord] = []
        tried = 0
        for records in identify_files(candidates, reading):
            known += [record for record in records if self.snapshot.with_content(record.content_hash)]
            tried = min(len(candidates), tried + len(records))
            progress("compare", tried, len(candidates))
        movable = self._movable(known)
        known = [file for copies in by_content(known).values() for file in copies]
        moved: Moved = defaultdict(dict)
        return [kept for batch in batches(known, _FETCHED_TOGETHER) for kept in self._match(batch, movable, moved)]

    def _match(self, files: Sequence[ImageRecord], movable: set[int], moved: Moved) -> Iterable[KeptVector]:
        """The files whose content some row really has; keeps in ``moved`` the rows whose files went away."""
        if self.collection is None:
            return
        rows, _ = self.collection.fetch(
            sorted({key for file in files for key in self.snapshot.with_content(file.content_hash)})
        )
        sources = {row.content_hash: row for row in rows}
        own = {(row.id, row.content_hash): row for row in rows}
        gone: dict[str, list[int]] = defaultdict(list)
        new = {file.content_hash for file in files} - moved.keys()  # of the others all rows were looked at
        for row in rows:
            if row.content_hash in new and self._is_moved(row, movable):
                gone[row.content_hash].append(row.id)
                moved[row.content_hash][row.id] = row
                self.snapshot.note_moved(row.id)
        # Each of equal pictures keeps what was said of it.
        own |= paired([file for file in files if (file.id, file.content_hash) not in own], moved)
        for file in files:
            source = own.get((file.id, file.content_hash)) or sources.get(file.content_hash)
            if source is not None:
                record = replace(source, path=file.path, root=file.root, size=file.size, mtime_ns=file.mtime_ns)
                yield KeptVector(record, source.id, tuple(gone.pop(file.content_hash, ())))

    def _is_moved(self, row: ImageRecord, movable: set[int]) -> bool:
        """Whether a row's file, whose content was found elsewhere, is not where it was."""
        key = row.id
        return self.snapshot.has(key) and self.snapshot.unit_of(key) in movable and is_gone(row.path)

    def _movable(self, known: Sequence[ImageRecord]) -> set[int]:
        """Units from which a missing file was moved if it is found elsewhere, and not copied before it went away.

        If a folder is not there, it is taken for renamed if most of its pictures are found elsewhere; but never if
        it is one of those that are refreshed.
        """
        found = self.snapshot.rows_with_content(record.content_hash for record in known)
        return {
            unit
            for unit, rows in found.items()
            if self._is_online(unit)
            or (self.snapshot.units[unit] not in self.walk.missing and rows > 0.5 * self.snapshot.rows_in(unit))
        }

    def _is_online(self, unit: int) -> bool:
        folder = self.snapshot.units[unit]
        if self.snapshot.refreshed[unit]:
            return self.found_below[folder] > 0
        try:
            return os.path.isfile(folder) or bool(os.listdir(folder))
        except OSError:
            return False


# --- content that is new ---


def _try_again(
    files: Sequence[FoundFile], ledger: Ledger, reading: ReadOptions
) -> tuple[list[FoundFile], list[Tried]]:
    """Files to encode, and those that could not be read the last time either: no network is loaded for them."""
    readable: list[FoundFile] = []
    failed: list[Tried] = []
    for file in files:
        if ledger.could_be_retried(file.path):
            try:
                with file_content(file.path, reading.max_megapixels):
                    pass
            except PictureError as error:
                failed.append((file, Skipped(file.path, error.reason, error.retryable)))
                continue
        readable.append(file)
    return readable, failed
