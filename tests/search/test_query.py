"""Searching any collection with any model, without the service."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelMismatchError, PictureError, UsageError
from imagesearch.images.sources import ImageSource
from imagesearch.library.refresh import index_folders
from imagesearch.records import Fingerprint
from imagesearch.search import query as query_module
from imagesearch.search.query import Query, embed_images, search_collection
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

from ..library.conftest import COLOURS, READING, SPEC, MeanColour


@pytest.fixture
def network() -> MeanColour:
    return MeanColour()


@pytest.fixture
def collection(tmp_path: Path, network: MeanColour) -> MemoryCollection:
    """A red, a green and a blue image."""
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{name}.png")
    database = MemoryDatabase()
    index_folders(database, SPEC, network.fingerprint, lambda count: network, [tmp_path], reading=READING)
    return database.open(SPEC)


def test_the_closest_comes_first(collection: MemoryCollection, network: MeanColour, tmp_path: Path) -> None:
    reddish = Image.new("RGB", (30, 30), (200, 90, 0))
    sources: list[ImageSource] = [reddish, np.asarray(reddish)]
    for source in sources:
        (hits,) = search_collection(collection, network, [Query(source, k=2)])
        assert [os.path.basename(hit.path) for hit in hits] == ["red.png", "green.png"]
    assert search_collection(collection, network, [Query(tmp_path / "blue.png")])[0][0].score == pytest.approx(1)


def test_several_at_once_with_numbers_of_their_own(
    collection: MemoryCollection, network: MeanColour, tmp_path: Path
) -> None:
    queries = [Query(tmp_path / f"{name}.png", k) for name, k in (("blue", 1), ("red", 3), ("green", 2))]
    found = search_collection(collection, network, queries)
    assert [(os.path.basename(hits[0].path), len(hits)) for hits in found] == [
        ("blue.png", 1),
        ("red.png", 3),
        ("green.png", 2),
    ]
    assert search_collection(collection, network, []) == []


def test_another_models_collection_is_refused(collection: MemoryCollection, network: MeanColour) -> None:
    network.fingerprint = Fingerprint("another", "9", "cls", (8, 8), dim=3)
    with pytest.raises(ModelMismatchError, match=r"'c' holds vectors of model 'mean-colour'.*'another'"):
        search_collection(collection, network, [Query(Image.new("RGB", (8, 8)))])


def test_what_cannot_be_answered_is_refused_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="k = 0: the number of results must be at least 1"):
        Query("missing.jpg", k=0).check()
    with pytest.raises(PictureError, match=r"missing\.jpg"):
        Query("missing.jpg").check()
    Image.new("RGB", (200, 100)).save(tmp_path / "large.png")
    with pytest.raises(PictureError, match=r"0\.01 megapixels"):
        Query(tmp_path / "large.png", max_megapixels=0.01).check()


def test_vectors_of_images_in_batches(network: MeanColour) -> None:
    images = [Image.new("RGB", (8, 8), colour) for colour in COLOURS.values()]
    assert np.abs(embed_images(network, images, batch_size=2) - np.eye(3)).max() < 0.01
    assert network.batches == [2, 1]
    network.batches.clear()
    embed_images(network, images)
    assert network.batches == [3]
    assert embed_images(network, []).shape == (0, 3)


def test_a_query_that_is_never_read_ends(
    collection: MemoryCollection, network: MeanColour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query_module, "load_image", lambda *_: threading.Event().wait(20))
    started = time.monotonic()
    with pytest.raises(PictureError, match="took longer than") as caught:
        search_collection(collection, network, [Query(Image.new("RGB", (8, 8)), timeout=0.2)])
    assert caught.value.retryable
    assert time.monotonic() - started < 5
