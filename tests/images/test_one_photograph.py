"""One photograph, in every format and orientation, is one picture to the network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from imagesearch.images.sources import load_image
from imagesearch.models.embedder import Embedder

from .samples import STORED_AS, encoded, orientation_tag, write

skimage = pytest.importorskip("skimage")

# They come with scikit-image itself; nothing is downloaded.
FILES = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "camera.png", "coins.png", "ihc.png")


def photograph(name: str) -> Image.Image:
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


def copies(picture: Image.Image) -> dict[str, bytes]:
    """In seven formats and, as JPEG and HEIC, in eight orientations."""
    files = {
        format: encoded(picture, format, **options)
        for format, options in {
            **{"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"quality": 90}, "AVIF": {"quality": 90}},
            **{"HEIF": {"quality": 90}, "TIFF": {"compression": "tiff_lzw"}, "JPEG2000": {}},
        }.items()
        if format != "AVIF" or features.check("avif")
    }
    for orientation, turn in STORED_AS.items():
        stored = picture if turn is None else picture.transpose(turn)
        for format in ("JPEG", "HEIF"):
            files[f"{format}, {orientation}"] = encoded(stored, format, exif=orientation_tag(orientation))
    return files


@pytest.mark.parametrize("name", ["astronaut.png", "coffee.png"])
def test_all_are_nearest_to_each_other(starter: Embedder, tmp_path: Path, name: str) -> None:
    files = copies(photograph(name))
    pictures = [load_image(write(tmp_path / str(number), data)) for number, data in enumerate(files.values())]
    others = [photograph(other) for other in FILES if other != name]
    vectors = starter.encode([starter.preprocess(picture) for picture in [*pictures, *others]])
    same, different = vectors[: len(files)], vectors[len(files) :]
    within = same @ same.T
    worst = np.unravel_index(np.argmin(within), within.shape)
    assert within.min() >= 0.98, [list(files)[index] for index in worst]
    assert (within.min(axis=1) > (same @ different.T).max(axis=1)).all()
