"""Pictures to labels."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.hub import CALIBRATION, Checkpoint
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
        temperature: what logits are divided by before they become probabilities: see :func:`read_temperature`.
        several: whether each label is decided by itself, so that none, one or several of them can be probable.
    """

    def __init__(
        self,
        preprocessor: Preprocessor,
        runtime: Runtime,
        labels: Sequence[str],
        temperature: float = 1.0,
        several: bool = False,
    ) -> None:
        super().__init__(preprocessor, runtime)
        self.labels = tuple(labels)
        self.temperature = temperature
        self.several = several

    @classmethod
    def of_network(cls, network: Network) -> Classifier:
        """Read the class names.

        Args:
            network: loaded for ``"labels"``.

        Raises:
            ModelError: the checkpoint has no trained classification head, or its calibration is no number.
        """
        if network.missing:
            raise ModelError(
                f"{network.checkpoint.name} has no trained classification head (its labels would be random);"
                " set model.classifier to a checkpoint that has one, such as google/vit-base-patch16-224"
            )

        names = network.config.id2label
        labels = [str(names[index]) for index in sorted(names)]

        def logits(pixels: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = network.model(pixel_values=pixels).logits
            if outputs.shape[1] != len(labels):  # some configurations (PVT) say their number twice
                raise ModelError(
                    f"{network.checkpoint.name}: config.json names {len(labels)} labels (id2label), but its"
                    f" network tells {outputs.shape[1]} apart: name them all, and set num_labels, where it is"
                    " there, to as many"
                )
            return outputs

        temperature = read_temperature(network.checkpoint)
        several = gives_several(network.checkpoint)
        return cls(network.preprocessor, TorchRuntime(network, logits), labels, temperature, several)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed images, most probable first.

        Args:
            batch: one or more results of :meth:`preprocess`.
            top: labels per image; no more than there are classes.

        Raises:
            ModelError: memory does not hold the batch.
        """
        return most_probable(probabilities(self.logits(batch), several=self.several), self.labels, top)

    def logits(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """Logits, divided by the temperature, of preprocessed images: float32, shape (n, classes).

        Raises:
            ModelError: memory does not hold the batch.
        """
        logits: NDArray[np.float32] = self.runtime.run(batch) / np.float32(self.temperature)
        return logits


def read_temperature(checkpoint: Checkpoint) -> float:
    """The temperature that makes a checkpoint's probabilities true (Guo et al., ICML 2017).

    It stands in ``calibration.json`` beside the weights, as ``{"temperature": 1.37}``; 1 where there is none.

    Raises:
        ModelError: the file is there, but holds no such number.
    """
    file = checkpoint.folder / CALIBRATION
    try:
        temperature = json.loads(file.read_bytes())["temperature"]
    except FileNotFoundError:
        return 1.0
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read a temperature from {CALIBRATION}: {error!r}") from error
    is_number = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not is_number or not math.isfinite(temperature) or not 1e-3 <= temperature <= 1e3:
        raise ModelError(
            f"{checkpoint.name}: {CALIBRATION}: temperature = {temperature!r}: must be a number from 0.001 to 1000"
        )
    return float(temperature)


def gives_several(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint was trained to give pictures several labels, or has a single one: as in Transformers.

    Raises:
        ModelError: its config.json cannot be read, or says that it measures pictures and gives them no labels.
    """
    try:
        settings = json.loads((checkpoint.folder / "config.json").read_bytes())
        names, problem = settings.get("id2label"), settings.get("problem_type")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its settings: {error}") from error
    if problem == "regression":
        raise ModelError(
            f"{checkpoint.name} does not label pictures: its numbers are measurements, no probabilities"
            " (problem_type: regression in its config.json)"
        )
    number = len(names) if isinstance(names, dict) else settings.get("num_labels")
    return problem == "multi_label_classification" or number == 1


def most_probable(scores: NDArray[np.float32], labels: Sequence[str], top: int) -> list[list[Prediction]]:
    """The labels with the highest scores, shape (n, labels), of each row, highest first; ties in order."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [
        [Prediction(labels[i], float(row[i]), i) for i in indices.tolist()]
        for row, indices in zip(scores, best, strict=True)
    ]


def probabilities(logits: NDArray[np.float32], *, several: bool = False) -> NDArray[np.float32]:
    """Softmax of every row, or the sigmoid of every number where a picture may have several labels.

    Args:
        logits: shape (n, classes).
        several: whether each label is decided by itself.
    """
    if several:  # written so that neither end overflows
        alone: NDArray[np.float32] = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * logits))
        return alone
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float32] = powers / powers.sum(axis=1, keepdims=True)
    return shares
