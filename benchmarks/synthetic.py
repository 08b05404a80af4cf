"""Vectors and rows that are made up, the same in every run: for programs of today, and of an earlier commit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

try:
    from imagesearch import ImageRecord
except ImportError:  # an earlier commit, which called it so
    from imagesearch import Picture as ImageRecord  # type: ignore[attr-defined, no-redef]

FILES_A_FOLDER = 500
ROWS_A_CALL = 2000

# Rows of noise made at once, which bounds the memory of temporary copies.
_ROWS_AT_ONCE = 50_000


def clustered(rows: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors around random centres, 50 to a centre: float32, shape (rows, dim)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 50), dim), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), rows)]
    for start in range(0, rows, _ROWS_AT_ONCE):
        piece = vectors[start : start + _ROWS_AT_ONCE]
        piece += 0.6 * rng.standard_normal(piece.shape, dtype=np.float32)
        piece /= np.linalg.norm(piece, axis=1, keepdims=True)
    return vectors


def queries_near(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Queries that are close to some of the vectors, but equal to none: float32, shape (count, dim)."""
    rng = np.random.default_rng(1)
    chosen = vectors[rng.integers(0, len(vectors), count)]
    return chosen + 0.02 * rng.standard_normal(chosen.shape, dtype=np.float32)


def numbered(start: int, end: int) -> list[ImageRecord]:
    """Rows without files, whose paths are their numbers."""
    return [ImageRecord(f"/{number:09d}.jpg") for number in range(start, end)]


def number_of(path: str) -> int:
    """Which of :func:`numbered` it is."""
    return int(path[1:-4])


def library(folder: Path, rows: int, dim: int) -> Iterator[tuple[list[ImageRecord], NDArray[np.float32]]]:
    """Tiny files below a folder, and batches of rows for them with random unit vectors."""
    rng = np.random.default_rng(0)
    pictures: list[ImageRecord] = []
    for number in range(rows):
        path = folder / f"{number // FILES_A_FOLDER:05d}" / f"IMG_{number:07d}.jpg"
        if number % FILES_A_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"%d" % number)
        status = path.stat()
        pictures.append(
            ImageRecord(
                *(str(path), str(folder), f"{number:032x}", status.st_size, status.st_mtime_ns, 4000, 3000),
                taken="2026-01-01T12:00:00",
            )
        )
        if len(pictures) == ROWS_A_CALL or number == rows - 1:
            vectors = rng.standard_normal((len(pictures), dim), dtype=np.float32)
            yield pictures, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            pictures = []
