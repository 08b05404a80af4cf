"""Every line of the list of bad input: a clear message, and nothing lost.

Where each line is tested (front ends: the same, as one line on stderr and an exit code):

=============================================  ===================================================================
missing folder or file; empty folder           here; tests/frontends
not an image; truncated; zero-byte; text.jpg   here; tests/images/test_files.py::TestRefused
unreadable permission                          here; tests/images/test_files.py
a path with spaces, quotes, newline, emoji,    here; tests/search/test_features.py (files), tests/stores (rows),
or bytes that are no text                      tests/images/test_paths.py, tests/frontends (terminal)
features and paths of different length         here; tests/search/test_features.py::TestRefused
features of another dimension or with NaN      here; tests/search
a collection made with another model           here; tests/stores/test_contract.py
database locked by another process             tests/stores/test_milvus_lite.py
server unreachable                             tests/stores
hub unreachable                                here; tests/models/test_hub.py::TestUnreachable
k of 0, negative, or beyond the collection     here; tests/test_service.py, tests/stores; said: tests/frontends
a metric or index that the engine lacks        here (unknown names); tests/stores (known names, another engine)
disk full while writing the features file      here; tests/search/test_features.py::TestWholeOrNotAtAll
=============================================  ===================================================================
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagesearch import ImageSearch, load_config
from imagesearch.errors import (
    ConfigError,
    FeaturesError,
    HubUnreachableError,
    ImageSearchError,
    ModelMismatchError,
    PictureError,
    UsageError,
)
from imagesearch.models.embedder import Embedder
from imagesearch.records import Fingerprint
from imagesearch.stores.memory import MemoryDatabase

from .conftest import draw_picture


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def images(starter: Embedder, database: MemoryDatabase) -> ImageSearch:
    """The service over a database in memory."""
    config = load_config(overrides={"model": {"device": "cpu", "precision": "float32"}})
    return ImageSearch(config, database=database, embedder=starter)


def one_line(error: pytest.ExceptionInfo[ImageSearchError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def test_missing_folder(images: ImageSearch) -> None:
    for action in (lambda: images.index("nowhere"), lambda: images.extract("nowhere", "x")):
        with pytest.raises(UsageError) as caught:
            action()
        assert f"cannot read {os.path.abspath('nowhere')!r}: no such file" in one_line(caught)
    assert os.listdir() == []


def test_missing_file(images: ImageSearch) -> None:
    for action in (images.classify, lambda path: images.embed([path])):
        with pytest.raises(PictureError) as caught:
            action("nowhere.jpg")
        assert "'nowhere.jpg': no such file" in one_line(caught)
    with pytest.raises(FeaturesError) as missing:
        images.build("nowhere.npy", "nowhere.txt")
    assert "no features file at 'nowhere.npy'" in one_line(missing)


def test_empty_folder(images: ImageSearch) -> None:
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    for action in (lambda: images.index("empty"), lambda: images.extract("empty", "x")):
        with pytest.raises(UsageError) as caught:
            action()
        assert "no pictures found in" in one_line(caught)
        assert ".jpg" in one_line(caught)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"%PDF-1.7 not an image", "is not a picture"),
        (b"", "is empty (0 bytes)"),
        (b"dear diary\n" * 100, "is not a picture"),
        (None, "truncated"),
    ],
    ids=["not an image", "zero-byte file", "text file named .jpg", "truncated image"],
)
def test_files_that_are_no_whole_pictures(
    images: ImageSearch, picture_folder: Path, content: bytes | None, reason: str
) -> None:
    if content is None:
        whole = (picture_folder / "sub" / "5.jpg").read_bytes()
        content = whole[: len(whole) // 2]
    bad = picture_folder / "bad.jpg"
    bad.write_bytes(content)
    report = images.index(picture_folder)
    assert (report.indexed, len(report.skipped)) == (6, 1)
    assert report.skipped[0].path == str(bad)
    assert reason in report.skipped[0].reason
    with pytest.raises(PictureError) as caught:
        images.search(bad)
    assert reason in one_line(caught)


def test_unreadable_permission(images: ImageSearch, picture_folder: Path, closed: Callable[[Path], None]) -> None:
    closed(picture_folder / "2.png")
    report = images.index(picture_folder)
    assert (report.found, report.indexed) == (6, 5)
    assert report.skipped[0].reason == "permission denied"
    assert report.skipped[0].retryable


@pytest.mark.parametrize(
    "name",
    [
        b"with spaces.png",
        b"'single' \"double\" `back`.png",
        b"two\nlines.png",
        b"tab\there \x1b[31mred.png",
        "emoji 🐱 ünï.png".encode(),
        pytest.param(
            b"no text \xff\xfe.png", marks=pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
        ),
        b"-k.png",
        b"file:name.png",
    ],
    ids=repr,
)
def test_odd_paths_go_all_the_way(images: ImageSearch, picture_folder: Path, name: bytes) -> None:
    """Through the features files and the collection, and out again as the same bytes."""
    odd = os.path.join(os.fsencode(picture_folder), name)
    os.rename(picture_folder / "0.png", odd)
    report = images.extract(picture_folder, picture_folder / "x")
    images.build(report.features, report.paths)
    found = images.search(os.fsdecode(odd), k=1)[0]
    assert os.fsencode(found.path) == odd
    assert found.score == pytest.approx(1, abs=1e-5)
    assert images.index(picture_folder).unchanged >= 5


def test_features_and_paths_of_different_length(images: ImageSearch, picture_folder: Path) -> None:
    report = images.extract(picture_folder, "x")
    with open(report.paths, "a", encoding="utf-8") as file:
        file.write("/one/more.jpg\n")
    with pytest.raises(FeaturesError) as caught:
        images.build(report.features, report.paths)
    assert "has 6 vectors, but 'x_paths.txt' has 7 paths" in one_line(caught)
    assert images.find_collection() is None


def test_features_of_another_dimension(images: ImageSearch) -> None:
    np.save("f.npy", np.ones((2, 768), np.float32))
    Path("p.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(FeaturesError) as caught:
        images.build("f.npy", "p.txt")
    assert "have dimension 768, but starter makes vectors of dimension 320" in one_line(caught)
    assert images.find_collection() is None


def test_features_with_nan(images: ImageSearch) -> None:
    vectors = np.ones((3, 320), np.float32)
    vectors[1, 5] = np.nan
    np.save("f.npy", vectors)
    Path("p.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    with pytest.raises(FeaturesError) as caught:
        images.build("f.npy", "p.txt")
    assert "'f.npy': row 1 is not finite (NaN or infinity)" in one_line(caught)
    assert images.find_collection() is None


def test_a_collection_made_with_another_model(
    images: ImageSearch, database: MemoryDatabase, picture_folder: Path
) -> None:
    other = database.create(images.spec, Fingerprint("google/vit", "abc", "cls", (224, 224), dim=320))
    for action in (lambda: images.search(draw_picture(0)), lambda: images.index(picture_folder)):
        with pytest.raises(ModelMismatchError) as caught:
            action()
        assert "google/vit" in one_line(caught)
        assert "starter" in one_line(caught)
    assert other.count() == 0


def test_hub_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(HubUnreachableError) as caught:
        ImageSearch({"model": {"name": "vit"}}).embed([draw_picture(0)])
    message = one_line(caught)
    for way_out in ("--model starter", "a local folder", "hf download google/vit-base-patch16-224-in21k"):
        assert way_out in message


@pytest.mark.parametrize("k", [0, -5])
def test_k_of_zero_or_less(images: ImageSearch, picture_folder: Path, k: int) -> None:
    images.index(picture_folder)
    with pytest.raises(UsageError) as caught:
        images.search(draw_picture(0), k=k)
    assert f"k = {k}" in one_line(caught)


def test_k_beyond_the_collection(images: ImageSearch, picture_folder: Path) -> None:
    images.index(picture_folder)
    assert len(images.search(draw_picture(0), k=10**9)) == 6


@pytest.mark.parametrize("setting", [{"metric_type": "HAMMING"}, {"index_type": "ANNOY"}])
def test_a_metric_or_index_that_nobody_knows(setting: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ImageSearch({"milvus": setting})
    ((key, value),) = setting.items()
    assert f"milvus.{key} = {value!r}" in one_line(caught)


def test_disk_full_while_writing_the_features_file(
    images: ImageSearch, picture_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = images.extract(picture_folder, "x")
    before = {name: Path(name).read_bytes() for name in os.listdir()}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(FeaturesError) as caught:
            images.extract(picture_folder, "x")
    assert "cannot write 'x_features.npy': no space left on device" in one_line(caught)
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before
    assert images.build(report.features, report.paths).indexed == 6
