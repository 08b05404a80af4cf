"""A checkpoint with a classification head of one's own: what the head is given, and writing the result.

The network is the one that Transformers makes of the checkpoint for image classification, so that what is written
is an ordinary checkpoint of its family.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.hub import SETTINGS, Checkpoint
from imagesearch.models.network import LoadedModel, Network, load_model, save_model
from imagesearch.models.preprocessing import Pixels
from imagesearch.models.runtimes.base import PictureModel
from imagesearch.models.runtimes.export import trial_pictures
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.records import Fingerprint

if TYPE_CHECKING:
    import torch

# What a fingerprint calls vectors that are a head's input.
POOLING = "head"
# Of logits, relative to the largest: bfloat16 has 8 bits.
_ROUNDING = 0.05


def load_with_new_head(checkpoint: Checkpoint, labels: Sequence[str], *, several: bool = False) -> LoadedModel:
    """Load a checkpoint with a fresh head, whose weights are random.

    Args:
        labels: names of the classes.
        several: whether a picture may have several labels.

    Raises:
        ModelError: the files are damaged, the architecture does not label pictures, or other weights than the
            head's are missing.
    """
    kind = "multi_label_classification" if several else "single_label_classification"
    loaded = load_model(
        checkpoint,
        "labels",
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        problem_type=kind,
        ignore_mismatched_sizes=True,
    )
    if hasattr(loaded.config, "text_config"):
        raise ModelError(
            f"{checkpoint.name} has a text tower, which a checkpoint that labels pictures cannot keep: choose a"
            " model of pictures alone, such as dinov2-small (--model)"
        )
    inside = {f"{find_head(loaded)[0]}.{kind}" for kind in ("weight", "bias")}
    if missing := sorted(loaded.missing - inside):
        raise ModelError(
            f"{checkpoint.name}: the checkpoint lacks {len(missing)} of the network's weights (first:"
            f" {missing[0]}); what is learnt on it would be worthless"
        )
    # What some checkpoints, such as the bundled one, say of their former labels besides their names.
    vars(loaded.config).pop("wnids", None)
    return loaded


def find_head(loaded: LoadedModel) -> tuple[str, Any]:
    """Name and module of the linear layer whose output are the logits.

    Raises:
        ModelError: there is none.
    """
    import torch

    rows = loaded.config.num_labels
    found = [
        (name, module)
        for name, module in loaded.model.named_modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == rows and module.bias is not None
    ]
    if not found:
        raise ModelError(f"{loaded.checkpoint.name}: its classification head has no linear layer to replace")
    # Of several (a network may be as wide as there are labels) the head is the last.
    return found[-1]


class HeadInputs(PictureModel):
    """Turns pictures into what a network's classification head is given; an ``Encoder`` without texts.

    Attributes:
        fingerprint: what its vectors may be compared with.
    """

    def __init__(self, loaded: LoadedModel, *, device: str = "auto", precision: str = "auto") -> None:
        """Take over a network that :func:`load_with_new_head` loaded.

        Raises:
            ModelError: its logits are not one linear layer's output; or see :class:`Network`.
        """
        name, head = find_head(loaded)
        network = Network(loaded, device=device, precision=precision)
        seen: list[torch.Tensor] = []
        head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

        def compute(pixels: torch.Tensor) -> torch.Tensor:
            seen.clear()
            logits = network.model(pixel_values=pixels).logits
            given = seen.pop()
            if given.ndim != 2 or logits.shape != (len(given), head.out_features):
                raise ModelError(
                    f"{loaded.checkpoint.name}: its head ({name}) is not one linear layer on a vector"
                )
            return given

        super().__init__(network.preprocessor, TorchRuntime(network, compute))
        checkpoint = loaded.checkpoint
        self.fingerprint = Fingerprint(
            model=checkpoint.name,
            revision=checkpoint.revision,
            pooling=POOLING,
            input_size=network.input_size,
            dim=self.runtime.run([network.blank]).shape[1],
            normalized=False,
        )
        self._require_linear(head, network)

    def _require_linear(self, head: Any, network: Network) -> None:
        """Make sure that nothing comes after the layer."""
        pictures = trial_pictures(network.preprocessor, 2)
        with network.inference():
            logits = network.model(pixel_values=network.stack(pictures)).logits.float().cpu().numpy()
        rows, bias = (tensor.detach().float().cpu().numpy() for tensor in (head.weight, head.bias))
        if np.abs(self.runtime.run(pictures) @ rows.T + bias - logits).max() > _ROUNDING * np.abs(logits).max():
            raise ModelError(f"{network.checkpoint.name}: its classification head is not one linear layer")

    def encode(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """What the head is given of preprocessed images: float32, shape (n, dim).

        Raises:
            ModelError: memory does not hold the batch.
        """
        return self.runtime.run(batch)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Refuse.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"{self.fingerprint.model}: what its classification head is given has no texts: {texts[0]!r}"
        )


def set_head(loaded: LoadedModel, weights: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    """Give a network this head.

    Args:
        loaded: from :func:`load_with_new_head`.
        weights: shape (labels, dim).
        bias: shape (labels,).

    Raises:
        ModelError: the head takes vectors of another length.
    """
    import torch

    name, head = find_head(loaded)
    shape = tuple(head.weight.shape)
    if shape != weights.shape:
        raise ModelError(f"{loaded.checkpoint.name}: its head ({name}) has shape {shape}, not {weights.shape}")
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(np.ascontiguousarray(weights)))
        head.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias)))


def divide_logits(loaded: LoadedModel, temperature: float) -> None:
    """Make the temperature of a network's scores part of its head."""
    import torch

    _, head = find_head(loaded)
    with torch.no_grad():
        head.weight.div_(temperature)
        head.bias.div_(temperature)


def write_checkpoint(loaded: LoadedModel, folder: Path) -> None:
    """Write a network, and the preprocessing of the checkpoint it came from.

    Args:
        loaded: from :func:`load_with_new_head`.
        folder: there, and empty.

    Raises:
        OSError: the folder cannot be written.
    """
    save_model(loaded, folder)
    for setting in SETTINGS[1:]:
        if (source := loaded.checkpoint.folder / setting).is_file():
            shutil.copyfile(source, folder / setting)
