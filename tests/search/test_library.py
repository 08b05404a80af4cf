"""From folders to a collection, with vectors that can be computed by hand."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import FeaturesError, ModelMismatchError, UsageError
from imagesearch.records import Fingerprint, Metric
from imagesearch.search.features import Features, FeaturesFiles, read_features
from imagesearch.search.library import Reading, build_collection, extract_folders, find_all, index_folders
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryStore

from ..conftest import draw_picture

READING = Reading(batch_size=2, threads=2)
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(CollectionSpec("c", metric=Metric.COSINE, index_type="FLAT"))


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    folder = tmp_path / "colours"
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 10), colour).save(folder / f"{name}.png")
    return folder


def break_some(folder: Path) -> set[str]:
    """Add files that cannot be read; their names."""
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    whole = (folder / "red.png").read_bytes()
    (folder / "half.png").write_bytes(whole[: len(whole) // 2])
    return {"empty.jpg", "text.jpg", "gone.jpg", "half.png"}


def nearest(store: MemoryStore, colour: tuple[int, int, int]) -> str:
    query = np.array([colour], np.float32)
    return os.path.basename(store.search(query / np.linalg.norm(query), 1)[0][0].path)


class TestIndex:
    def test_every_picture_is_found_by_its_colour(
        self, store: MemoryStore, mean_colour: Any, colours: Path
    ) -> None:
        report = index_folders(store, mean_colour, [colours], READING)
        assert (report.found, report.indexed, report.unchanged, report.skipped) == (3, 3, 0, ())
        assert report.collection == "c"
        for name, colour in COLOURS.items():
            assert nearest(store, colour) == f"{name}.png"
        rows = {os.path.basename(row.path): row for batch in store.scan() for row in batch}
        red = rows["red.png"]
        assert (red.root, red.width, red.height) == (str(colours), 20, 10)
        assert red.size == (colours / "red.png").stat().st_size
        assert red.mtime_ns == (colours / "red.png").stat().st_mtime_ns

    def test_a_second_time_nothing_is_read(self, store: MemoryStore, mean_colour: Any, colours: Path) -> None:
        index_folders(store, mean_colour, [colours], READING)
        before = mean_colour.prepared
        report = index_folders(store, mean_colour, [colours], READING)
        assert (report.found, report.indexed, report.unchanged) == (3, 0, 3)
        assert mean_colour.prepared == before
        assert store.count() == 3

    def test_a_changed_file_is_read_again(self, store: MemoryStore, mean_colour: Any, colours: Path) -> None:
        index_folders(store, mean_colour, [colours], READING)
        Image.new("RGB", (20, 10), (255, 255, 0)).save(colours / "red.png")
        os.utime(colours / "red.png", ns=(1, 1))
        report = index_folders(store, mean_colour, [colours], READING)
        assert (report.indexed, report.unchanged) == (1, 2)
        assert store.count() == 3
        assert nearest(store, (255, 255, 0)) == "red.png"

    def test_broken_files_are_counted_and_stop_nothing(
        self, store: MemoryStore, mean_colour: Any, colours: Path
    ) -> None:
        broken = break_some(colours)
        seen: list[tuple[str, int, int | None]] = []
        report = index_folders(store, mean_colour, [colours], READING, lambda *args: seen.append(args))
        assert {os.path.basename(skip.path) for skip in report.skipped} == broken
        assert report.found == 7 == report.indexed + report.unchanged + len(report.skipped)
        assert {os.path.basename(skip.path) for skip in report.skipped if skip.retryable} == {"gone.jpg"}
        encoding = [(done, total) for stage, done, total in seen if stage == "encode"]
        assert encoding[0] == (0, 7)
        assert encoding[-1] == (7, 7)
        assert encoding == sorted(encoding)
        again = index_folders(store, mean_colour, [colours], READING)
        assert again.found == 7 == again.indexed + again.unchanged + len(again.skipped)
        assert again.unchanged == 3

    def test_closed_folders_are_counted(
        self, store: MemoryStore, mean_colour: Any, colours: Path, closed: Callable[[Path], None]
    ) -> None:
        (colours / "private").mkdir()
        closed(colours / "private")
        report = index_folders(store, mean_colour, [colours], READING)
        (colours / "private").chmod(0o700)
        assert report.found == 4 == report.indexed + report.unchanged + len(report.skipped)
        assert report.skipped[0].reason == "permission denied"

    def test_a_killed_run_goes_on_where_it_stopped(
        self, store: MemoryStore, mean_colour: Any, picture_folder: Path
    ) -> None:
        encode = mean_colour.encode

        def dies(batch: Any) -> Any:
            if len(mean_colour.batches) == 2:
                raise KeyboardInterrupt
            return encode(batch)

        mean_colour.encode = dies
        with pytest.raises(KeyboardInterrupt):
            index_folders(store, mean_colour, [picture_folder], READING)
        assert store.count() == 4
        mean_colour.encode = encode
        report = index_folders(store, mean_colour, [picture_folder], READING)
        assert (report.indexed, report.unchanged) == (2, 4)

    def test_another_models_collection_is_refused(
        self, store: MemoryStore, mean_colour: Any, colours: Path
    ) -> None:
        store.create(Fingerprint("another", "9", "cls", (8, 8), dim=3))
        with pytest.raises(ModelMismatchError, match=r"'another'.*'mean-colour'"):
            index_folders(store, mean_colour, [colours], READING)
        assert mean_colour.prepared == 0


class TestFindAll:
    def test_overlapping_roots_count_once(self, picture_folder: Path) -> None:
        files, skipped = find_all([picture_folder, picture_folder / "sub", picture_folder / "0.png"], READING)
        assert (len(files), skipped) == (6, [])
        assert set(files.values()) == {str(picture_folder)}

    def test_single_files_have_no_root(self, picture_folder: Path) -> None:
        path = str(picture_folder / "0.png")
        assert find_all([path], READING)[0] == {path: ""}

    def test_nothing_there(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match=r"no pictures found in .*empty'"):
            find_all([tmp_path / "empty"], READING)
        with pytest.raises(UsageError, match=r"cannot read .*missing': no such file"):
            find_all([tmp_path / "missing"], READING)


class TestExtract:
    def test_vectors_and_paths_in_order(self, tmp_path: Path, mean_colour: Any, colours: Path) -> None:
        break_some(colours)
        report = extract_folders(mean_colour, [colours], tmp_path / "x", READING)
        assert (report.extracted, len(report.skipped), report.dim) == (3, 4, 3)
        read = read_features(FeaturesFiles.of_prefix(tmp_path / "x"))
        assert [os.path.basename(path) for path in read.paths] == ["blue.png", "green.png", "red.png"]
        assert np.abs(read.vectors - np.eye(3)[::-1]).max() < 0.01
        assert read.fingerprint == mean_colour.fingerprint
        assert Path(report.features) == tmp_path / "x_features.npy"

    def test_nothing_readable_leaves_the_old_files(self, tmp_path: Path, mean_colour: Any, colours: Path) -> None:
        extract_folders(mean_colour, [colours], tmp_path / "x", READING)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.jpg").touch()
        with pytest.raises(UsageError, match=r"none of the 1 pictures can be read.*a\.jpg.*empty"):
            extract_folders(mean_colour, [tmp_path / "bad"], tmp_path / "x", READING)
        assert len(read_features(FeaturesFiles.of_prefix(tmp_path / "x")).paths) == 3

    def test_memory_does_not_grow_with_the_library(self, tmp_path: Path, mean_colour: Any) -> None:
        """Twice as many pictures take no more memory than one batch and those decoded ahead of it."""
        folder = tmp_path / "many"
        folder.mkdir()
        draw_picture(1, (400, 300)).save(folder / "0.bmp")
        for number in range(1, 160):
            os.link(folder / "0.bmp", folder / f"{number}.bmp")
        tracemalloc.start()
        extract_folders(mean_colour, [folder], tmp_path / "x", Reading(batch_size=4, threads=2))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = 400 * 300 * 3
        assert peak < 25 * size
        assert max(mean_colour.batches) == 4
        assert sum(mean_colour.batches) == 160


class TestBuild:
    def test_extracted_features_become_a_collection(
        self, tmp_path: Path, store: MemoryStore, mean_colour: Any, colours: Path
    ) -> None:
        extract_folders(mean_colour, [colours], tmp_path / "x", READING)
        (colours / "green.png").unlink()
        read = read_features(FeaturesFiles.of_prefix(tmp_path / "x"))
        report = build_collection(store, read, mean_colour.fingerprint)
        assert (report.found, report.indexed) == (3, 3)
        assert nearest(store, (0, 255, 0)) == "green.png"
        rows = {os.path.basename(row.path): row for batch in store.scan() for row in batch}
        assert (rows["red.png"].width, rows["green.png"].width) == (20, 0)
        build_collection(store, read, mean_colour.fingerprint)
        assert store.count() == 3

    def test_vectors_are_brought_to_unit_length(self, store: MemoryStore, mean_colour: Any) -> None:
        """The original did not normalise; with L2 that would rank by length."""
        rows = np.array([[10, 0, 0], [0, 0.1, 0], [0, 0, 0]], np.float32)
        store = MemoryStore(CollectionSpec("c", metric=Metric.L2, index_type="FLAT"))
        build_collection(store, Features(rows, ["a", "b", "zero"], None), mean_colour.fingerprint)
        hits = store.search(np.array([[0, 1, 0]], np.float32), 3)[0]
        assert [(os.path.basename(hit.path), hit.score) for hit in hits] == [("b", 0.0), ("zero", 1.0), ("a", 2.0)]

    def test_another_dimension(self, store: MemoryStore, mean_colour: Any) -> None:
        with pytest.raises(FeaturesError, match=r"have dimension 5, but mean-colour makes vectors of dimension 3"):
            build_collection(store, Features(np.ones((1, 5), np.float32), ["a"], None), mean_colour.fingerprint)
        assert store.describe() is None

    def test_another_model(self, store: MemoryStore, mean_colour: Any) -> None:
        other = Fingerprint("another", "9", "cls", (8, 8), dim=3)
        with pytest.raises(ModelMismatchError, match=r"extracted with another .*mean-colour.*--model"):
            build_collection(store, Features(np.ones((1, 3), np.float32), ["a"], other), mean_colour.fingerprint)
        assert store.describe() is None
