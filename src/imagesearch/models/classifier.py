"""Pictures to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.network import Network
from imagesearch.models.preprocessing import Pixels, Preprocessor
from imagesearch.models.runtimes.base import PictureModel, Runtime
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.records import Prediction

if TYPE_CHECKING:
    import torch


class Classifier(PictureModel):
    """Labels pictures with the classes that one checkpoint was trained on.

    Attributes:
        labels: class names; position is the class's number.
    """

    def __init__(self, preprocessor: Preprocessor, runtime: Runtime, labels: Sequence[str]) -> None:
        super().__init__(preprocessor, runtime)
        self.labels = tuple(labels)

    @classmethod
    def of_network(cls, network: Network) -> Classifier:
        """Read the class names.

        Args:
            network: loaded for ``"labels"``.

        Raises:
            ModelError: the checkpoint has no trained classification head.
        """
        if network.missing:
            raise ModelError(
                f"{network.checkpoint.name} has no trained classification head (its labels would be random);"
                " set model.classifier to a checkpoint that has one, such as google/vit-base-patch16-224"
            )

        def logits(pixels: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = network.model(pixel_values=pixels).logits
            return outputs

        names = network.config.id2label
        labels = [str(names[index]) for index in sorted(names)]
        return cls(network.preprocessor, TorchRuntime(network, logits), labels)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed images, most probable first.

        Args:
            batch: one or more results of :meth:`preprocess`.
            top: labels per image; no more than there are classes.

        Raises:
            ModelError: memory does not hold the batch.
        """
        scores = probabilities(self.runtime.run(batch))
        best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
        return [
            [Prediction(self.labels[i], float(row[i]), i) for i in indices.tolist()]
            for row, indices in zip(scores, best, strict=True)
        ]


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of every row: shape (n, classes)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares
