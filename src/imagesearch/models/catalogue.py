"""The checkpoints that this program knows by a short name.

A preset only saves typing and research: any other Hugging Face vision checkpoint works by its hub name or as a
local folder. A new preset is one more :class:`ModelSpec`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STARTER_FOLDER = Path(__file__).parent / "starter"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What is worth knowing of a checkpoint before it is downloaded.

    Attributes:
        preset: the short name.
        features: hub name (or folder) of the checkpoint that makes vectors.
        labels: hub name (or folder) of the one that labels pictures, None if the family has none.
        parameters: millions, of the image tower.
        download_mb: megabytes to download for the vectors, 0 if bundled.
        dim: length of a vector.
        input_size: pixels, height = width.
        licence: SPDX name, or the name the publisher gives it.
        good_for: one line.
        text: whether a text tower comes with it.
    """

    preset: str
    features: str
    labels: str | None
    parameters: float
    download_mb: int
    dim: int
    input_size: int
    licence: str
    good_for: str
    text: bool = False


_SPECS = (
    ModelSpec(
        preset="starter",
        features=str(STARTER_FOLDER),
        labels=str(STARTER_FOLDER),
        parameters=5.4,
        download_mb=0,
        dim=320,
        input_size=64,
        licence="Apache-2.0",
        good_for="first steps without a download: copies, look-alikes of everyday things; 200 labels",
    ),
    ModelSpec(
        preset="vit",
        features="google/vit-base-patch16-224-in21k",
        labels="google/vit-base-patch16-224",
        parameters=86,
        download_mb=346,
        dim=768,
        input_size=224,
        licence="Apache-2.0",
        good_for="what is in the picture; 1,000 ImageNet labels (the original's model)",
    ),
    ModelSpec(
        preset="dinov2-small",
        features="facebook/dinov2-small",
        labels="facebook/dinov2-small-imagenet1k-1-layer",
        parameters=22,
        download_mb=88,
        dim=384,
        input_size=224,
        licence="Apache-2.0",
        good_for="visual similarity at a quarter of ViT-B's cost; 1,000 labels",
    ),
    ModelSpec(
        preset="dinov2",
        features="facebook/dinov2-base",
        labels="facebook/dinov2-base-imagenet1k-1-layer",
        parameters=87,
        download_mb=346,
        dim=768,
        input_size=224,
        licence="Apache-2.0",
        good_for="visual similarity: same place, same object, same style; 1,000 labels",
    ),
    ModelSpec(
        preset="dinov3",
        features="facebook/dinov3-vitb16-pretrain-lvd1689m",
        labels=None,
        parameters=86,
        download_mb=343,
        dim=768,
        input_size=224,
        licence="DINOv3 License (accept it on the hub first)",
        good_for="the strongest purely visual features of this size",
    ),
    ModelSpec(
        preset="clip",
        features="openai/clip-vit-base-patch32",
        labels=None,
        parameters=88,
        download_mb=605,
        dim=512,
        input_size=224,
        licence="MIT",
        good_for="meaning rather than looks; fast for its size",
        text=True,
    ),
    ModelSpec(
        preset="siglip2",
        features="google/siglip2-base-patch16-224",
        labels=None,
        parameters=93,
        download_mb=1500,
        dim=768,
        input_size=224,
        licence="Apache-2.0",
        good_for="meaning rather than looks, at its best",
        text=True,
    ),
    ModelSpec(
        preset="convnext",
        features="facebook/convnextv2-tiny-22k-224",
        labels="facebook/convnextv2-tiny-22k-224",
        parameters=28,
        download_mb=115,
        dim=768,
        input_size=224,
        licence="Apache-2.0 (weights CC-BY-NC-4.0)",
        good_for="ViT's quality from a convolutional network; 1,000 labels",
    ),
    ModelSpec(
        preset="mobilenet",
        features="google/mobilenet_v2_1.0_224",
        labels="google/mobilenet_v2_1.0_224",
        parameters=3.5,
        download_mb=14,
        dim=1280,
        input_size=224,
        licence="Apache-2.0",
        good_for="small machines; 1,000 labels",
    ),
)

PRESETS: dict[str, ModelSpec] = {spec.preset: spec for spec in _SPECS}


def features_checkpoint(name: str) -> str:
    """The hub name or folder behind a configured ``model.name``."""
    return PRESETS[name].features if name in PRESETS else name


def labels_checkpoint(name: str, classifier: str | None) -> str | None:
    """The hub name or folder that labels pictures.

    ``model.classifier`` where it is set; else the labels of the preset that ``model.name`` is; else
    the same checkpoint as for vectors. None: this preset has no labels.
    """
    if classifier is not None:
        name = classifier
    return PRESETS[name].labels if name in PRESETS else name


def display_name(name: str) -> str:
    """What messages call a configured model: the preset's hub name, the hub name, or the folder's name.

    Examples:
        >>> display_name("vit"), display_name("/home/me/models/mine"), display_name("starter")
        ('google/vit-base-patch16-224-in21k', 'mine', 'starter')
    """
    if name == "starter":
        return name
    name = features_checkpoint(name)
    return Path(name).name if Path(name).is_absolute() else name


def slug(name: str) -> str:
    """A model's name as part of a collection's name (letters, digits, underscores).

    Examples:
        >>> slug("vit"), slug("starter")
        ('google_vit_base_patch16_224_in21k', 'starter')
    """
    return re.sub(r"\W+", "_", display_name(name), flags=re.ASCII).strip("_") or "model"
