"""Take the picture of a training's report, of drawn shapes that are easily confused.

    python docs/make_training.py [FOLDER]

Writes docs/training-report.png: what ``imagesearch train --method last`` shows in Chromium. With FOLDER the class
folders are kept there. Nothing is downloaded.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter
from playwright.sync_api import sync_playwright

SIDE, EACH = 96, 45
# Of the page down to the confusion matrix, pixels.
HEIGHT = 1735
# Corners of each shape, and how long it is for its width: some look much alike.
SHAPES = {
    "circle": (40, 1.0),
    "ellipse": (40, 1.5),
    "triangle": (3, 1.0),
    "square": (4, 1.0),
    "rectangle": (4, 1.6),
    "pentagon": (5, 1.0),
    "hexagon": (6, 1.0),
    "octagon": (8, 1.0),
}


def draw(shape: str, seed: str) -> Image.Image:
    """A shape of any colour, size and direction on any ground."""
    chance = random.Random(seed)
    corners, length = SHAPES[shape]
    length *= chance.uniform(0.9, 1.15)
    ground, ink = (tuple(chance.randrange(256) for _ in range(3)) for _ in range(2))
    picture = Image.new("RGB", (2 * SIDE, 2 * SIDE), ground)
    radius, turn = chance.uniform(0.35, 0.6) * SIDE, chance.uniform(0, 2 * math.pi)
    points = []
    for across, down in around(corners):
        x, y = across * radius * length, down * radius
        left, top = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        points.append((SIDE + left, SIDE + top))
    ImageDraw.Draw(picture).polygon(points, fill=ink)
    noise = Image.effect_noise(picture.size, 60).convert("RGB")
    mixed = Image.blend(picture, noise, chance.uniform(0.1, 0.4))
    return mixed.filter(ImageFilter.GaussianBlur(1)).resize((SIDE, SIDE))


def around(corners: int) -> Iterator[tuple[float, float]]:
    """Corners of a regular polygon, one side of which is upright."""
    for number in range(corners):
        angle = (2 * number + 1) * math.pi / corners
        yield math.cos(angle), math.sin(angle)


def draw_folders(folder: Path) -> None:
    """A folder for each shape."""
    for shape in SHAPES:
        (folder / shape).mkdir(parents=True, exist_ok=True)
        for number in range(EACH):
            draw(shape, f"{shape} {number}").save(folder / shape / f"{shape}-{number:02}.png")


def main() -> None:
    """Draw, train, take the picture."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary) / "shapes"
        draw_folders(folder)
        out = Path(temporary) / "shapes-model"
        command = (sys.executable, "-m", "imagesearch", "train", str(folder), "--out", str(out), "--force")
        subprocess.run((*command, "--method", "last", "--epochs", "8"), check=True)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
            page = browser.new_page(viewport={"width": 1100, "height": 900})
            page.goto((out / "report.html").as_uri())
            taken = Path(temporary) / "taken.png"
            page.screenshot(path=taken, full_page=True, clip={"x": 0, "y": 0, "width": 1100, "height": HEIGHT})
            browser.close()
        target = Path(__file__).with_name("training-report.png")
        Image.open(taken).convert("P", palette=Image.Palette.ADAPTIVE).save(target, optimize=True)


if __name__ == "__main__":
    main()
