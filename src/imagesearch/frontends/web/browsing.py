"""The pictures of a collection in the order of their dates, which is not made again for every page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from imagesearch.errors import CollectionNotFoundError
from imagesearch.search.browsing import Page, order_of, page_of
from imagesearch.search.filters import Filter
from imagesearch.stores.base import Collection, Ids

# Seconds that an order is used without looking whether it still holds; one that takes long to make is used longer.
_FRESH = 5.0
_SHARE = 20


class Browser:
    """Keeps the orders that were asked for.

    Args:
        open_collection: opens the collection.
    """

    def __init__(self, open_collection: Callable[[], Collection]) -> None:
        self._open = open_collection
        self._lock = threading.Lock()
        self._orders: dict[str, tuple[Ids, float]] = {}

    def forget_orders(self) -> None:
        """To be called after rows were written."""
        with self._lock:
            self._orders.clear()

    def page(self, order: str, offset: int, count: int, where: Filter | None = None) -> Page:
        """See :func:`imagesearch.search.browsing.browse`. Before anything is indexed there are no pictures.

        Raises:
            UsageError: the filter's expression is none.
            StoreError: the database fails.
        """
        try:
            collection = self._open()
        except CollectionNotFoundError:
            return Page((), 0)
        return page_of(collection, self._ordered(collection, order), count, offset=offset, where=where)

    def _ordered(self, collection: Collection, order: str) -> Ids:
        with self._lock:  # those who ask meanwhile wait for it, too
            ids, until = self._orders.get(order, (None, 0.0))
            began = time.monotonic()
            if ids is None or began >= until:
                ids = order_of(collection, order)
                now = time.monotonic()
                self._orders[order] = (ids, now + max(_FRESH, _SHARE * (now - began)))
            return ids
