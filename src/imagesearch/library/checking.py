"""Verify a database - files, rows, vectors, index, list of skipped files - and repair what can be repaired.

Files are the engine's business, where it has any here (:class:`~imagesearch.stores.files.HasFiles`); the rest is
the same for all. What is lost can be had again from the pictures: they are encoded again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import CollectionNotFoundError, ForeignCollectionError, ImageSearchError, StoreError
from imagesearch.images.find import reason_of
from imagesearch.library.exclusive import changing
from imagesearch.library.ledger import Ledger, parsed
from imagesearch.records import Hit, Metric, Progress, no_progress, picture_id
from imagesearch.reports import CheckReport, Finding, IndexReport
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors
from imagesearch.stores.files import HasFiles

# Rows that are looked for by their own vector, the share that must be found, and how far scores may differ.
_SAMPLE = 200
_FOUND = 0.95
_SCORE_TOLERANCE = 1e-3

_LENGTH_TOLERANCE = 1e-3

# Makes a collection hold the pictures below some folders, besides those it was made from.
Encode = Callable[[str, Sequence[str]], IndexReport]


def check_database(
    database: VectorDatabase,
    spec: CollectionSpec,
    ledger_file: Callable[[str], Path | None],
    encode: Encode | None = None,
    progress: Progress = no_progress,
) -> CheckReport:
    """Look at all collections of a database.

    Args:
        spec: how collections are configured.
        ledger_file: where the list of skipped files of a collection is kept.
        encode: repair what can be, and encode again with this what is lost; None: change nothing.

    Raises:
        StoreError: the database cannot be read, or must be repaired but not written.
    """
    started = time.monotonic()
    files = database if isinstance(database, HasFiles) else None
    names = files.folders() if files else database.names()
    reading = closing(files.unchanging()) if files and encode is None else nullcontext(database)
    checks: list[_Check] = []
    with reading as opened:
        for name in names:
            check = _Check(opened, replace(spec, name=name), files, ledger_file(name), encode, progress)
            check.run()
            checks.append(check)
    return CheckReport(
        collections=len(names),
        pictures=sum(check.rows for check in checks),
        findings=tuple(finding for check in checks for finding in check.findings),
        encoded=sum(check.encoded for check in checks),
        seconds=time.monotonic() - started,
    )


@dataclass(slots=True)
class _Check:
    """One collection: what it needs, and what was found."""

    database: VectorDatabase
    spec: CollectionSpec
    files: HasFiles | None
    ledger_file: Path | None
    encode: Encode | None
    progress: Progress
    findings: list[Finding] = field(default_factory=list)
    rows: int = 0
    encoded: int = 0

    def run(self) -> None:
        if self.files is not None:
            work = self.files.repair_files if self.encode else self.files.check_files
            self.findings += work(self.spec.name, self.progress)
        # Where files are damaged, what can be read says nothing of the rows.
        if self.encode is not None or not self.findings:
            self._check_rows()
        else:
            self._count()
        self._check_ledger()
        if self.encode is not None:
            self._encode_lost(self.encode)

    def _note(self, problem: str, consequence: str, file: str = "", lost: int = 0, can: bool = True) -> None:
        repaired = can and self.encode is not None
        self.findings.append(Finding(self.spec.name, file, problem, consequence, can, repaired, lost))

    # --- rows ---

    def _count(self) -> None:
        try:
            self.rows = self.database.open(self.spec).count()
        except StoreError as error:  # which the findings tell of
            logging.getLogger(__name__).debug("%s cannot be counted: %s", self.spec.name, error)

    def _check_rows(self) -> None:
        try:
            collection = self.database.open(self.spec)
            self.rows = collection.count()
            self._check_keys(collection)
            self._check_vectors(collection)
            self._check_index(collection)
            self.rows = collection.count()
        except (ForeignCollectionError, CollectionNotFoundError) as error:
            logging.getLogger(__name__).debug("%s is not checked: %s", self.spec.name, error)
        except StoreError as error:
            self._note(f"cannot be read: {error}", "its pictures cannot be found", can=False)

    def _check_keys(self, collection: Collection) -> None:
        seen: set[int] = set()
        wrong: list[int] = []
        scanned = doubled = 0
        for rows in collection.scan_columns(("id", "path")):
            keys = np.asarray(rows["id"]).tolist()
            scanned += len(keys)
            wrong += [key for key, path in zip(keys, rows["path"], strict=True) if key != picture_id(path)]
            doubled += len(keys) - len(set(keys) - seen)
            seen.update(keys)
            self.progress("Checking the rows", scanned, self.rows)
        if wrong:
            text = f"{len(wrong):,} rows have a key that is not their path's"
            self._delete(collection, wrong, text)
        if doubled:
            self._note(f"{doubled:,} rows are there twice", "searches show them twice", can=False)
        if scanned != self.rows and not doubled:
            self._note(f"counts {self.rows:,} rows, but has {scanned:,}", "numbers shown may be wrong", can=False)

    def _check_vectors(self, collection: Collection) -> None:
        bad: list[int] = []
        done = 0
        for pictures, vectors in collection.scan_vectors():
            sound = _are_sound(vectors, collection.fingerprint.normalized)
            bad += [pictures[row].id for row in np.flatnonzero(~sound).tolist()]
            done += len(pictures)
            self.progress("Checking the vectors", done, self.rows)
        if bad:
            self._delete(collection, bad, f"{len(bad):,} rows have a vector that no model makes")

    def _delete(self, collection: Collection, keys: Sequence[int], problem: str) -> None:
        """Rows that cannot be right are taken out, so that their pictures are encoded again."""
        count = f"{len(keys):,} picture{'' if len(keys) == 1 else 's'} must be encoded again"
        paths = tuple(sorted(row.path for row in collection.fetch(keys)[0]))
        if self.encode is not None:
            with changing(collection):
                collection.delete(keys)
        self._note(problem, count, lost=len(keys))
        self.findings[-1] = replace(self.findings[-1], paths=paths)

    # --- index ---

    def _check_index(self, collection: Collection) -> None:
        there, rows = collection.info().index_type, collection.count()
        is_other = there not in ("", collection.spec.index_type)  # which 'imagesearch index' replaces
        was_damaged = bool(self.findings)
        if is_other and was_damaged and self.encode is not None:
            collection = self.database.open(
                replace(self.spec, index_type=there, index_params={}, search_params={})
            )
        if rows and (was_damaged or not is_other) and not collection.index_is_current():
            if self.encode is not None:
                collection.build_index(self.progress)
            if not was_damaged:
                self._note("has rows that the index does not cover", "searches are complete, but slower")
        missed, looked_for = _not_found(collection)
        if missed > (1 - _FOUND) * looked_for:
            text = f"{missed:,} of {looked_for:,} rows are not found by their own vector"
            self._note(text, "searches are not complete: choose another milvus.index_type", can=False)

    # --- ledger ---

    def _check_ledger(self) -> None:
        file = self.ledger_file
        if file is None:
            return
        try:
            bad = [line for line in file.read_bytes().splitlines() if parsed(line) is None]
            if bad and self.encode is not None:
                Ledger(file).rewrite()
        except FileNotFoundError:
            return
        except (OSError, StoreError) as error:
            reason = reason_of(error) if isinstance(error, OSError) else error
            hint = "correct that, or delete it: its files are then tried again"
            self._note(f"cannot be read: {reason}", hint, os.fspath(file), can=False)
            return
        if bad:
            text = f"has {len(bad):,} line{'' if len(bad) == 1 else 's'} that cannot be understood"
            self._note(text, "nothing is lost: these files are tried again", os.fspath(file))

    # --- what is lost ---

    def _encode_lost(self, encode: Encode) -> None:
        """Index the collection's folders again, and see whether everything is there now."""
        if not any(map(_needs_pictures, self.findings)):
            return
        folders = sorted({folder for finding in self.findings for folder in finding.folders})
        try:
            report = encode(self.spec.name, folders)
        except ImageSearchError as error:
            self._give_up(str(error))
            return
        self.encoded += report.indexed
        collection = self.database.open(self.spec)
        self.rows = collection.count()
        if report.offline:
            self._give_up("not there: " + ", ".join(root.root for root in report.offline))
            return
        paths = [path for finding in self.findings for path in finding.paths if os.path.exists(path)]
        there = {picture.path for picture in collection.fetch([picture_id(path) for path in paths])[0]}
        missing = [path for path in paths if path not in there]
        if missing:
            self._give_up(f"not encoded: {missing[0]}" + (" and others" if len(missing) > 1 else ""))
            return
        for number, finding in enumerate(self.findings):
            if _needs_pictures(finding):
                text = f"{finding.consequence}; the folders were indexed again"
                self.findings[number] = replace(finding, consequence=text)

    def _give_up(self, reason: str) -> None:
        """What is lost stays lost for now."""
        for number, finding in enumerate(self.findings):
            if _needs_pictures(finding):
                advice = f"{finding.consequence}: run 'imagesearch index FOLDER' ({reason})"
                self.findings[number] = replace(finding, consequence=advice, is_repaired=False)


