"""Searching a collection: from what a user looks for to ranked hits.

Works on any collection and model; :class:`imagesearch.service.ImageSearch` supplies the configured ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.images.files import MAX_MEGAPIXELS, examine
from imagesearch.images.pipeline import SECONDS_PER_IMAGE, batches, decode_ahead
from imagesearch.images.sources import ImageSource, load_image
from imagesearch.records import Hit, Skipped
from imagesearch.stores.base import Collection, Vectors, require_same_model

if TYPE_CHECKING:
    from imagesearch.models.embedder import Encoder
    from imagesearch.models.preprocessing import Pixels


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """What a user looks for, and how many results.

    Attributes:
        image: a path, the bytes of a file, an open file, a Pillow image, or a uint8 array of shape (height, width,
            3).
        k: number of results, at least 1.
        max_megapixels: a larger file is refused.
        timeout: seconds that reading and decoding it may take.
    """

    image: ImageSource
    k: int = 10
    max_megapixels: float = MAX_MEGAPIXELS
    timeout: float = SECONDS_PER_IMAGE

    def check(self) -> None:
        """Refuse what cannot be answered, before a model is loaded for it.

        Raises:
            UsageError: ``k`` is no whole number of at least 1.
            PictureError: the image is a file that cannot be read.
        """
        if isinstance(self.k, bool) or not isinstance(self.k, (int, np.integer)):
            raise UsageError(f"k = {self.k!r}: the number of results must be a whole number")
        if self.k < 1:
            raise UsageError(f"k = {self.k}: the number of results must be at least 1")
        if isinstance(self.image, (str, os.PathLike)):
            examine(os.fsdecode(self.image), max_megapixels=self.max_megapixels)


def search_collection(
    collection: Collection,
    embedder: Encoder,
    queries: Sequence[Query],
    *,
    batch_size: int = 0,
    max_workers: int = 0,
) -> list[list[Hit]]:
    """For each query the image records of a collection that are closest to it, closest first.

    A collection with fewer than ``query.k`` rows gives them all. Of the queries' limits, the most generous hold.

    Args:
        batch_size, max_workers: see :func:`embed_images`.

    Raises:
        ModelMismatchError: the collection holds vectors of another model.
        PictureError: an image cannot be read.
        StoreError: the database fails.
    """
    require_same_model(collection.spec.name, embedder.fingerprint, collection.fingerprint)
    if not queries:
        return []
    vectors = embed_images(
        embedder,
        [query.image for query in queries],
        batch_size=batch_size,
        max_workers=max_workers,
        max_megapixels=max(query.max_megapixels for query in queries),
        timeout=max(query.timeout for query in queries),
    )
    found = collection.search(vectors, max(query.k for query in queries))
    return [hits[: query.k] for query, hits in zip(queries, found, strict=True)]


def embed_images(
    embedder: Encoder,
    images: Iterable[ImageSource],
    *,
    batch_size: int = 0,
    max_workers: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
    timeout: float = SECONDS_PER_IMAGE,
) -> Vectors:
    """Vectors of images, in their order; decoded ahead of the network.

    Args:
        embedder: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3); consumed batch by batch.
        batch_size: images per batch of the network; 0: as many as suit it and its device.
        max_workers: decoding threads; 0: one per core.
        max_megapixels: larger files are refused.
        timeout: seconds that reading and decoding one of them may take.

    Returns:
        float32, shape (number of images, dimension).

    Raises:
        PictureError: one of them cannot be read.
    """
    side, size = embedder.decode_side, batch_size or embedder.batch_size

    def load(image: ImageSource) -> Pixels:
        return embedder.preprocess(load_image(image, max_megapixels, side))

    loaded = decode_ahead(images, load, max_workers=max_workers, ahead=2 * size, timeout=timeout)
    vectors = [embedder.encode(batch) for batch in batches(map(_loaded, loaded), size)]
    return np.concatenate(vectors) if vectors else np.empty((0, embedder.fingerprint.dim), np.float32)


def _loaded(result: Pixels | Skipped) -> Pixels:
    if isinstance(result, Skipped):
        raise result.error()
    return result
