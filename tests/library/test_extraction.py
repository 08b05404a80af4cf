"""From folders to features files and on to a collection, with vectors that can be computed by hand."""

from __future__ import annotations

import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import FeaturesError, ModelMismatchError, UsageError
from imagesearch.library.encoding import ReadOptions, find_all
from imagesearch.library.extraction import build_collection, extract_folders
from imagesearch.library.features import Features, FeaturesFiles, read_features
from imagesearch.library.refresh import index_folders
from imagesearch.records import Fingerprint, Metric
from imagesearch.stores.base import find
from imagesearch.stores.memory import MemoryDatabase

from ..conftest import draw_picture
from .conftest import READING, SPEC, break_some, nearest


class TestFindAll:
    def test_overlapping_roots_count_once(self, picture_folder: Path) -> None:
        roots = [picture_folder, picture_folder / "sub", picture_folder / "0.png"]
        files, skipped = find_all(roots, READING.selection)
        assert (len({file.path for file in files}), len(files), skipped) == (6, 6, [])

    def test_nothing_there(self, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        with pytest.raises(UsageError, match=r"no pictures found in .*empty'"):
            find_all([tmp_path / "empty"], READING.selection)
        with pytest.raises(UsageError, match=r"cannot read .*missing': no such file"):
            find_all([tmp_path / "missing"], READING.selection)


class TestExtract:
    def test_vectors_and_paths_in_order(self, tmp_path: Path, mean_colour: Any, colours: Path) -> None:
        break_some(colours)
        report = extract_folders(lambda count: mean_colour, [colours], tmp_path / "x", READING)
        assert (report.extracted, len(report.skipped), report.dim) == (3, 4, 3)
        read = read_features(FeaturesFiles.of_prefix(tmp_path / "x"))
        assert [os.path.basename(path) for path in read.paths] == ["blue.png", "green.png", "red.png"]
        assert np.abs(read.vectors - np.eye(3)[::-1]).max() < 0.01
        assert read.fingerprint == mean_colour.fingerprint
        assert Path(report.features) == tmp_path / "x_features.npy"

    def test_nothing_readable_leaves_the_old_files(self, tmp_path: Path, mean_colour: Any, colours: Path) -> None:
        extract_folders(lambda count: mean_colour, [colours], tmp_path / "x", READING)
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "a.jpg").touch()
        with pytest.raises(UsageError, match=r"no picture of 1 can be read.*a\.jpg.*empty"):
            extract_folders(lambda count: mean_colour, [tmp_path / "bad"], tmp_path / "x", READING)
        assert len(read_features(FeaturesFiles.of_prefix(tmp_path / "x")).paths) == 3

    def test_memory_does_not_grow_with_the_library(self, tmp_path: Path, mean_colour: Any) -> None:
        """Twice as many pictures take no more memory than one batch and those decoded ahead of it."""
        folder = tmp_path / "many"
        folder.mkdir()
        draw_picture(1, (400, 300)).save(folder / "0.bmp")
        for number in range(1, 160):
            os.link(folder / "0.bmp", folder / f"{number}.bmp")
        tracemalloc.start()
        extract_folders(
            lambda count: mean_colour, [folder], tmp_path / "x", ReadOptions(batch_size=4, max_workers=2)
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        size = 400 * 300 * 3
        assert peak < 25 * size
        assert max(mean_colour.batches) == 4
        assert sum(mean_colour.batches) == 160


class TestBuild:
    def test_extracted_features_become_a_collection(
        self, tmp_path: Path, database: MemoryDatabase, mean_colour: Any, colours: Path
    ) -> None:
        extract_folders(lambda count: mean_colour, [colours], tmp_path / "x", READING)
        (colours / "green.png").unlink()
        read = read_features(FeaturesFiles.of_prefix(tmp_path / "x"))
        report = build_collection(database, SPEC, read, mean_colour.fingerprint)
        assert (report.found, report.indexed, report.collection) == (3, 3, "c")
        collection = database.open(SPEC)
        assert nearest(collection, (0, 255, 0)) == "green.png"
        rows = {os.path.basename(row.path): row for batch in collection.scan() for row in batch}
        assert (rows["red.png"].width, rows["green.png"].width) == (20, 0)
        build_collection(database, SPEC, read, mean_colour.fingerprint)
        assert collection.count() == 3

    def test_a_file_that_changed_since_is_read_again_by_the_next_index(
        self, tmp_path: Path, database: MemoryDatabase, mean_colour: Any, colours: Path
    ) -> None:
        extract_folders(lambda count: mean_colour, [colours], tmp_path / "x", READING)
        Image.new("RGB", (20, 10), (255, 255, 0)).save(colours / "red.png")
        read = read_features(FeaturesFiles.of_prefix(tmp_path / "x"))
        build_collection(database, SPEC, read, mean_colour.fingerprint)
        report = index_folders(
            database, SPEC, mean_colour.fingerprint, lambda count: mean_colour, [colours], reading=READING
        )
        assert (report.indexed, report.unchanged) == (1, 2)
        assert nearest(database.open(SPEC), (255, 255, 0)) == "red.png"

    def test_vectors_are_brought_to_unit_length(self, database: MemoryDatabase, mean_colour: Any) -> None:
        """The original did not normalise; with L2 that would rank by length."""
        rows = np.array([[10, 0, 0], [0, 0.1, 0], [0, 0, 0]], np.float32)
        spec = replace(SPEC, metric=Metric.L2)
        build_collection(database, spec, Features(rows, ["a", "b", "zero"], None), mean_colour.fingerprint)
        hits = database.open(spec).search(np.array([[0, 1, 0]], np.float32), 3)[0]
        assert [(os.path.basename(hit.path), hit.score) for hit in hits] == [("b", 0.0), ("zero", 1.0), ("a", 2.0)]

    def test_another_dimension(self, database: MemoryDatabase, mean_colour: Any) -> None:
        features = Features(np.ones((1, 5), np.float32), ["a"], None)
        with pytest.raises(FeaturesError, match=r"have dimension 5, but mean-colour makes vectors of dimension 3"):
            build_collection(database, SPEC, features, mean_colour.fingerprint)
        assert find(database, SPEC) is None

    def test_another_model(self, database: MemoryDatabase, mean_colour: Any) -> None:
        other = Fingerprint("another", "9", "cls", (8, 8), dim=3)
        features = Features(np.ones((1, 3), np.float32), ["a"], other)
        with pytest.raises(ModelMismatchError, match=r"extracted with another .*mean-colour.*--model"):
            build_collection(database, SPEC, features, mean_colour.fingerprint)
        assert find(database, SPEC) is None
