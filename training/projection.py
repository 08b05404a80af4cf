"""Would a projection of the pooled vector be better for search? PCA and whitening, learnt on training pictures.

python -m training.projection --data packed [--model CHECKPOINT]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imagesearch import ImageSearch
from training import data
from training.evaluate import retrieval


def main() -> None:
    """Print retrieval figures of the pooled vectors and of their projections."""
    parser = argparse.ArgumentParser(description="Compare the pooled vector with projections of it.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128, 256])
    options = parser.parse_args()
    images = ImageSearch({"model": {"name": options.model}})
    train = data.load(options.data, "train", 0.05)
    validation = data.load(options.data, "val", 0.3)

    def embed(pictures: data.Pictures) -> NDArray[np.float32]:
        return images.embed([Image.fromarray(array) for array in pictures.images.permute(0, 2, 3, 1).numpy()])

    learnt, vectors, labels = embed(train), embed(validation), validation.labels.numpy()
    centre = learnt.mean(0)
    _, spread, directions = np.linalg.svd(learnt - centre, full_matrices=False)
    print("| vector | kNN-10 | P@10 | mAP |\n|---|---|---|---|")
    _report(f"pooled, {vectors.shape[1]}", vectors, labels)
    _report("pooled, centred", vectors - centre, labels)
    for dim in options.dims:
        projected = (vectors - centre) @ directions[:dim].T
        _report(f"PCA, {dim}", projected, labels)
        _report(f"PCA whitened, {dim}", projected / spread[:dim], labels)


def _report(name: str, vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    figures = retrieval(unit.astype(np.float32), labels)
    print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
