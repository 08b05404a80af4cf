"""Searching the configured collection: the settings, the networks and the database, put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from imagesearch.config import Config
from imagesearch.images.sources import ImageSource
from imagesearch.managing import Collections
from imagesearch.networks import Networks
from imagesearch.search.answers import Answer, answer
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.vectors import ImageReading, QueryEncoder
from imagesearch.stores.base import require_same_model


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
        encoder = QueryEncoder(collection, self._networks.embedder, self._networks.words, self.reading)
        return answer(collection, encoder, asked, options, self._collections.background(collection))

    @property
    def reading(self) -> ImageReading:
        """How images that are not indexed are read."""
        extraction, data = self._config.extraction, self._config.data
        return ImageReading(
            extraction.batch_size, extraction.decode_threads, data.max_megapixels, data.read_timeout
        )
