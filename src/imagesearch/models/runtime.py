"""What runs a network, whatever library does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.preparing import Pixels

if TYPE_CHECKING:
    import torch

    from imagesearch.models.loading import Network


class Runtime(Protocol):
    """Prepared pictures to the network's numbers."""

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

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`Runtime.run`."""
        with self.network.running():
            outputs: NDArray[np.float32] = self.compute(self.network.stack(batch)).float().cpu().numpy()
            return outputs
