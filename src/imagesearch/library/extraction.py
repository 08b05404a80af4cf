"""From folders to features files, and from features files to a collection."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from imagesearch.errors import FeaturesError, ModelMismatchError, PictureError, UsageError
from imagesearch.images.files import MAX_MEGAPIXELS, examine
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.library.encoding import ReadOptions, encode_files, find_all
from imagesearch.library.features import Features, FeaturesWriter
from imagesearch.models.embedder import Encoder
from imagesearch.models.pooling import unit_vectors
from imagesearch.records import Fingerprint, ImageRecord, Progress, Skipped, no_progress
from imagesearch.reports import ExtractReport, IndexReport
from imagesearch.stores.base import CollectionSpec, VectorDatabase

# Rows per call to the database when the vectors exist already: enough to amortise a call, few enough for progress.
_BUILD_BATCH = 1000


def extract_folders(
    load_embedder: Callable[[int], Encoder],
    roots: Sequence[str | os.PathLike[str]],
    prefix: str | os.PathLike[str],
    reading: ReadOptions,
    progress: Progress = no_progress,
) -> ExtractReport:
    """Encode all pictures below the roots into features files: see :mod:`imagesearch.library.features`.

    Args:
        load_embedder: loads the model; told how many images there are.

    Raises:
        UsageError: a root does not exist, there are no pictures, or none of them can be read.
        FeaturesError: the files cannot be written.
    """
    files, closed = find_all(roots, reading.selection)
    embedder = load_embedder(len(files))
    skipped: list[Skipped] = []
    extracted = 0
    progress("encode", 0, len(files))
    with FeaturesWriter(prefix, embedder.fingerprint) as writer:
        for batch in encode_files(files, embedder, reading):
            writer.append(batch.vectors, [record.path for record in batch.records])
            skipped += [skip for _, skip in batch.skipped]
            extracted += len(batch.records)
            progress("encode", extracted + len(skipped), len(files))
        if not extracted:
            first = skipped[0]
            raise UsageError(
                f"no picture of {len(files):,} can be read; the first, {first.path!r}: {first.reason}"
            )
        written = writer.commit()
    return ExtractReport(
        extracted=extracted,
        skipped=(*closed, *skipped),
        features=str(written.features),
        paths=str(written.paths),
        dim=embedder.fingerprint.dim,
    )


def build_collection(
    database: VectorDatabase,
    spec: CollectionSpec,
    features: Features,
    fingerprint: Fingerprint,
    progress: Progress = no_progress,
    *,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> IndexReport:
    """Insert features into a collection and build its index.

    Rows of files that are as they were when they were encoded get their size, hash and time; for others the vector
    and path remain, and indexing their folder reads them again.

    Args:
        database: where the collection is, or is to be.
        spec: the collection; created if it is not there.
        features: vectors and paths.
        fingerprint: the model that made the vectors.

    Raises:
        FeaturesError: the vectors' dimension is not the model's.
        ModelMismatchError: the collection belongs to another model.
        StoreError: it compares vectors by another metric, or the database fails.
    """
    started = time.monotonic()
    _check_features(features, fingerprint)
    collection = database.create(spec, fingerprint)
    done, total = 0, len(features.paths)
    progress("insert", 0, total)
    for rows in batches(_examined(features, max_megapixels), _BUILD_BATCH):
        vectors = np.array(features.vectors[done : done + len(rows)], dtype=np.float32)
        collection.upsert(rows, unit_vectors(vectors) if fingerprint.normalized else vectors)
        done += len(rows)
        progress("insert", done, total)
    collection.build_index(progress)
    return IndexReport(
        found=total,
        indexed=total,
        unchanged=0,
        skipped=(),
        collection=spec.name,
        seconds=time.monotonic() - started,
    )


def _examined(features: Features, max_megapixels: float) -> Iterator[ImageRecord]:
    """What is known now of each file, in order; of one that has changed or gone since, its path."""

    def look(path: str) -> ImageRecord:
        try:
            record, status = examine(path, max_megapixels=max_megapixels), os.stat(path)
        except (PictureError, OSError):
            return ImageRecord(path)  # its vector is still good
        changed_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        return record if changed_ns < features.since_ns else ImageRecord(path)

    paths = [os.path.abspath(path) for path in features.paths]
    records = decode_ahead(paths, look, ahead=_BUILD_BATCH)
    for path, record in zip(paths, records, strict=True):
        yield ImageRecord(path) if isinstance(record, Skipped) else record


def _check_features(features: Features, fingerprint: Fingerprint) -> None:
    dim = features.vectors.shape[1]
    if dim != fingerprint.dim:
        raise FeaturesError(
            f"the features have dimension {dim}, but {fingerprint.model} makes vectors of dimension"
            f" {fingerprint.dim}; choose the model they were extracted with (--model), or extract again"
        )
    made_with = features.fingerprint
    if made_with is not None and not made_with.is_comparable(fingerprint):
        raise ModelMismatchError(
            f"the features were extracted with {made_with.model} ({made_with.key}), not with the configured"
            f" {fingerprint.model} ({fingerprint.key}); set model.name (--model) to the former, or extract again"
        )
