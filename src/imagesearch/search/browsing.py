"""Looking through a collection without a query: its pictures by date or by path, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.records import ImageRecord
from imagesearch.search.answers import moment
from imagesearch.search.filters import Filter, matching
from imagesearch.stores.base import Collection
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
    if k < 1 or offset < 0:
        raise UsageError(f"k = {k}, offset = {offset}: must be at least 1 and 0")
    if order not in ORDERS:
        raise UsageError(f"order = {order!r}: must be {' or '.join(ORDERS)}")
    among = set(matching(collection, where).tolist()) if where else None
    rows = _rows(collection, among)
    rows.sort(key=lambda row: row.path)
    if order != "path":
        rows.sort(key=lambda row: row.moment, reverse=order == "newest")  # of equal ones the order stays
    records, _ = collection.fetch([row.id for row in rows[offset : offset + k]])
    return Page(tuple(records), len(rows))


class _Row(NamedTuple):
    """What pictures are ordered by."""

    id: int
    path: str
    moment: str


def _rows(collection: Collection, among: set[int] | None) -> list[_Row]:
    found: list[_Row] = []
    for columns in collection.scan_columns([ID, "path", "taken", "mtime_ns"]):
        ids: list[int] = np.asarray(columns[ID], np.int64).tolist()
        changed: list[int] = np.asarray(columns["mtime_ns"], np.int64).tolist()
        found.extend(
            _Row(key, path, moment(taken, mtime_ns))
            for key, path, taken, mtime_ns in zip(ids, columns["path"], columns["taken"], changed, strict=True)
            if among is None or key in among
        )
    return found
