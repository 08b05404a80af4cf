"""Our own preprocessing of images: to the pixel what Transformers' image processors make."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint
from imagesearch.models.network import TransformersPreprocessor, find_preprocessor
from imagesearch.models.preprocessing import PillowPreprocessor, read_preprocessor, without_ends

SIZES = [(1, 1), (3, 500), (500, 3), (640, 480), (479, 641), (64, 64), (225, 223), (2, 300)]

# Transformers' class, and settings of real checkpoints (beside the class's own defaults).
PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("vit.ViT", {}),
    "vit with names of old": ("vit.ViT", {"size": 224}),
    "deit": ("deit.DeiT", {}),
    "deit, odd crop": ("deit.DeiT", {"crop_size": {"height": 223, "width": 225}}),
    "crop larger than the picture": ("deit.DeiT", {"size": {"height": 100, "width": 151}}),
    "crop without resizing": ("deit.DeiT", {"do_resize": False}),
    "beit": ("beit.Beit", {"do_center_crop": False}),
    "clip": ("clip.CLIP", {}),
    "clip of old": ("clip.CLIP", {"size": 224, "crop_size": 224}),
    "siglip": ("siglip.Siglip", {}),
    "dinov2": ("bit.Bit", {"size": {"shortest_edge": 256}, "image_mean": [0.485, 0.456, 0.406]}),
    "convnext, cropping": ("convnext.ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
    "convnext, stretching": ("convnext.ConvNext", {}),
    "mobilenet": ("mobilenet_v2.MobileNetV2", {}),
    "efficientnet": ("efficientnet.EfficientNet", {"resample": 0, "rescale_offset": True}),
    "without normalising": ("vit.ViT", {"do_normalize": False}),
    "without rescaling": ("vit.ViT", {"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}),
}


def photograph(size: tuple[int, int]) -> Image.Image:
    """Shapes of all sizes, and noise."""
    random = np.random.default_rng(sum(size))
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    noise = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    return Image.blend(coarse, noise, 0.3)


def write(folder: Path, processor: str, options: dict[str, Any]) -> Any:
    module, _, name = processor.partition(".")
    home = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    made = getattr(home, f"{name}ImageProcessorPil")(**options)
    made.save_pretrained(folder)
    # Files on the hub hold what was asked for, not what Transformers made of it.
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | options))
    return made


def normalised(preprocessor: PillowPreprocessor, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.moveaxis(pixels * np.array(preprocessor.scale) + np.array(preprocessor.shift), -1, 0)


@pytest.mark.parametrize("case", PROCESSORS)
def test_pixels_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    theirs = write(tmp_path, *PROCESSORS[case])
    mine = read_preprocessor(tmp_path)
    assert mine is not None
    for size in SIZES:
        picture = photograph(size)
        pixels = mine.preprocess(picture)
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*mine.input_size, 3)
        seen = without_ends(picture) if mine.short_side else picture
        expected = theirs(images=seen, return_tensors="np")["pixel_values"][0]
        # A thousandth of a grey level: the order of multiplications differs, the uint8 pixels do not.
        bound = 1e-3 * max(mine.scale)
        assert np.abs(normalised(mine, pixels) - expected).max() < bound, size


@pytest.mark.parametrize("size", [(1200, 800), (700, 1500), (3000, 2000)])
def test_large_pictures_make_the_same_vectors(starter: Embedder, size: tuple[int, int]) -> None:
    """They are averaged down before they are filtered, so single grey levels differ."""
    mine = starter.preprocessor
    assert isinstance(mine, PillowPreprocessor)
    picture = photograph(size)
    filtered = np.asarray(picture.resize((64, 64), Image.Resampling(mine.resample)))
    pixels = mine.preprocess(picture)
    assert np.abs(pixels.astype(int) - filtered).mean() < 1
    one, other = starter.encode([pixels, filtered])
    assert one @ other >= 0.999


@pytest.mark.parametrize("size", SIZES)
def test_dinov3_without_torchvision(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its processor resizes floats with PyTorch; ours rounds to grey levels once a direction."""
    import torch

    settings = {"image_processor_type": "DINOv3ViTImageProcessorFast", "size": {"height": 224, "width": 224}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    mine = read_preprocessor(tmp_path)
    assert mine is not None
    picture = photograph(size)
    floats = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float()
    expected = torch.nn.functional.interpolate(floats, (224, 224), mode="bilinear", antialias=True)[0]
    difference = np.abs(np.moveaxis(mine.preprocess(picture), -1, 0) - expected.numpy())
    assert difference.max() <= 1.01
    assert difference.mean() <= 0.4
    assert np.allclose(mine.scale, 1 / 255 / np.array([0.229, 0.224, 0.225]))


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "HologramImageProcessor"},
        {"image_processor_type": "Siglip2ImageProcessor", "max_num_patches": 256},
        {"image_processor_type": "ViTImageProcessor", "do_pad": True},
        {"image_processor_type": "ViTImageProcessor", "do_flip_channel_order": True},
        {"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 224}},
        {"image_processor_type": "ViTImageProcessor", "size": {"shortest_edge": 224}},
        {"image_processor_type": "ViTImageProcessor", "resample": 9},
        {"image_processor_type": "ViTImageProcessor", "do_resize": False},
        {"image_processor_type": "ViTImageProcessor", "image_mean": [0.5, 0.5]},
        {"image_processor_type": "ViTImageProcessor", "auto_map": {"AutoImageProcessor": "code.Mine"}},
        {"size": 224},
        [],
    ],
)
def test_what_is_not_understood_is_left_to_transformers(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    assert read_preprocessor(tmp_path) is None


def test_no_file_and_a_damaged_one(tmp_path: Path) -> None:
    assert read_preprocessor(tmp_path) is None
    (tmp_path / "preprocessor_config.json").write_text("{ not json")
    assert read_preprocessor(tmp_path) is None


def test_settings_inside_a_processor_for_texts_too_win(tmp_path: Path) -> None:
    inner = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 256, "width": 192}}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor"}))
    preprocessor = read_preprocessor(tmp_path)
    assert preprocessor is not None
    assert preprocessor.input_size == (256, 192)
    assert preprocessor.target_size == (192, 256)


