"""Keep a collection like the folders it was made from: what is new, changed, moved or gone.

All that a run has to know is in the collection itself. Every batch is committed, so a run that was killed goes
on where it stopped, and running twice changes nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from imagesearch.errors import PictureError
from imagesearch.images.files import file_content
from imagesearch.images.find import Folders, FoundFile, Walk, below, is_gone
from imagesearch.images.pipeline import batches
from imagesearch.models.embedder import Embedder
from imagesearch.records import (
    Fingerprint,
    IndexReport,
    OfflineRoot,
    Picture,
    Progress,
    Skipped,
    no_progress,
    picture_id,
)
from imagesearch.search.encoding import Reading, encode_files, identify_files, nothing_found, refuse_missing
from imagesearch.search.ledger import Ledger
from imagesearch.search.snapshot import Snapshot
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, find, require_same_model

# A folder that lost a larger share of its pictures at once looks like an unplugged disk, not like tidying.
_CREDIBLE_LOSS = 0.5

# Rows read and written in one go when their content is known.
_REWRITTEN_TOGETHER = 500

# Files compared with their rows at once, and told of by one call of `progress`.
_COMPARED_TOGETHER = 1000


@dataclass(frozen=True, slots=True)
class RefreshOptions:
    """How bold a refresh is.

    Attributes:
        prune: remove rows of missing files even where their folder looks offline.
        retry_skipped: try again files that were skipped, whatever the ledger says of them.
        dry_run: change nothing, only say what would be done.
    """

    prune: bool = False
    retry_skipped: bool = False
    dry_run: bool = False


def index_folders(
    database: VectorDatabase,
    spec: CollectionSpec,
    fingerprint: Fingerprint,
    embedder: Callable[[], Embedder],
    roots: Sequence[str | os.PathLike[str]],
    *,
    reading: Reading,
    ledger: Ledger | None = None,
    options: RefreshOptions | None = None,
    progress: Progress = no_progress,
) -> IndexReport:
    """Make the collection hold exactly the pictures below these folders, beside those of other folders.

    1. Walk the folders and compare size and time of every file with its row; equal ones are not read.
    2. Read the others. Those whose content some row has (moved, renamed, copied, touched) keep its vector.
    3. Encode what is left, in committed batches.
    4. Remove the rows of files that are gone, unless their folder looks offline.
    5. Bring the vector index up to date.

    Args:
        database: where the collection is, or is to be.
        spec: the collection; created if it is not there.
        fingerprint: the configured model's.
        embedder: loads it; called only if there is something to encode.
        ledger: the collection's skipped files; default: one that is forgotten afterwards.

    Raises:
        UsageError: a root cannot be read and never had pictures, or there are no pictures.
        StoreError: the collection belongs to another model, or the database fails.
    """
    walk = Walk.of(roots, reading.selection)
    ledger = Ledger() if ledger is None else ledger
    refresh = _Refresh(database, spec, fingerprint, reading, ledger, options or RefreshOptions(), progress, walk)
    return refresh.run(embedder)


@dataclass(slots=True)
class _Refresh:
    """One run: what it works on, and what it has done so far."""

    database: VectorDatabase
    spec: CollectionSpec
    fingerprint: Fingerprint
    reading: Reading
    ledger: Ledger
    options: RefreshOptions
    progress: Progress
    walk: Walk
    snapshot: Snapshot = field(init=False)
    existing: Collection | None = None
    started: float = field(default_factory=time.monotonic)
    found: int = 0
    found_below: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    encoded: int = 0
    reused: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    offline: list[OfflineRoot] = field(default_factory=list)

    def run(self, embedder: Callable[[], Embedder]) -> IndexReport:
        self.existing = find(self.database, self.spec)
        if self.existing is None:
            self.snapshot = Snapshot(self.walk.roots)
        else:
            require_same_model(self.spec.name, self.fingerprint, self.existing.fingerprint)
            self.snapshot = Snapshot.read(self.existing, self.walk.roots, self.progress)
        changed = self._compare()
        self._refuse_nothing()
        if not self.options.dry_run:
            self.existing = self.database.create(self.spec, self.fingerprint)
        new = self._without_still_unreadable(self._keep_vectors(changed))
        if self.options.dry_run:
            self.encoded = len(new)
        elif new:
            self._encode(new, embedder())
        self._remove_gone()
        if not self.options.dry_run:
            self.ledger.save()
            if not self.collection.index_is_current():
                self.collection.build_index(self.progress)
        return self._report()

    @property
    def collection(self) -> Collection:
        """The collection; in a dry run it may not exist, but then it has no rows to ask it for."""
        assert self.existing is not None
        return self.existing

    def _compare(self) -> list[FoundFile]:
        """Walk the roots; the files that have to be read."""
        changed: list[FoundFile] = []
        listed: set[str] = set()
        units = Folders(self.snapshot.units)
        reader = self.reading.reader
        for files in batches(self.walk, _COMPARED_TOGETHER):
            self.found += len(files)
            if len(files) == _COMPARED_TOGETHER:
                self.progress("find", self.found, None)
            paths = [file.path for file in files]
            self.found_below.update(unit for unit in map(units.holding, paths) if unit is not None)
            if len(self.ledger):
                listed.update(path for path in paths if path in self.ledger)
            unchanged = self.snapshot.see(files)
            self.unchanged += int(unchanged.sum())
            for number in np.flatnonzero(~unchanged).tolist():
                file = files[number]
                settled = None if self.options.retry_skipped else self.ledger.settled(file, reader)
                if settled is None:
                    changed.append(file)
                else:
                    self.skipped.append(settled)
        self._note_closed(listed)
        return changed

    def _note_closed(self, listed: set[str]) -> None:
        """Count folders that cannot be read, and forget skipped files that are not there any more."""
        closed = self.walk.closed
        self.found += len(closed)
        self.skipped += closed
        if self.options.dry_run:
            return
        self.ledger.keep_only(
            found=listed,
            below_folders=[root for root in self.walk.roots if root not in self.walk.missing],
            except_below=[folder.path for folder in closed],
        )
        self.ledger.add([(FoundFile(folder.path, "", -1, 0), folder) for folder in closed], self.reading.reader)

    def _refuse_nothing(self) -> None:
        snapshot = self.snapshot
        units = [unit for unit, refreshed in zip(snapshot.units, snapshot.refreshed, strict=True) if refreshed]
        missing = self.walk.missing.items()
        refuse_missing({root: why for root, why in missing if not any(below(unit, [root]) for unit in units)})
        if not self.found and not units:
            raise nothing_found(self.walk)

    # --- content that is known ---

    def _keep_vectors(self, changed: list[FoundFile]) -> list[FoundFile]:
        """Write rows for files whose content is known, under their new path or time; the others are left over."""
        candidates = [file for file in changed if self.snapshot.has_size(file.size)]
        known: list[Picture] = []
        tried = 0
        for pictures in identify_files(candidates, self.reading):
            known += [picture for picture in pictures if self.snapshot.with_content(picture.content_hash)]
            tried = min(len(candidates), tried + len(pictures))
            self.progress("compare", tried, len(candidates))
        movable = self._movable(known)
        done: set[str] = set()
        for batch in batches(known, _REWRITTEN_TOGETHER):
            done |= self._keep_vectors_of(batch, movable)
        self.reused += len(done)
        if not self.options.dry_run:
            self.ledger.remove(done)
        return [file for file in changed if file.path not in done] if done else changed

    def _movable(self, known: list[Picture]) -> set[int]:
        """Units from which a missing file was moved if it is found elsewhere, and not copied before it went away.

        If a folder is not there, it is taken for renamed if most of its pictures are found elsewhere; but never if
        it is one of those that are refreshed.
        """
        found = self.snapshot.rows_with_content(picture.content_hash for picture in known)
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

    def _keep_vectors_of(self, pictures: list[Picture], movable: set[int]) -> set[str]:
        """Give known pictures the vector of the row that has their content; returns the paths of those."""
        ids = {key for picture in pictures for key in self.snapshot.with_content(picture.content_hash)}
        rows, vectors = self.collection.fetch(sorted(ids))
        sources = {row.content_hash: number for number, row in enumerate(rows)}
        fresh = [
            replace(
                rows[sources[picture.content_hash]],
                path=picture.path,
                root=picture.root,
                size=picture.size,
                mtime_ns=picture.mtime_ns,
            )
            for picture in pictures
            if picture.content_hash in sources
        ]
        moved = self._note_moves(rows, fresh, movable)
        if not self.options.dry_run:
            # Removed first: if we are killed between the two, the picture is encoded again. The other way
            # round a row of the old path could stay for ever, below a folder that nobody indexes any more.
            self.collection.delete([row.id for row in moved])
            self.collection.upsert(fresh, vectors[[sources[row.content_hash] for row in fresh]])
        return {row.path for row in fresh}

    def _note_moves(self, rows: list[Picture], fresh: list[Picture], movable: set[int]) -> list[Picture]:
        """Those of the old rows whose files are where the fresh ones say now, and nowhere else."""
        new_ids = {row.content_hash: row.id for row in fresh}
        paths = {row.path for row in fresh}
        moved = [
            row
            for row in rows
            if row.content_hash in new_ids
            and row.path not in paths
            and self.snapshot.has(row.id)
            and self.snapshot.unit_of(row.id) in movable
            and is_gone(row.path)
        ]
        for row in moved:
            # Nothing moves in a dry run: further files with this content shall find the row where it is.
            self.snapshot.note_move(row.id, row.id if self.options.dry_run else new_ids[row.content_hash])
        # Of two copies, one may have been moved and the other deleted.
        left = Counter(row.content_hash for row in moved) - Counter(row.content_hash for row in fresh)
        self.removed += left.total()
        return moved

    # --- content that is new ---

    def _without_still_unreadable(self, files: list[FoundFile]) -> list[FoundFile]:
        """Skip files that could not be read the last time either, before a network is loaded for nothing."""
        readable: list[FoundFile] = []
        failed: list[tuple[FoundFile, Skipped]] = []
        for file in files:
            if self.ledger.could_be_retried(file.path):
                try:
                    with file_content(file.path, self.reading.max_megapixels):
                        pass
                except PictureError as error:
                    failed.append((file, Skipped(file.path, error.reason, error.retryable)))
                    continue
            readable.append(file)
        self._skip(failed)
        return readable

    def _encode(self, files: list[FoundFile], embedder: Embedder) -> None:
        self.progress("encode", 0, len(files))
        done = 0
        for batch in encode_files(files, embedder, self.reading):
            if batch.pictures:
                self.collection.upsert(batch.pictures, batch.vectors)
                self.ledger.remove(picture.path for picture in batch.pictures)
            self.encoded += len(batch.pictures)
            self._skip(batch.skipped)
            done += len(batch.pictures) + len(batch.skipped)
            self.progress("encode", done, len(files))

    def _skip(self, skipped: list[tuple[FoundFile, Skipped]]) -> None:
        """Write down files that could not be read; what their rows say of them is not true any more."""
        self.skipped += [skip for _, skip in skipped]
        keys = [picture_id(file.path) for file, skip in skipped if not skip.retryable]
        stale = [key for key in keys if self.snapshot.has(key)]
        self.removed += len(stale)
        if self.options.dry_run:
            return
        self.ledger.add(skipped, self.reading.reader)
        if stale:
            self.collection.delete(stale)

    # --- content that is gone ---

    def _remove_gone(self) -> None:
        unseen = self.snapshot.unseen()
        if not unseen:
            return
        gone: dict[int, list[int]] = defaultdict(list)
        behind_links: Counter[str] = Counter()
        doomed: list[int] = []
        closed = [folder.path for folder in self.walk.closed]
        dangling = list(self.walk.dangling)
        for rows in self.collection.scan_columns(("id", "path")):
            for key, path in zip(np.asarray(rows["id"]).tolist(), rows["path"], strict=True):
                if key not in unseen or below(path, closed):
                    continue
                if (link := below(path, dangling)) is not None:
                    behind_links[link] += 1
                elif is_gone(path):
                    gone[unseen[key]].append(key)
                elif os.path.lexists(path):
                    doomed.append(key)  # there, but left out now: by a pattern, or known by another path
        for unit, ids in gone.items():
            reason = self._why_offline(unit, len(ids))
            if reason is None or self.options.prune:
                doomed += ids
            else:
                self.offline.append(OfflineRoot(self.snapshot.units[unit], reason, len(ids)))
        self.offline += [
            OfflineRoot(link, self.walk.dangling[link], count) for link, count in behind_links.items()
        ]
        self.removed += len(doomed)
        if doomed and not self.options.dry_run:
            self.collection.delete(doomed)

    def _why_offline(self, unit: int, lost: int) -> str | None:
        """Why missing files may come back, or None if they are rather deleted."""
        folder, rows = self.snapshot.units[unit], self.snapshot.rows_in(unit)
        if folder in self.walk.missing:
            return self.walk.missing[folder]
        if is_gone(folder):
            return "no such file or directory"
        if not self.found_below[folder]:
            return "is empty"
        return f"lost {lost:,} of its {rows:,} pictures" if lost > _CREDIBLE_LOSS * rows else None

    def _report(self) -> IndexReport:
        return IndexReport(
            found=self.found,
            indexed=self.encoded + self.reused,
            unchanged=self.unchanged,
            skipped=tuple(self.skipped),
            collection=self.spec.name,
            seconds=time.monotonic() - self.started,
            reused=self.reused,
            removed=self.removed,
            offline=tuple(sorted(self.offline, key=lambda root: root.root)),
            dry_run=self.options.dry_run,
        )
