"""Contact sheets: whole pictures with their proportions, in a grid, with readable numbers."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.frontends.mcp.sheet import GAP, WIDEST, Cell, draw_sheet

RED = (200, 0, 0)


def draw(place: Path, *sizes: tuple[int, int]) -> list[Cell]:
    cells = []
    for number, size in enumerate(sizes):
        Image.new("RGB", size, RED).save(place / f"{number}.png")
        cells.append(Cell(str(place / f"{number}.png")))
    return cells


def reds(sheet: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(sheet, int) - RED).max(axis=2) < 40


@pytest.mark.parametrize("size", [(300, 100), (100, 300), (2000, 1500), (20, 30), (2000, 40)])
def test_proportions_are_kept_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    drawn = draw_sheet(draw(tmp_path, size))
    down, across = np.nonzero(reds(Image.open(io.BytesIO(drawn.jpeg))))
    width, height = np.ptp(across) + 1, np.ptp(down) + 1
    side = drawn.width - 2 * GAP
    assert max(width, height) == pytest.approx(side, abs=2)
    assert min(width, height) == pytest.approx(max(1, side * min(size) / max(size)), abs=2)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9, 10, 36])
def test_the_grid_is_nearly_square_and_bounded(tmp_path: Path, count: int) -> None:
    drawn = draw_sheet(draw(tmp_path, *[(30, 30)] * count))
    assert drawn.columns == math.ceil(math.sqrt(count))
    assert max(drawn.width, drawn.height) <= WIDEST
    assert drawn.notes == (None,) * count


def test_every_cell_has_its_own_number(tmp_path: Path) -> None:
    """The plates in the corners are black and white, and no two are the same."""
    drawn = draw_sheet(draw(tmp_path, *[(90, 90)] * 36))
    sheet = Image.open(io.BytesIO(drawn.jpeg)).convert("L")
    step = (drawn.width - GAP) // 6
    plates = set()
    for number in range(36):
        left, top = GAP + number % 6 * step, GAP + number // 6 * step
        plate = np.asarray(sheet.crop((left, top, left + 34, top + 18)))
        assert plate.min() < 30
        assert plate.max() > 225
        plates.add(np.packbits(plate > 128).tobytes())
    assert len(plates) == 36


def test_what_cannot_be_shown_is_a_grey_cell_with_a_reason(tmp_path: Path) -> None:
    (good,) = draw(tmp_path, (30, 30))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    cells = [Cell(None, "not in the collection"), good, Cell(str(tmp_path / "broken.jpg")), Cell("/none.png")]
    drawn = draw_sheet(cells)
    assert drawn.notes[0] == "not in the collection"
    assert drawn.notes[1] is None
    assert "is not a picture" in str(drawn.notes[2])
    assert "no such file" in str(drawn.notes[3])
    middle = Image.open(io.BytesIO(drawn.jpeg)).getpixel((drawn.width // 4, drawn.height // 4 + 40))
    assert max(middle) - min(middle) < 16


def test_metadata_stays_behind(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 30), RED)
    exif = picture.getexif()
    exif[0x010F] = "a camera"
    picture.save(tmp_path / "0.jpg", exif=exif)
    sheet = Image.open(io.BytesIO(draw_sheet([Cell(str(tmp_path / "0.jpg"))]).jpeg))
    assert not sheet.getexif()
    assert b"a camera" not in sheet.tobytes()
