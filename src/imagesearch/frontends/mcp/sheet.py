"""A numbered contact sheet: many pictures in one JPEG, so that a model sees them for the price of one image."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.records import Skipped
from imagesearch.search.image_encoding import DEFAULT_READING, ImageReading

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

# Pixels. Vision models scale images down whose longer side is more than about 1,500; within that, a sheet of 36
# leaves each picture the 200 pixels that it takes to tell what is in it.
WIDEST = 1224
LARGEST_CELL = 408
GAP = 4
_QUALITY = 78

_PAPER, _TILE, _INK, _BADGE, _DIGITS = "#ffffff", "#e8ebef", "#4a5360", "#000000", "#ffffff"


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of a sheet.

    Attributes:
        path: the file; None: there is none to read.
        note: what to write in its place.
    """

    path: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn sheet.

    Attributes:
        jpeg: the bytes of a file, without metadata.
        width, height: pixels.
        columns: pictures side by side.
        notes: for each cell why nothing is shown there; None: its picture is.
    """

    jpeg: bytes
    width: int
    height: int
    columns: int
    notes: tuple[str | None, ...]


def draw_sheet(cells: Sequence[Cell], reading: ImageReading = DEFAULT_READING) -> Sheet:
    """Draw pictures in a grid, each numbered from 1 on in its corner, whole and with its proportions kept.

    A picture that cannot be read is a grey cell that says so.

    Args:
        cells: at least one.
        reading: limits; larger or slower files are not shown.
    """
    from PIL import Image, ImageDraw

    columns = math.ceil(math.sqrt(len(cells)))
    rows = math.ceil(len(cells) / columns)
    side = min(LARGEST_CELL, (WIDEST - GAP) // columns - GAP)
    sheet = Image.new("RGB", (columns * (side + GAP) + GAP, rows * (side + GAP) + GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    notes: list[str | None] = []
    for place, shown in enumerate(_thumbnails(cells, side, reading)):
        left, top = (GAP + at * (side + GAP) for at in (place % columns, place // columns))
        pen.rectangle(
            (left, top, left + side - 1, top + side - 1), fill=_TILE
        )  # so it is clear what belongs together
        if isinstance(shown, Skipped):
            _write_note(pen, (left, top), side, "not shown")
            notes.append(shown.reason)
        else:
            sheet.paste(shown, (left + (side - shown.width) // 2, top + (side - shown.height) // 2))
            notes.append(None)
        _write_number(pen, (left, top), place + 1, side)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=_QUALITY, optimize=True)
    return Sheet(file.getvalue(), *sheet.size, columns, tuple(notes))


def _thumbnails(cells: Sequence[Cell], side: int, reading: ImageReading) -> list[Image.Image | Skipped]:
    """Each picture no larger than a square, or why there is none."""
    readable = [cell.path for cell in cells if cell.path is not None]

    def load(path: str) -> Image.Image:
        picture = load_image(path, reading.max_megapixels, side)
        factor = min(side / picture.width, side / picture.height)
        size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
        return picture if size == picture.size else picture.resize(size, _filter(factor), reducing_gap=2.0)

    loaded = iter(decode_ahead(readable, load, max_workers=reading.max_workers, timeout=reading.timeout))
    return [Skipped("", cell.note) if cell.path is None else next(loaded) for cell in cells]


def _filter(factor: float) -> Image.Resampling:
    from PIL import Image

    return Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC


def _write_number(pen: ImageDraw.ImageDraw, corner: tuple[int, int], number: int, side: int) -> None:
    """White digits on a black plate: readable on any picture, at any size of the cells."""
    from PIL import ImageFont

    font = ImageFont.load_default(max(20, side // 9))
    text = str(number)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    margin = max(4, side // 50)
    width, height = right - left + 2 * margin, bottom - top + 2 * margin
    pen.rectangle((*corner, corner[0] + max(width, height) - 1, corner[1] + height - 1), fill=_BADGE)
    start = (corner[0] + max(width, height) // 2 - (left + right) // 2, corner[1] + margin - top)
    pen.text(start, text, font=font, fill=_DIGITS)


def _write_note(pen: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, text: str) -> None:
    from PIL import ImageFont

    middle = (corner[0] + side // 2, corner[1] + side // 2)
    pen.text(middle, text, font=ImageFont.load_default(max(16, side // 12)), fill=_INK, anchor="mm")
