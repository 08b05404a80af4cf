"""Searching the configured collection: the settings, the networks and the database, put together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from imagesearch.config import Config
from imagesearch.errors import ModelError, UsageError
from imagesearch.images.sources import ImageSource
from imagesearch.managing import Collections
from imagesearch.networks import Networks
from imagesearch.records import Fingerprint
from imagesearch.search.answers import Answer, answer
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.ranking import RECIPES
from imagesearch.search.reordering import Floats
from imagesearch.search.vectors import ImageReading, Meaning, QueryEncoder
from imagesearch.stores.base import Collection, require_same_model


class Searcher:
    """Answers queries from the configured collection.

    Made by :class:`imagesearch.service.ImageSearch`.
    """

    def __init__(self, config: Config, networks: Networks, collections: Collections) -> None:
        self._config, self._networks, self._collections = config, networks, collections

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions) -> list[Answer]:
        """See :meth:`imagesearch.service.ImageSearch.answer`."""
        options.check()
        if options.rerank is None:
            options = replace(options, rerank=self._config.search.rerank)
        asked = [Query.of(query) for query in queries]
        collection = self._collections.open()
        there = collection.fingerprint
        require_same_model(collection.spec.name, self._networks.fingerprint(there), there)
        words = partial(self._words, collection)
        encoder = QueryEncoder(collection, self._networks.embedder, words, self.reading)
        background = self._collections.background(collection)
        axes = self._label_axes(options.rerank, there)
        return answer(collection, encoder, asked, options, background=background, label_axes=axes)

    def _label_axes(self, method: str | None, fingerprint: Fingerprint) -> Floats | None:
        """See :func:`~imagesearch.search.ranking.rank`; None also where the method does not look at labels."""
        by_labels = method is not None and method in RECIPES and RECIPES[method].by_labels
        return self._networks.label_axes(fingerprint) if by_labels else None

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
        extraction, data = self._config.extraction, self._config.data
        return ImageReading(
            extraction.batch_size, extraction.decode_threads, data.max_megapixels, data.read_timeout
        )
