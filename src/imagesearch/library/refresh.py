"""Keep a collection in line with the folders it was made from: what is new, changed, moved or gone.

All that a run has to know is in the collection itself. Every batch is committed, so a run that was killed goes
on where it stopped, and a second run changes nothing.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from imagesearch.images.find import FoundFile, Walk
from imagesearch.images.pipeline import batches
from imagesearch.library.encoding import ReadOptions, encode_files
from imagesearch.library.exclusive import changing
from imagesearch.library.ledger import Ledger
from imagesearch.library.plan import KeptVector, Plan, RefreshOptions, Tried, make_plan
from imagesearch.models.embedder import Encoder
from imagesearch.records import Fingerprint, ImageRecord, Progress, Skipped, no_progress, picture_id
from imagesearch.reports import IndexReport
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, find, require_same_model

# Rows read and written in one call when their content is known.
_REWRITTEN_TOGETHER = 500


def index_folders(
    database: VectorDatabase,
    spec: CollectionSpec,
    fingerprint: Fingerprint,
    embedder: Callable[[int], Encoder],
    roots: Sequence[str | os.PathLike[str]],
    *,
    reading: ReadOptions,
    ledger: Ledger | None = None,
    options: RefreshOptions | None = None,
    progress: Progress = no_progress,
) -> IndexReport:
    """Make the collection hold exactly the pictures below these folders, beside those of other folders.

    1. Walk the folders and compare size and time of every file with its row; equal ones are not read.
    2. Read the others. Those whose content some row has (moved, renamed, copied, touched) keep its vector.
    3. Remove the rows of files that are gone, unless their folder looks offline.
    4. Encode what is left, in committed batches.
    5. Bring the vector index up to date.

    What 1 to 4 will do is a :class:`~imagesearch.library.plan.Plan` first; a dry run ends there.

    Args:
        database: where the collection is, or is to be.
        spec: the collection; created if it is not there.
        fingerprint: the configured model's.
        embedder: loads it, given the number of images to encode; called only if there are any.
        ledger: the collection's skipped files; default: one that is forgotten afterwards.

    Raises:
        UsageError: a root cannot be read and never had pictures, or there are no pictures.
        StoreError: the collection belongs to another model, or the database fails.
    """
    started = time.monotonic()
    options = options or RefreshOptions()
    ledger = Ledger() if ledger is None else ledger
    there = find(database, spec)
    if there is not None:
        require_same_model(spec.name, fingerprint, there.fingerprint)
    walk = Walk.of(roots, reading.selection)
    plan = make_plan(there, walk, ledger, reading=reading, options=options, progress=progress)
    done = _Done(reused=len(plan.keep), removed=plan.removed, skipped=plan.skipped)
    if options.dry_run:
        done.encoded = len(plan.encode)
    else:
        collection = database.create(spec, fingerprint)
        _Refresh(collection, ledger, reading, progress, done).carry_out(plan, embedder)
    return IndexReport(
        found=plan.found,
        indexed=done.encoded + done.reused,
        unchanged=plan.unchanged,
        skipped=tuple(done.skipped),
        collection=spec.name,
        seconds=time.monotonic() - started,
        reused=done.reused,
        removed=done.removed,
        offline=tuple(plan.offline),
        dry_run=options.dry_run,
    )


@dataclass(slots=True)
class _Done:
    """What has been done; the names are those of :class:`IndexReport`."""

    encoded: int = 0
    reused: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Refresh:
    """Carries out a plan. What turns out otherwise than planned is noted in ``done``."""

    collection: Collection
    ledger: Ledger
    reading: ReadOptions
    progress: Progress
    done: _Done

    def carry_out(self, plan: Plan, embedder: Callable[[int], Encoder]) -> None:
        self.ledger.remove(plan.forget)
        self.ledger.add(plan.unreadable, self.reading.conditions)
        self.ledger.note_depleted(plan.depleted)
        # Before rows are removed: vectors may be kept from them.
        files = [*self._keep_vectors(plan.keep), *plan.encode]
        if plan.remove:
            with changing(self.collection):
                self.collection.delete(plan.remove)
        if files:
            self._encode(files, plan.outdated, embedder(len(files)))
        self.ledger.save()
        if not self.collection.index_is_current():
            self.collection.build_index(self.progress)

    def _keep_vectors(self, keep: Sequence[KeptVector]) -> list[FoundFile]:
        """Write rows for files whose content is known; the files whose source changed meanwhile are left over."""
        sources = _Sources(self.collection, keep)
        left: list[FoundFile] = []
        for batch in batches(keep, _REWRITTEN_TOGETHER):
            vectors = sources.read(batch)
            known = [kept for kept in batch if kept.origin in vectors]
            left += [kept.file for kept in batch if kept.origin not in vectors]
            with changing(self.collection):
                records = self._as_annotated_now(known)
                # Removed first: if we are killed between the two, the image is encoded again. The other way round
                # a row of the old path could stay for ever, below a folder that is never indexed again.
                self.collection.delete([key for kept in batch for key in kept.replaces])
                if known:
                    self.collection.upsert(records, np.stack([vectors[kept.origin] for kept in known]))
            self.ledger.remove(kept.record.path for kept in known)
        self.done.reused -= len(left)
        return left

    def _encode(self, files: Sequence[FoundFile], outdated: frozenset[int], embedder: Encoder) -> None:
        self.progress("encode", 0, len(files))
        done = 0
        for batch in encode_files(files, embedder, self.reading):
            if batch.records:
                with changing(self.collection):
                    self.collection.upsert(self._annotated(batch.records, outdated), batch.vectors)
                self.ledger.remove(record.path for record in batch.records)
            self.done.encoded += len(batch.records)
            self._skip(batch.skipped, outdated)
            done += len(batch.records) + len(batch.skipped)
            self.progress("encode", done, len(files))

    def _as_annotated_now(self, known: Sequence[KeptVector]) -> list[ImageRecord]:
        """The records to write, with what was said of their pictures since the plan was made."""
        rows = self.collection.fetch(sorted({kept.origin[0] for kept in known}))[0] if known else []
        now = {(row.id, row.content_hash): row.annotations for row in rows}
        records = []
        for kept in known:
            there = now.get(kept.origin, kept.record.annotations)
            records.append(replace(kept.record, annotations=there))
        return records

    def _annotated(self, records: Sequence[ImageRecord], outdated: frozenset[int]) -> list[ImageRecord]:
        """The records with what was said of the same files before they changed."""
        known = sorted({record.id for record in records} & outdated)
        if not known:
            return list(records)
        there, _ = self.collection.fetch(known)
        said = {row.id: row.annotations for row in there}
        return [replace(record, annotations=said.get(record.id)) for record in records]

    def _skip(self, skipped: Sequence[Tried], outdated: frozenset[int]) -> None:
        """Record files that could not be read; the rows that damaged ones have are not true any more."""
        self.done.skipped += [skip for _, skip in skipped]
        self.ledger.add(skipped, self.reading.conditions)
        damaged = {picture_id(file.path) for file, skip in skipped if not skip.retryable} & outdated
        if damaged:
            with changing(self.collection):
                self.collection.delete(sorted(damaged))
            self.done.removed += len(damaged)


class _Sources:
    """Reads the vectors of rows that are overwritten and deleted at the same time.

    Names may have been exchanged, or shifted by one: a row that one batch overwrites may be what a later one
    needs. Such vectors are held in memory in between.
    """

    # By the row's id and content, because a held vector is not that of the row that has the id now.
    _held: dict[tuple[int, str], NDArray[np.float32]]

    def __init__(self, collection: Collection, keep: Sequence[KeptVector]) -> None:
        self._collection = collection
        self._wanted = Counter(kept.source for kept in keep)
        self._held = {}

    def read(self, batch: Sequence[KeptVector]) -> dict[tuple[int, str], NDArray[np.float32]]:
        """Vectors of the batch's sources by id and content; called once per batch, before it is written."""
        sources = {kept.source for kept in batch}
        self._wanted.subtract(kept.source for kept in batch)
        written = {key for kept in batch for key in (kept.record.id, *kept.replaces)}
        later = {key for key in written if self._wanted[key] > 0}
        rows, vectors = self._collection.fetch(sorted((sources | later) - {key for key, _ in self._held}))
        fresh = {(row.id, row.content_hash): vector for row, vector in zip(rows, vectors, strict=True)}
        found = self._held | fresh
        self._held = {key: vector for key, vector in self._held.items() if self._wanted[key[0]] > 0}
        self._held |= {key: vector.copy() for key, vector in fresh.items() if key[0] in later}
        return found
