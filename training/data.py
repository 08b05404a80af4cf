"""Tiny ImageNet as tensors: decoded once, kept as uint8 where the training runs.

    python -m training.data PARQUET_FOLDER PACKED_FOLDER

packs the parquet files into .npz files of the same compressed pictures, for machines without pyarrow.
"""

from __future__ import annotations

import argparse
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

PIXELS = 64


@dataclass(frozen=True, slots=True)
class Pictures:
    """A labelled set: images uint8 of shape (n, 3, 64, 64), labels int64 of shape (n,)."""

    images: torch.Tensor
    labels: torch.Tensor


def pack(source: Path, target: Path) -> None:
    """Write one ``.npz`` a parquet file: the compressed pictures end to end, their offsets, and the labels."""
    import pyarrow.parquet

    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*.parquet")):
        table = pyarrow.parquet.read_table(file)
        blobs = table["image"].to_pylist()
        classes = dict(zip(table["label"].to_pylist(), zip_columns(table, "wnid", "class_name"), strict=True))
        np.savez(
            target / f"{file.stem}.npz",
            bytes=np.frombuffer(b"".join(blobs), np.uint8),
            offsets=np.cumsum([0] + [len(blob) for blob in blobs]),
            labels=np.asarray(table["label"], np.int64),
            wnids=np.array([classes[label][0] for label in sorted(classes)]),
            names=np.array([classes[label][1] for label in sorted(classes)]),
        )


def zip_columns(table: Any, *names: str) -> list[tuple[str, ...]]:
    """Columns of a table as tuples."""
    return list(zip(*(table[name].to_pylist() for name in names), strict=True))


def load(folder: Path, part: str, share: float = 1.0) -> Pictures:
    """Decode the ``"train"`` or ``"val"`` part of a packed folder (the first ``share`` of each file).

    Raises:
        FileNotFoundError: there is none.
    """
    files = sorted(folder.glob(f"*_{part}*.npz"))
    if not files:
        raise FileNotFoundError(
            f"no packed {part} pictures in {str(folder)!r}: see python -m training.data --help"
        )
    images, labels = [], []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for file in files:
            packed = np.load(file)
            data, offsets = packed["bytes"].tobytes(), packed["offsets"]
            count = int(len(packed["labels"]) * share)
            spans = [data[offsets[i] : offsets[i + 1]] for i in range(count)]
            images.append(np.stack(list(pool.map(_decode, spans, chunksize=256))))
            labels.append(packed["labels"][:count])
    pixels = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2).contiguous()
    return Pictures(pixels, torch.from_numpy(np.concatenate(labels)))


def classes(folder: Path) -> tuple[list[str], list[str]]:
    """WordNet ids and names of the 200 classes, in the labels' order."""
    packed = np.load(next(folder.glob("*_val*.npz")))
    return packed["wnids"].tolist(), packed["names"].tolist()


def _decode(blob: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(blob)).convert("RGB")
    return np.asarray(image if image.size == (PIXELS, PIXELS) else image.resize((PIXELS, PIXELS)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pack Tiny ImageNet's parquet files for training.")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    options = parser.parse_args()
    pack(options.source, options.target)
