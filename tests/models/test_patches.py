"""Vectors of pictures' patches, from networks of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network
from imagesearch.models.patches import PatchEncoder

from ..conftest import draw_picture
from .conftest import FAMILIES, save_checkpoint

# Of the small networks' 32 x 32 pixels: a grid of four by four, or what is left after strides.
PATCHES = {"swin": 16, "convnext": 1, "resnet": 1, "mobilenet": 1}


@pytest.mark.parametrize("family", FAMILIES)
def test_patches_are_those_of_the_last_layer_without_other_tokens(family: str, tmp_path: Path) -> None:
    import torch

    network = Network.load(
        find_checkpoint(str(save_checkpoint(tmp_path / family, family))), "features", device="cpu"
    )
    encoder = PatchEncoder(network)
    batch = [encoder.preprocess(draw_picture(number)) for number in range(3)]
    found = encoder.encode(batch)
    assert found.dtype == np.float32
    assert found.shape[0] == 3
    assert np.allclose(np.linalg.norm(found, axis=2), 1, atol=1e-5)
    with torch.inference_mode():
        model = getattr(network.model, "vision_model", network.model)
        states = model(pixel_values=network.stack(batch)).last_hidden_state
        states = states.flatten(2).transpose(1, 2) if states.ndim == 4 else states
    if family not in PATCHES:
        assert found.shape[1] == 16
        assert states.shape[1] - found.shape[1] == (0 if "siglip" in family else 2 if "deit" in family else 1)
    expected = torch.nn.functional.normalize(states.float(), dim=2)[:, -found.shape[1] :].numpy()
    assert np.allclose(found, expected, atol=1e-5)


def test_registers_are_no_patches(tmp_path: Path) -> None:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    folder = save_checkpoint(tmp_path / "model", "dinov2")
    shape = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**shape, num_register_tokens=3)).save_pretrained(folder)
    encoder = PatchEncoder(Network.load(find_checkpoint(str(folder)), "features", device="cpu"))
    assert encoder.encode([encoder.preprocess(draw_picture(0))]).shape == (1, 16, 32)
