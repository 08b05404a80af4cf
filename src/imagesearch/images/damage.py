"""Why a file cannot be read, in words that a user understands."""

from __future__ import annotations

import io
import struct

# How the libraries say that data ends too early.
_CUT_SHORT = (
    "truncat",
    "unexpected end",
    "end of file",
    "eof ",
    "premature",
    "incomplete",
    "too small",
    "not enough",
)


def damage(error: Exception) -> str:
    """What is wrong for a person, and in brackets what the library said."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    cut_short = isinstance(error, (EOFError, struct.error)) or any(part in said.lower() for part in _CUT_SHORT)
    return f"damaged: {'the file is cut short' if cut_short else 'its pixels cannot be decoded'} ({said})"


# What a file begins with, and what to call it. "?" stands for any byte.
_PICTURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"RIFF????WEBP": "WebP",
    **dict.fromkeys((b"II*\0", b"MM\0*"), "TIFF"),
    **dict.fromkeys((b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"), "JPEG 2000"),
    b"????ftypavi": "AVIF",
    **dict.fromkeys((b"????ftyphei", b"????ftypmif"), "HEIC"),
}
_UNREADABLE = {
    b"PF\n": "PFM in colour",
    b"P7\n": "PAM",
    **dict.fromkeys((b"\xff\x0a", b"\0\0\0\x0cJXL "), "JPEG XL"),
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"%!PS": "a PostScript document",
    b"8BPS": "a Photoshop document",
    b"<svg": "an SVG drawing",
    **dict.fromkeys((b"<!doctype html", b"<html"), "a web page"),
    **dict.fromkeys((b"????ftypqt", b"????ftypmp4", b"????ftypiso"), "a film"),
}


def what_it_is(data: bytes) -> str:
    """Why Pillow did not recognise a file."""
    if data.count(0) == len(data):
        return "damaged: holds nothing but zero bytes"
    if kind := _named(_PICTURES, data):
        special = _tiff_kind(data) if kind == "TIFF" else _jpeg_kind(data) if kind == "JPEG" else ""
        if special:
            return f"a {kind} {special}, which cannot be read here"
        return f"damaged: begins like {kind}, but its header makes no sense"
    if kind := _named(_UNREADABLE, data):
        return f"a {kind}, which cannot be read here"
    if kind := _named(_OTHERS, data.lstrip()[:32].lower()) or _named(_OTHERS, data):
        return f"is not a picture but {kind}"
    return "is not a picture (or of an unknown format)"


def _named(beginnings: dict[bytes, str], data: bytes) -> str:
    def fits(mark: bytes) -> bool:
        return len(data) >= len(mark) and all(m in (ord("?"), d) for m, d in zip(mark, data, strict=False))

    return next((name for mark, name in beginnings.items() if fits(mark)), "")


def _jpeg_kind(data: bytes) -> str:
    """What is unusual in a JPEG's frame header (ITU-T T.81, annex B.2.2)."""
    position = 2
    while position + 5 <= len(data) and data[position] == 0xFF:
        marker, length, precision = struct.unpack_from(">xBHB", data, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return f"with {precision} bits a sample" if precision in (12, 16) else ""
        position += 2 + length
    return ""


def _tiff_kind(data: bytes) -> str:
    """What the samples of a TIFF's first picture are (TIFF 6.0: BitsPerSample, SampleFormat)."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        directory = ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        bits = directory[258]
        name = {1: "unsigned", 2: "signed", 3: "floating point"}[directory.get(339, (1,))[0]]
        return f"with {len(bits)} x {bits[0]} bits a pixel ({name})"
    except Exception:  # noqa: BLE001 - damaged, and then the caller says so
        return ""
