"""The pictures of a collection in the order of their dates, a page at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from imagesearch.errors import CollectionNotFoundError
from imagesearch.records import ImageRecord
from imagesearch.search.answers import moment
from imagesearch.search.filters import Filter, matching
from imagesearch.stores.base import Collection, Ids

# Seconds that an order is used without looking whether it still holds.
_FRESH = 5.0


class Browser:
    """Keeps the ids of all pictures in the order of their dates, newest first.

    Args:
        open_collection: opens the collection.
    """

    def __init__(self, open_collection: Callable[[], Collection]) -> None:
        self._open = open_collection
        self._lock = threading.Lock()
        self._order: Ids = np.empty(0, np.int64)
        self._until = 0.0

    def forget_order(self) -> None:
        """To be called after rows were written."""
        self._until = 0.0

    def page(
        self, offset: int, count: int, where: Filter | None = None, *, oldest_first: bool = False
    ) -> tuple[int, list[ImageRecord]]:
        """How many pictures match, and some of them.

        Args:
            offset: number of pictures to leave out.
            count: number of pictures at most.

        Raises:
            UsageError: the filter's expression is none.
            StoreError: the database fails. Nothing has been indexed yet: there are no pictures.
        """
        try:
            collection = self._open()
        except CollectionNotFoundError:
            return 0, []
        order = self._ordered(collection)
        if where:
            order = order[np.isin(order, matching(collection, where))]
        if oldest_first:
            order = order[::-1]
        records, _ = collection.fetch(order[offset : offset + count].tolist())
        return len(order), records

    def _ordered(self, collection: Collection) -> Ids:
        with self._lock:
            if time.monotonic() >= self._until:
                began = time.monotonic()
                self._order = newest_first(collection)
                # One that takes long to make is not made all the time.
                self._until = time.monotonic() + max(_FRESH, 20 * (time.monotonic() - began))
            return self._order


def newest_first(collection: Collection) -> Ids:
    """The ids of all pictures: int64, shape (number of rows,); of one date in the order of their ids."""
    dated: list[tuple[str, int]] = []
    for columns in collection.scan_columns(["id", "taken", "mtime_ns"]):
        ids, changed = (np.asarray(columns[name], np.int64).tolist() for name in ("id", "mtime_ns"))
        dated += zip(map(moment, columns["taken"], changed), ids, strict=True)
    dated.sort(reverse=True)
    return np.array([key for _, key in dated], np.int64)
