"""From images that are not in the collection to vectors: read, decoded ahead of the network, in some views."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.files import IN_MEMORY, MAX_MEGAPIXELS
from imagesearch.images.pipeline import SECONDS_PER_IMAGE, batches, decode_ahead
from imagesearch.images.sources import ImageSource, load_image, load_with_size
from imagesearch.records import Skipped
from imagesearch.search.query import Part, Region
from imagesearch.stores.base import Vectors

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.models.embedder import Encoder, PictureEncoder
    from imagesearch.models.preprocessing import Pixels

Views: TypeAlias = Literal["whole", "mirrored", "crops"]
# How a picture that is asked for is seen, see views_of.
VIEWS: tuple[Views, ...] = get_args(Views)
VIEW_COUNTS: dict[Views, int] = {"whole": 1, "mirrored": 2, "crops": 12}

# Of each side of a picture, in a crop.
_CROPPED = 7 / 8


@dataclass(frozen=True, slots=True)
class ImageReading:
    """How images that are not indexed are read.

    Attributes:
        batch_size: images per batch of the network; 0: as many as suit it and its device.
        max_workers: decoding threads; 0: one per core.
        max_megapixels: larger files are refused.
        timeout: seconds that reading and decoding one of them may take.
    """

    batch_size: int = 0
    max_workers: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    timeout: float = SECONDS_PER_IMAGE


DEFAULT_READING = ImageReading()


def checked_views(views: str) -> Views:
    """One of :data:`VIEWS`.

    Raises:
        UsageError: there is none of this name.
    """
    for known in VIEWS:
        if views == known:
            return known
    raise UsageError(f"views = {views!r}: must be one of {', '.join(VIEWS)}")


@dataclass(frozen=True, eq=False, slots=True)
class Preprocessed:
    """An image in its views as the network takes it; the value of a part of a query may be one.

    Attributes:
        views: results of ``Encoder.preprocess``; the first is of the whole image.
    """

    views: tuple[Pixels, ...]


def preprocess(encoder: PictureEncoder, image: Image.Image, views: Views = "whole") -> Preprocessed:
    """An upright RGB image, ready to be encoded."""
    return Preprocessed(tuple(map(encoder.preprocess, views_of(image, views))))


def views_of(image: Image.Image, views: Views) -> Iterator[Image.Image]:
    """An image in several views, whose mean vector says more of it than one of them.

    * ``"whole"``: as it is.
    * ``"mirrored"``: and left and right exchanged.
    * ``"crops"``: and its corners and centre, each seven eighths of its width and height; all of these mirrored,
      too (Krizhevsky, Sutskever & Hinton, "ImageNet classification with deep convolutional neural networks",
      NeurIPS 2012; for retrieval: Razavian, Azizpour, Sullivan & Carlsson, "CNN features off-the-shelf", CVPR
      workshops 2014).
    """
    from PIL import ImageOps

    yield image
    if views == "whole":
        return
    yield ImageOps.mirror(image)
    if views == "mirrored":
        return
    width, height = max(1, round(image.width * _CROPPED)), max(1, round(image.height * _CROPPED))
    across, down = image.width - width, image.height - height
    for left, top in ((0, 0), (across, 0), (0, down), (across, down), (across // 2, down // 2)):
        crop = image.crop((left, top, left + width, top + height))
        yield crop
        yield ImageOps.mirror(crop)


def shortest_side(encoder: PictureEncoder, views: Views) -> int | None:
    """How small a picture may be decoded: see :func:`imagesearch.models.preprocessing.decode_side`."""
    side = encoder.decode_side
    return side if side is None or views != "crops" else math.ceil(side / _CROPPED)


def load_region(
    source: ImageSource, region: Region | None, max_megapixels: float, shortest: int | None = None
) -> Image.Image:
    """An image, or a region of it, upright and in RGB; see :func:`imagesearch.images.sources.load_image`.

    Raises:
        PictureError: it cannot be read, or the region lies outside.
    """
    if region is None:
        return load_image(source, max_megapixels, shortest)
    # Cut from the whole picture: at a fraction of its size too little might be left.
    whole, size = load_with_size(source, max_megapixels)
    try:
        return region.cut(whole, size)
    except UsageError as error:
        name = os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else IN_MEMORY
        raise PictureError(name, str(error)) from error


@dataclass(frozen=True, eq=False, slots=True)
class _Image:
    """An image, or a region of it; ``path`` is what errors name."""

    path: ImageSource | Preprocessed
    region: Region | None = None


def encode_parts(
    encoder: PictureEncoder, parts: Iterable[Part], reading: ImageReading, views: Views = "whole"
) -> Iterator[NDArray[np.float32] | Skipped]:
    """What is known of each image that is part of a query; see :func:`encode_images`."""
    return _encode(encoder, (_Image(part.value, part.region) for part in parts), reading, views)


def _encode(
    encoder: PictureEncoder, images: Iterable[_Image], reading: ImageReading, views: Views
) -> Iterator[NDArray[np.float32] | Skipped]:
    """What is known of each image, in order, or why nothing is; lazily, in batches."""
    side, size = shortest_side(encoder, views), reading.batch_size or encoder.batch_size
    together = max(1, size // VIEW_COUNTS[views])

    def load(image: _Image) -> Preprocessed:
        if isinstance(image.path, Preprocessed):
            return image.path
        return preprocess(encoder, load_region(image.path, image.region, reading.max_megapixels, side), views)

    loaded = decode_ahead(
        images, load, max_workers=reading.max_workers, ahead=2 * together, timeout=reading.timeout
    )
    for batch in batches(loaded, together):
        good = [one for one in batch if isinstance(one, Preprocessed)]
        vectors = encoded(encoder, good, size)
        yield from (one if isinstance(one, Skipped) else next(vectors) for one in batch)


def encoded(encoder: PictureEncoder, images: Sequence[Preprocessed], size: int) -> Iterator[NDArray[np.float32]]:
    """For each image the vector of its only view, or of all of them together."""
    pixels = [view for image in images for view in image.views]
    vectors = itertools.chain.from_iterable(
        encoder.encode(pixels[start : start + size]) for start in range(0, len(pixels), size)
    )
    for image in images:
        first, *others = itertools.islice(vectors, len(image.views))
        yield mean_vector([first, *others]) if others else first


def mean_vector(vectors: Sequence[Vectors]) -> Vectors:
    """The mean direction of vectors, shape (dim,) each, as long as the first; the first where they cancel."""
    rows = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    mean = (rows / np.where(lengths == 0, 1.0, lengths)).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return vectors[0] if length == 0 else np.asarray(mean * (float(lengths[0, 0]) / length), np.float32)


def encode_images(
    encoder: PictureEncoder,
    images: Iterable[ImageSource | Preprocessed],
    reading: ImageReading = DEFAULT_READING,
    views: Views = "whole",
) -> Iterator[NDArray[np.float32] | Skipped]:
    """What is known of each image, in their order, or why nothing is; consumed lazily.

    Of an :class:`~imagesearch.models.embedder.Encoder`: its vector, float32, shape (dim,).
    """
    return _encode(encoder, map(_Image, images), reading, views)


def embed_images(
    encoder: Encoder,
    images: Iterable[ImageSource],
    reading: ImageReading = DEFAULT_READING,
    views: Views = "whole",
) -> Vectors:
    """Vectors of images, in their order; decoded ahead of the network.

    Args:
        encoder: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3); consumed batch by batch.

    Returns:
        float32, shape (number of images, dimension).

    Raises:
        PictureError: one of them cannot be read.
    """
    vectors = []
    for result in encode_images(encoder, images, reading, views):
        if isinstance(result, Skipped):
            raise result.error()
        vectors.append(result)
    return np.stack(vectors) if vectors else np.empty((0, encoder.fingerprint.dim), np.float32)
