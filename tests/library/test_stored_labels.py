"""Labels in a collection: they can be filtered by, and never replace what somebody said."""

from __future__ import annotations

import json
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import pytest

from imagesearch.library import stored_labels
from imagesearch.library.annotations import Annotations, annotate, with_annotations
from imagesearch.library.stored_labels import LabelStore
from imagesearch.records import Fingerprint, ImageRecord, Prediction, parse_annotations, picture_id
from imagesearch.reports import StoreReport
from imagesearch.search.filters import Filter, matching
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

DOG, CAT = Prediction("dog", 0.87654321, 0), Prediction("cat", 0.5, 1)


@pytest.fixture
def collection() -> Collection:
    made = MemoryDatabase().create(CollectionSpec("photos"), Fingerprint("mine", "1", "cls", (8, 8), 4))
    said = {"/0": None, "/1": json.dumps({"stars": 5}), "/2": json.dumps({"label": "wolf"}), "/3": None}
    made.upsert([ImageRecord(path, annotations=text) for path, text in said.items()], np.eye(4, dtype=np.float32))
    return made


def keys(*paths: str) -> list[int]:
    return [picture_id(path) for path in paths]


def said(collection: Collection) -> dict[str, object]:
    return {record.path: parse_annotations(record.annotations) for batch in collection.scan() for record in batch}


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_labels_stand_beside_what_is_there(
    collection: Collection, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_labels, "_PICTURES_PER_WRITE", at_once)
    before = collection.fetch(keys("/0", "/1", "/2", "/3"))[1]
    with LabelStore(collection) as store:
        store.add(keys("/elsewhere", "/0"), DOG)
        store.add(keys("/1"), CAT)
        store.add(keys("/2"), DOG)
        store.add(keys("/3"), None)
        store.add(keys("/gone"), DOG)
    assert store.report == StoreReport("photos", stored=2, cleared=0, kept=1, missing=1)
    assert said(collection) == {
        "/0": {"label": "dog", "label_score": 0.876543},
        "/1": {"stars": 5, "label": "cat", "label_score": 0.5},
        "/2": {"label": "wolf"},
        "/3": {},
    }
    assert (collection.fetch(keys("/0", "/1", "/2", "/3"))[1] == before).all()
    for expression, expected in (('label == "dog"', "/0"), ("label_score <= 0.5", "/1")):
        assert matching(collection, Filter(expression=expression)).tolist() == keys(expected)


def test_a_later_run_replaces_or_takes_away(collection: Collection) -> None:
    for first, second in ((DOG, CAT), (CAT, None)):
        with LabelStore(collection) as store:
            store.add(keys("/0"), first)
            store.add(keys("/1"), second)
    assert said(collection)["/0"] == {"label": "cat", "label_score": 0.5}
    assert said(collection)["/1"] == {"stars": 5}
    assert (store.report.stored, store.report.cleared) == (1, 1)


def test_what_was_labelled_before_an_interruption_is_kept(collection: Collection) -> None:
    def label() -> None:
        with LabelStore(collection) as store:
            store.add(keys("/0"), DOG)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label()
    assert said(collection)["/0"] == {"label": "dog", "label_score": 0.876543}


def test_what_is_written_meanwhile_is_not_lost(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Annotations come while a label is stored: between reading the row and writing it."""
    written: list[Future[object]] = []

    def annotate_first(record: ImageRecord, *arguments: Any, **options: Any) -> ImageRecord:
        table = Annotations("", {"/1": {"stars": 6}}, ("stars",))
        written.append(thread.submit(annotate, collection, table))
        wait(written, timeout=0.3)
        return with_annotations(record, *arguments, **options)

    monkeypatch.setattr(stored_labels, "with_annotations", annotate_first)
    with ThreadPoolExecutor(1) as thread, LabelStore(collection) as store:
        store.add(keys("/1"), CAT)
        store.flush()
        written[0].result()
    assert said(collection)["/1"] == {"stars": 6, "label": "cat", "label_score": 0.5}
