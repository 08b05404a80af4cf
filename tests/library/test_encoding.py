"""Files to vectors: how many at once go to the network, and how many to the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagesearch.images.find import FoundFile
from imagesearch.library import encoding
from imagesearch.library.encoding import ReadOptions, encode_files, find_all


@pytest.fixture
def seventy(tmp_path: Path) -> list[FoundFile]:
    Image.new("RGB", (8, 8), (200, 0, 0)).save(tmp_path / "0.png")
    for number in range(1, 70):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")
    return find_all([tmp_path], ReadOptions().selection)[0]


def stored(files: list[FoundFile], network: Any, reading: ReadOptions) -> list[int]:
    return [len(batch.records) for batch in encode_files(files, network, reading)]


def test_the_network_chooses_its_batches(seventy: list[FoundFile], mean_colour: Any) -> None:
    mean_colour.batch_size = 12
    assert stored(seventy, mean_colour, ReadOptions()) == [36, 34]
    assert mean_colour.batches == [12] * 5 + [10]


def test_what_takes_long_is_stored_at_once(
    seventy: list[FoundFile], mean_colour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "_SECONDS_TOGETHER", 0.0)
    mean_colour.batch_size = 12
    assert stored(seventy, mean_colour, ReadOptions()) == [12] * 5 + [10]


def test_a_batch_size_that_is_set_holds_for_both(seventy: list[FoundFile], mean_colour: Any) -> None:
    assert stored(seventy, mean_colour, ReadOptions(batch_size=20)) == [20, 20, 20, 10]
    assert mean_colour.batches == [20, 20, 20, 10]


def test_what_cannot_be_read_comes_along(seventy: list[FoundFile], mean_colour: Any) -> None:
    for file in seventy[:40]:
        os.unlink(file.path)
        Path(file.path).write_bytes(b"nothing")
    mean_colour.batch_size = 16
    batches = list(encode_files(seventy, mean_colour, ReadOptions()))
    assert [len(batch.skipped) for batch in batches] == [32, 8, 0]
    assert [batch.vectors.shape for batch in batches] == [(0, 3), (24, 3), (6, 3)]
