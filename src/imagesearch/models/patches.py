"""Vectors of the parts of an image: what a network knows before it makes one vector of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.network import Network
from imagesearch.models.pooling import unit_vectors
from imagesearch.models.runtimes.base import PictureModel
from imagesearch.models.runtimes.torch import TorchRuntime


class PatchEncoder(PictureModel):
    """Turns an image into vectors of its patches, in PyTorch.

    Patches are the tokens of a vision transformer's last layer, without the class token and registers, and the
    positions of a convolutional network's last feature map.
    """

    def __init__(self, network: Network) -> None:
        """Take a network that was loaded for ``"features"``."""
        super().__init__(network.preprocessor, TorchRuntime(network, lambda pixels: _patches(network, pixels)))

    def encode(self, batch: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of preprocessed images' patches.

        Args:
            batch: one or more results of :meth:`preprocess`.

        Returns:
            float32, shape (n, patches, dim), of unit length.

        Raises:
            ModelError: the network has no patches, or memory does not hold the batch.
        """
        states = self.runtime.run(batch)
        return unit_vectors(states.reshape(-1, states.shape[-1])).reshape(states.shape)


def _patches(network: Network, pixels: Any) -> Any:
    """Shape (n, patches, channels)."""
    model = getattr(network.model, "vision_model", network.model)
    states = getattr(model(pixel_values=pixels), "last_hidden_state", None)
    if states is None or states.ndim not in (3, 4):
        raise ModelError(f"{network.checkpoint.name} gives no vectors of a picture's patches")
    if states.ndim == 4:  # (n, channels, height, width) from convolutional networks
        return states.flatten(2).transpose(1, 2)
    return states[:, states.shape[1] - _patch_count(network, states.shape[1]) :]


def _patch_count(network: Network, tokens: int) -> int:
    """How many of a transformer's tokens, the last, are patches; others come before them."""
    side = getattr(getattr(network.config, "vision_config", network.config), "patch_size", None)
    sides = (side, side) if isinstance(side, int) else tuple(side or ())
    if len(sides) != 2:
        return tokens
    height, width = network.input_size
    count = (height // int(sides[0])) * (width // int(sides[1]))
    # Networks that merge patches (Swin) end with fewer, and have no other tokens.
    return count if 0 < count <= tokens else tokens
