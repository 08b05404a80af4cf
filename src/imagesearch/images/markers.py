"""The structure of JPEG, PNG and JPEG 2000 files, as far as it decides whether they are decoded, and how."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

# JPEG (ITU-T T.81, table B.1).
_SOI, _EOI, _SOS = b"\xff\xd8", b"\xff\xd9", b"\xff\xda"
# What begins a segment: not a byte of a scan, a restart within one, or what fills up.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
# A progressive JPEG has about ten scans, those that were optimised at length some fifty. The decoder goes over all
# pixels for each: a scan of a megapixel takes 5 ms.
_USUAL_SCANS, _MEGAPIXEL_SCANS, _MOST_SCANS = 20, 2_000, 500

# PNG (W3C, section 11): what may be left out without another picture coming out.
_PNG = b"\x89PNG\r\n\x1a\n"
_PROFILE = b"iCCP"
_DEPTH = 24  # where the header says how many bits a sample has

# JPEG 2000 (ITU-T T.800, annex I.5.3.3): boxes around the picture, and one among them says what its colours mean.
_ICC_METHODS = (2, 3)


def too_many_scans(data: bytes, width: int, height: int) -> int | None:
    """The number of scans of a JPEG if decoding them would take minutes, else None.

    A file of a megabyte can have thousands of empty scans.

    Args:
        data: the file.
        width, height: of the picture, in pixels.
    """
    if not data.startswith(_SOI) or not _has_several_scans(data):
        return None
    scans = _scans(data)
    megapixels = max(width * height / 1e6, 0.01)
    allowed = min(_MOST_SCANS, max(_USUAL_SCANS, _MEGAPIXEL_SCANS / megapixels))
    return scans if scans > allowed else None


def _scans(data: bytes) -> int:
    """How many scans a JPEG has; what its segments hold and what lies behind it, such as a film, has none."""
    scans, position = 0, len(_SOI)
    while (found := _MARKER.search(data, position)) and found[0] != _EOI:
        scans += found[0] == _SOS
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    return scans


def _has_several_scans(data: bytes) -> bool:
    """Whether the decoder looks for more scans than the first: those of most files are not worth counting."""
    position, components, progressive = 2, 0, False
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return True  # garbage between segments; decoders look for the next marker
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xFF:  # fill bytes
            position += 1
            continue
        if marker in _FRAMES and position + 10 <= len(data):
            components, progressive = data[position + 9], marker in _PROGRESSIVE
        if marker == _SOS[1] and position + 5 <= len(data):
            return progressive or data[position + 4] < components
        position += 2 + length
    return False


def without_profile(data: bytes) -> bytes | None:
    """A PNG without its colour profile; None if it is no PNG, or has none.

    Pillow refuses a whole file whose profile is damaged or too large.
    """
    if not data.startswith(_PNG):
        return None
    position = len(_PNG)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == _PROFILE:
            return data[:position] + data[position + 12 + length :]
        if kind == b"IDAT":  # a profile comes before the pixels
            return None
        position += 12 + length
    return None


def clear_grey(data: bytes, value: int) -> int:
    """The grey that a PNG declares transparent as one of 8 bits, where the file has fewer.

    Pillow makes 8 bits of the pixels, but not of this one.
    """
    most = 2 ** data[_DEPTH] - 1
    return value * 255 // most if value <= most < 255 else value


def jp2_profile(data: bytes) -> bytes | None:
    """The colour profile of a JPEG 2000 file, which Pillow leaves out; None if it has none, or is damaged."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"jp2h":
            # Of several descriptions of the colours, the first counts.
            colours = next(
                ((first, last) for name, first, last in _boxes(data, start, end) if name == b"colr"), None
            )
            if colours is None or data[colours[0]] not in _ICC_METHODS:
                return None
            return data[colours[0] + 3 : colours[1]] or None
    return None


def _boxes(data: bytes, position: int, until: int) -> Iterator[tuple[bytes, int, int]]:
    """The kind, beginning and end of what each box holds; up to the first that is not as long as it says."""
    while position + 16 <= until:
        length, kind, long = struct.unpack_from(">I4sQ", data, position)
        start = position + (16 if length == 1 else 8)
        end = until if length == 0 else position + (long if length == 1 else length)
        if not start < end <= until:
            return
        yield kind, start, end
        position = end
