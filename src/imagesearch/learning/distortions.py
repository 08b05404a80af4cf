"""Ways in which a copy of a picture differs from it, each in levels from barely visible to severe.

The first five are the types of the LIVE image quality database (Sheikh, Sabir & Bovik, "A statistical evaluation
of recent full reference image quality assessment algorithms", IEEE Transactions on Image Processing, 2006), in
five levels that span its range. Lengths in pixels are those of a picture whose longest side is :data:`SIDE`,
like LIVE's.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

    Apply = Callable[[Image.Image, float, np.random.Generator], Image.Image]

SIDE = 640


@dataclass(frozen=True, slots=True)
class Distortion:
    """One kind.

    Attributes:
        name: as reports show it.
        unit: what the levels are.
        levels: mildest first.
        apply: makes the copy of an RGB picture; deterministic for a given generator.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Apply


def distorted(picture: Image.Image, distortion: Distortion, level: float, seed: int) -> Image.Image:
    """A distorted copy of an RGB picture; what is random in it depends on the seed alone."""
    return distortion.apply(picture, level, np.random.default_rng(seed))


def available() -> tuple[Distortion, ...]:
    """Those that the installed Pillow can make: JPEG 2000 is optional there."""
    from PIL import features

    return tuple(one for one in DISTORTIONS if one.name != "JPEG 2000" or features.check_codec("jpg_2000"))


def _jpeg(picture: Image.Image, level: float, _random: np.random.Generator) -> Image.Image:
    return _through_file(picture, format="JPEG", quality=int(level))


def _jpeg_2000(picture: Image.Image, level: float, _random: np.random.Generator) -> Image.Image:
    return _through_file(picture, format="JPEG2000", quality_mode="rates", quality_layers=[level])


def _through_file(picture: Image.Image, **options: object) -> Image.Image:
    from PIL import Image

    file = io.BytesIO()
    picture.save(file, **options)  # type: ignore[arg-type]
    with Image.open(file) as read:
        rgb: Image.Image = read.convert("RGB")
    return rgb


def _white_noise(picture: Image.Image, level: float, random: np.random.Generator) -> Image.Image:
    pixels = np.asarray(picture, np.float32) / 255
    return _picture(pixels + level * random.standard_normal(pixels.shape, np.float32))


def _blur(picture: Image.Image, level: float, _random: np.random.Generator) -> Image.Image:
    from PIL import ImageFilter

    return picture.filter(ImageFilter.GaussianBlur(level * max(picture.size) / SIDE))


def _fading(picture: Image.Image, level: float, random: np.random.Generator) -> Image.Image:
    """Blocks lost in bursts, as over a fading radio channel; of a lost one only the mean colour arrives.

    The channel has two states (Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal, 1960).
    LIVE lost packets of JPEG 2000 streams instead, whose decoder is not at hand.
    """
    pixels = np.asarray(picture, np.float32) / 255
    side = max(2, round(16 * max(picture.size) / SIDE))
    down, across = (-(-length // side) for length in pixels.shape[:2])
    lost = _bursts(down * across, level, random).reshape(down, across)
    for row, column in np.argwhere(lost):
        block = pixels[row * side : (row + 1) * side, column * side : (column + 1) * side]
        block[...] = block.mean(axis=(0, 1))
    return _picture(pixels)


# Packets of a burst, on average.
_BURST = 8


def _bursts(count: int, share: float, random: np.random.Generator) -> np.ndarray:
    """Which of so many packets are lost: a share of them in the long run, in bursts."""
    into_fade = share / (1 - share) / _BURST
    lost, fading = np.empty(count, bool), bool(random.random() < share)
    for packet, chance in enumerate(random.random(count)):
        lost[packet] = fading
        fading = chance >= 1 / _BURST if fading else chance < into_fade
    return lost


def _crop(picture: Image.Image, level: float, random: np.random.Generator) -> Image.Image:
    width, height = (max(1, round(side * level / 100)) for side in picture.size)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def _rotation(picture: Image.Image, level: float, random: np.random.Generator) -> Image.Image:
    from PIL import Image

    sign = 1 if random.random() < 0.5 else -1
    return picture.rotate(sign * level, Image.Resampling.BICUBIC, expand=True, fillcolor=(128, 128, 128))


def _mirror(picture: Image.Image, _level: float, _random: np.random.Generator) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.mirror(picture)


def _screenshot(picture: Image.Image, level: float, random: np.random.Generator) -> Image.Image:
    """In a window: a border of one colour around, the upper one twice as wide and darker, like a title bar."""
    from PIL import Image

    border = max(1, round(max(picture.size) * level / 100))
    shade = int(random.integers(200, 256))
    size = (picture.width + 2 * border, picture.height + 3 * border)
    window = Image.new("RGB", size, (shade, shade, shade))
    window.paste((shade // 2, shade // 2, shade // 2), (0, 0, size[0], border))
    window.paste(picture, (border, 2 * border))
    return window


def _picture(pixels: np.ndarray) -> Image.Image:
    from PIL import Image

    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


DISTORTIONS: tuple[Distortion, ...] = (
    Distortion("JPEG", "quality", (50, 25, 12, 6, 3), _jpeg),
    Distortion("JPEG 2000", "compression, times", (20, 50, 100, 200, 400), _jpeg_2000),
    Distortion("white noise", "standard deviation", (0.03, 0.1, 0.2, 0.4, 0.8), _white_noise),
    Distortion("Gaussian blur", "standard deviation, pixels", (1, 2, 4, 8, 15), _blur),
    Distortion("fading", "share of blocks lost", (0.05, 0.1, 0.2, 0.35, 0.5), _fading),
    Distortion("crop", "% of each side kept", (90, 80, 70, 60, 50), _crop),
    Distortion("rotation", "degrees", (2, 5, 10, 20, 45), _rotation),
    Distortion("mirror", "", (1,), _mirror),
    Distortion("screenshot", "border, % of the longest side", (2, 5, 10, 15, 25), _screenshot),
)
