"""Pictures to vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.loading import Network
from imagesearch.models.pooling import pooled, resolve_pooling
from imagesearch.models.preparing import Pixels, Preparer
from imagesearch.models.runtime import PictureModel, Runtime, TorchRuntime
from imagesearch.records import Fingerprint

# As torch.nn.functional.normalize: a vector of zeros stays one.
_SHORTEST = np.float32(1e-12)


class Embedder(PictureModel):
    """Turns pictures into comparable vectors with one network.

    Attributes:
        fingerprint: what its vectors may be compared with.
    """

    def __init__(self, preparer: Preparer, runtime: Runtime, fingerprint: Fingerprint) -> None:
        super().__init__(preparer, runtime)
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
