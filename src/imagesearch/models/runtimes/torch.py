"""Runs a network in PyTorch, as it was loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.preprocessing import Pixels

if TYPE_CHECKING:
    import torch

    from imagesearch.models.network import Network


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
        with self.network.inference():
            outputs: NDArray[np.float32] = self.compute(self.network.stack(batch)).float().cpu().numpy()
        if not np.isfinite(outputs).all():
            network = self.network
            raise ModelError(
                f"{network.checkpoint.name} makes numbers that are not finite (NaN or infinity): its weights are"
                f" damaged, or too large for model.precision = {str(network.dtype).removeprefix('torch.')}"
            )
        return outputs
