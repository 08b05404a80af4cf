"""What this process knows of a collection on a server, to ask for nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CollectionState:
    """What this process knows of one collection; all that opened it from one database share it.

    Attributes:
        loading: held while the collection is loaded, or its index is replaced.
        loaded_index: type of the index with which it is loaded, which may not be the configured one; ``""`` if it
            has none, None while it is not loaded.
        synchronised: whether this process has read all that was ever written.
        is_gone: whether it was dropped or renamed.
        changes: goes up with every write.
    """

    def __init__(self) -> None:
        self.loading = threading.RLock()
        self.loaded_index: str | None = None
        self.synchronised = False
        self.is_gone = False
        self.changes = 0
        self._counting = threading.Lock()
        self._indexed: int | None = None

    def mark_gone(self) -> None:
        """Make all that opened the collection unusable."""
        self.is_gone = True

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Rows come, which the index does not cover."""
        self._count_change()
        try:
            yield
        finally:
            self._count_change()  # again: an index that was finished meanwhile may or may not cover them

    def mark_indexed(self, changes: int) -> None:
        """Note that the index covers what had come when :attr:`changes` had this value."""
        self._indexed = changes

    def covers_all(self) -> bool | None:
        """Whether the index covers every row: None if this process has neither written nor built it."""
        if self._indexed == self.changes:
            return True
        return False if self.changes else None

    def _count_change(self) -> None:
        with self._counting:
            self.changes += 1
