"""Pictures to vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.loading import Network
from imagesearch.models.pooling import pooled, resolve_pooling
from imagesearch.models.preparing import Pixels, Preparer, decode_side
from imagesearch.models.runtime import Runtime, TorchRuntime
from imagesearch.records import Fingerprint

if TYPE_CHECKING:
    from PIL import Image

# As torch.nn.functional.normalize: a vector of zeros stays one.
_SHORTEST = np.float32(1e-12)


class Embedder:
    """Turns pictures into comparable vectors with one network.

    Attributes:
        preparer: how pictures become the network's input.
        runtime: what runs the network.
        fingerprint: what its vectors may be compared with.
    """

    def __init__(self, preparer: Preparer, runtime: Runtime, fingerprint: Fingerprint) -> None:
        self.preparer = preparer
        self.runtime = runtime
        self.fingerprint = fingerprint

    @classmethod
    def of_network(cls, network: Network, *, pooling: str = "auto", normalize: bool = True) -> Embedder:
        """Choose the pooling and find out the vectors' length.

        Args:
            network: loaded for ``"features"``.
            pooling: ``"auto"`` (see :func:`pooling.choose_pooling`), ``"pooler"``, ``"cls"`` or ``"mean"``.
            normalize: scale vectors to unit length.

        Raises:
            ModelError: the network cannot be pooled that way.
        """
        pooling = resolve_pooling(network, pooling)
        runtime = TorchRuntime(network, pooled(network, pooling))
        fingerprint = Fingerprint(
            model=network.checkpoint.name,
            revision=network.checkpoint.revision,
            pooling=pooling,
            input_size=network.input_size,
            dim=runtime.run([network.blank]).shape[1],
            normalized=normalize,
        )
        return cls(network.preparer, runtime, fingerprint)

    @property
    def decode_side(self) -> int | None:
        """See :func:`preparing.decode_side`."""
        return decode_side(self.preparer)

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: see :class:`Preparer`. Thread-safe."""
        return self.preparer.prepare(image)

    def encode(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Vectors of prepared pictures.

        Args:
            batch: one or more results of :meth:`prepare`.

        Returns:
            float32, shape (n, dim), rows of unit length unless configured otherwise.

        Raises:
            ModelError: memory does not hold the batch.
        """
        vectors = self.runtime.run(batch)
        if not self.fingerprint.normalized:
            return vectors
        unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _SHORTEST)
        return unit
