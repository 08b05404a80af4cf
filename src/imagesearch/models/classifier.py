"""Pictures to labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagesearch.errors import ModelError
from imagesearch.models.loading import Network, Pixels
from imagesearch.records import Prediction

if TYPE_CHECKING:
    from PIL import Image


class Classifier:
    """Labels pictures with the classes that one checkpoint was trained on.

    Attributes:
        network: the loaded model.
        labels: class names; position is the class's number.
    """

    def __init__(self, network: Network) -> None:
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
        self.network = network
        names = network.config.id2label
        self.labels = tuple(str(names[index]) for index in sorted(names))

    def prepare(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as the network's input: see :meth:`Network.prepare`."""
        return self.network.prepare(image)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of prepared pictures, most probable first.

        Args:
            batch: n arrays of shape (3, height, width).
            top: labels a picture; no more than there are classes.
        """

        with self.network.running():
            logits = self.network.model(pixel_values=self.network.stack(batch)).logits
            scores, indices = logits.float().softmax(dim=-1).topk(min(top, len(self.labels)), dim=-1)
        return [
            [Prediction(self.labels[i], s, i) for s, i in zip(row_scores, row_indices, strict=True)]
            for row_scores, row_indices in zip(scores.tolist(), indices.tolist(), strict=True)
        ]
