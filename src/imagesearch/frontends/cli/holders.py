"""Which server holds a local database, and what to say where a command needs the database itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imagesearch.errors import ImageSearchError, StoreLockedError

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.serving_file import Announcement

# Seconds in which a server must say what it serves; on this machine it takes milliseconds.
_SECONDS = 5.0


def serves(server: Announcement, config: Config) -> bool:
    """Whether a server that was announced is there, lets its owner in, and has the configured database."""
    from imagesearch.client import Client

    try:
        # The address is this machine's own, whatever it looks like.
        with Client(server.url, server.secret, timeout=_SECONDS, allow_insecure_token=True) as client:
            return client.place == config.database_address.place
    except ImageSearchError:  # nothing, or something else, is there by now
        return False


@contextlib.contextmanager
def naming_server(config: Config, same: Sequence[str] | None = None) -> Iterator[None]:
    """Where the database turns out to be held by a server, name it, and say what to do.

    Args:
        config: the command's settings.
        same: settings that have to be the same for the server to do what the command does; None: it never can.

    Raises:
        StoreLockedError: the database is held.
    """
    from imagesearch.serving_file import find

    try:
        yield
    except StoreLockedError as error:
        server = find(config)
        if server is None or not serves(server, config):
            raise
        raise StoreLockedError(_advice(config, server, same)) from error


def _advice(config: Config, server: Announcement, same: Sequence[str] | None) -> str:
    where = f"the database {config.database_address.shown} is in use by the server at {server.url}"
    stop = f"stop it first (process {server.process})"
    if same is None:
        return f"{where}, which cannot do this: {stop}"
    if different := "; ".join(server.differences(config, same)):
        return f"{where}, whose settings are others ({different}): use the same, or {stop}"
    return f"{where}, which was started meanwhile: run the command again, and it asks the server"
