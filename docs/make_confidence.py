"""Measure confidence on a folder of class folders, or on copies of the pictures of any folder: see confidence.md.

    python docs/make_confidence.py FOLDER [--model NAME] [--copies] [--seeds 5] [--figure FILE.png]

Each seed leaves another half of the classes out; with --copies, half of the pictures, and asked for are six
distorted copies of all of them. Prints one line of a table.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from imagesearch import ImageSearch
from imagesearch.frontends.confidence_figures import confidence_figure
from imagesearch.images.find import EXTENSIONS
from imagesearch.learning.confidence_evaluation import (
    ConfidenceReport,
    Split,
    evaluate_confidence,
    split_classes,
    split_originals,
)

SIDE = 384


def distorted(picture: Image.Image, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Six copies: compressed, blurred, noisy, cropped, tilted, mirrored; how strongly is drawn."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=int(rng.integers(5, 25)))
    yield Image.open(buffer).convert("RGB")
    yield picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(1, 6))))
    pixels = np.asarray(picture, np.float32)
    noisy = pixels + rng.normal(0, rng.uniform(10, 60), pixels.shape)
    yield Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    share, (width, height) = rng.uniform(0.5, 0.9), picture.size
    left, top = int(rng.uniform(0, (1 - share) * width)), int(rng.uniform(0, (1 - share) * height))
    yield picture.crop((left, top, left + int(share * width), top + int(share * height)))
    yield picture.rotate(float(rng.uniform(-25, 25)))
    yield picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def small(path: Path) -> Image.Image:
    """The picture in RGB, its longer side at most SIDE pixels."""
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((SIDE, SIDE))
    return picture


def splits_of(images: ImageSearch, paths: list[Path], seeds: int, *, copies: bool) -> Iterator[Split]:
    """One split for each seed."""
    vectors = images.embed(paths)
    if copies:
        rng = np.random.default_rng(0)
        asked = np.concatenate([images.embed(list(distorted(small(path), rng))) for path in paths])
        copy_of = np.repeat(np.arange(len(paths)), 6)
        for seed in range(seeds):
            yield split_originals(vectors, asked, copy_of, seed=seed)
        return
    _, labels = np.unique([str(path.parent) for path in paths], return_inverse=True)
    for seed in range(seeds):
        yield split_classes(vectors, labels.astype(np.int64), seed=seed)


def row(title: str, report: ConfidenceReport) -> str:
    """One line of the table in confidence.md."""
    each = [trial.false_alarms for trial in report.trials]
    numbers = (f"{report.false_alarms:.3f} ({min(each):.2f}-{max(each):.2f})", report.shown_ratio)
    errors = (f"{report.calibration_error:.3f}", f"{report.first_calibration_error:.3f}")
    return "| " + " | ".join([title, *numbers, *errors, f"{1e3 * report.seconds_per_query:.2f} ms"]) + " |"


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--copies", action="store_true")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    paths = sorted(path for path in given.folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    with ImageSearch({"model": {"name": given.model}}) as images:
        splits = list(splits_of(images, paths, given.seeds, copies=given.copies))
        report = evaluate_confidence(splits, fingerprint=images.embedder.fingerprint)
    title = f"{given.folder.name}{', copies' if given.copies else ''}, {Path(given.model).name}"
    sys.stdout.write(row(title, report) + "\n")
    if given.figure:
        confidence_figure(report, title).savefig(given.figure)


if __name__ == "__main__":
    main()
