"""From folders to vectors, and from vectors to a collection."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import FeaturesError, ModelMismatchError, PictureError, UsageError
from imagesearch.images.files import (
    MAX_MEGAPIXELS,
    decode,
    describe,
    examine,
    find_pictures,
    open_picture,
    read_file,
)
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.models.embedder import Embedder
from imagesearch.models.preparing import Pixels
from imagesearch.records import ExtractReport, Fingerprint, IndexReport, Picture, Progress, Skipped, no_progress
from imagesearch.search.features import Features, FeaturesWriter
from imagesearch.stores.base import VectorStore

# Rows a call to the store when vectors are at hand: large enough to amortise a call, small enough for progress.
_BUILD_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Reading:
    """How pictures are found and read.

    Attributes:
        batch_size: pictures the network sees at once.
        threads: decoding threads; 0: one a core.
        max_megapixels: larger pictures are skipped.
        include_hidden: whether files and folders that begin with a dot count.
    """

    batch_size: int = 32
    threads: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    include_hidden: bool = False


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Pictures with their vectors (float32, shape (n, dim)), and those that were skipped among them."""

    pictures: list[Picture]
    vectors: NDArray[np.float32]
    skipped: list[Skipped]


def find_all(roots: Sequence[str | os.PathLike[str]], reading: Reading) -> tuple[dict[str, str], list[Skipped]]:
    """All picture files below the roots: path -> root (the first root named wins), and unreadable folders.

    Raises:
        UsageError: a root does not exist, or there is no picture below any of them.
    """
    skipped: list[Skipped] = []
    found: dict[str, str] = {}
    for root in roots:
        top = os.path.abspath(os.fsdecode(root))
        for path in find_pictures(top, include_hidden=reading.include_hidden, on_skip=skipped.append):
            found.setdefault(path, "" if path == top else top)
    if not found:
        names = ", ".join(repr(os.fsdecode(root)) for root in roots)
        raise UsageError(f"no pictures found in {names} (looked at file extensions such as .jpg, .png, .heic)")
    return found, skipped


def encode_files(files: dict[str, str], embedder: Embedder, reading: Reading) -> Iterator[EncodedBatch]:
    """Read, decode and encode files (path -> root), batch by batch, decoding ahead of the network."""

    def load(path: str) -> tuple[Picture, Pixels]:
        data, status = read_file(path)
        with open_picture(data, path, reading.max_megapixels) as image:
            picture = describe(path, files[path], data, status, image)
            return picture, embedder.prepare(decode(image, path))

    loaded = decode_ahead(files, load, threads=reading.threads, ahead=2 * reading.batch_size)
    for batch in batches(loaded, reading.batch_size):
        good = [item for item in batch if not isinstance(item, Skipped)]
        vectors = embedder.encode([pixels for _, pixels in good]) if good else _no_vectors(embedder)
        skipped = [item for item in batch if isinstance(item, Skipped)]
        yield EncodedBatch([picture for picture, _ in good], vectors, skipped)


def index_folders(
    store: VectorStore,
    embedder: Embedder,
    roots: Sequence[str | os.PathLike[str]],
    reading: Reading = Reading(),
    progress: Progress = no_progress,
) -> IndexReport:
    """Encode what the collection does not hold yet, in committed batches, and build its index.

    A file whose size and time of change are those of its row is not read again, so a killed run continues
    where it stopped.

    Raises:
        UsageError: a root does not exist, or there are no pictures.
        StoreError: the collection belongs to another model, or the database fails.
    """
    started = time.monotonic()
    files, skipped = find_all(roots, reading)
    unreadable_folders = len(skipped)
    info = store.create(embedder.fingerprint)
    current = {row.path: (row.size, row.mtime_ns) for rows in store.scan() for row in rows if row.path in files}
    todo = {path: root for path, root in files.items() if path not in current or current[path] != _stamp(path)}
    indexed = 0
    progress("encode", 0, len(todo))
    for batch in encode_files(todo, embedder, reading):
        if batch.pictures:
            store.upsert(batch.pictures, batch.vectors)
        indexed += len(batch.pictures)
        skipped += batch.skipped
        progress("encode", indexed + len(skipped) - unreadable_folders, len(todo))
    if indexed or info.index_type != store.spec.index_type:
        store.build_index(progress)
    return IndexReport(
        found=len(files) + unreadable_folders,
        indexed=indexed,
        unchanged=len(files) - len(todo),
        skipped=tuple(skipped),
        collection=info.name,
        seconds=time.monotonic() - started,
    )


