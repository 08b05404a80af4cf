"""What a collection holds, small enough to keep in memory for a whole run: some 40 bytes per image."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import cast

import numpy as np
from numpy.typing import NDArray

from imagesearch.images.find import Folders, FoundFile, below
from imagesearch.records import Progress, no_progress, picture_id
from imagesearch.stores.base import Collection, Columns

# Rows per page of the scan; with fewer, the cost of a page would be paid too often.
_SCAN_ROWS = 10_000

_COLUMNS = ("id", "path", "root", "content_hash", "size", "mtime_ns")

# Hexadecimal digits of a content hash that make its digest.
_DIGITS = 16


class Snapshot:
    """The rows of a collection, as far as refreshing has to know them: found by path or by content.

    A row belongs to a *unit*: the deepest of the folders that are refreshed now, or were indexed by themselves
    below one of them; rows of other folders, to the folder they were indexed under. Units are what can be
    offline. Sizes, times and contents are kept as 64-bit digests; a content that matches has to be confirmed
    with the row itself.

    Attributes:
        units: the folders, those of rows that were indexed as single files being the files themselves.
        refreshed: whether a unit is below the folders that are refreshed now.
    """

    def __init__(self, roots: Sequence[str]) -> None:
        """An empty collection's snapshot; :meth:`read` makes those of others.

        Args:
            roots: the folders and files that are refreshed, absolute.
        """
        self._roots = list(roots)
        self._holding = Folders(roots)
        self.units: list[str] = []
        self.refreshed: list[bool] = []
        self._numbers: dict[str, int] = {}
        # Folders that rows were indexed under: how paths below begin, and the number of their unit.
        self._undivided: dict[str, tuple[str, int]] = {}
        self._divided: set[str] = set()
        self._fill([], [], [], [], [])

    @classmethod
    def read(cls, collection: Collection, roots: Sequence[str], progress: Progress = no_progress) -> Snapshot:
        """Scan a collection once."""
        snapshot = cls(roots)
        ids: list[NDArray[np.int64]] = []
        stamps: list[NDArray[np.int64]] = []
        sizes: list[NDArray[np.int64]] = []
        contents: list[NDArray[np.uint64]] = []
        units: list[NDArray[np.int32]] = []
        done = 0
        for rows in collection.scan_columns(_COLUMNS, _SCAN_ROWS):
            ids.append(np.asarray(rows["id"], np.int64))
            sizes.append(np.asarray(rows["size"], np.int64))
            stamps.append(_stamps(sizes[-1].tolist(), np.asarray(rows["mtime_ns"], np.int64).tolist()))
            contents.append(_digests(_texts(rows, "content_hash")))
            units.append(snapshot._units_of(_texts(rows, "path"), _texts(rows, "root")))
            done += len(ids[-1])
            progress("scan", done, None)
        snapshot._fill(ids, stamps, sizes, contents, units)
        return snapshot

    def _fill(
        self,
        ids: list[NDArray[np.int64]],
        stamps: list[NDArray[np.int64]],
        sizes: list[NDArray[np.int64]],
        contents: list[NDArray[np.uint64]],
        units: list[NDArray[np.int32]],
    ) -> None:
        all_ids = np.concatenate(ids) if ids else np.empty(0, np.int64)
        self._ids, first = np.unique(all_ids, return_index=True)
        self._stamps = np.concatenate(stamps)[first] if ids else np.empty(0, np.int64)
        self._sorted_sizes = np.sort(np.concatenate(sizes)) if ids else np.empty(0, np.int64)
        self._contents = np.concatenate(contents)[first] if ids else np.empty(0, np.uint64)
        self._units = np.concatenate(units)[first] if ids else np.empty(0, np.int32)
        self._by_content = np.argsort(self._contents, kind="stable").astype(np.int32)
        self._sorted_contents = self._contents[self._by_content]
        self._seen = np.zeros(len(self._ids), bool)

    def __len__(self) -> int:
        return len(self._ids)

    def _units_of(self, paths: Sequence[str], roots: Sequence[str]) -> NDArray[np.int32]:
        """The numbers of the rows' units."""
        undivided = self._undivided
        numbers: list[int] = []
        for path, root in zip(paths, roots, strict=True):
            beginning, number = undivided.get(root, ("", -1))
            numbers.append(number if number >= 0 and path.startswith(beginning) else self._unit(path, root))
        return np.array(numbers, np.int32)

    def _unit(self, path: str, root: str) -> int:
        """The number of one row's unit."""
        own = root or path
        unit = self._holding.holding(path)
        refreshed = unit is not None
        if unit is None or (below(own, [unit]) and below(path, [own])):
            unit = own
        number = self._number(unit, refreshed)
        # Without a refreshed folder inside it, the root is the unit of all paths below it.
        if unit == root and root not in self._divided and path != root and below(path, [root]):
            if any(folder != root and below(folder, [root]) for folder in self._roots):
                self._divided.add(root)
            else:
                self._undivided[root] = os.path.join(root, ""), number
        return number

    def _number(self, unit: str, refreshed: bool) -> int:
        if unit not in self._numbers:
            self._numbers[unit] = len(self.units)
            self.units.append(unit)
            self.refreshed.append(refreshed)
        return self._numbers[unit]

    def _position(self, key: int) -> int | None:
        at = int(np.searchsorted(self._ids, key))
        return at if at < len(self._ids) and self._ids[at] == key else None

    def has(self, key: int) -> bool:
        """Whether there was a row with this id."""
        return self._position(key) is not None

    def held(self, files: Iterable[FoundFile]) -> frozenset[int]:
        """Ids of the rows that were there for these files."""
        if not len(self._ids):
            return frozenset()
        ids = np.fromiter((picture_id(file.path) for file in files), np.int64)
        return frozenset(ids[np.isin(ids, self._ids)].tolist())

    def see(self, files: Sequence[FoundFile]) -> NDArray[np.bool_]:
        """Note that files are there; for each, whether its row has its size and time of change."""
        if not len(self._ids):
            return np.zeros(len(files), np.bool_)
        ids = np.array([picture_id(file.path) for file in files], np.int64)
        at = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        known = self._ids[at] == ids
        self._seen[at[known]] = True
        stamps = _stamps([file.size for file in files], [file.mtime_ns for file in files])
        unchanged: NDArray[np.bool_] = known & (self._stamps[at] == stamps)
        return unchanged

    def has_size(self, size: int) -> bool:
        """Whether some row has this size in bytes: a file of another size cannot have the content of a row."""
        at = int(np.searchsorted(self._sorted_sizes, size))
        return at < len(self._sorted_sizes) and bool(self._sorted_sizes[at] == size)

    def with_content(self, content_hash: str) -> list[int]:
        """Ids of the rows that probably have this content (BLAKE2b-128, hexadecimal)."""
        digest = np.uint64(_digest(content_hash))
        start = int(np.searchsorted(self._sorted_contents, digest, "left"))
        end = int(np.searchsorted(self._sorted_contents, digest, "right"))
        return [int(key) for key in self._ids[self._by_content[start:end]]]

    def note_moved(self, key: int) -> None:
        """Note that the file of a row was found elsewhere, so that it is not missed here."""
        at = self._position(key)
        if at is not None:
            self._seen[at] = True

    def unit_of(self, key: int) -> int:
        """The number of the unit of a row that was there."""
        return int(self._units[np.searchsorted(self._ids, key)])

    def unseen(self) -> dict[int, int]:
        """Rows below the roots whose files were not found: id -> unit."""
        refreshed = np.array(self.refreshed, bool)[self._units] if len(self._units) else np.empty(0, bool)
        missing = np.flatnonzero(~self._seen & refreshed)
        return {int(self._ids[at]): int(self._units[at]) for at in missing}

    def rows_with_content(self, content_hashes: Iterable[str]) -> dict[int, int]:
        """How many rows of each unit probably have one of these contents: unit -> rows."""
        digests = np.fromiter({_digest(content) for content in content_hashes}, np.uint64)
        return dict(Counter(self._units[np.isin(self._contents, digests)].tolist()))

    def rows_in(self, unit: int) -> int:
        """Number of rows that a unit had."""
        return int(self._rows_by_unit[unit])

    @cached_property
    def _rows_by_unit(self) -> NDArray[np.int64]:
        return np.bincount(self._units, minlength=len(self.units))


