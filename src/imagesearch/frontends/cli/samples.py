"""Sample photographs for the demo: those that scikit-image's wheel carries, and variants made of each.

Nothing is downloaded: scikit-image's own loaders might, so its files are read directly.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.errors import UsageError
from imagesearch.images.sources import load_image

if TYPE_CHECKING:
    from PIL import Image

# Photographs and scans among the files of skimage/data; the rest are diagrams and arrays.
PHOTOGRAPHS = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png", "coffee.png"),
    *("coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png"),
    *("motorcycle_left.png", "motorcycle_right.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)

_QUALITY = 90  # JPEG's, of 95 sensible steps; "compressed" is meant to look bad
_BAD_QUALITY = 8


def make_samples(folder: Path) -> list[Path]:
    """Write the photographs and their variants; files that are there already stay as they are.

    Returns:
        The files, sorted by name.

    Raises:
        UsageError: scikit-image is not installed, or a file cannot be written.
    """
    source = _sample_folder()
    made = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PHOTOGRAPHS:
            if (source / name).is_file():
                made += _with_variants(source / name, folder)
    except OSError as error:
        raise UsageError(
            f"cannot write to {os.fspath(folder)!r}: {(error.strerror or str(error)).lower()}"
        ) from error
    return sorted(made)


def _sample_folder() -> Path:
    # Finding a package does not import it.
    found = importlib.util.find_spec("skimage")
    for place in (found.submodule_search_locations or []) if found is not None else []:
        if (Path(place) / "data").is_dir():
            return Path(place) / "data"
    raise UsageError("the demo's photographs come with another package: pip install scikit-image")


def _with_variants(photograph: Path, folder: Path) -> list[Path]:
    original = load_image(photograph)
    stem = photograph.stem
    made = [folder / f"{stem}.jpg"]
    _save(original, made[0], _QUALITY)
    for name, change in _variants().items():
        made.append(folder / f"{stem}-{name}.jpg")
        _save(original, made[-1], _BAD_QUALITY if name == "compressed" else _QUALITY, change)
    return made


def _save(
    picture: Image.Image,
    path: Path,
    quality: int,
    change: Callable[[Image.Image], Image.Image] | None = None,
) -> None:
    if path.exists():  # a new file would be indexed again
        return
    temporary = path.with_name(f".{path.name}.part")
    (change(picture) if change else picture).save(temporary, format="JPEG", quality=quality)
    os.replace(temporary, path)


def _variants() -> Mapping[str, Callable[[Image.Image], Image.Image]]:
    from PIL import ImageEnhance, ImageOps

    return {
        "compressed": lambda picture: picture,
        "cropped": lambda picture: _centre(picture, 0.8),
        "darker": lambda picture: ImageEnhance.Brightness(picture).enhance(0.6),
        "mirrored": ImageOps.mirror,
        # Cropped by so much that no black corner remains.
        "rotated": lambda picture: _centre(picture.rotate(5, resample=3), 0.85),
    }


def _centre(picture: Image.Image, share: float) -> Image.Image:
    """The middle part of a picture: ``share`` of its width and height."""
    width, height = picture.size
    left, top = round(width * (1 - share) / 2), round(height * (1 - share) / 2)
    return picture.crop((left, top, width - left, height - top))
