"""Small checkpoints with random weights, one of each family, written once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network

from ..conftest import draw_picture

_SIZE = 32
_TRANSFORMER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": _SIZE,
    "patch_size": 8,
}
_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 40,
    "bos_token_id": 48,
    "eos_token_id": 49,
    "pad_token_id": 0,
}

# Crops the centre like most processors of real checkpoints, so that preparation matters to the result.
_CROPPING = {
    "size": {"shortest_edge": 40},
    "do_center_crop": True,
    "crop_size": {"height": _SIZE, "width": _SIZE},
    "resample": 3,
}
_STRETCHING = {"size": {"height": _SIZE, "width": _SIZE}, "resample": 2}


def _vit() -> Any:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(**_TRANSFORMER, intermediate_size=64))


def _vit_labels() -> Any:
    """Saved with a classification head, and so without the pooler that a backbone has."""
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(**_TRANSFORMER, intermediate_size=64, id2label=_labels(7)))


def _deit_labels() -> Any:
    from transformers import DeiTConfig, DeiTForImageClassification

    return DeiTForImageClassification(DeiTConfig(**_TRANSFORMER, intermediate_size=64))


def _beit_labels() -> Any:
    from transformers import BeitConfig, BeitForImageClassification

    return BeitForImageClassification(BeitConfig(**_TRANSFORMER, intermediate_size=64))


def _dinov2() -> Any:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(**_TRANSFORMER))


def _dinov2_labels() -> Any:
    """Its head takes the class token and the mean of the patches, side by side."""
    from transformers import Dinov2Config, Dinov2ForImageClassification

    return Dinov2ForImageClassification(Dinov2Config(**_TRANSFORMER, id2label=_labels(4)))


def _swin() -> Any:
    from transformers import SwinConfig, SwinForImageClassification

    shape = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
    return SwinForImageClassification(SwinConfig(image_size=_SIZE, patch_size=4, **shape))


def _convnext() -> Any:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    shape = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    return ConvNextForImageClassification(ConvNextConfig(**shape, image_size=_SIZE, id2label=_labels(5)))


def _resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    return ResNetForImageClassification(ResNetConfig(**shape))


def _mobilenet() -> Any:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    config = MobileNetV2Config(image_size=_SIZE, depth_multiplier=0.25, id2label=_labels(6))
    return MobileNetV2ForImageClassification(config)


def _clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    vision = {**_TRANSFORMER, "intermediate_size": 64}
    return CLIPModel(CLIPConfig(text_config=_TEXT, vision_config=vision, projection_dim=24))


def _siglip() -> Any:
    from transformers import SiglipConfig, SiglipModel

    text = {**_TEXT, "projection_size": _TRANSFORMER["hidden_size"]}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**_TRANSFORMER, "intermediate_size": 64}))


def _siglip2() -> Any:
    """Those of one resolution are SigLIP's network; only texts are cut into other tokens."""
    from transformers import SiglipConfig, SiglipModel

    text = {**_TEXT, "num_hidden_layers": 2, "projection_size": _TRANSFORMER["hidden_size"]}
    return SiglipModel(SiglipConfig(text_config=text, vision_config={**_TRANSFORMER, "intermediate_size": 48}))


def _labels(number: int) -> dict[int, str]:
    return {index: f"class {index}" for index in range(number)}


# family -> (network, image processor's class, its settings)
_FAMILIES: dict[str, tuple[Callable[[], Any], str, dict[str, Any]]] = {
    "vit": (_vit, "vit.ViT", _STRETCHING),
    "vit_labels": (_vit_labels, "vit.ViT", _STRETCHING),
    "deit_labels": (_deit_labels, "deit.DeiT", _CROPPING | {"size": {"height": 40, "width": 40}}),
    "beit_labels": (_beit_labels, "beit.Beit", _STRETCHING),
    "dinov2": (_dinov2, "bit.Bit", _CROPPING),
    "dinov2_labels": (_dinov2_labels, "bit.Bit", _CROPPING),
    "swin": (_swin, "vit.ViT", _STRETCHING),
    "convnext": (_convnext, "convnext.ConvNext", {"size": {"shortest_edge": _SIZE}}),
    "resnet": (_resnet, "convnext.ConvNext", {"size": {"shortest_edge": _SIZE}}),
    "mobilenet": (_mobilenet, "mobilenet_v2.MobileNetV2", _CROPPING),
    "clip": (_clip, "clip.CLIP", _CROPPING),
    "siglip": (_siglip, "siglip.Siglip", _STRETCHING),
    "siglip2": (_siglip2, "siglip.Siglip", _STRETCHING),
}

FAMILIES = tuple(_FAMILIES)


def save_checkpoint(folder: Path, family: str, seed: int = 0) -> Path:
    """Write a random checkpoint of a family, with its image processor."""
    import importlib

    import torch

    make, processor, options = _FAMILIES[family]
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            # Transformers starts with tiny weights and zero biases, which would hide a forgotten layer.
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.add_(torch.randn_like(tensor) * 0.1)
            elif tensor.is_floating_point():
                tensor.normal_(std=1.4 / max(1, tensor[0].numel()) ** 0.5)
    model.save_pretrained(folder)
    module, _, name = processor.partition(".")
    home = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    getattr(home, f"{name}ImageProcessorPil")(**options).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, family: str) -> None:
    """Add a tokenizer with one token per letter, which marks the end as the family's text tower wants it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # CLIP takes the state of its last token, which has the largest number; SigLIP that of the last position.
    vocabulary = [
        "<pad>",
        "<unk>",
        *"abcdefghijklmnopqrstuvwxyz ",
        *(f"<{n}>" for n in range(19)),
        "<bos>",
        "<eos>",
    ]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    if family == "clip":  # not every SigLIP tokenizer does that
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    form = "<bos> $A <eos>" if family == "clip" else "$A <eos>"
    special = [(token, numbers[token]) for token in ("<bos>", "<eos>")]
    tokenizer.post_processor = processors.TemplateProcessing(single=form, special_tokens=special)
    names = ["input_ids", "attention_mask"] if family == "clip" else ["input_ids"]
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=_TEXT["max_position_embeddings"],
        model_input_names=names,
    ).save_pretrained(folder)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's checkpoint, written when it is first asked for. Not to be changed."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_checkpoint(tmp_path_factory.mktemp(family), family)
        return made[family]

    return folder


@pytest.fixture(scope="session")
def embedder(checkpoint: Callable[[str], Path]) -> Callable[..., Embedder]:
    """Loads a family's checkpoint: ``embedder("vit", precision="bfloat16", pooling="cls")``."""

    def load(family: str, *, precision: str = "float32", **options: Any) -> Embedder:
        found = find_checkpoint(str(checkpoint(family)))
        return Embedder.of_network(Network.load(found, "features", device="cpu", precision=precision), **options)

    return load


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Drawn pictures of several shapes, and one of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    shapes = [(96, 64), (64, 96), (33, 31), (200, 120)]
    return [draw_picture(n, size) for n, size in enumerate(shapes)] + [Image.fromarray(noise)]