def _needs_pictures(finding: Finding) -> bool:
    """Whether something is to be had from the pictures only."""
    return finding.lost != 0 or bool(finding.folders)


def _are_sound(vectors: Vectors, normalized: bool) -> NDArray[Any]:
    """Which vectors are finite, and of length 1 if they should be: bool, shape (n,)."""
    sound = np.asarray(np.isfinite(vectors).all(axis=1), bool)
    if normalized:
        lengths = np.linalg.norm(np.where(sound[:, None], vectors, 0).astype(np.float64), axis=1)
        sound &= np.abs(lengths - 1.0) <= _LENGTH_TOLERANCE
    return sound


def _not_found(collection: Collection) -> tuple[int, int]:
    """How many of some rows are further from their own vector than the closest that is found, and of how many."""
    parts = [np.asarray(rows["id"], np.int64) for rows in collection.scan_columns(["id"])]
    keys = np.concatenate([np.empty(0, np.int64), *parts])
    chosen = np.random.default_rng(0).choice(keys, min(len(keys), _SAMPLE), replace=False)
    pictures, vectors = collection.fetch(chosen.tolist())
    if not pictures:
        return 0, 0
    metric = collection.info().metric
    own = _own_scores(vectors, metric)
    found = collection.search(vectors, 1)
    missed = sum(not _is_as_close(hits, score, metric) for hits, score in zip(found, own.tolist(), strict=True))
    return missed, len(pictures)


def _own_scores(vectors: Vectors, metric: Metric) -> NDArray[Any]:
    squares: NDArray[Any] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    if metric is Metric.IP:
        return squares
    return np.where(squares > 0, 1.0, 0.0) if metric is Metric.COSINE else np.zeros(len(vectors))


def _is_as_close(hits: Iterable[Hit], score: float, metric: Metric) -> bool:
    allowed = _SCORE_TOLERANCE * max(1.0, abs(score))
    return any(hit.score >= score - allowed if metric.higher_is_closer else hit.score <= allowed for hit in hits)
