"""A network whose vectors can be computed by hand, pictures for it, and an exact database."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.library.encoding import ReadOptions
from imagesearch.records import Fingerprint, Metric
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

READING = ReadOptions(batch_size=2, max_workers=2)
SPEC = CollectionSpec("c", metric=Metric.COSINE, index_type="FLAT")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


class MeanColour:
    """A stand-in for :class:`Embedder`: the vector of a picture is its mean colour, scaled to unit length."""

    decode_side = None
    batch_size = 4

    def __init__(self) -> None:
        self.fingerprint = Fingerprint("mean-colour", "1", "mean", (8, 8), dim=3)
        self.batches: list[int] = []
        self.prepared = 0

    def preprocess(self, image: Image.Image) -> NDArray[np.float32]:
        self.prepared += 1
        return np.asarray(image.resize((8, 8)), dtype=np.float32).transpose(2, 0, 1)

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.batches.append(len(batch))
        means = np.stack([pixels.mean(axis=(1, 2)) for pixels in batch]) + 1e-3
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def mean_colour() -> Any:
    return MeanColour()


@pytest.fixture
def database() -> MemoryDatabase:
    return MemoryDatabase()


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Three pictures of one colour each, named after it."""
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


def nearest(collection: Collection, colour: tuple[int, int, int]) -> str:
    """The name of the picture closest to a colour."""
    query = np.array([colour], np.float32)
    return os.path.basename(collection.search(query / np.linalg.norm(query), 1)[0][0].path)