def roots_of(collection: Collection) -> set[str]:
    """The folders that a collection's rows were indexed under, and files that were indexed by themselves."""
    roots: set[str] = set()
    for rows in collection.scan_columns(("path", "root")):
        roots.update(root or path for path, root in zip(_texts(rows, "path"), _texts(rows, "root"), strict=True))
    return roots


def _stamps(sizes: Sequence[int], times_ns: Sequence[int]) -> NDArray[np.int64]:
    """One number for size and time of change of each file; of integers only, so every process gets the same."""
    return np.array([hash(pair) for pair in zip(sizes, times_ns, strict=True)], np.int64)


def _digest(content_hash: str) -> int:
    """Half of a content hash; 0, which none has in practice, for unknown content."""
    return int(content_hash[:_DIGITS] or "0", 16)


def _digests(content_hashes: Sequence[str]) -> NDArray[np.uint64]:
    """:func:`_digest` of each; at once where all of them are known."""
    digits = "".join([content_hash[:_DIGITS] for content_hash in content_hashes])
    if len(digits) == _DIGITS * len(content_hashes):  # none is shorter
        with contextlib.suppress(ValueError):  # int() below takes spellings that fromhex() does not
            return np.frombuffer(bytes.fromhex(digits), ">u8", len(content_hashes)).astype(np.uint64)
    return np.array([_digest(content_hash) for content_hash in content_hashes], np.uint64)


def _texts(rows: Columns, name: str) -> list[str]:
    return cast("list[str]", rows[name])
