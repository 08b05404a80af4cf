"""Which hits are folded into one? Copies of photographs, and photographs that are different.

    python benchmarks/near_identical.py --pictures DIR [--model starter] [--limit 1000]

Every picture is copied in eight ways. Printed are the bound that :func:`near_identical` chooses for these pictures
(or --bound), how many of each kind of copies are folded, and how many pairs of different pictures, which should be
none unless the folder itself has copies.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.images.find import find_pictures
from imagesearch.search.grouping import near_identical


def encoded(picture: Image.Image, kind: str, quality: int = 85) -> bytes:
    """The bytes of a file."""
    file = io.BytesIO()
    picture.save(file, kind, quality=quality)
    return file.getvalue()


def shrunk(picture: Image.Image, by: int) -> bytes:
    """Each side divided by a number."""
    size = (max(1, picture.width // by), max(1, picture.height // by))
    return encoded(picture.resize(size, Image.Resampling.LANCZOS), "JPEG")


def trimmed(picture: Image.Image, share: float) -> bytes:
    """Without a margin of this share of each side."""
    x, y = round(picture.width * share), round(picture.height * share)
    return encoded(picture.crop((x, y, picture.width - x, picture.height - y)), "JPEG")


COPIES: dict[str, Callable[[Image.Image], bytes]] = {
    "JPEG, quality 75": lambda picture: encoded(picture, "JPEG", 75),
    "JPEG, quality 40": lambda picture: encoded(picture, "JPEG", 40),
    "WebP, quality 60": lambda picture: encoded(picture, "WEBP", 60),
    "half the size": lambda picture: shrunk(picture, 2),
    "a quarter of the size": lambda picture: shrunk(picture, 4),
    "brighter by 10 %": lambda picture: encoded(picture.point(lambda value: min(255, int(value * 1.1))), "JPEG"),
    "without a margin of 2 %": lambda picture: trimmed(picture, 0.02),
    "without a margin of 5 %": lambda picture: trimmed(picture, 0.05),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--bound", type=float)
    parser.add_argument("--json", type=Path, help="keep the figures in a file")
    options = parser.parse_args()
    paths = list(find_pictures(options.pictures))[: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        settings = {"model": {"name": options.model}, "milvus": {"uri": f"{folder}/none.db"}}
        with ImageSearch(settings) as images:
            figures = measure(images, paths, options.bound)
    print(f"bound {figures['bound']:.3f}: {figures['folded']:,} of {figures['pairs']:,} different pairs folded")
    print(f"{'copies':<24} folded  cosine: least  1 of 100  median")
    for name, row in figures["copies"].items():
        cosines = f"{row['least']:13.3f}  {row['hundredth']:8.3f}  {row['median']:6.3f}"
        print(f"{name:<24} {row['folded']:6.1%}  {cosines}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure(images: ImageSearch, paths: list[str], bound: float | None) -> dict[str, Any]:
    """The figures of one model."""
    originals = images.embed(paths)
    bound = near_identical(originals) if bound is None else bound
    cosines = (originals @ originals.T)[np.triu_indices(len(paths), 1)]
    copies = {}
    for name, copy in COPIES.items():
        vectors = images.embed(copy(Image.open(path).convert("RGB")) for path in paths)
        near = (vectors * originals).sum(axis=1)
        least, hundredth, median = map(float, np.quantile(near, (0, 0.01, 0.5)))
        share = float((near >= bound).mean())
        copies[name] = {"folded": share, "least": least, "hundredth": hundredth, "median": median}
    folded = int((cosines >= bound).sum())
    return {"bound": bound, "folded": folded, "pairs": int(cosines.size), "copies": copies}


if __name__ == "__main__":
    main()
