"""Labelling images: many of them through one classifier, in batches, decoded ahead of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from imagesearch.errors import UsageError
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.pipeline import SECONDS_PER_IMAGE, batches, decode_ahead
from imagesearch.images.sources import ImageSource, load_image
from imagesearch.records import Prediction, Skipped

if TYPE_CHECKING:
    from imagesearch.models.classifier import Classifier
    from imagesearch.models.preprocessing import Pixels


def check_top(top: int) -> None:
    """Refuse a number of labels that makes no sense.

    Raises:
        UsageError: ``top`` is less than 1.
    """
    if top < 1:
        raise UsageError(f"top = {top}: the number of labels must be at least 1")


def label_images(
    classifier: Classifier,
    images: Iterable[ImageSource],
    top: int,
    *,
    batch_size: int = 0,
    max_workers: int = 0,
    max_megapixels: float = MAX_MEGAPIXELS,
    timeout: float = SECONDS_PER_IMAGE,
) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
    """The ``top`` most probable labels of each image, or why it cannot be read; in order, consumed lazily.

    Args:
        classifier: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3).
        top: number of labels per image, at least 1.
        batch_size: images per batch of the network; 0: as many as suit it and its device.
        max_workers: decoding threads; 0: one per core.
        max_megapixels: larger files are skipped.
        timeout: seconds that reading and decoding one of them may take.
    """
    side = classifier.decode_side
    size = batch_size or classifier.batch_size

    def load(source: ImageSource) -> Pixels:
        return classifier.preprocess(load_image(source, max_megapixels, side))

    sources, ahead = itertools.tee(images)
    loaded = decode_ahead(ahead, load, max_workers=max_workers, ahead=2 * size, timeout=timeout)
    for batch in batches(zip(sources, loaded, strict=False), size):
        good = [pixels for _, pixels in batch if not isinstance(pixels, Skipped)]
        predictions = iter(classifier.predict(good, top) if good else [])
        for source, result in batch:
            yield source, result if isinstance(result, Skipped) else next(predictions)
