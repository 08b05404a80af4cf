"""Labelling pictures: by the configured classifier, by labels that somebody names, or by annotated pictures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.images.find import find_pictures
from imagesearch.images.sources import ImageSource
from imagesearch.library.placing import digest_of
from imagesearch.managing import Collections
from imagesearch.networks import Networks
from imagesearch.records import ImageRecord, Prediction, Progress, Skipped, no_progress, picture_id
from imagesearch.search.image_encoding import ImageReading, encode_images
from imagesearch.search.labels import Labeller, LabelOptions, check_top, label_images
from imagesearch.search.vectors import indexed_names
from imagesearch.stores.base import require_same_model

if TYPE_CHECKING:
    from imagesearch.learning.label_quality import LabelQuality, Outcome
    from imagesearch.learning.nearest import NearestLabels
    from imagesearch.library.stored_labels import LabelStore

# Pictures of one search for neighbours.
_BLOCK = 64


class Labelling:
    """Labels pictures, measures how right the labels are, and writes them into the collection.

    Made by :class:`imagesearch.service.ImageSearch`, as its attribute ``labelling``.
    """

    def __init__(
        self, config: Config, networks: Networks, collections: Collections, reading: ImageReading
    ) -> None:
        """Nothing happens yet."""
        self._config, self._networks, self._collections = config, networks, collections
        self._reading = reading
        # What was made last: encoding labels, or reading those of a collection, takes longer than labelling.
        self._last: tuple[LabelOptions, Labeller] | None = None

    def label(
        self, images: Iterable[ImageSource], top: int, options: LabelOptions
    ) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
        """See :meth:`imagesearch.service.ImageSearch.classify_all`."""
        check_top(top)
        options.check()
        for source, found in label_images(self.labeller(options), images, top, self._reading):
            if isinstance(found, Skipped):
                yield source, found
            else:
                yield source, [prediction for prediction in found if prediction.score >= options.threshold]

    def prepare(self, images: int, options: LabelOptions, progress: Progress = no_progress) -> None:
        """Optimise the network for this machine first where so many images make that worthwhile."""
        if options.nearest:
            self._networks.optimize_for(images, "features", progress)
        elif options.labels:
            self._networks.optimize_for_choice(images, progress)
        else:
            self._networks.optimize_for(images, "labels", progress)

    def labeller(self, options: LabelOptions) -> Labeller:
        """What labels pictures.

        Raises:
            UsageError: the model does not know a label, or the collection's pictures have none.
            ModelError, StoreError: a network cannot be used; the database fails.
        """
        if options.nearest:
            return self.nearest(options)
        if not options.labels:
            return self._networks.classifier()
        if self._last is None or self._last[0] != options:
            self._last = options, self._networks.choosing(options.labels, options.templates)
        return self._last[1]

    def nearest(self, options: LabelOptions) -> NearestLabels:
        """What labels pictures like the nearest annotated ones of the collection, as these are now.

        Raises:
            UsageError: these have fewer than two labels.
            ModelMismatchError, StoreError: the collection is another model's; the database fails.
        """
        from imagesearch.learning.nearest import NearestLabels, read_known_labels

        collection = self._collections.open()
        there = collection.fingerprint
        require_same_model(collection.spec.name, self._networks.fingerprint(there), there)
        known = read_known_labels(collection, options.by)
        return NearestLabels(self._networks.embedder(), collection, known, options.neighbours)

    def store(self) -> LabelStore:
        """Takes labels for the configured collection; see :meth:`keys_of`.

        Raises:
            CollectionNotFoundError: nothing has been indexed with this model yet.
            UsageError: it was made by an earlier version, and has no room for labels.
        """
        from imagesearch.library.stored_labels import LabelStore

        return LabelStore(self._collections.open())

    @staticmethod
    def keys_of(path: str) -> list[int]:
        """The ids under which a file may be in a collection."""
        return [picture_id(name) for name in indexed_names(path)]

    def evaluate(
        self, folders: Sequence[str], options: LabelOptions, progress: Progress = no_progress
    ) -> LabelQuality:
        """How right labels are of pictures that lie in folders named after their classes.

        Where neighbours vote, a picture of the collection has no vote on itself, and neither have its copies.

        Args:
            folders: each with a sub-folder for each class.
            progress: told of the stage ``"classify"``.

        Raises:
            UsageError: there are no such pictures, or no class has a label.
            ModelError, StoreError: see :meth:`labeller`.
        """
        from imagesearch.learning.label_quality import Outcome, Truth, label_quality

        options.check()
        classes = self._classes(folders)
        self.prepare(len(classes), options, progress)
        outcomes: list[Outcome] = []
        labeller = self.labeller(options)
        for path, first in self._firsts(labeller, list(classes)):
            outcomes.append(Outcome(classes[path], first))
            progress("classify", len(outcomes), len(classes))
        return label_quality(outcomes, Truth(labeller.labels), options.threshold)

    def _classes(self, folders: Sequence[str]) -> dict[str, str]:
        """The class of each picture below these folders."""
        from imagesearch.learning.labels import folder_labels

        pictures = [
            ImageRecord(path, root)
            for root in map(os.path.realpath, map(os.path.expanduser, folders))
            for path in find_pictures(root, self._config.selection)
        ]
        named = zip(pictures, folder_labels(pictures), strict=True)
        classes = {picture.path: label for picture, label in named if label is not None}
        if not classes:
            raise UsageError(f"{', '.join(folders)}: no pictures in sub-folders named after their classes")
        return classes

    def _firsts(self, labeller: Labeller, paths: Sequence[str]) -> Iterator[tuple[str, Prediction | None]]:
        """The most probable label of each picture; None of one that cannot be read."""
        from imagesearch.learning.nearest import NearestLabels

        if isinstance(labeller, NearestLabels):
            yield from self._firsts_without_themselves(labeller, paths)
            return
        for path, (_, found) in zip(paths, label_images(labeller, paths, 1, self._reading), strict=True):
            yield path, None if isinstance(found, Skipped) else found[0]

    def _firsts_without_themselves(
        self, nearest: NearestLabels, paths: Sequence[str]
    ) -> Iterator[tuple[str, Prediction | None]]:
        encoded = encode_images(self._networks.embedder(), paths, self._reading)
        for start in range(0, len(paths), _BLOCK):
            block = [(path, next(encoded)) for path in paths[start : start + _BLOCK]]
            good = [(path, vector) for path, vector in block if not isinstance(vector, Skipped)]
            firsts: dict[str, Prediction] = {}
            if good:
                without = [self._same_pictures(nearest, path) for path, _ in good]
                found = nearest.predict_vectors(np.stack([vector for _, vector in good]), 1, without)
                firsts = {path: each[0] for (path, _), each in zip(good, found, strict=True)}
            yield from ((path, firsts.get(path)) for path, _ in block)

    def _same_pictures(self, nearest: NearestLabels, path: str) -> frozenset[int]:
        digest = ""
        with contextlib.suppress(OSError):  # gone since it was read: only its own row is left out
            digest = digest_of(path)
        return frozenset().union(*(nearest.same_picture(key, digest) for key in self.keys_of(path)))
