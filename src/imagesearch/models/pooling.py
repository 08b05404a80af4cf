"""From a network's output to one vector per image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.network import Network

if TYPE_CHECKING:
    import torch

# The pooling whose vectors lie in the space that a text tower shares.
TEXT_SPACE = "projection"
# As torch.nn.functional.normalize: a vector of zeros stays one.
_SHORTEST = np.float32(1e-12)


def unit_vectors(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows scaled to unit length; a row of zeros stays one.

    Args:
        vectors: float32, shape (n, dim).
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, _SHORTEST)
    return unit


def features_of(output: Any) -> torch.Tensor:
    """The tensor in what ``get_image_features`` or ``get_text_features`` returns; Transformers 4 has it bare."""
    features: torch.Tensor = output if hasattr(output, "shape") else output.pooler_output
    return features


def pooled(network: Network, pooling: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from normalised pixels (n, 3, height, width) to vectors (n, dim).

    Args:
        pooling: a result of :func:`resolve_pooling`.
    """

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        model = network.model
        if pooling == TEXT_SPACE:
            return features_of(model.get_image_features(pixel_values=pixels))
        return pool(_image_tower(model)(pixel_values=pixels), pooling, network.checkpoint.name)

    return compute


def pool(output: Any, pooling: str, name: str) -> torch.Tensor:
    """Vectors, shape (n, dim), of a backbone's output.

    Args:
        pooling: ``"pooler"``, ``"cls"`` or ``"mean"``.
        name: of the checkpoint, for messages.

    Raises:
        ModelError: the output lacks what the pooling needs.
    """
    if pooling == "pooler":
        return _of_output(output, "pooler_output", name).flatten(1)
    maps = getattr(output, "feature_maps", None)  # of what Transformers has as a backbone alone (HGNetV2)
    states = maps[-1] if maps else _of_output(output, "last_hidden_state", name)
    if pooling == "cls":
        return states.select(1, 0)
    # (n, channels, height, width) from convolutional networks, (n, tokens, channels) from transformers
    return states.mean(dim=(2, 3)) if states.ndim == 4 else states.mean(dim=1)


def resolve_pooling(network: Network, pooling: str) -> str:
    """The setting ``model.pooling`` for one network: ``"projection"``, ``"pooler"``, ``"cls"`` or ``"mean"``.

    Raises:
        ModelError: the network cannot be pooled that way, or weights that count are missing.
    """
    _check_weights(network)
    return choose_pooling(network) if pooling == "auto" else _check_pooling(network, pooling)


def choose_pooling(network: Network) -> str:
    """How the checkpoint's own authors make one vector of an image, as far as its weights were trained.

    * models with a text tower (CLIP, SigLIP): the projection into the space they share;
    * a trained pooler, or one without weights (global average): the pooler;
    * otherwise the class token, as Transformers fills a missing pooler with random numbers that differ in
      every process; and the mean over positions where there is no class token.
    """
    if _shares_space(network):
        return TEXT_SPACE
    if not _missing(network) and _has_pooler(network):
        return "pooler"
    return "cls" if has_class_token(network.model) else "mean"


def _check_weights(network: Network) -> None:
    """Refuse a network whose vectors would be random; only a pooler may be missing, or a tower for texts."""
    may_lack = () if _shares_space(network) else ("pooler",)
    if missing := [name for name in _missing(network) if not any(part in name for part in may_lack)]:
        raise ModelError(
            f"{network.checkpoint.name}: the checkpoint lacks {len(missing)} of the network's weights"
            f" (first: {min(missing)}); its vectors would be random"
        )


def _missing(network: Network) -> list[str]:
    """Names of the parameters that the checkpoint did not have, and that vectors of images depend on."""
    if not hasattr(network.model, "get_image_features"):
        return sorted(network.missing)
    needed = ("vision", "visual") if _shares_space(network) else ("vision",)
    return sorted(name for name in network.missing if any(part in name for part in needed))


def _shares_space(network: Network) -> bool:
    """Whether images are projected into a space of texts; CLIP's kin saved as classifiers are not."""
    projections = {"visual_projection.weight", "text_projection.weight"}
    return hasattr(network.model, "get_image_features") and not projections <= network.missing


def _check_pooling(network: Network, pooling: str) -> str:
    name = network.checkpoint.name
    if pooling == "pooler" and any("pooler" in missing for missing in network.missing):
        raise ModelError(f"model.pooling = 'pooler': {name} has no trained pooler (allowed: auto, cls, mean)")
    if pooling == "pooler" and _shares_space(network):
        return TEXT_SPACE
    if pooling == "cls" and not has_class_token(network.model):
        raise ModelError(f"model.pooling = 'cls': {name} has no class token (allowed: auto, pooler, mean)")
    return pooling


def _has_pooler(network: Network) -> bool:
    model = _image_tower(network.model)
    with network.inference():
        output = model(pixel_values=network.stack([network.blank]))
    return getattr(output, "pooler_output", None) is not None


def _image_tower(model: Any) -> Any:
    """Of models with a text tower, which want texts too, the part that does not; else the whole."""
    return getattr(model, "vision_model", model)


def has_class_token(model: Any) -> bool:
    """Whether a backbone has a token for the whole picture."""
    return any(name.rsplit(".", 1)[-1] in ("cls_token", "class_embedding") for name, _ in model.named_parameters())


def _of_output(output: Any, field: str, name: str) -> torch.Tensor:
    value: torch.Tensor | None = getattr(output, field, None)
    if value is None:
        raise ModelError(f"{name} gives no {field}; choose another model.pooling")
    return value
