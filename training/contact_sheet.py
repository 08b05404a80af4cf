"""Twelve searches on one sheet, the queries spread evenly over the pictures, none picked.

    python -m training.contact_sheet --photos FOLDER --data packed --out sheet.png [--model CHECKPOINT]

Searches among the photographs and the validation pictures together; a query is not shown as its own result.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from imagesearch import ImageSearch
from training import data

QUERIES, RESULTS = 12, 6


def main() -> None:
    """Embed everything, search, draw."""
    parser = argparse.ArgumentParser(description="Twelve searches on one sheet, none picked.")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--count", type=int, default=10_000, help="validation pictures beside the photographs")
    options = parser.parse_args()
    files = sorted(options.photos.iterdir())
    small = data.load(options.data, "val", options.count / 10_000).images.permute(0, 2, 3, 1).numpy()
    images = ImageSearch({"model": {"name": options.model}})
    vectors = np.concatenate([images.embed(files), images.embed(list(small))])
    queries = np.linspace(0, len(files) - 1, QUERIES).round().astype(int)
    figure = Figure(figsize=(1.5 * (RESULTS + 1), 1.6 * QUERIES), layout="constrained")
    axes = figure.subplots(QUERIES, RESULTS + 1)
    for row, query in zip(axes, queries, strict=True):
        scores = vectors @ vectors[query]
        scores[query] = -np.inf
        best = np.argsort(-scores)[:RESULTS]
        for axis, number in zip(row, [query, *best], strict=True):
            picture = (
                Image.open(files[number]).convert("RGB") if number < len(files) else small[number - len(files)]
            )
            axis.imshow(picture if isinstance(picture, np.ndarray) else picture.resize((160, 160)))
            axis.set_axis_off()
            axis.set_title("query" if number == query else f"{scores[number]:.2f}", fontsize=8)
    figure.savefig(options.out, dpi=90)


if __name__ == "__main__":
    main()
