"""Searching the configured collection: the settings, the networks and the database, put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property, partial

from imagesearch.config import Config
from imagesearch.errors import ModelError, UsageError
from imagesearch.images.sources import ImageSource
from imagesearch.managing import Collections
from imagesearch.networks import Networks
from imagesearch.records import Fingerprint
from imagesearch.search.answers import Answer, answer
from imagesearch.search.image_encoding import ImageReading, checked_views
from imagesearch.search.patches import PatchMatcher, readable_again
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.ranking import RECIPES, by_patches, check_method
from imagesearch.search.vectors import Meaning, QueryEncoder
from imagesearch.stores.base import Collection, require_same_model


def reading_of(config: Config) -> ImageReading:
    """How the settings say that images are read."""
    extraction, data = config.extraction, config.data
    return ImageReading(extraction.batch_size, extraction.decode_threads, data.max_megapixels, data.read_timeout)


class Searcher:
    """Answers queries from the configured collection.

    Made by :class:`imagesearch.service.ImageSearch`.
    """

    def __init__(self, config: Config, networks: Networks, collections: Collections) -> None:
        self._config, self._networks, self._collections = config, networks, collections

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions) -> list[Answer]:
        """See :meth:`imagesearch.service.ImageSearch.answer`."""
        options.check()
        settings = self._config.search
        method = options.rerank or settings.rerank
        options = replace(options, rerank=method, views=options.views or settings.views)
        check_method(method)
        asked = [Query.of(query) for query in queries]
        collection = self._collections.open()
        there = collection.fingerprint
        require_same_model(collection.spec.name, self._networks.fingerprint(there), there)
        words = partial(self._words, collection)
        views = checked_views(options.views or settings.views)
        encoder = QueryEncoder(collection, self._networks.embedder, words, self.reading, views)
        background = self._collections.background(collection)
        axes = self._networks.label_axes(there) if RECIPES[method].by_labels else None
        patches = self.patches if by_patches(method) else None
        if patches is not None:
            asked = [readable_again(query, self.reading.max_megapixels) for query in asked]
        return answer(collection, encoder, asked, options, background=background, label_axes=axes, patches=patches)

    @cached_property
    def patches(self) -> PatchMatcher:
        """What compares patches of pictures, which remembers some."""
        return PatchMatcher(self._networks.patch_encoder, self.reading)

    def _words(self, collection: Collection, texts: Sequence[str], there: Fingerprint) -> Sequence[Meaning]:
        """What words mean to the model; or, if it knows none or not these, to those who labelled pictures."""
        try:
            return self._networks.words(texts, there)
        except (UsageError, ModelError):
            from imagesearch.search.label_words import words_by_labels

            if all(map(str.strip, texts)) and (found := words_by_labels(collection, texts)) is not None:
                return found
            raise

    @property
    def reading(self) -> ImageReading:
        """How images that are not indexed are read."""
        return reading_of(self._config)
