"""How a picture becomes a network's input, without Transformers: read from the checkpoint, done by Pillow.

Pictures stay uint8 until they reach the network, which rescales and normalises a whole batch at once; so nothing
is copied as float32 four times the size. Resizing and cropping follow Transformers' image processors on their
Pillow backend (``image_processing_backends.PilBackend`` and its subclasses): to the pixel, unless a side is eight
times as long as what the network needs or longer. Whatever is not understood completely is left to Transformers
itself: see :func:`read_preprocessor`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

# uint8 (height, width, 3) from PillowPreprocessor, or float32 (3, height, width), normalised, from Transformers.
Pixels: TypeAlias = "NDArray[np.uint8] | NDArray[np.float32]"
Size: TypeAlias = "tuple[int, int]"
_Geometry: TypeAlias = "tuple[Size | None, int | None, Size | None]"

# Long side to short side; processors that crop keep less than 2 : 1 of it.
_LONGEST_STRIP = 20
# From this size on ConvNeXt's processor stretches instead of cropping.
_CONVNEXT_STRETCHES = 384
# Pixels to decode for each pixel that the network needs.
_DECODED = 3
# Pixels to leave to the filter for each pixel that the network needs. Larger pictures are averaged down to that
# first, which is 3 to 7 times as fast for 12 megapixels; their vectors kept a cosine of 0.9997 or more.
_FILTERED = 4


class Preprocessor(Protocol):
    """Turns upright RGB pictures into one network's input."""

    @property
    def input_size(self) -> Size:
        """Height and width in pixels of what the network sees."""

    @property
    def target_size(self) -> Size | None:
        """Width and height in pixels that an image needs before it is preprocessed; None: unknown.

        A decoder that can scale down cheaply (JPEG) may stop at a multiple of it.
        """

    def preprocess(self, image: Image.Image) -> Pixels:
        """One picture's pixels. Thread-safe."""


def decode_side(preprocessor: Preprocessor) -> int | None:
    """How many pixels each side of a picture must keep if it is decoded at a fraction of its size; None: all.

    For :func:`imagesearch.images.files.decode`. At twice the size that the network needs, the bundled model's
    vectors of photographs fell to a cosine of 0.992; at three times, none was below 0.9997.
    """
    size = preprocessor.target_size
    return None if size is None else _DECODED * max(size)


@dataclass(frozen=True, slots=True)
class PillowPreprocessor:
    """An image processor whose every step is known.

    Attributes:
        stretch: height and width to resize to, whatever the picture's shape; or None.
        short_side: length to resize the shorter side to, keeping the shape; or None.
        crop: height and width cut from the centre afterwards, with black around what is too small; or None.
        resample: Pillow's number of the filter.
        scale, shift: a channel's normalised value is ``pixel * scale + shift``.
    """

    stretch: Size | None
    short_side: int | None
    crop: Size | None
    resample: int
    scale: tuple[float, float, float]
    shift: tuple[float, float, float]

    @property
    def input_size(self) -> Size:
        """Height and width in pixels of what the network sees."""
        size = self.crop or self.stretch
        assert size is not None  # read_preprocessor makes no other
        return size

    @property
    def target_size(self) -> Size | None:
        """Width and height in pixels to which pictures are resized; None where they are only cropped."""
        if self.stretch is not None:
            return self.stretch[1], self.stretch[0]
        return None if self.short_side is None else (self.short_side, self.short_side)

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """An upright RGB picture as uint8, shape (height, width, 3). Thread-safe."""
        from PIL import Image

        size = None if self.stretch is None else (self.stretch[1], self.stretch[0])
        if self.short_side is not None:
            image = without_ends(image)
            size = _keeping_shape(image.size, self.short_side)
        if size is not None and size != image.size:
            image = image.resize(size, Image.Resampling(self.resample), reducing_gap=_FILTERED)
        if self.crop is not None:
            height, width = self.crop
            # Floor division of negative numbers too: Transformers pads the odd row above and to the left.
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        return np.asarray(image)


def without_ends(image: Image.Image) -> Image.Image:
    """A long strip without the ends that a centre crop would cut off anyway.

    Scaled by its short side first, as many processors do, 1 x 5,000 pixels would take gigabytes.
    """
    width, height = image.size
    longest = _LONGEST_STRIP * min(width, height)
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _keeping_shape(size: Size, short_side: int) -> Size:
    """Width and height with the shorter side as wanted, and the other rounded down as Transformers does."""
    width, height = size
    long_side = int(short_side * max(size) / min(size))
    return (short_side, long_side) if width <= height else (long_side, short_side)


_STANDARD, _IMAGENET = ((0.5,) * 3, (0.5,) * 3), ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_NEAREST_TO_HAMMING, _BILINEAR, _BICUBIC = range(6), 2, 3


def _defaults(
    statistics: tuple[tuple[float, ...], tuple[float, ...]], resample: int, size: Any, **more: Any
) -> dict[str, Any]:
    mean, std = statistics
    always = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
    square = {"default_to_square": True, "do_center_crop": False}
    return always | square | {"image_mean": mean, "image_std": std, "resample": resample, "size": size} | more


def _cropping(statistics: tuple[tuple[float, ...], tuple[float, ...]], resample: int, size: int) -> dict[str, Any]:
    crop = {"do_center_crop": True, "crop_size": {"height": 224, "width": 224}, "default_to_square": False}
    return _defaults(statistics, resample, {"shortest_edge": size}, **crop)


