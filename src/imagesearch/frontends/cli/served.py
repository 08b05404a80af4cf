"""A running server that holds the configured database, in place of the library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesearch.client import Client
from imagesearch.errors import CollectionNotFoundError, UsageError
from imagesearch.managing import Collections
from imagesearch.records import CollectionInfo, Progress, no_progress
from imagesearch.search.query import SearchOptions

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.images.sources import ImageSource
    from imagesearch.models.network import Task
    from imagesearch.search.answers import Answer
    from imagesearch.search.query import Query
    from imagesearch.serving_file import Announcement
    from imagesearch.stores.base import VectorDatabase


class Served(Client):
    """A server asked for what a command would otherwise do itself; with what commands use of ``ImageSearch``.

    Attributes:
        config: the command's settings.
    """

    def __init__(self, config: Config, server: Announcement) -> None:
        """Nothing is sent yet."""
        super().__init__(
            server.url,
            server.secret,
            # A picture may take as long, and others may be searched for before it.
            timeout=10 * config.data.read_timeout,
            max_megapixels=config.data.max_megapixels,
            # The address is this machine's own, whatever it looks like.
            allow_insecure_token=True,
        )
        self.config = config

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions | None = None) -> list[Answer]:
        """Like the library's, by the command's settings."""
        search = self.config.search
        options = options or SearchOptions(search.top_k)
        options = replace(options, rerank=options.rerank or search.rerank, views=options.views or search.views)
        return super().answer(list(queries), options)

    def find_collection(self) -> CollectionInfo | None:
        """The configured collection, or None if it does not exist."""
        try:
            return self.describe()
        except CollectionNotFoundError:
            return None

    @property
    def networks(self) -> ServedNetworks:
        """The server's networks."""
        return ServedNetworks()

    @property
    def database(self) -> ServedCollections:
        """The database's collections."""
        return ServedCollections(self)


class ServedNetworks:
    """What commands use of :class:`imagesearch.networks.Networks`."""

    def optimize_for(self, images: int, task: Task, progress: Progress = no_progress) -> None:
        """Nothing is done: the server has its network, and few pictures are sent to it."""


class ServedCollections:
    """What commands use of :class:`imagesearch.managing.Collections`."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def collections(self) -> dict[str, CollectionInfo | None]:
        """Every collection by name; None for those that other programs made."""
        return self._served.collections()

    def outgrown(self, info: CollectionInfo) -> str | None:
        """See :meth:`imagesearch.managing.Collections.outgrown`."""
        return Collections(self._served.config, _not_here).outgrown(info)


def _not_here() -> VectorDatabase:
    raise UsageError("the server has the database open")