def extract_folders(
    embedder: Embedder,
    roots: Sequence[str | os.PathLike[str]],
    prefix: str | os.PathLike[str],
    reading: Reading = Reading(),
    progress: Progress = no_progress,
) -> ExtractReport:
    """Encode all pictures below the roots into features files: see :mod:`imagesearch.search.features`.

    Raises:
        UsageError: a root does not exist, there are no pictures, or none of them can be read.
        FeaturesError: the files cannot be written.
    """
    files, skipped = find_all(roots, reading)
    done = 0
    progress("encode", 0, len(files))
    with FeaturesWriter(prefix, embedder.fingerprint) as writer:
        for batch in encode_files(files, embedder, reading):
            writer.append(batch.vectors, [picture.path for picture in batch.pictures])
            skipped += batch.skipped
            done += len(batch.pictures) + len(batch.skipped)
            progress("encode", done, len(files))
        extracted = done - sum(1 for skip in skipped if skip.path in files)
        if not extracted:
            first = next(skip for skip in skipped if skip.path in files)
            raise UsageError(f"none of the {done} pictures can be read; the first, {first.path!r}: {first.reason}")
        written = writer.commit()
    return ExtractReport(
        extracted=extracted,
        skipped=tuple(skipped),
        features=str(written.features),
        paths=str(written.paths),
        dim=embedder.fingerprint.dim,
    )


def build_collection(
    store: VectorStore,
    features: Features,
    fingerprint: Fingerprint,
    progress: Progress = no_progress,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> IndexReport:
    """Insert features into a collection and build its index.

    Rows of files that are still there get their size, hash and time; for others the vector and path remain.

    Args:
        fingerprint: the model that made the vectors.

    Raises:
        FeaturesError: the vectors' dimension is not the model's.
        ModelMismatchError: the collection belongs to another model.
    """
    started = time.monotonic()
    _check_features(features, fingerprint)
    info = store.create(fingerprint)
    done, total = 0, len(features.paths)
    progress("insert", 0, total)

    def look(path: str) -> Picture:
        try:
            return examine(path, max_megapixels=max_megapixels)
        except PictureError:
            return Picture(path)  # moved away since: its vector is still good

    pictures = decode_ahead((os.path.abspath(path) for path in features.paths), look, ahead=_BUILD_BATCH)
    for batch in batches(pictures, _BUILD_BATCH):
        rows = [row for row in batch if isinstance(row, Picture)]
        vectors = np.array(features.vectors[done : done + len(rows)], dtype=np.float32)
        store.upsert(rows, _unit(vectors) if fingerprint.normalized else vectors)
        done += len(rows)
        progress("insert", done, total)
    store.build_index(progress)
    return IndexReport(
        found=total,
        indexed=total,
        unchanged=0,
        skipped=(),
        collection=info.name,
        seconds=time.monotonic() - started,
    )


def _check_features(features: Features, fingerprint: Fingerprint) -> None:
    dim = features.vectors.shape[1]
    if dim != fingerprint.dim:
        raise FeaturesError(
            f"the features have dimension {dim}, but {fingerprint.model} makes vectors of dimension"
            f" {fingerprint.dim}; choose the model they were extracted with (--model), or extract again"
        )
    made_with = features.fingerprint
    if made_with is not None and made_with.key != fingerprint.key:
        raise ModelMismatchError(
            f"the features were extracted with {made_with.model} ({made_with.key}), not with the configured"
            f" {fingerprint.model} ({fingerprint.key}); set model.name (--model) to the former, or extract again"
        )


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None  # reading it will say why
    return status.st_size, status.st_mtime_ns


def _no_vectors(embedder: Embedder) -> NDArray[np.float32]:
    return np.empty((0, embedder.fingerprint.dim), np.float32)
