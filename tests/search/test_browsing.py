"""Pictures by date and by path: pages put together are the sorted collection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.records import ImageRecord
from imagesearch.search.answers import moment_of
from imagesearch.search.browsing import ORDERS, browse
from imagesearch.search.filters import Filter
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from ..stores.conftest import fingerprint

TAKEN = (None, "2024-05-01T10:30:00", "2024-05-02", "1999-07-07T07:07:07")


def collection_of(rows: list[ImageRecord]) -> Collection:
    collection = MemoryDatabase().create(CollectionSpec("browsed"), replace(fingerprint(), dim=2))
    if rows:
        collection.upsert(rows, np.ones((len(rows), 2), np.float32))
    return collection


records = st.builds(
    ImageRecord,
    path=st.text("ab/é\udce9", min_size=1, max_size=4).map(lambda text: f"/{text}"),
    mtime_ns=st.integers(0, 3).map(lambda day: (1_700_000_000 + day * 86_400) * 10**9),
    taken=st.sampled_from(TAKEN),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=12, unique_by=lambda row: row.path), st.sampled_from(ORDERS), st.integers(1, 5))
def test_pages_are_the_sorted_collection(rows: list[ImageRecord], order: str, k: int) -> None:
    collection = collection_of(rows)
    pages = [browse(collection, k, offset=offset, order=order) for offset in range(0, len(rows) + 1, k)]
    found = [record for page in pages for record in page.pictures]
    wanted = sorted(rows, key=lambda row: row.path)
    if order != "path":
        wanted.sort(key=moment_of, reverse=order == "newest")
    assert found == wanted
    assert {page.total for page in pages} == {len(rows)}


def test_only_what_a_filter_lets_through_counts() -> None:
    rows = [ImageRecord(f"/{folder}/{number}.jpg") for folder in "ab" for number in range(3)]
    page = browse(collection_of(rows), 2, order="path", where=Filter(under=("/b",)))
    assert [record.path for record in page.pictures] == ["/b/0.jpg", "/b/1.jpg"]
    assert page.total == 3


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": 1, "offset": -1}, {"k": 1, "order": "size"}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, int | str]) -> None:
    with pytest.raises(UsageError, match="must be"):
        browse(collection_of([]), **wrong)
