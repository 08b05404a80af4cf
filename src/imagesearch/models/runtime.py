"""What runs a network, whatever library does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.devices import batch_size
from imagesearch.models.preparing import Pixels, Preparer, decode_side

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from imagesearch.models.loading import Network


class Runtime(Protocol):
    """Prepared pictures to the network's numbers."""

    @property
    def device(self) -> str:
        """Where it computes: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``."""

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Vectors (before they are scaled to unit length) or logits: float32, shape (n, outputs). Thread-safe.

        Args:
            batch: one to n pictures from the network's own preparation.

        Raises:
            ModelError: memory does not hold the batch.
        """


class TorchRuntime:
    """Runs a loaded network in PyTorch.

    Attributes:
        network: the loaded model.
        compute: normalised pixels, shape (n, 3, height, width), to outputs, shape (n, outputs).
    """

    def __init__(self, network: Network, compute: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.network = network
        self.compute = compute

    @property
    def device(self) -> str:
        """See :attr:`Runtime.device`."""
        return self.network.device

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`Runtime.run`."""
        with self.network.running():
            outputs: NDArray[np.float32] = self.compute(self.network.stack(batch)).float().cpu().numpy()
            return outputs


class PictureModel:
    """A network and the preparation of its pictures: what embedder and classifier have in common.

    Attributes:
        preparer: how pictures become the network's input.
        runtime: what runs the network.
    """

    def __init__(self, preparer: Preparer, runtime: Runtime) -> None:
        self.preparer = preparer
        self.runtime = runtime

    @property
    def decode_side(self) -> int | None:
        """See :func:`preparing.decode_side`."""
        return decode_side(self.preparer)

    @property
    def batch_size(self) -> int:
        """How many pictures to run at once, where nobody says: see :func:`devices.batch_size`."""
        return batch_size(self.runtime.device, self.preparer.input_size)

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: see :class:`Preparer`. Thread-safe."""
        return self.preparer.prepare(image)
