"""Pictures made by code: four coloured quarters in any format, and files whose bytes are laid out by hand."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

# The corners tell the eight orientations apart.
RED, GREEN, BLUE, YELLOW = (230, 20, 20), (20, 200, 20), (20, 20, 220), (230, 220, 20)
UPRIGHT = ["red", "green", "blue", "yellow"]

# EXIF 2.32, section 4.6.4: how the camera's sensor was turned, undone.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def corners(size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A colour in each quarter: red green / blue yellow."""
    width, height = size
    picture = Image.new("RGB", size, RED)
    picture.paste(GREEN, (width // 2, 0, width, height // 2))
    picture.paste(BLUE, (0, height // 2, width // 2, height))
    picture.paste(YELLOW, (width // 2, height // 2, width, height))
    return picture


def quarters(picture: Image.Image) -> list[str]:
    """The colours of a picture's quarters, row by row, by name."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "yellow": YELLOW}
    return [
        min(names, key=lambda name: int(np.abs(np.array(colour) - names[name]).sum()))
        for colour in middles(picture)
    ]


def middles(picture: Image.Image) -> list[tuple[int, ...]]:
    """The pixels in the middle of a picture's quarters, row by row."""
    width, height = picture.size
    assert picture.mode == "RGB"
    return [picture.getpixel((x, y)) for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)]


def greys(size: tuple[int, int] = (60, 40)) -> np.ndarray:
    """Quarters of 0, 1/3, 2/3 and 1: row by row from black to white; shape (height, width), float64."""
    width, height = size
    values = np.zeros((height, width))
    values[: height // 2, width // 2 :] = 1 / 3
    values[height // 2 :, : width // 2] = 2 / 3
    values[height // 2 :, width // 2 :] = 1
    return values


BLACK_TO_WHITE = [0, 85, 170, 255]


def orientation_tag(value: object) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def encoded(picture: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    if format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
        if isinstance(exif := options.get("exif"), Image.Exif):
            options["exif"] = exif.tobytes()  # of bytes alone it makes HEIF's own orientation
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int, height: int, *, depth: int = 8, colour_type: int = 2, pixels: bytes = bytes(100), more: bytes = b""
) -> bytes:
    """A PNG made by hand, so that its header may lie; ``more`` are chunks before the pixels."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = png_chunk(b"IHDR", header) + more + png_chunk(b"IDAT", zlib.compress(pixels)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_of(pixels: np.ndarray, more: bytes = b"") -> bytes:
    """A PNG of 8 or 16 bits from an array of shape (height, width, channels), which Pillow cannot write."""
    height, width, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    stride = len(rows) // height
    filtered = b"".join(b"\0" + rows[start : start + stride] for start in range(0, len(rows), stride))
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(width, height, depth=8 * pixels.dtype.itemsize, colour_type=colour_type, pixels=filtered, more=more)


def tiff_directories(directories: list[list[tuple[int, int, object]]], payloads: list[bytes]) -> bytes:
    """A little-endian TIFF by hand: lists of (tag, type, values), where ``("payload", n)`` is a payload's offset.

    ``("directory", n)`` is a directory's offset. Only the first directory is in the chain.
    """
    codes = {1: "B", 2: "B", 3: "H", 4: "I", 5: "II", 7: "B", 10: "ii"}
    starts, position = [], 8
    for directory in directories:
        starts.append(position)
        position += 2 + 12 * len(directory) + 4
    offsets = []
    for payload in payloads:
        offsets.append(position)
        position += len(payload) + len(payload) % 2
    tail = b"".join(payload + bytes(len(payload) % 2) for payload in payloads)
    written = b"II*\0" + struct.pack("<I", 8)
    for directory in directories:
        written += struct.pack("<H", len(directory))
        for tag, kind, given in sorted(directory):
            values = given if isinstance(given, (list, bytes)) else [given]
            if isinstance(given, tuple):
                values = [{"payload": offsets, "directory": starts}[given[0]][given[1]]]
            flat = [number for value in values for number in (value if isinstance(value, tuple) else (value,))]
            raw = struct.pack("<" + codes[kind] * len(values), *flat)
            if len(raw) > 4:
                padded = raw + bytes(len(raw) % 2)
                raw = struct.pack("<I", position)
                tail += padded
                position += len(padded)
            written += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
        written += bytes(4)
    return written + tail


def dng(
    picture: Image.Image, *, orientation: int = 1, preview: bytes = b"", preview_size: tuple[int, int] = (0, 0)
) -> bytes:
    """An uncompressed raw file as a camera writes it: a mosaic of red, green, green and blue cells (DNG 1.7).

    With a preview (a JPEG's bytes) that comes first, and the sensor's data in a directory below it, as cameras do.
    """
    width, height = picture.size
    light = (np.asarray(picture) / 255.0) ** 2.2 * 60000
    cells = np.zeros((height, width), np.uint16)
    for channel, (row, column) in ((0, (0, 0)), (1, (0, 1)), (1, (1, 0)), (2, (1, 1))):
        cells[row::2, column::2] = light[row::2, column::2, channel]
    # From CIE XYZ to the sensor's red, green and blue: here those of sRGB, IEC 61966-2-1.
    matrix = (32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572)
    camera = [
        (271, 2, b"ACME\0"),
        (272, 2, b"ACME One\0"),
        (274, 3, orientation),
        (306, 2, b"2020:01:02 03:04:05\0"),
        (50706, 1, bytes((1, 4, 0, 0))),
        (50707, 1, bytes((1, 1, 0, 0))),
        (50708, 2, b"ACME One\0"),
        (50721, 10, [(number, 10000) for number in matrix]),
        (50728, 5, [(1, 1)] * 3),
        (50778, 3, 21),
    ]
    sensor: list[tuple[int, int, object]] = [
        (254, 4, 0),
        (256, 4, width),
        (257, 4, height),
        (258, 3, 16),
        (259, 3, 1),
        (262, 3, 32803),
        (273, 4, ("payload", 0)),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, cells.nbytes),
        (284, 3, 1),
        (33421, 3, [2, 2]),
        (33422, 1, bytes((0, 1, 1, 2))),
        (50714, 3, 0),
        (50717, 4, 65535),
    ]
    if not preview:
        return tiff_directories([sensor + camera], [cells.tobytes()])
    first: list[tuple[int, int, object]] = [
        (254, 4, 1),
        (256, 4, preview_size[0]),
        (257, 4, preview_size[1]),
        (258, 3, [8, 8, 8]),
        (259, 3, 7),
        (262, 3, 6),
        (273, 4, ("payload", 1)),
        (277, 3, 3),
        (278, 4, preview_size[1]),
        (279, 4, len(preview)),
        (330, 4, ("directory", 1)),
    ]
    return tiff_directories([first + camera, sensor], [cells.tobytes(), preview])
