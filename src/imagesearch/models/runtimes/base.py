"""What runs a network, whatever library does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.devices import batch_size
from imagesearch.models.preprocessing import Pixels, Preprocessor, decode_side

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """The settings ``model.device``, ``model.precision`` and ``model.runtime``."""

    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"


AUTO = RuntimeOptions()


class Runtime(Protocol):
    """From preprocessed images to the network's numbers."""

    @property
    def device(self) -> str:
        """Where it computes: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``."""

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Vectors (before they are scaled to unit length) or logits. Thread-safe.

        Args:
            batch: one to n images from the network's own preprocessing.

        Returns:
            float32, shape (n, outputs).

        Raises:
            ModelError: memory does not hold the batch.
        """


class PictureModel:
    """A network and its preprocessing: what embedder and classifier have in common.

    Attributes:
        preprocessor: how images become the network's input.
        runtime: what runs the network.
    """

    def __init__(self, preprocessor: Preprocessor, runtime: Runtime) -> None:
        self.preprocessor = preprocessor
        self.runtime = runtime

    @property
    def decode_side(self) -> int | None:
        """See :func:`preprocessing.decode_side`."""
        return decode_side(self.preprocessor)

    @property
    def batch_size(self) -> int:
        """How many images to run at once where nobody says: see :func:`devices.batch_size`."""
        return batch_size(self.runtime.device, self.preprocessor.input_size)

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB image as the network's input: see :class:`Preprocessor`. Thread-safe."""
        return self.preprocessor.preprocess(image)
