"""Searching a collection: from what a user looks for to ranked hits.

Works on any collection and model; :class:`imagesearch.service.ImageSearch` supplies the configured ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.images.files import MAX_MEGAPIXELS, ImageSource, examine, load_image
from imagesearch.images.pipeline import batches
from imagesearch.records import Hit
from imagesearch.stores.base import Collection, Vectors, require_same_model

if TYPE_CHECKING:
    from imagesearch.models.embedder import Encoder


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """What a user looks for, and how many results.

    Attributes:
        image: a path, a Pillow image, or a uint8 array of shape (height, width, 3).
        k: number of results, at least 1.
        max_megapixels: a larger file is refused.
    """

    image: ImageSource
    k: int = 10
    max_megapixels: float = MAX_MEGAPIXELS

    def check(self) -> None:
        """Refuse what cannot be answered, before a model is loaded for it.

        Raises:
            UsageError: ``k`` is less than 1.
            PictureError: the image is a file that cannot be read.
        """
        if self.k < 1:
            raise UsageError(f"k = {self.k}: the number of results must be at least 1")
        if isinstance(self.image, (str, os.PathLike)):
            examine(os.fsdecode(self.image), max_megapixels=self.max_megapixels)

    def vector(self, embedder: Encoder) -> Vectors:
        """The query as float32 of shape (1, dimension).

        Raises:
            PictureError: the image cannot be read.
        """
        return embed_images(embedder, [self.image], max_megapixels=self.max_megapixels)


def search_collection(collection: Collection, embedder: Encoder, query: Query) -> list[Hit]:
    """The image records of a collection that are closest to a query, closest first.

    A collection with fewer than ``query.k`` rows gives them all.

    Raises:
        ModelMismatchError: the collection holds vectors of another model.
        PictureError: the image cannot be read.
        StoreError: the database fails.
    """
    require_same_model(collection.spec.name, embedder.fingerprint, collection.fingerprint)
    return collection.search(query.vector(embedder), query.k)[0]


def embed_images(
    embedder: Encoder,
    images: Iterable[ImageSource],
    *,
    batch_size: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Vectors:
    """Vectors of images, in their order.

    Args:
        embedder: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3); consumed batch by batch.
        batch_size: images per batch of the network; 0: as many as suit it and its device.
        max_megapixels: larger files are refused.

    Returns:
        float32, shape (number of images, dimension).

    Raises:
        PictureError: one of them cannot be read.
    """
    side = embedder.decode_side
    pixels = (embedder.preprocess(load_image(image, max_megapixels, side)) for image in images)
    vectors = [embedder.encode(batch) for batch in batches(pixels, batch_size or embedder.batch_size)]
    return np.concatenate(vectors) if vectors else np.empty((0, embedder.fingerprint.dim), np.float32)
