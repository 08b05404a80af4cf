"""Draw the README's picture: thirty little scenes, and two searches among them with the bundled model.

    python docs/make_picture.py

Writes docs/sheet.png: the page with the results, as Chromium shows it. The scenes are drawn here, the ranking is
what the program finds.
"""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

from imagesearch import ImageSearch
from imagesearch.frontends.sheet import contact_sheet
from imagesearch.search.query import Query, SearchOptions

SIZE = 480
Colour = tuple[int, int, int]


def gradient(top: Colour, bottom: Colour) -> Image.Image:
    """A vertical blend of two colours."""
    mask = Image.linear_gradient("L").resize((SIZE, SIZE))
    return Image.composite(Image.new("RGB", mask.size, bottom), Image.new("RGB", mask.size, top), mask)


def shade(colour: Colour, rng: random.Random, spread: int = 25) -> Colour:
    """A colour near another one."""
    return tuple(max(0, min(255, channel + rng.randint(-spread, spread))) for channel in colour)  # type: ignore[return-value]


def sunset(rng: random.Random) -> Image.Image:
    """A sun low over the sea."""
    picture = gradient(shade((70, 40, 110), rng), shade((255, 150, 60), rng))
    draw = ImageDraw.Draw(picture)
    x, y, radius = rng.randint(120, 360), rng.randint(210, 280), rng.randint(35, 60)
    glow = Image.new("L", picture.size)
    ImageDraw.Draw(glow).ellipse((x - 3 * radius, y - 3 * radius, x + 3 * radius, y + 3 * radius), fill=150)
    picture.paste((255, 200, 110), mask=glow.filter(ImageFilter.GaussianBlur(50)))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 236, 170))
    horizon = rng.randint(290, 330)
    draw.rectangle((0, horizon, SIZE, SIZE), fill=shade((45, 35, 85), rng))
    for _ in range(60):
        row = rng.randint(horizon + 4, SIZE)
        width = (row - horizon) * 0.5 + 12
        left = x + rng.uniform(-1, 1) * width
        draw.line((left - 14, row, left + 14, row), fill=(255, 190, 110), width=3)
    return picture


def forest(rng: random.Random) -> Image.Image:
    """Firs under a pale sky."""
    picture = gradient(shade((190, 215, 230), rng), shade((120, 150, 110), rng))
    draw = ImageDraw.Draw(picture)
    for distance in range(3):
        for _ in range(9 - 2 * distance):
            x, foot = rng.randint(-20, SIZE + 20), 300 + 70 * distance + rng.randint(-15, 15)
            height = rng.randint(120, 170) * (1 + 0.35 * distance)
            green = shade((70 - 18 * distance, 110 - 22 * distance, 70 - 16 * distance), rng, 10)
            draw.rectangle((x - 5, foot - 20, x + 5, foot + 14), fill=(80, 55, 40))
            for layer in range(4):
                top = foot - height + layer * height * 0.2
                half = height * (0.12 + 0.06 * layer)
                draw.polygon(
                    [(x, top), (x - half, top + height * 0.36), (x + half, top + height * 0.36)], fill=green
                )
    return picture


def flower(rng: random.Random) -> Image.Image:
    """One blossom, close."""
    picture = gradient(shade((60, 120, 60), rng), shade((25, 70, 35), rng)).filter(ImageFilter.GaussianBlur(8))
    draw = ImageDraw.Draw(picture)
    x, y, petals, length = rng.randint(200, 280), rng.randint(200, 270), rng.randint(7, 11), rng.randint(110, 160)
    colour = shade(rng.choice([(230, 80, 140), (240, 200, 60), (235, 235, 245)]), rng, 12)
    draw.line((x, y, x + rng.randint(-40, 40), SIZE), fill=(50, 130, 50), width=14)
    for petal in range(petals):
        angle = 2 * math.pi * petal / petals
        cx, cy, half = x + math.cos(angle) * length * 0.6, y + math.sin(angle) * length * 0.6, length * 0.36
        draw.ellipse(
            (cx - half, cy - half, cx + half, cy + half), fill=shade(colour, rng, 8), outline=(120, 60, 70)
        )
    draw.ellipse((x - 42, y - 42, x + 42, y + 42), fill=(150, 95, 30))
    return picture


def town(rng: random.Random) -> Image.Image:
    """Houses with lit windows at night."""
    picture = gradient(shade((10, 12, 40), rng, 8), shade((40, 45, 95), rng, 12))
    draw = ImageDraw.Draw(picture)
    for _ in range(70):
        x, y = rng.randint(0, SIZE), rng.randint(0, 260)
        draw.point((x, y), fill=(230, 230, 255))
    left = -10
    while left < SIZE:
        width, top = rng.randint(60, 110), rng.randint(140, 300)
        draw.rectangle((left, top, left + width, SIZE), fill=shade((28, 28, 46), rng, 8))
        for row in range(top + 16, SIZE - 20, 34):
            for column in range(int(left) + 12, int(left) + width - 18, 26):
                lit = rng.random() < 0.55
                draw.rectangle((column, row, column + 13, row + 18), fill=(255, 214, 120) if lit else (45, 45, 66))
        left += width + 4
    return picture


def beach(rng: random.Random) -> Image.Image:
    """A parasol between sand and sea."""
    picture = gradient(shade((90, 180, 235), rng), shade((200, 235, 250), rng))
    draw = ImageDraw.Draw(picture)
    shore = rng.randint(290, 330)
    draw.rectangle((0, 210, SIZE, shore), fill=shade((30, 130, 180), rng))
    draw.rectangle((0, shore, SIZE, SIZE), fill=shade((240, 215, 160), rng, 12))
    x, y, radius = rng.randint(140, 340), rng.randint(220, 260), rng.randint(80, 110)
    draw.line((x, y, x + 16, y + 175), fill=(120, 85, 60), width=8)
    for stripe in range(6):
        fill = shade((225, 60, 60), rng, 20) if stripe % 2 else (250, 250, 245)
        draw.pieslice(
            (x - radius, y - radius, x + radius, y + radius), 180 + 30 * stripe, 210 + 30 * stripe, fill=fill
        )
    return picture


SCENES: tuple[Callable[[random.Random], Image.Image], ...] = (sunset, forest, flower, town, beach)


def draw_all(folder: Path, each: int = 6) -> None:
    """Write ``each`` pictures of every scene."""
    for scene in SCENES:
        for number in range(each):
            seed = random.Random(f"{scene.__name__} {number}")
            scene(seed).resize((SIZE // 2, SIZE // 2)).save(folder / f"{scene.__name__}-{number + 1}.png")


def show_page(page: Path, picture: Path) -> None:
    """Take a picture of a page, as a browser shows it."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("there is no Chromium here to show the page")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1180,1350"]
    subprocess.run([browser, *flags, f"--screenshot={picture}", page.as_uri()], check=True, capture_output=True)


def main() -> None:
    """Draw, index, search, save."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        draw_all(folder)
        with ImageSearch({"milvus": {"uri": str(folder / "picture.db")}}) as images:
            images.index(folder)
            answers = images.answer([folder / "sunset-1.png", Query.words("umbrella")], SearchOptions(6))
            page = contact_sheet(answers, folder / "sheet.html", info=images.describe())
        show_page(page, Path(__file__).resolve().with_name("sheet.png"))


if __name__ == "__main__":
    main()
