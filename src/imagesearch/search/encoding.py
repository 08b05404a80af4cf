"""From picture files to vectors: read, identify, decode and encode, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.images.files import MAX_MEGAPIXELS, content_hash, decode, describe, file_content, open_picture
from imagesearch.images.find import FoundFile, Selection, Walk
from imagesearch.images.pipeline import SECONDS_A_PICTURE, batches, decode_ahead
from imagesearch.models.embedder import Embedder
from imagesearch.models.preparing import Pixels
from imagesearch.records import Picture, Skipped

T = TypeVar("T")

# Files whose rows are looked up and rewritten together when their content is known.
_IDENTIFIED_TOGETHER = 500


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures are found and read.

    Attributes:
        batch_size: pictures the network sees at once.
        threads: decoding threads; 0: one a core.
        max_megapixels: larger pictures are skipped.
        timeout: seconds that reading and decoding one file may take.
        selection: which files count.
    """

    batch_size: int = 32
    threads: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    timeout: float = SECONDS_A_PICTURE
    selection: Selection = field(default_factory=Selection)

    @property
    def reader(self) -> str:
        """What, besides the file, decides whether it can be read: see ``Entry`` of the ledger."""
        return f"{_decoders()}; {self.max_megapixels:g} megapixels, {self.timeout:g} s"


@lru_cache(maxsize=1)
def _decoders() -> str:
    """Names and versions of what decodes pictures here; another version may read what this one cannot."""
    found = {name: metadata.version(name) for name in ("imagesearch", "pillow", "pillow-heif")}
    if find_spec("rawpy"):
        found["rawpy"] = metadata.version("rawpy")
    return ", ".join(f"{name} {version}" for name, version in found.items())


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What became of some files.

    Attributes:
        pictures, vectors: those that could be read; float32, shape (number of pictures, dimension).
        skipped: those that could not.
    """

    pictures: list[Picture]
    vectors: NDArray[np.float32]
    skipped: list[tuple[FoundFile, Skipped]]


def find_all(
    roots: Sequence[str | os.PathLike[str]], selection: Selection
) -> tuple[list[FoundFile], list[Skipped]]:
    """All picture files below the roots, and folders that cannot be read.

    Raises:
        UsageError: a root does not exist, or there is no picture below any of them.
    """
    walk = Walk.of(roots, selection)
    found = list(walk)
    refuse_missing(walk.missing)
    if not found:
        raise nothing_found(walk)
    return found, walk.closed


def refuse_missing(missing: dict[str, str]) -> None:
    """Raise for roots that cannot be read.

    Raises:
        UsageError: there are some; names the first.
    """
    for root, reason in missing.items():
        raise UsageError(f"cannot read {root!r}: {reason}")


def nothing_found(walk: Walk) -> UsageError:
    """The error for folders without pictures."""
    names = ", ".join(map(repr, walk.roots))
    left_out = ", ".join(map(repr, walk.selection.exclude))
    return UsageError(
        f"no pictures found in {names} (looked at file extensions such as .jpg, .png, .heic; data.exclude leaves"
        f" out {left_out or 'nothing'})"
    )


def encode_files(files: Sequence[FoundFile], embedder: Embedder, reading: Reading) -> Iterator[EncodedBatch]:
    """Read, decode and encode files, batch by batch, decoding ahead of the network."""

    def load(file: FoundFile) -> tuple[Picture, Pixels]:
        with (
            file_content(file.path, reading.max_megapixels) as (data, status),
            open_picture(data, file.path, reading.max_megapixels) as image,
        ):
            picture = describe(file.path, file.root, data, status, image)
            return picture, embedder.prepare(decode(image, file.path, embedder.decode_side))

    for batch in _read_ahead(files, load, reading, reading.batch_size):
        good = [item for _, item in batch if not isinstance(item, Skipped)]
        vectors = embedder.encode([pixels for _, pixels in good]) if good else _no_vectors(embedder)
        skipped = [(file, item) for file, item in batch if isinstance(item, Skipped)]
        yield EncodedBatch([picture for picture, _ in good], vectors, skipped)


def identify_files(files: Sequence[FoundFile], reading: Reading) -> Iterator[list[Picture]]:
    """Read files for their content hash only, some hundreds at a time; those that cannot be read are left out.

    Size in pixels and the like are not filled in.
    """

    def load(file: FoundFile) -> Picture:
        with file_content(file.path, reading.max_megapixels) as (data, status):
            return Picture(file.path, file.root, content_hash(data), status.st_size, status.st_mtime_ns)

    for batch in _read_ahead(files, load, reading, _IDENTIFIED_TOGETHER):
        yield [item for _, item in batch if not isinstance(item, Skipped)]


def _read_ahead(
    files: Sequence[FoundFile], load: Callable[[FoundFile], T], reading: Reading, size: int
) -> Iterator[list[tuple[FoundFile, T | Skipped]]]:
    loaded = decode_ahead(
        files, load, threads=reading.threads, ahead=2 * reading.batch_size, timeout=reading.timeout
    )
    return batches(zip(files, loaded, strict=True), size)


def _no_vectors(embedder: Embedder) -> NDArray[np.float32]:
    return np.empty((0, embedder.fingerprint.dim), np.float32)
