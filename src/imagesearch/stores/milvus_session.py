"""A database connection that is opened when first used, and calls through it with errors translated."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from imagesearch.errors import StoreError
from imagesearch.stores.milvus_connection import Connection, Tls, connect, display_uri, is_lite, lite_path

T = TypeVar("T")


class Session:
    """What one store keeps of its database.

    Args:
        uri, token, db_name, tls: see :class:`~imagesearch.stores.milvus.MilvusStore`.
        timeout: seconds within which the server must answer at first.
    """

    def __init__(self, uri: str, token: str | None, db_name: str | None, tls: Tls, timeout: float) -> None:
        self.uri, self.db_name = uri, db_name
        self.lite = is_lite(uri)
        self._token, self._tls, self._timeout = token, tls, timeout
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._closed = False

    def connect(self) -> Connection:
        """The connection; opened now if need be, and anew where Milvus Lite has to be restarted.

        Raises:
            StoreError: it cannot be opened, or :meth:`close` was called.
        """
        with self._lock:
            if self._closed:
                raise StoreError(f"the store at {display_uri(self.uri)} is closed")
            if self._connection and self._connection.is_outdated():
                connection, self._connection = self._connection, None
                connection.close()
            if self._connection is None:
                self._connection = connect(self.uri, self._token, self.db_name, self._tls, self._timeout)
            return self._connection

    def is_absent(self) -> bool:
        """Whether there is no Milvus Lite database yet: connecting would make one, and a question shall not."""
        return self.lite and self._connection is None and not lite_path(self.uri).exists()

    def place(self) -> tuple[str, str]:
        """Which database this is, to compare: its path or address, and its name there."""
        uri = str(lite_path(self.uri).expanduser().resolve()) if self.lite else display_uri(self.uri).rstrip("/")
        return uri, self.db_name or "default"

    def call(self, doing: str, collection: str, call: Callable[[Any], T]) -> T:
        """Run one pymilvus call with its errors translated.

        Args:
            doing: completes "could not ..." in messages.
            collection: the collection it is about, for messages.
            call: gets pymilvus's client.
        """
        connection = self.connect()
        with connection.translating(f"{doing} in collection {collection!r}", collection):
            return call(connection.client)

    def close(self) -> None:
        """Let go of the database; twice is once."""
        with self._lock:
            connection, self._connection, self._closed = self._connection, None, True
        if connection:
            connection.close()
