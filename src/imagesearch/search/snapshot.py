"""What a collection holds, small enough to keep in memory for a whole run: some 40 bytes a picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from imagesearch.images.find import FoundFile, below
from imagesearch.records import Picture, Progress, no_progress, picture_id
from imagesearch.stores.base import VectorStore

# Rows a page of the scan; fewer would pay the page's price too often.
_SCAN_ROWS = 10_000


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
        self.units: list[str] = []
        self.refreshed: list[bool] = []
        self._numbers: dict[str, int] = {}
        self._fill([], [], [], [], [])

    @classmethod
    def read(cls, store: VectorStore, roots: Sequence[str], progress: Progress = no_progress) -> Snapshot:
        """Scan an existing collection once."""
        snapshot = cls(roots)
        ids: list[NDArray[np.int64]] = []
        stamps: list[NDArray[np.int64]] = []
        sizes: list[NDArray[np.int64]] = []
        contents: list[NDArray[np.uint64]] = []
        units: list[NDArray[np.int32]] = []
        done = 0
        for rows in store.scan(_SCAN_ROWS):
            ids.append(np.array([row.id for row in rows], np.int64))
            stamps.append(np.array([_stamp(row.size, row.mtime_ns) for row in rows], np.int64))
            sizes.append(np.array([row.size for row in rows], np.int64))
            contents.append(np.array([_digest(row.content_hash) for row in rows], np.uint64))
            units.append(np.array([snapshot._unit(row) for row in rows], np.int32))
            done += len(rows)
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
        self._moved_to: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def _unit(self, row: Picture) -> int:
        """The number of a row's unit."""
        own = row.root or row.path
        root = below(row.path, self._roots)
        refreshed = root is not None
        if root is None or (below(own, [root]) and below(row.path, [own])):
            root = own
        if root not in self._numbers:
            self._numbers[root] = len(self.units)
            self.units.append(root)
            self.refreshed.append(refreshed)
        return self._numbers[root]

    def _position(self, key: int) -> int | None:
        at = int(np.searchsorted(self._ids, key))
        return at if at < len(self._ids) and self._ids[at] == key else None

    def has(self, key: int) -> bool:
        """Whether there was a row with this id."""
        return self._position(key) is not None

    def see(self, file: FoundFile) -> bool:
        """Note that a file is there; True if its row has its size and time of change."""
        at = self._position(picture_id(file.path))
        if at is None:
            return False
        self._seen[at] = True
        return bool(self._stamps[at] == _stamp(file.size, file.mtime_ns))

    def has_size(self, size: int) -> bool:
        """Whether some row has this size in bytes: a file of another size cannot have the content of a row."""
        at = int(np.searchsorted(self._sorted_sizes, size))
        return at < len(self._sorted_sizes) and bool(self._sorted_sizes[at] == size)

    def with_content(self, content_hash: str) -> list[int]:
        """Ids of the rows that probably have this content (BLAKE2b-128, hexadecimal), where they are now."""
        digest = np.uint64(_digest(content_hash))
        start = int(np.searchsorted(self._sorted_contents, digest, "left"))
        end = int(np.searchsorted(self._sorted_contents, digest, "right"))
        ids = [int(key) for key in self._ids[self._by_content[start:end]]]
        return list(dict.fromkeys(self._moved_to.get(key, key) for key in ids))

    def note_move(self, old: int, new: int) -> None:
        """Note that a row has been replaced by one under another id."""
        at = self._position(old)
        if at is not None:
            self._seen[at] = True
        self._moved_to[old] = new

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
        return int((self._units == unit).sum())


def _stamp(size: int, mtime_ns: int) -> int:
    return hash((size, mtime_ns))  # of integers only, so it does not depend on the process


def _digest(content_hash: str) -> int:
    """Half of a content hash; 0, which none has in practice, for unknown content."""
    return int(content_hash[:16] or "0", 16)
