"""Raw files of cameras, through rawpy (LibRaw), as pictures that Pillow's users can handle.

The pixels are those of the preview that the camera put into the file, where it is large enough: it is what the
photographer saw, it is made with the maker's own knowledge of the sensor, and it is there 10 times faster.
Otherwise the sensor's data is developed at half size. Either way the picture is turned upright here, once.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from imagesearch.errors import PictureError
from imagesearch.images.find import RAW_EXTENSIONS

if TYPE_CHECKING:
    from PIL import Image
    from rawpy import RawPy

# Previews whose longer side is shorter than this are icons for the camera's own screen.
PREVIEW_SIDE = 1000

# What only raw files begin with: Canon CR2 and CRW, Fujifilm, Olympus, Panasonic, Minolta, Sigma.
_BEGINNINGS = (
    (8, b"CR\x02"),
    (6, b"HEAPCCDR"),
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"IIRO"),
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"IIU\0"),
    (0, b"\0MRM"),
    (0, b"FOVb"),
    (4, b"ftypcrx"),
)
_TIFF_BEGINNINGS = (b"II*\0", b"MM\0*")
# What a file with a raw file's name may begin with although it is none: JPEG, PNG, GIF, WebP, BMP.
_PROCESSED_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
_SUBFILE_TYPE, _REDUCED = 254, 1  # TIFF 6.0, section 8: a smaller version of another picture in this file
_DNG_VERSION, _SUB_IFDS, _PHOTOMETRIC, _MAKE, _ORIENTATION = 50706, 330, 262, 271, 274
# Photometric interpretations of finished pictures; 32803 and 34892 are a sensor's data (DNG 1.7, chapter 2).
_FINISHED = range(10)

# LibRaw's flip (as in dcraw: 1 mirrors, 2 turns upside down, 4 transposes last) -> PIL.Image.Transpose.
_FLIPS: dict[int, Any] = {1: 0, 2: 1, 3: 3, 4: 5, 5: 2, 6: 4, 7: 6}
# EXIF orientation -> PIL.Image.Transpose that turns the picture upright (EXIF 2.32, section 4.6.4).
TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
_SIDEWAYS = (2, 4, 5, 6)  # of PIL.Image.Transpose: by 90 and 270 degrees, and the two diagonals
_TRANSPOSES = 4


def is_raw(data: bytes, path: str) -> bool:
    """Whether a file holds a sensor's data: by its content where that is clear, else by its extension.

    Most are TIFFs too, and Pillow would take the thumbnail that comes first in them for the picture; what comes as
    bytes, from a browser say, has no extension that tells.
    """
    if any(data.startswith(mark, offset) for offset, mark in _BEGINNINGS):
        return True
    tags = _tiff_tags(data)
    begins_with_thumbnail = tags.get(_SUBFILE_TYPE, 0) & _REDUCED and {_MAKE, _SUB_IFDS} <= tags.keys()
    if _DNG_VERSION in tags or begins_with_thumbnail:
        return True
    if os.path.splitext(path)[1].lower() not in RAW_EXTENSIONS or data.startswith(_PROCESSED_BEGINNINGS):
        return False
    # A finished TIFF under a raw file's name: no camera made it, and there is no other picture below its first.
    return not (tags.get(_PHOTOMETRIC) in _FINISHED and not {_MAKE, _SUB_IFDS} & tags.keys())


def open_raw(data: bytes, path: str) -> Image.Image:
    """Parse a raw file's header.

    The picture has the full size, upright, and the file's EXIF data. Loading it makes it smaller: half the size,
    or that of the preview.

    Raises:
        PictureError: rawpy is not installed, or LibRaw cannot read the file.
    """
    try:
        import rawpy
    except ImportError as error:
        raise PictureError(path, "raw files need another package: pip install rawpy") from error
    try:
        raw = rawpy.imread(io.BytesIO(data))
    except rawpy.LibRawFileUnsupportedError as error:
        raise PictureError(path, "is no raw file, or of a camera that LibRaw does not know yet") from error
    except rawpy.LibRawError as error:
        raise PictureError(path, f"damaged: the raw file cannot be read ({_message(error)})") from error
    return _raw_image(raw, data)


def _raw_image(raw: RawPy, data: bytes) -> Image.Image:
    sizes = raw.sizes
    width, height = (sizes.height, sizes.width) if sizes.flip & _TRANSPOSES else (sizes.width, sizes.height)
    image: Image.Image = _image_class()(raw, (width, height))
    if data.startswith(_TIFF_BEGINNINGS):
        image.info["exif"] = data  # its first directory is laid out as EXIF data is
    else:
        preview = _preview(raw, (width, height))
        if preview is not None and "exif" in preview.info:
            image.info["exif"] = preview.info["exif"]
    return image


@lru_cache(maxsize=1)
def _image_class() -> Callable[[RawPy, tuple[int, int]], Image.Image]:
    """A class of pictures whose pixels come from rawpy; made when needed, as its base must be imported first."""
    from PIL import Image

    class RawImage(Image.Image):
        format = "RAW"

        def __init__(self, raw: RawPy, size: tuple[int, int]) -> None:
            super().__init__()
            self._raw: RawPy | None = raw
            self._mode, self._size = "RGB", size

        def load(self) -> Any:
            if self._raw is not None:
                raw, self._raw = self._raw, None
                with raw:
                    pixels = _pixels(raw, self.size)
                self._mode, self._size, self.im = pixels.mode, pixels.size, pixels.im
                if profile := pixels.info.get("icc_profile"):
                    self.info["icc_profile"] = profile
            return super().load()

    return RawImage


def _pixels(raw: RawPy, size: tuple[int, int]) -> Image.Image:
    """Upright pixels: the preview's if it is large enough, else the sensor's, developed at half size."""
    import rawpy
    from PIL import Image

    preview = _preview(raw, size)
    if preview is not None and max(preview.size) >= min(PREVIEW_SIDE, max(size) // 2):
        with contextlib.suppress(OSError, SyntaxError):  # damaged: the sensor's data is there still
            return _upright(preview, raw.sizes.flip, size)
    try:
        # LibRaw turns the picture itself. At half size four sensor cells make one pixel, and nothing is guessed.
        return Image.fromarray(raw.postprocess(half_size=True, use_camera_wb=True))
    except rawpy.LibRawError as error:
        raise OSError(_message(error)) from error


def _preview(raw: RawPy, size: tuple[int, int]) -> Image.Image | None:
    """The largest preview, not decoded yet; None if there is none that can be the picture of that size."""
    import rawpy
    from PIL import Image

    try:
        thumb = raw.extract_thumb()
        if isinstance(thumb.data, bytes):
            preview: Image.Image = Image.open(io.BytesIO(thumb.data), formats=("JPEG", "MPO"))
        else:
            preview = Image.fromarray(thumb.data)
    except (rawpy.LibRawError, OSError, SyntaxError, Image.DecompressionBombError):
        return None
    # Some previews have a few rows more than the picture, but a header that says twice as many pixels lies.
    return preview if preview.width * preview.height <= 1.2 * size[0] * size[1] else None


def _upright(preview: Image.Image, flip: int, size: tuple[int, int]) -> Image.Image:
    """Turn a preview as it says itself, or as the raw file says, or not: the first that gives the right shape.

    Cameras keep previews as the sensor saw them, or upright, and some say which in the preview's own EXIF data.
    The shape is that of the picture: portrait or landscape.
    """
    preview.load()
    own = preview.getexif().get(_ORIENTATION)
    turns = [*([TURNS.get(own)] if own else []), _FLIPS.get(flip), None]
    for turn in turns:
        width, height = preview.size[::-1] if turn in _SIDEWAYS else preview.size
        if (width >= height) == (size[0] >= size[1]):
            break
    return preview if turn is None else preview.transpose(turn)


def _tiff_tags(data: bytes) -> dict[int, int]:
    """The first directory of a TIFF: tag -> first number (an offset where it is none); empty for other files."""
    if not data.startswith(_TIFF_BEGINNINGS) or len(data) < 8:
        return {}
    order = "<" if data.startswith(b"II") else ">"
    tags: dict[int, int] = {}
    try:
        start = struct.unpack_from(order + "I", data, 4)[0]
        for entry in range(struct.unpack_from(order + "H", data, start)[0]):
            tag, kind = struct.unpack_from(order + "HH", data, start + 2 + 12 * entry)
            letter = {1: "B", 3: "H"}.get(kind, "I")
            tags[tag] = struct.unpack_from(order + letter, data, start + 2 + 12 * entry + 8)[0]
    except struct.error:
        return tags  # cut short: what there is
    return tags


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else type(error).__name__
    return text.decode("ascii", "replace").lower() if isinstance(text, bytes) else str(text)
