"""Labelling images: many of them through one model, in batches, decoded ahead of it."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from imagesearch.errors import UsageError
from imagesearch.images.find import reason_of
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.images.sources import ImageSource, load_image
from imagesearch.records import Prediction, Skipped
from imagesearch.search.image_encoding import DEFAULT_READING, ImageReading

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.models.preprocessing import Pixels

# Where the labels of annotated pictures stand, if not in a column: the name of the folder below an indexed one.
BY_FOLDER = "folder"


class Labeller(Protocol):
    """What labels images: a classifier, or something in its place."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All that it may say; the position is the label's number."""

    @property
    def decode_side(self) -> int | None:
        """See :func:`imagesearch.models.preprocessing.decode_side`."""

    @property
    def batch_size(self) -> int:
        """How many images to label at once where nobody says."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB image as input of :meth:`predict`. Thread-safe."""

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed images, most probable first."""


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How images are labelled: by the classifier's own labels, unless something else is said.

    Attributes:
        labels: the labels to choose from. A model with a text tower takes any words; of another one's own labels
            those that the words mean are taken.
        templates: for models with a text tower, sentences with ``{}`` in the label's place, whose vectors are
            averaged; none: seven that CLIP was evaluated with for short noun phrases, else the label itself.
        nearest: take the labels of the nearest annotated pictures of the configured collection instead.
        by: a column of theirs, or ``"folder"``: the folder right below the indexed one.
        neighbours: how many of them are asked.
        threshold: less probable labels are left out, 0 to 1.
    """

    labels: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    nearest: bool = False
    by: str = BY_FOLDER
    neighbours: int = 40
    threshold: float = 0.0

    def check(self) -> None:
        """Refuse what makes no sense, before any work.

        Raises:
            UsageError: says what.
        """
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"threshold = {self.threshold}: must be a probability, 0 to 1")
        if self.neighbours < 1:
            raise UsageError(f"neighbours = {self.neighbours}: must be at least 1")
        if isinstance(self.labels, str) or isinstance(self.templates, str):
            raise UsageError("labels and templates are lists of texts, not one text")
        if self.templates and not self.labels:
            raise UsageError("templates are for labels: name some")
        if self.nearest and self.labels:
            raise UsageError("labels are either those of the nearest pictures or those named: choose one")
        if len(set(self.labels)) < len(self.labels) or not all(map(str.strip, self.labels)):
            raise UsageError("labels: each once, and none empty")


def check_top(top: int) -> None:
    """Refuse a number of labels that makes no sense.

    Raises:
        UsageError: ``top`` is less than 1.
    """
    if top < 1:
        raise UsageError(f"top = {top}: the number of labels must be at least 1")


def read_candidates(text: str) -> tuple[str, ...]:
    """Labels to choose from: separated by commas; or, if that is the name of a file, its lines.

    Raises:
        UsageError: there are none, or the file cannot be read.
    """
    file = os.path.expanduser(text)
    parts = text.split(",")
    if os.path.isfile(file):
        try:
            with open(file, encoding="utf-8-sig") as lines:
                parts = lines.read().splitlines()
        except OSError as error:
            raise UsageError(f"cannot read labels from {text!r}: {reason_of(error)}") from error
        except ValueError as error:
            raise UsageError(f"cannot read labels from {text!r}: it is no text in UTF-8") from error
    labels = tuple(dict.fromkeys(label for part in parts if (label := " ".join(part.split()))))
    if not labels:
        raise UsageError(f"labels: {text!r} names none")
    return labels


def label_images(
    labeller: Labeller,
    images: Iterable[ImageSource],
    top: int,
    reading: ImageReading = DEFAULT_READING,
) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
    """The ``top`` most probable labels of each image, or why it cannot be read; in order, consumed lazily.

    Args:
        labeller: the model.
        images: paths, Pillow images, or uint8 arrays of shape (height, width, 3).
        top: number of labels per image, at least 1.
        reading: limits; larger files are skipped.
    """
    side = labeller.decode_side
    size = reading.batch_size or labeller.batch_size

    def load(source: ImageSource) -> Pixels:
        return labeller.preprocess(load_image(source, reading.max_megapixels, side))

    sources, ahead = itertools.tee(images)
    loaded = decode_ahead(ahead, load, max_workers=reading.max_workers, ahead=2 * size, timeout=reading.timeout)
    for batch in batches(zip(sources, loaded, strict=False), size):
        good = [pixels for _, pixels in batch if not isinstance(pixels, Skipped)]
        predictions = iter(labeller.predict(good, top) if good else [])
        for source, result in batch:
            yield source, result if isinstance(result, Skipped) else next(predictions)
