"""Which rows of a log-structured collection are current, decided once with NumPy.

Milvus Lite never changes a row: an update writes it again with a larger sequence number, a deletion writes a
tombstone with one. A row counts if no row of its key has a larger number and no tombstone of its key has one. Lite
3.2.2 decides this for every query in a Python loop over all keys (``search/executor_indexed.py`` and
``search/bitmap.py``): linear in the rows, 0.3 s a million. The answer changes only when a file is added or
removed, so it is computed here in one pass and kept; what was written since then, which is little, is laid over
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

_NONE = np.empty(0, np.int64)


class CurrentRows:
    """The rows of several files, numbered through, and which of them are current.

    Attributes:
        ids: int64, shape (n,): the keys, file after file.
        visible: bool, shape (n,).
        starts: where each file's rows begin; one more entry at the end, n.
    """

    def __init__(
        self, ids: Sequence[Ids], sequences: Sequence[NDArray[np.uint64]], tombstones: Mapping[int, int]
    ) -> None:
        """Decide.

        Args:
            ids: the keys of each file.
            sequences: the sequence numbers of each file's rows.
            tombstones: key -> the largest sequence number at which it was deleted.
        """
        self.ids = np.concatenate([_NONE, *ids])
        self.starts = np.cumsum([0, *map(len, ids)])
        self._sequences = np.concatenate([np.empty(0, np.uint64), *sequences])
        rising = bool((self._sequences[1:] >= self._sequences[:-1]).all())
        # Of equal keys the last has the largest number: by itself if files follow each other in time.
        order = np.argsort(self.ids, kind="stable") if rising else np.lexsort((self._sequences, self.ids))
        sorted_ids = self.ids[order]
        last = np.append(sorted_ids[1:] != sorted_ids[:-1], True) if len(order) else np.empty(0, bool)
        self._keys, self._rows = sorted_ids[last], order[last]
        self.visible = np.zeros(len(self.ids), bool)
        self.visible[self._rows] = True
        if tombstones:
            self.visible[self.older_than(tombstones)] = False

    def __len__(self) -> int:
        return len(self.ids)

    def older_than(self, sequences: Mapping[int, int]) -> Ids:
        """Numbers of the newest rows of these keys that are older than the given sequence numbers."""
        keys = np.fromiter(sequences.keys(), np.int64, len(sequences))
        rows = self._newest(keys)
        there = rows >= 0
        limits = np.fromiter(sequences.values(), np.uint64, len(sequences))[there]
        rows = rows[there]
        older: Ids = rows[self._sequences[rows] < limits]
        return older

    def newer_or_equal(self, sequences: Mapping[int, int]) -> list[int]:
        """Those of the keys whose newest row here is as new as the given sequence number, or newer."""
        keys = np.fromiter(sequences.keys(), np.int64, len(sequences))
        rows = self._newest(keys)
        limits = np.fromiter(sequences.values(), np.uint64, len(sequences))
        found = (rows >= 0) & (self._sequences[np.maximum(rows, 0)] >= limits) if len(self.ids) else rows >= 0
        return [int(key) for key in keys[found]]

    def find(self, keys: Ids, visible: Mask) -> Ids:
        """Row numbers of keys, -1 where a key has no row that is visible by this mask."""
        rows = self._newest(keys)
        if len(self.ids):
            rows = np.where((rows >= 0) & visible[np.maximum(rows, 0)], rows, -1)
        return rows

    def _newest(self, keys: Ids) -> Ids:
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._rows[places], -1).astype(np.int64)
