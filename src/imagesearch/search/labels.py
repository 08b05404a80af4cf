"""Labelling images: many of them through one classifier, in batches, decoded ahead of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from imagesearch.errors import UsageError
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.images.sources import ImageSource, load_image
from imagesearch.records import Prediction, Skipped
from imagesearch.search.vectors import DEFAULT_READING, ImageReading

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
    reading: ImageReading = DEFAULT_READING,
) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
    """The ``top`` most probable labels of each image, or why it cannot be read; in order, consumed lazily.

    Args:
        classifier: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3).
        top: number of labels per image, at least 1.
        reading: limits; larger files are skipped.
    """
    side = classifier.decode_side
    size = reading.batch_size or classifier.batch_size

    def load(source: ImageSource) -> Pixels:
        return classifier.preprocess(load_image(source, reading.max_megapixels, side))

    sources, ahead = itertools.tee(images)
    loaded = decode_ahead(ahead, load, max_workers=reading.max_workers, ahead=2 * size, timeout=reading.timeout)
    for batch in batches(zip(sources, loaded, strict=False), size):
        good = [pixels for _, pixels in batch if not isinstance(pixels, Skipped)]
        predictions = iter(classifier.predict(good, top) if good else [])
        for source, result in batch:
            yield source, result if isinstance(result, Skipped) else next(predictions)
