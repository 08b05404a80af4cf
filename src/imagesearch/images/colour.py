"""From whatever a file holds to sRGB: colour profiles, deep grey, transparency; very large pictures in strips."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image, ImageCms

# Larger pictures are worked on in strips, because every copy of 200 megapixels takes 800 MB in Pillow; and they
# come out at about this many megapixels, still ten times what the networks look at.
LARGE_MEGAPIXELS = 25.0
_SHRUNK_MEGAPIXELS = 6.0
# Shrinking leaves the shorter side at least this long, so that a panorama keeps its content.
_SHORTEST_SIDE = 1024
_STRIP_PIXELS = 1_000_000

# Profiles for print are up to 3 MB. Larger ones are not used, so that the cache below stays small.
_MAX_PROFILE_BYTES = 4 << 20
# Modes in which Pillow hands pixels to LittleCMS, and the colour space that a profile must then be of.
_PROFILE_SPACE = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}

# TIFF 6.0, section 8, and supplement.
_BITS, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANES, _COLOURS, _SAMPLE_FORMAT = 258, 262, 266, 277, 284, 320, 339
# Pillow's names for big-endian numbers, and for those in the order of this machine.
_SWAPPED = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}
_UNSIGNED, _WHITE_IS_ZERO, _SEPARATE = 1, 0, 2


def is_large(size: tuple[int, int]) -> bool:
    """Whether a picture of (width, height) pixels is decoded with care for memory, and comes out smaller."""
    return size[0] * size[1] > LARGE_MEGAPIXELS * 1e6


def shrinking(size: tuple[int, int]) -> int:
    """The whole number by which both sides of a picture of (width, height) pixels are divided; 1: not at all.

    Examples:
        >>> shrinking((6000, 4000)), shrinking((16_320, 12_240)), shrinking((150_000, 1100))
        (1, 6, 1)
    """
    if not is_large(size):
        return 1
    wanted = math.ceil(math.sqrt(size[0] * size[1] / (_SHRUNK_MEGAPIXELS * 1e6)))
    return max(1, min(wanted, min(size) // _SHORTEST_SIDE))


def misread(image: Any) -> str | None:
    """What an opened TIFF holds that Pillow 13 shows wrongly without a word; None if it does not."""
    tags = image.tag_v2
    raw_modes = {(codec, args[0]) for codec, _, _, args in image.tile if isinstance(args, tuple)}
    if tags.get(_PLANES) == _SEPARATE:
        if image.mode == "LA":
            return "with grey and alpha in planes"
        # It takes every byte for a pixel then, and shows the upper half twice.
        is_raw = raw_modes <= {("raw", plane) for plane in "RGBACMYK"}
        if is_raw and len(raw_modes) > 1 and max(tags.get(_BITS, (1,))) > 8:
            return "with uncompressed planes of 16 bits"
    return None


def mend(image: Image.Image) -> None:
    """Let an opened TIFF be read right, where Pillow 13 would misunderstand it."""
    _keep_native_order(image)
    _keep_one_plane(image)
    _widen_palette(image)


def _keep_native_order(image: Any) -> None:
    """Let a compressed TIFF of big-endian numbers be read right.

    libtiff hands them out in the order of this machine, and Pillow 13 swaps signed and floating point ones again.
    """
    for at, tile in enumerate(image.tile):
        if tile.codec_name == "libtiff" and tile.args[0] in _SWAPPED:
            image.tile[at] = tile._replace(args=(_SWAPPED[tile.args[0]], *tile.args[1:]))


def _keep_one_plane(image: Any) -> None:
    """Let a TIFF of one number a pixel be read right although it says that its planes are separate.

    That is without meaning then (TIFF 6.0, PlanarConfiguration). Pillow 13 takes the first letter of what says how
    numbers are stored, for one of several planes: white and black change places, or nothing fits.
    """
    from PIL.TiffImagePlugin import OPEN_INFO

    tags = image.tag_v2
    if tags.get(_PLANES) != _SEPARATE or tags.get(_SAMPLES, 1) != 1:
        return
    stored = (tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)), tags.get(_FILL_ORDER, 1), tags.get(_BITS, (1,)), ())
    raw_mode = OPEN_INFO.get((tags.prefix, tags.get(_PHOTOMETRIC, _WHITE_IS_ZERO), *stored), ("", ""))[1]
    for at, tile in enumerate(image.tile):
        if raw_mode and tile.codec_name == "raw":
            image.tile[at] = tile._replace(args=(raw_mode, *tile.args[1:]))


def _widen_palette(image: Any) -> None:
    """Let a TIFF whose palette has 8 bits a colour, not the 16 of the standard, keep its colours.

    Old programs wrote them, and libtiff tells them apart in the same way; Pillow shows them black.
    """
    from PIL import ImagePalette

    colours = image.tag_v2.get(_COLOURS) if image.mode in ("P", "PA") else None
    if isinstance(colours, tuple) and all(isinstance(value, int) and 0 <= value < 256 for value in colours):
        image.palette = ImagePalette.raw("RGB;L", bytes(colours))


def to_rgb(image: Image.Image) -> Image.Image:
    """A loaded picture of any mode as 8-bit sRGB, transparency over white, shrunk by :func:`shrinking`.

    Besides the picture and the result, memory for one strip is needed. An RGB picture without a profile may
    come back as it is.
    """
    from PIL import Image

    levels = _levels(image)
    if not is_large(image.size):
        return _convert(image, levels)
    factor = shrinking(image.size)
    if factor == 1 and image.mode == "RGB" and not {"icc_profile", "transparency"} & image.info.keys():
        return image
    width, height = image.size
    result = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
    for top, strip in _strips(image, factor):
        converted = _convert(strip, levels)
        result.paste(converted.reduce(factor) if factor > 1 else converted, (0, top // factor))
    return result


def _strips(image: Image.Image, factor: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Horizontal strips from top to bottom, each with its first row, which ``factor`` divides."""
    width, height = image.size
    rows = max(1, _STRIP_PIXELS // (width * factor)) * factor
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _convert(image: Image.Image, levels: tuple[float, float] | None) -> Image.Image:
    from PIL import Image

    profile = image.info.get("icc_profile")
    if levels is not None:
        return _to_srgb(_deep_to_grey(image, levels), profile)
    if not image.has_transparency_data:
        return _to_srgb(image, profile)
    grey = image.mode in ("LA", "La")
    clear = image.convert("LA" if grey else "RGBA")
    alpha = clear.getchannel("A")
    opaque = _to_srgb(clear.getchannel("L") if grey else clear.convert("RGB"), profile)
    return Image.composite(opaque, Image.new("RGB", image.size, "white"), alpha)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Without alpha: through the profile if it fits, else as Pillow converts."""
    if image.mode == "LAB":
        profile = _lab_profile()  # says itself what it means; a file's own profile would only repeat that
    elif image.mode not in _PROFILE_SPACE and profile:
        image = image.convert("L" if image.mode == "1" else "RGB")  # palettes, YCbCr
    transform = _transform(profile, image.mode) if profile and len(profile) <= _MAX_PROFILE_BYTES else None
    if transform is not None:
        return transform.apply(image)
    if image.mode == "RGB":
        return image
    rgb = image.convert("RGB")
    rgb.info.pop("icc_profile", None)  # did not fit before, and might now: whoever is given it must not use it
    return rgb


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB, or None where there is nothing to do.

    That is: the profile is sRGB already, which is measured rather than believed (the name says little: "c2" is
    sRGB too); or it is damaged, or of another colour space than the pixels. The pixels are good then, and shown
    as every program without colour management shows them.

    The intent is relative colorimetric with black point compensation: colours that sRGB has come out exactly, so
    that copies of one photograph in different colour spaces give the same pixels; and the dark grey that is
    black in print becomes black. For the profiles of cameras and screens (matrix and curves) the intents are the
    same anyway.

    LittleCMS lets several threads share a transform made with cmsFLAGS_NOCACHE (LittleCMS 2.19 tutorial, "Flags";
    M. Maria, "Multithreading question", littlecms2.blogspot.com, 17 December 2010).
    """
    from PIL import ImageCms

    flags = ImageCms.Flags.NOCACHE | ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _PROFILE_SPACE[mode]:
            return None
        target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        transform = ImageCms.ImageCmsTransform(
            source, target, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC, flags=flags
        )
        return None if mode in ("RGB", "L") and _changes_nothing(transform) else transform
    except (OSError, ValueError, ImageCms.PyCMSError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether no colour of a 9 x 9 x 9 grid (or no grey) moves by more than rounding does."""
    import numpy as np
    from PIL import Image

    if transform.input_mode == "L":
        before = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    else:
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        before = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3))
    after = np.asarray(transform.apply(before), dtype=np.int16)
    return bool(np.abs(after - np.asarray(before.convert("RGB"), dtype=np.int16)).max() <= 2)


@lru_cache(maxsize=1)
def _lab_profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()


def _levels(image: Image.Image) -> tuple[float, float] | None:
    """What is black and what is white in a picture of more than 8 bits of grey; None for others.

    16 bits have 65,535 for white; 12 bits, which Pillow keeps in 16 as they are, 4,095. Integers of 32 bits and
    floating point numbers have no agreed white: from the smallest to the largest number that is there.
    """
    if not image.mode.startswith(("I", "F")):
        return None
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        low, high = 0.0, 4095.0 if tags.get(_BITS) == (12,) else 65535.0
    else:
        _mark_unsigned(image, tags)
        low, high = _extremes(image)
    return (high, low) if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else (low, high)


def _mark_unsigned(image: Image.Image, tags: Any) -> None:
    """Pillow keeps unsigned 32-bit numbers as signed ones; strips, which know no tags, must know better."""
    if image.mode == "I" and tags.get(_BITS) == (32,) and tags.get(_SAMPLE_FORMAT, (_UNSIGNED,)) == (_UNSIGNED,):
        image.info["unsigned"] = True


def _numbers(image: Image.Image) -> NDArray[Any]:
    import numpy as np

    numbers = np.asarray(image)
    return numbers.view(np.uint32) if image.info.get("unsigned") else numbers


def _extremes(image: Image.Image) -> tuple[float, float]:
    """The smallest and the largest finite number; 0 and 0 if there is none."""
    import numpy as np

    low, high = math.inf, -math.inf
    for _, strip in _strips(image):
        numbers = _numbers(strip)
        finite = numbers[np.isfinite(numbers)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return (low, high) if low <= high else (0.0, 0.0)


def _deep_to_grey(image: Image.Image, levels: tuple[float, float]) -> Image.Image:
    """To mode L; Pillow's own conversion clips everything above 255 to white."""
    import numpy as np
    from PIL import Image

    black, white = levels
    numbers = _numbers(image)
    clear = numbers == image.info["transparency"] if isinstance(image.info.get("transparency"), int) else None
    scale = 255.0 / (white - black) if white != black else 0.0
    with np.errstate(invalid="ignore"):  # infinity times 0, where all numbers are alike
        scaled = (numbers.astype(np.float64) - black) * scale
    grey = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0).clip(0, 255).round().astype(np.uint8)
    if clear is not None:
        grey[clear] = 255  # over white, as everywhere
    return Image.fromarray(grey)