def test_the_size_that_decoding_needs(tmp_path: Path) -> None:
    wanted = {"vit": (224, 224), "clip": (224, 224), "dinov2": (256, 256), "mobilenet": (256, 256)}
    wanted |= {"convnext, cropping": (256, 256), "convnext, stretching": (384, 384)}
    for case, size in wanted.items():
        write(tmp_path, *PROCESSORS[case])
        preprocessor = read_preprocessor(tmp_path)
        assert preprocessor is not None
        assert preprocessor.target_size == size, case
    write(tmp_path, *PROCESSORS["crop without resizing"])
    preprocessor = read_preprocessor(tmp_path)
    assert preprocessor is not None
    assert preprocessor.target_size is None


def test_the_other_way_through_transformers(tmp_path: Path) -> None:
    """What a key that nobody knows leads to: the same picture, float32 and normalised."""
    theirs = write(tmp_path, "clip.CLIP", {"hologram": 1})
    preprocessor = find_preprocessor(Checkpoint("mine", tmp_path, "0"))
    assert isinstance(preprocessor, TransformersPreprocessor)
    assert preprocessor.target_size is None
    picture = photograph((300, 200))
    pixels = preprocessor.preprocess(picture)
    assert pixels.dtype == np.float32
    assert np.array_equal(pixels, theirs(images=picture, return_tensors="np")["pixel_values"][0])


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        ("Pvt", {"image_mean": [0.5], "image_std": [0.5]}, r"its image processor fails: mean must have 3"),
        (
            "ImageGPT",
            {"size": {"height": 8, "width": 8}, "clusters": [[0, 0, 0]]},
            "not one picture of fixed size",
        ),
    ],
)
def test_a_processor_that_makes_no_pixels(
    tmp_path: Path, kind: str, settings: dict[str, Any], reason: str
) -> None:
    said = {"image_processor_type": f"{kind}ImageProcessor", **settings}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match=f"mine: .*{reason}"):
        find_preprocessor(Checkpoint("mine", tmp_path, "0"))
