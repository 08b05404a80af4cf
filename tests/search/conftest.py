"""A network whose vectors can be computed by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.records import Fingerprint


class MeanColour:
    """A stand-in for :class:`Embedder`: the vector of a picture is its mean colour, scaled to unit length."""

    def __init__(self) -> None:
        self.fingerprint = Fingerprint("mean-colour", "1", "mean", (8, 8), dim=3)
        self.batches: list[int] = []
        self.prepared = 0

    def prepare(self, image: Image.Image) -> NDArray[np.float32]:
        self.prepared += 1
        return np.asarray(image.resize((8, 8)), dtype=np.float32).transpose(2, 0, 1)

    def encode(self, batch: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        self.batches.append(len(batch))
        means = np.stack([pixels.mean(axis=(1, 2)) for pixels in batch]) + 1e-3
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def mean_colour() -> Any:
    return MeanColour()
