"""From picture files to vectors: read, identify, decode and encode, batch by batch."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.images.files import MAX_MEGAPIXELS, content_hash, decode, describe, file_content, open_image
from imagesearch.images.find import FoundFile, Selection, Walk, changed_ns
from imagesearch.images.pipeline import SECONDS_PER_IMAGE, batches, decode_ahead
from imagesearch.models.embedder import Encoder
from imagesearch.models.preprocessing import Pixels
from imagesearch.records import ImageRecord, Skipped

T = TypeVar("T")
_Read: TypeAlias = tuple[ImageRecord, Pixels]

# Files whose rows are looked up and rewritten together when their content is known.
_IDENTIFIED_TOGETHER = 500
# Images that are read ahead of the network, at least.
_AHEAD = 64
# Where no batch size is configured: the fewest images that are passed on to be stored together, and after how many
# seconds it may be fewer. A call to a database takes milliseconds; a killed process loses what is not stored.
_STORED_TOGETHER = 32
_SECONDS_TOGETHER = 1.0


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How pictures are found and read.

    Attributes:
        batch_size: images per batch of the network; 0: as many as suit it and its device.
        max_workers: decoding threads; 0: one per core.
        max_megapixels: larger images are skipped.
        timeout: seconds that reading and decoding one file may take.
        selection: which files count.
    """

    batch_size: int = 0
    max_workers: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    timeout: float = SECONDS_PER_IMAGE
    selection: Selection = field(default_factory=Selection)

    @property
    def conditions(self) -> str:
        """What, besides the file, decides whether it can be read: versions of the decoders, and limits.

        A file that could not be read is tried again when these change: see :mod:`imagesearch.library.ledger`.
        """
        return f"{_decoders()}; {self.max_megapixels:g} megapixels, {self.timeout:g} s"


@lru_cache(maxsize=1)
def _decoders() -> str:
    """Names and versions of the decoders; another version may read what this one cannot."""
    found = {name: metadata.version(name) for name in ("imagesearch", "pillow", "pillow-heif")}
    if find_spec("rawpy"):
        found["rawpy"] = metadata.version("rawpy")
    return ", ".join(f"{name} {version}" for name, version in found.items())


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """What became of some files.

    Attributes:
        records: the files that could be read.
        vectors: theirs; float32, shape (number of records, dimension).
        skipped: the files that could not.
    """

    records: list[ImageRecord]
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


def encode_files(files: Sequence[FoundFile], embedder: Encoder, reading: ReadOptions) -> Iterator[EncodedBatch]:
    """Read, decode and encode files, decoding ahead of the network; yields what is worth storing at once."""

    def load(file: FoundFile) -> _Read:
        with (
            file_content(file.path, reading.max_megapixels) as (data, status),
            open_image(data, file.path, reading.max_megapixels) as image,
        ):
            record = describe(file.path, file.root, data, status, image)
            return record, embedder.preprocess(decode(image, file.path, embedder.decode_side))

    size = reading.batch_size or embedder.batch_size
    together = reading.batch_size or _STORED_TOGETHER
    parts: list[EncodedBatch] = []
    started = time.monotonic()
    for batch in _read_ahead(files, load, reading, size):
        parts.append(_encoded(batch, embedder))
        if len(parts) * size >= together or time.monotonic() - started >= _SECONDS_TOGETHER:
            yield _joined(parts)
            parts, started = [], time.monotonic()
    if parts:
        yield _joined(parts)


def identify_files(files: Sequence[FoundFile], reading: ReadOptions) -> Iterator[list[ImageRecord]]:
    """Read files for their content hash only, some hundreds at a time; those that cannot be read are left out.

    Size in pixels and the like are not filled in.
    """

    def load(file: FoundFile) -> ImageRecord:
        with file_content(file.path, reading.max_megapixels) as (data, status):
            return ImageRecord(file.path, file.root, content_hash(data), status.st_size, changed_ns(status))

    for batch in _read_ahead(files, load, reading, _IDENTIFIED_TOGETHER):
        yield [item for _, item in batch if not isinstance(item, Skipped)]


def _encoded(batch: Sequence[tuple[FoundFile, _Read | Skipped]], embedder: Encoder) -> EncodedBatch:
    good = [item for _, item in batch if not isinstance(item, Skipped)]
    return EncodedBatch(
        records=[record for record, _ in good],
        vectors=embedder.encode([pixels for _, pixels in good]) if good else _no_vectors(embedder),
        skipped=[(file, item) for file, item in batch if isinstance(item, Skipped)],
    )


def _joined(parts: Sequence[EncodedBatch]) -> EncodedBatch:
    return EncodedBatch(
        [record for part in parts for record in part.records],
        np.concatenate([part.vectors for part in parts]),
        [skip for part in parts for skip in part.skipped],
    )


def _read_ahead(
    files: Sequence[FoundFile], load: Callable[[FoundFile], T], reading: ReadOptions, size: int
) -> Iterator[list[tuple[FoundFile, T | Skipped]]]:
    ahead = max(_AHEAD, 2 * size)
    loaded = decode_ahead(files, load, max_workers=reading.max_workers, ahead=ahead, timeout=reading.timeout)
    return batches(zip(files, loaded, strict=True), size)


def _no_vectors(embedder: Encoder) -> NDArray[np.float32]:
    return np.empty((0, embedder.fingerprint.dim), np.float32)