_SQUARE = {"height": 224, "width": 224}
# Processor class without "ImageProcessor" -> what Transformers assumes where its file says nothing (or null).
_CLASSES: dict[str, dict[str, Any]] = {
    "ViT": _defaults(_STANDARD, _BILINEAR, _SQUARE),
    "DeiT": _defaults(_STANDARD, _BICUBIC, {"height": 256, "width": 256}, do_center_crop=True, crop_size=_SQUARE),
    "Beit": _defaults(_STANDARD, _BICUBIC, _SQUARE, crop_size=_SQUARE),
    "CLIP": _cropping(_OPENAI, _BICUBIC, 224),
    "Siglip": _defaults(_STANDARD, _BICUBIC, _SQUARE, default_to_square=False),
    "Bit": _cropping(_OPENAI, _BICUBIC, 224),
    # Only a torchvision processor exists; it resizes floats, so results differ by a rounding of uint8.
    "DINOv3ViT": _defaults(_IMAGENET, _BILINEAR, _SQUARE),
    "ConvNext": _defaults(
        _STANDARD, _BICUBIC, {"shortest_edge": 384}, default_to_square=False, crop_pct=224 / 256
    ),
    "MobileNetV2": _cropping(_STANDARD, _BILINEAR, 256),
    "EfficientNet": _defaults(
        _STANDARD, _BICUBIC, {"height": 346, "width": 346}, include_top=True, rescale_offset=False
    ),
}
_TYPE = re.compile(r"(\w+?)(ImageProcessor(Fast|Pil)?|FeatureExtractor)")
# Keys that do not touch the pixels of an RGB picture; the last are switches of other steps, harmless when off.
_WITHOUT_EFFECT = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "do_convert_rgb",
    "do_reduce_labels",
    "reduce_labels",
    "data_format",
    "_valid_processor_keys",
}


def read_preprocessor(folder: Path) -> PillowPreprocessor | None:
    """A checkpoint's image processor as a :class:`PillowPreprocessor`.

    Args:
        folder: where ``preprocessor_config.json`` (or ``processor_config.json``) is.

    Returns:
        None if the files are absent or damaged, name an unknown class or key, or make pictures of several sizes:
        Transformers knows what to do, or what to complain of.
    """
    try:
        settings = _read_settings(folder)
        return _understood(settings)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _read_settings(folder: Path) -> dict[str, Any]:
    nested = folder / "processor_config.json"
    if nested.is_file():
        inner = json.loads(nested.read_bytes()).get("image_processor")
        if inner is not None:
            return dict(inner)
    return dict(json.loads((folder / "preprocessor_config.json").read_bytes()))


def _understood(given: Mapping[str, Any]) -> PillowPreprocessor | None:
    match = _TYPE.fullmatch(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
    if match is None or match[1] not in _CLASSES:
        return None
    family, defaults = match[1], _CLASSES[match[1]]
    said = {key: value for key, value in given.items() if value is not None and key not in _WITHOUT_EFFECT}
    off = {key for key, value in said.items() if key not in defaults and value is False}
    settings = {**defaults, **{key: value for key, value in said.items() if key not in off}}
    # crop_size matters only with do_center_crop, and many files carry it along.
    if not settings.keys() <= {*defaults, "crop_size"} or settings["resample"] not in _NEAREST_TO_HAMMING:
        return None
    geometry = _geometry(family, settings)
    return None if geometry is None else PillowPreprocessor(*geometry, settings["resample"], *_affine(settings))


def _geometry(family: str, settings: Mapping[str, Any]) -> _Geometry | None:
    """Stretch, short side, crop: see :class:`PillowPreprocessor`; None if the network's input varies in size."""
    crop: Size | None = None
    if settings["do_center_crop"]:
        square = _height_width(settings["crop_size"], default_to_square=True)
        if not isinstance(square, tuple):
            return None
        crop = square
    if not settings["do_resize"]:
        return None if crop is None else (None, None, crop)
    size = _height_width(settings["size"], settings["default_to_square"])
    if family == "ConvNext":
        return _convnext_geometry(size, settings["crop_pct"]) if isinstance(size, int) and crop is None else None
    if isinstance(size, tuple):
        return size, None, crop
    return None if crop is None or size is None else (None, size, crop)


def _convnext_geometry(size: int, crop_pct: float) -> _Geometry:
    if size >= _CONVNEXT_STRETCHES:
        return (size, size), None, None
    return None, int(size / crop_pct), (size, size)


def _height_width(size: Any, default_to_square: bool) -> Size | int | None:
    """A size as Transformers reads it: (height, width), the shorter side alone, or None if neither."""
    if isinstance(size, int):
        return (size, size) if default_to_square else size
    if isinstance(size, Mapping):
        said = {key: value for key, value in size.items() if value is not None}
        if not all(isinstance(value, int) and value > 0 for value in said.values()):
            return None
        if said.keys() == {"height", "width"}:
            return said["height"], said["width"]
        if said.keys() == {"shortest_edge"}:
            return int(said["shortest_edge"])
    return None


def _affine(settings: Mapping[str, Any]) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Rescaling and normalising, in the processor's order, as one multiplication and one addition per channel."""
    scale = np.full(3, settings["rescale_factor"] if settings["do_rescale"] else 1.0)
    shift = np.full(3, -1.0 if settings["do_rescale"] and settings.get("rescale_offset") else 0.0)
    mean, std = np.broadcast_to(settings["image_mean"], 3), np.broadcast_to(settings["image_std"], 3)
    if settings["do_normalize"]:
        scale, shift = scale / std, (shift - mean) / std
    if settings.get("include_top"):
        scale, shift = scale / std, shift / std
    (r, g, b), (x, y, z) = scale.tolist(), shift.tolist()
    return (r, g, b), (x, y, z)
