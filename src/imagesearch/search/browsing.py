"""Looking through a collection without a query: its pictures by date or by path, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.records import ImageRecord
from imagesearch.search.answers import moment
from imagesearch.search.filters import Filter, matching
from imagesearch.stores.base import Collection, Ids
from imagesearch.stores.columns import ID

# Orders of pictures.
ORDERS = ("newest", "oldest", "path")


@dataclass(frozen=True, slots=True)
class Page:
    """Some pictures of a collection.

    Attributes:
        pictures: in the order that was asked for.
        total: how many there are on all pages together.
    """

    pictures: tuple[ImageRecord, ...]
    total: int


def browse(
    collection: Collection, k: int, *, offset: int = 0, order: str = ORDERS[0], where: Filter | None = None
) -> Page:
    """The pictures that match a filter, in order; equal dates are ordered by path.

    Args:
        k: how many, at least 1.
        offset: how many to leave out: those of earlier pages.
        order: one of :data:`ORDERS`; dates are those of :func:`imagesearch.search.answers.moment_of`.

    Raises:
        UsageError: a number or the order makes no sense; see also :func:`imagesearch.search.filters.matching`.
        StoreError: the database fails.
    """
    return page_of(collection, order_of(collection, order), k, offset=offset, where=where)


def page_of(collection: Collection, ordered: Ids, k: int, *, offset: int = 0, where: Filter | None = None) -> Page:
    """The same from an order that is known already.

    Args:
        ordered: what :func:`order_of` returned; pictures that have gone since are left out.

    Raises:
        UsageError, StoreError: see :func:`browse`.
    """
    if k < 1 or offset < 0:
        raise UsageError(f"k = {k}, offset = {offset}: must be at least 1 and 0")
    if where:
        ordered = ordered[np.isin(ordered, matching(collection, where))]
    records, _ = collection.fetch(ordered[offset : offset + k].tolist())
    return Page(tuple(records), len(ordered))


def order_of(collection: Collection, order: str = ORDERS[0]) -> Ids:
    """The ids of all pictures in order: int64, shape (number of rows,).

    Raises:
        UsageError: there is no such order.
        StoreError: the database fails.
    """
    if order not in ORDERS:
        raise UsageError(f"order = {order!r}: must be {' or '.join(ORDERS)}")
    rows: list[tuple[str, str, int]] = []
    for columns in collection.scan_columns([ID, "path", "taken", "mtime_ns"]):
        ids, changed = (np.asarray(columns[name], np.int64).tolist() for name in (ID, "mtime_ns"))
        rows += zip(columns["path"], map(moment, columns["taken"], changed), ids, strict=True)
    rows.sort()
    if order != "path":
        rows.sort(key=itemgetter(1), reverse=order == "newest")  # of equal ones the order stays
    return np.array([key for _, _, key in rows], np.int64)
