"""How good a checkpoint's vectors and labels are, beside other checkpoints and a colour histogram.

    python -m training.evaluate CHECKPOINT... --data packed [--photos FOLDER]

Columns, all from 0 to 1 but the last:

top-1     labels of Tiny ImageNet's validation pictures, for checkpoints that know the 200 classes
kNN-10    the same pictures labelled by a vote of their ten nearest neighbours among the others
P@10      share of the ten nearest neighbours that are of the same class
mAP       mean average precision over the whole ranking of the others, same class = relevant
blur ...  share of the photographs that are found first by a damaged copy of themselves, among all photographs
pictures/s  files to vectors through this program, decoding included; sides take turns, the median counts

Every checkpoint sees pictures through its own processor, as the program feeds it.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from imagesearch import ImageSearch
from imagesearch.models import catalogue
from imagesearch.models.hub import find_checkpoint
from training import data

TURNS = 5


def histogram(images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """Colour histograms of 8x8x8 cells, square-rooted and of unit length: float32, shape (n, 512)."""
    rows = []
    for image in images:
        cells = np.asarray(image.resize((64, 64)), np.int32) // 32
        counts = np.bincount((cells[..., 0] * 64 + cells[..., 1] * 8 + cells[..., 2]).ravel(), minlength=512)
        rows.append(np.sqrt(counts / counts.sum()))
    return np.asarray(rows, np.float32)


def retrieval(vectors: NDArray[np.float32], labels: NDArray[np.int64], k: int = 10) -> dict[str, float]:
    """Leave-one-out retrieval by cosine: k-nearest-neighbour accuracy, precision at k, mean average precision."""
    right = precision = average = 0.0
    for start in range(0, len(vectors), 500):
        scores = vectors[start : start + 500] @ vectors.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :-1]
        own = labels[start : start + 500]
        relevant = labels[order] == own[:, None]
        precision += relevant[:, :k].mean(1).sum()
        votes = np.stack([np.bincount(labels[row[:k]], minlength=labels.max() + 1) for row in order])
        right += float((votes.argmax(1) == own).sum())
        found = relevant.cumsum(1) / np.arange(1, relevant.shape[1] + 1)
        average += float(((found * relevant).sum(1) / relevant.sum(1)).sum())
    n = len(vectors)
    return {"kNN-10": right / n, "P@10": precision / n, "mAP": average / n}


def _recompressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=10)
    return Image.open(file).convert("RGB")


def _cropped(image: Image.Image) -> Image.Image:
    w, h = image.size
    return image.crop((int(w * 0.2), int(h * 0.2), int(w * 0.8), int(h * 0.8)))


def _noisy(image: Image.Image) -> Image.Image:
    noise = np.random.default_rng(image.size).normal(0, 30, (*image.size[::-1], 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


DAMAGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "blur": lambda image: image.filter(ImageFilter.GaussianBlur(max(image.size) / 100)),
    "noise": _noisy,
    "jpeg": _recompressed,
    "crop": _cropped,
    "rotate": lambda image: image.rotate(15, Image.Resampling.BILINEAR, expand=False),
}


def robustness(
    embed: Callable[[Sequence[Image.Image]], NDArray[np.float32]], photos: Sequence[Image.Image]
) -> dict[str, float]:
    """For each kind of damage, the share of damaged copies whose nearest picture is the undamaged one."""
    clean = embed(photos)
    found = {}
    for name, damage in DAMAGES.items():
        nearest = (embed([damage(photo) for photo in photos]) @ clean.T).argmax(1)
        found[name] = float((nearest == np.arange(len(photos))).mean())
    return found


def top1(
    images: ImageSearch, pictures: Sequence[Image.Image], labels: NDArray[np.int64], wnids: list[str]
) -> float | None:
    """Accuracy on the 200 classes; None for a checkpoint with other classes or none."""
    settings = images.config.model
    checkpoint = find_checkpoint(catalogue.labels_checkpoint(settings.name, settings.classifier) or settings.name)
    if json.loads((checkpoint.folder / "config.json").read_bytes()).get("wnids") != wnids:
        return None
    answers = images.classify_all([np.asarray(picture) for picture in pictures], top=1)
    guesses = [result[0].index for _, result in answers if isinstance(result, list)]
    return float((np.array(guesses) == labels).mean())


def speeds(services: dict[str, ImageSearch], files: Sequence[Path]) -> dict[str, float]:
    """Pictures a second from files to vectors; every turn measures all checkpoints, one after the other."""
    from imagesearch.images.find import Walk
    from imagesearch.library.encoding import ReadOptions, encode_files

    reading = ReadOptions()
    found = list(Walk.of(files, reading.selection))
    rates: dict[str, list[float]] = {name: [] for name in services}
    for _ in range(TURNS):
        for name, images in services.items():
            started = time.perf_counter()
            for _batch in encode_files(found, images.embedder, reading):
                pass
            rates[name].append(len(files) / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Parse the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="+", help="folders or presets")
    parser.add_argument("--data", type=Path, required=True, help="folder of python -m training.data")
    parser.add_argument("--photos", type=Path, help="folder of photographs, for robustness and speed")
    parser.add_argument("--count", type=int, default=10_000, help="number of validation pictures")
    options = parser.parse_args()
    wnids, _ = data.classes(options.data)
    validation = data.load(options.data, "val")
    chosen = np.random.default_rng(0).permutation(len(validation.labels))[: options.count]
    labels = validation.labels.numpy()[chosen]
    pictures = [Image.fromarray(array) for array in validation.images.permute(0, 2, 3, 1).numpy()[chosen]]
    files = sorted(options.photos.iterdir()) if options.photos else []
    photos = [Image.open(file).convert("RGB") for file in files]
    services = {
        name: ImageSearch({"model": {"name": name, "precision": "float32"}}) for name in options.checkpoints
    }
    rows: dict[str, dict[str, float | None]] = {"colour histogram": dict(retrieval(histogram(pictures), labels))}
    if photos:
        rows["colour histogram"] |= robustness(histogram, photos)
    for name, images in services.items():
        rows[name] = {"top-1": top1(images, pictures, labels, wnids), **retrieval(images.embed(pictures), labels)}
        if photos:
            rows[name] |= robustness(images.embed, photos)
    for name, rate in (speeds(services, files[:500]) if files else {}).items():
        rows[name]["pictures/s"] = rate
    _print(rows)


def _print(rows: dict[str, dict[str, float | None]]) -> None:
    columns = ["top-1", "kNN-10", "P@10", "mAP", *DAMAGES, "pictures/s"]
    columns = [column for column in columns if any(column in row for row in rows.values())]
    print("| model | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name, row in rows.items():
        cells = [_cell(row.get(column), column) for column in columns]
        print(f"| {Path(name).name} | " + " | ".join(cells) + " |")


def _cell(value: float | None, column: str) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if column == "pictures/s" else f"{value:.3f}"


if __name__ == "__main__":
    main()
