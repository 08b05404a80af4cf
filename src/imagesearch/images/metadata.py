"""What a picture's EXIF data says: which side is up; when, where and with what it was taken.

Everything here is written by cameras, phones and programs of all kinds, and often damaged. Whatever cannot be
understood is left out: it is no reason to lose the picture.
"""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image

# Numbers of tags: EXIF 2.32 (CIPA DC-008-2019), sections 4.6.3 to 4.6.6.
_MAKE, _MODEL, _ORIENTATION, _DATETIME = 0x010F, 0x0110, 0x0112, 0x0132
_EXIF_IFD, _DATETIME_ORIGINAL, _DATETIME_DIGITIZED = 0x8769, 0x9003, 0x9004
_GPS_IFD, _LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 0x8825, 1, 2, 3, 4

_SIDEWAYS = (5, 6, 7, 8)
# Pillow turns TIFFs itself while decoding, and we turn raw files; both give their upright size from the start.
_TURNED_BY_ITSELF = ("TIFF", "RAW")
_CAMERA_LENGTH = 100
# A PNG's pixels come in chunks of 8 KB or more, mostly; a file of more chunks than this means no good.
_MAX_CHUNKS = 500_000


def orientation(image: Image.Image) -> int:
    """How to turn a picture's pixels upright: 1 to 8, as EXIF 2.32, section 4.6.4, numbers it; 1: they are."""
    if image.format in _TURNED_BY_ITSELF:
        return 1
    value = _exif(image).get(_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height in pixels, once the picture is turned."""
    width, height = image.size
    return (height, width) if orientation(image) in _SIDEWAYS else (width, height)


def time_taken(image: Image.Image) -> str | None:
    """DateTimeOriginal (or the next best) as ISO 8601 without a time zone, None if absent or nonsense."""
    details = _directory(image, _EXIF_IFD)
    for value in (details.get(_DATETIME_ORIGINAL), details.get(_DATETIME_DIGITIZED), _exif(image).get(_DATETIME)):
        text = _text(value)
        if not text:  # as in most pictures from the web; strptime would take long to say so
            continue
        try:
            return datetime.datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat()
        except ValueError:
            continue  # blanks and zeros stand for "unknown"; the next tag may know
    return None


def camera(image: Image.Image) -> str | None:
    """Maker and model in one line of at most 100 characters, None if absent.

    The maker is left out where the model begins with it: ``"Canon EOS 5D"``, not ``"Canon Canon EOS 5D"``.
    """
    exif = _exif(image)
    make, model = _text(exif.get(_MAKE)), _text(exif.get(_MODEL))
    makers_words = make.lower().split()
    if model and model.lower().split()[0] in makers_words:
        make = ""
    return f"{make} {model}".strip()[:_CAMERA_LENGTH].rstrip() or None


def location(image: Image.Image) -> tuple[float, float] | tuple[None, None]:
    """Latitude and longitude in degrees (WGS 84, north and east positive); two None if either is not known."""
    gps = _directory(image, _GPS_IFD)
    latitude = _degrees(gps.get(_LATITUDE), gps.get(_LATITUDE_REF), "NS", 90)
    longitude = _degrees(gps.get(_LONGITUDE), gps.get(_LONGITUDE_REF), "EW", 180)
    if latitude is None or longitude is None:
        return None, None
    return latitude, longitude


def png_exif(data: bytes) -> bytes | None:
    """The eXIf chunk of a PNG wherever it is; Pillow knows one behind the pixels only after decoding them."""
    position = 8
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return None
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + length]
        position += length + 12
    return None


def _exif(image: Image.Image) -> Image.Exif:
    from PIL import Image

    try:
        # Not image.getexif(): for a PNG that decodes the pixels, before anybody looked after memory and time.
        return Image.Image.getexif(image)
    except Exception:  # noqa: BLE001 - garbage raises anything; see the module's first lines
        return Image.Exif()


def _directory(image: Image.Image, tag: int) -> Mapping[int, Any]:
    try:
        return _exif(image).get_ifd(tag)
    except Exception:  # noqa: BLE001 - garbage raises anything; see the module's first lines
        return {}


def _text(value: object) -> str:
    """One line without NULs (cameras fill up with them), control characters and superfluous blanks."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str):
        return ""
    printable = (letter if letter.isprintable() else " " for letter in value.partition("\0")[0])
    return " ".join("".join(printable).split())


def _degrees(parts: object, reference: object, signs: str, most: int) -> float | None:
    """Degrees, minutes and seconds as one signed number, None unless finite and at most ``most``."""
    letter = _text(reference).upper()
    # Pillow takes a single number out of its tuple.
    numbers = parts if isinstance(parts, Sequence) and not isinstance(parts, str) else (parts,)
    if letter not in tuple(signs) or not 1 <= len(numbers) <= 3:
        return None
    try:
        value = math.fsum(float(number) / 60**power for power, number in enumerate(numbers))
    except (TypeError, ValueError, ArithmeticError):
        return None
    if not 0 <= value <= most:  # false for NaN, which is what 0/0 becomes
        return None
    return -value if letter == signs[1] else value
