"""A running server that holds the configured database, in place of the library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from imagesearch.client import Client
from imagesearch.errors import CollectionNotFoundError, ImageSearchError, StoreLockedError, UsageError
from imagesearch.managing import Collections
from imagesearch.records import CollectionInfo
from imagesearch.search.query import SearchOptions

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.images.sources import ImageSource
    from imagesearch.search.answers import Answer
    from imagesearch.search.query import Query
    from imagesearch.serving_file import Announcement
    from imagesearch.stores.base import VectorDatabase

# Seconds in which a server must say that it is there; on this machine it takes milliseconds.
_SECONDS_TO_ANSWER = 5.0


class Served(Client):
    """A server asked for what a command would otherwise do itself; with what commands use of ``ImageSearch``.

    Attributes:
        config: the command's settings.
    """

    def __init__(self, config: Config, server: Announcement) -> None:
        """Nothing is sent yet."""
        # The address is this machine's own, whatever it looks like.
        super().__init__(
            server.url,
            server.secret,
            timeout=config.data.read_timeout + config.milvus.timeout,
            max_megapixels=config.data.max_megapixels,
            allow_insecure_token=True,
        )
        self.config = config

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions | None = None) -> list[Answer]:
        """Like the library's, by the command's settings."""
        search = self.config.search
        options = options or SearchOptions(search.top_k)
        return super().answer(list(queries), replace(options, rerank=options.rerank or search.rerank))

    def find_collection(self) -> CollectionInfo | None:
        """The configured collection, or None if it does not exist."""
        try:
            return self.describe()
        except CollectionNotFoundError:
            return None

    @property
    def database(self) -> ServedCollections:
        """The database's collections."""
        return ServedCollections(self)


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


def served_by(config: Config, server: Announcement | None, same: Sequence[str]) -> Served | None:
    """The server that can do what a command is asked to; None if there is none.

    Args:
        config: the command's settings.
        server: what says that it holds the database.
        same: settings that have to be the same.
    """
    if server is None or server.differences(config, same):
        return None
    return Served(config, server) if _answers(server) else None


def explained(
    error: StoreLockedError, config: Config, server: Announcement | None, same: Sequence[str] | None
) -> StoreLockedError:
    """The error of a database that a server holds, with what to do about it; the same one if none does.

    Args:
        error: names the process.
        config: the command's settings.
        server: what says that it holds the database.
        same: settings that have to be the same for the server to do it; None: it never can.
    """
    if server is None or not _answers(server):
        return error
    where = f"the database {config.database_address.shown} is in use by the server at {server.url}"
    stop = f"stop it first (process {server.process})"
    if same is None:
        return StoreLockedError(f"{where}, which cannot do this: {stop}")
    different = "; ".join(server.differences(config, same))
    return StoreLockedError(f"{where}, whose settings differ ({different}): use the same, or {stop}")


def _answers(server: Announcement) -> bool:
    """Whether it is there, and lets its owner in: another one at that address would not know the secret."""
    try:
        with Client(server.url, server.secret, timeout=_SECONDS_TO_ANSWER, allow_insecure_token=True) as client:
            return client.process() == server.process
    except ImageSearchError:
        return False


def _not_here() -> VectorDatabase:
    raise UsageError("the server has the database open")
