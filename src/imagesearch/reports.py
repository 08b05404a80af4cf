"""What operations on collections did, as values: for programs by ``to_dict()``, for people by the front ends."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from imagesearch.records import PlainValues, Skipped


@dataclass(frozen=True, slots=True)
class OfflineRoot:
    """A folder whose pictures are missing in a way that looks like an unplugged disk; their rows were kept.

    Attributes:
        root: the folder.
        reason: what was found there, such as ``"no such file or directory"`` or ``"is empty"``.
        pictures: number of rows that were kept although their files are not there.
    """

    root: str
    reason: str
    pictures: int


@dataclass(frozen=True, slots=True)
class IndexReport(PlainValues):
    """What indexing did. ``found == indexed + unchanged + len(skipped)`` always holds.

    Attributes:
        found: picture files (and unreadable folders) below the roots.
        indexed: new or changed files whose rows were written.
        unchanged: files whose size and time are those of their rows.
        skipped: files without a row, and folders, that could not be read.
        collection: the collection's name.
        seconds: how long it took.
        reused: of ``indexed``, those whose content was known (moved, renamed, copied, touched): they kept
            their vector, and the network did not see them.
        removed: rows taken out because their files are gone.
        offline: folders whose rows were kept although files are missing.
        dry_run: whether nothing was written, and the numbers say what would be.
    """

    found: int
    indexed: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    collection: str
    seconds: float
    reused: int = 0
    removed: int = 0
    offline: tuple[OfflineRoot, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ForgetReport(PlainValues):
    """What forgetting folders did.

    Attributes:
        collection: the collection's name.
        removed: rows taken out.
        folders: below which they were.
        still_indexed: folders that are indexed as a whole and hold some of these: indexing them again brings
            their pictures back.
        dry_run: whether nothing was removed, and the number says what would be.
    """

    collection: str
    removed: int
    folders: tuple[str, ...]
    still_indexed: tuple[str, ...] = ()
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class AnnotateReport(PlainValues):
    """What joining a table to a collection did.

    Attributes:
        collection: the collection's name.
        pictures: number of pictures that got values.
        unmatched: what the table has values for, but no picture of the collection is.
        columns: names by which filters refer to the values.
    """

    collection: str
    pictures: int
    unmatched: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TransferReport(PlainValues):
    """What copying, exporting, importing or migrating a collection did.

    Attributes:
        collection: the collection's name, at the target where there is one.
        target: where the rows went: a file or a database.
        rows: rows written now.
        already_there: rows that the target held already.
        seconds: how long it took.
    """

    collection: str
    target: str
    rows: int
    already_there: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ExtractReport(PlainValues):
    """What extraction wrote, and what it skipped.

    Attributes:
        extracted: number of images whose vectors were written.
        skipped: files and folders that could not be read.
        features, paths: the files that were written.
        dim: length of a vector.
    """

    extracted: int
    skipped: tuple[Skipped, ...]
    features: str
    paths: str
    dim: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a database.

    Attributes:
        collection: where.
        file: the file, relative to the database's folder; empty if it is no single file.
        problem: what is wrong, in words that complete "<file> ...".
        consequence: what that means, and what repairing it does.
        can_be_repaired: whether ``check --repair`` can put it right, if pictures that are lost are still there.
        is_repaired: whether it was put right now.
        lost: number of pictures, at most, whose rows are lost; None: nobody can tell.
        paths: those of them that are known.
        folders: where the others were found, as far as known.
    """

    collection: str
    file: str
    problem: str
    consequence: str
    can_be_repaired: bool = True
    is_repaired: bool = False
    lost: int | None = 0
    paths: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found wrong with a database, and what was done about it.

    Attributes:
        collections: number of collections looked at.
        pictures: rows in those that can be opened.
        findings: what is wrong, or was.
        encoded: pictures whose rows were lost or in doubt, and were encoded again.
        seconds: how long it took.
    """

    collections: int
    pictures: int
    findings: tuple[Finding, ...]
    encoded: int
    seconds: float

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong any more."""
        return all(finding.is_repaired for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "sound": self.is_sound}


@dataclass(frozen=True, slots=True)
class Filed(PlainValues):
    """What became of a picture that was to be filed.

    Attributes:
        source: where it was.
        target: where it, its copy or a link to it is now; None: nowhere.
        problem: why, if so; or why nothing had to be done.
    """

    source: str
    target: str | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class UndoReport(PlainValues):
    """What was taken back of filed pictures.

    Attributes:
        file: the journal; it is gone if ``kept`` is empty.
        restored: pictures that were moved back.
        removed: copies and links that were removed.
        kept: files that were left as they are, and why.
    """

    file: str
    restored: int
    removed: int
    kept: tuple[Skipped, ...]


@dataclass(frozen=True, slots=True)
class StoreReport(PlainValues):
    """What was written of labels into a collection.

    Attributes:
        collection: its name.
        stored: pictures that have a label there now.
        cleared: pictures whose earlier label was taken away, as they have none any more.
        kept: pictures with a label that somebody gave them, which stays.
        missing: pictures that are not in the collection.
    """

    collection: str
    stored: int
    cleared: int
    kept: int
    missing: int
