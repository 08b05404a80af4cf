"""Reaching a Milvus server through pymilvus; the one place that turns its failures into this package's errors."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imagesearch.errors import ConfigError, StoreError, StoreUnreachableError, UnsupportedIndexError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import ConnectionOptions, no_collection
from imagesearch.stores.gate import Gate
from imagesearch.stores.milvus.index_types import INDEX_TYPES

# Seconds that one call to a connected server may take, retries included.
CALL_TIMEOUT = 30.0

# Seconds between two questions about work that the server does in the background.
POLL_SECONDS = 0.1

# Milvus's numbers: the collection is not there (old, new), is not loaded, the database is not there.
_NO_COLLECTION = (4, 100)
_NOT_LOADED = 101
_NO_DATABASE = 800

_DEFAULT_DATABASE = "default"
_DEFAULT_PORTS = {"http": 19530, "https": 443}


class NotLoadedError(StoreError):
    """The collection is not in the server's memory (any more): load it, and ask again."""


@dataclass(frozen=True, slots=True)
class _Client:
    """pymilvus's ``MilvusClient``, and what the server says it is, such as ``"v2.3.5"``."""

    api: Any  # pymilvus is untyped
    version: str

    @property
    def number(self) -> str:
        return self.version.removeprefix("v")


class ServerConnection:
    """The connection of one database and its collections; opened when first used.

    Attributes:
        place: the server and the database on it, without credentials.
        gate: what every use passes; see :class:`Gate`.
    """

    def __init__(self, address: DatabaseAddress, options: ConnectionOptions) -> None:
        self.place = server_place(address, options.db_name)
        self.gate = Gate(self.place)
        self._address, self._options = address, options
        self._lock = threading.Lock()
        self._client: _Client | None = None

    @property
    def engine(self) -> str:
        """Human-readable engine name, e.g. ``"Milvus 2.3.5 at http://localhost:19530"``."""
        return f"Milvus {self._connected().number} at {self.place}"

    def index_types(self) -> list[str]:
        """Names of the index types that this server builds."""
        return index_types_of(self._connected().version)

    def require_index_type(self, name: str) -> None:
        """Make sure that this server builds an index type.

        Raises:
            UnsupportedIndexError: it does not; names those that it builds.
        """
        possible = self.index_types()
        if name not in possible:
            raise UnsupportedIndexError(
                f"milvus.index_type = {name!r}: {self.engine} cannot build it; it builds {', '.join(possible)}"
            )

    def call(self, doing: str, method: str, collection: str = "", **arguments: Any) -> Any:
        """Call a method of pymilvus's client, which has :data:`CALL_TIMEOUT` seconds unless ``timeout`` is given.

        Args:
            doing: completes "could not ..." in messages.
            method: its name.
            collection: which one it is about, for messages.

        Raises:
            CollectionNotFoundError: the collection does not exist.
            NotLoadedError: it has to be loaded first.
            StoreUnreachableError: the server does not answer in time.
            UnsupportedIndexError: the server does not know the index type.
            StoreError: everything else.
        """
        client = self._connected()
        with self.translating(doing, collection):
            return getattr(client.api, method)(**{"timeout": CALL_TIMEOUT, **arguments})

    @contextlib.contextmanager
    def translating(self, doing: str, collection: str = "") -> Iterator[None]:
        """Raise this package's errors in place of pymilvus's; see :meth:`call`."""
        try:
            yield
        except Exception as error:
            if not _is_vendor_error(error):
                raise
            raise self._translated(error, doing, collection) from error

    def close(self) -> None:
        """Hang up, once calls that are running have ended; idempotent."""
        if not self.gate.close():
            return
        client, self._client = self._client, None
        if client:
            with self.translating("close the connection"):
                client.api.close()

    def _connected(self) -> _Client:
        with self.gate.passing(), self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> _Client:
        """Reach the server within the time that the options give it.

        Raises:
            ConfigError: a TLS file is wrong.
            StoreUnreachableError: nothing answers.
            StoreError: the server refuses the login or has no such database.
        """
        tls = tls_options(self._options)
        _silence()
        timeout = self._options.timeout
        try:
            return _reach(self._address.uri, self._options, tls)
        except Exception as error:
            if not _is_vendor_error(error):
                raise
            raise _access_error(error, self.place) or StoreUnreachableError(
                f"no Milvus server answers at {self.place} within {timeout:g} s ({_reason(error)}): start it, "
                f"check {self._address.setting}, or name a local database such as imagesearch.db there"
            ) from error

    def _translated(self, error: Exception, doing: str, collection: str) -> StoreError:
        code, text = _code(error), _text(error)
        engine = f"Milvus {self._client.number} at {self.place}" if self._client else f"Milvus at {self.place}"
        about = f"{doing} (collection {collection!r})" if collection else doing
        if code in _NO_COLLECTION:
            return no_collection(collection, self.place)
        if code == _NOT_LOADED or "collection not loaded" in text.lower():
            return NotLoadedError(f"{engine} could not {about}: {text}")
        if isinstance(error, OSError) or _status(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            return StoreUnreachableError(f"{self.place} does not answer any more, could not {about}: {text}")
        if re.search(r"invalid index type|index type .*not (?:supported|match)", text, re.IGNORECASE):
            return UnsupportedIndexError(f"{engine} could not {about}: {text}")
        return _access_error(error, self.place) or StoreError(f"{engine} could not {about}: {text}")


def server_place(address: DatabaseAddress, db_name: str | None) -> str:
    """A server's address in one form, without credentials; then the database's name, if it is not the default."""
    parts = urlsplit(address.place)
    if parts.scheme == "unix":
        return (
            address.place if db_name in (None, "", _DEFAULT_DATABASE) else f"{address.place}, database {db_name}"
        )
    scheme = "https" if parts.scheme == "https" else "http"  # tcp is another name of http
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    name = db_name or parts.path.strip("/").partition("/")[0]
    database = "" if name in ("", _DEFAULT_DATABASE) else f"/{name}"
    return f"{scheme}://{host}:{parts.port or _DEFAULT_PORTS[scheme]}{database}"


def index_types_of(version: str) -> list[str]:
    """Names of the index types that a server of this version builds; all, where it says nothing."""
    number = re.match(r"v?(\d+)\.(\d+)", version)
    if number is None:  # Zilliz Cloud, development builds: the server itself will answer
        return list(INDEX_TYPES)
    since = (int(number[1]), int(number[2]))
    gpu = "gpu" in version
    return [name for name, kind in INDEX_TYPES.items() if kind.since <= since and (gpu or not kind.gpu)]


def tls_options(options: ConnectionOptions) -> dict[str, Any]:
    """pymilvus's keyword arguments for TLS; ``https://`` alone uses the system's certificates.

    Raises:
        ConfigError: a file is not there, or one that belongs to another is not given.
    """
    ca, cert, key = options.tls_ca, options.tls_client_cert, options.tls_client_key
    for name, file in (("ca", ca), ("client_cert", cert), ("client_key", key)):
        if file and not Path(file).is_file():
            raise ConfigError(f"milvus.tls_{name} = {str(file)!r}: there is no such file")
    if not any((ca, cert, key, options.tls_server_name)):
        return {}
    found: dict[str, Any] = {"secure": True}
    if cert and key and ca:
        found |= {"ca_pem_path": str(ca), "client_pem_path": str(cert), "client_key_path": str(key)}
    elif cert or key:
        raise ConfigError("milvus.tls_client_cert needs milvus.tls_client_key and milvus.tls_ca beside it")
    elif ca:
        found["server_pem_path"] = str(ca)
    if options.tls_server_name:
        found["server_name"] = options.tls_server_name
    return found


def forget_columns() -> None:
    """Make pymilvus forget which columns collections have.

    It remembers them by the collection's name, for the whole process, and does not notice when a rename, or
    another process, gives the name to another collection: rows would then be refused, or sent in the wrong shape.
    There is no public way to tell it.
    """
    from pymilvus.client.cache import GlobalCache

    GlobalCache.schema.clear()


def _reach(uri: str, options: ConnectionOptions, tls: Mapping[str, Any]) -> _Client:
    # Most of the time is for reaching the server; one that was reached answers the rest at once.
    start, timeout = time.monotonic(), options.timeout
    api = _new_client(uri, options, 0.7 * timeout, tls)
    try:
        left = max(0.2, 0.9 * timeout - (time.monotonic() - start))
        version = str(api.get_server_version(timeout=left))
        api.list_collections(timeout=left)  # other calls take an unknown database for an empty one
    except BaseException:
        api.close()
        raise
    return _Client(api, version)


def _new_client(uri: str, options: ConnectionOptions, timeout: float, tls: Mapping[str, Any]) -> Any:
    from pymilvus import MilvusClient

    # Dedicated: pymilvus would otherwise share one connection, and its options, between all users of an address.
    return MilvusClient(
        uri, token=options.token or "", db_name=options.db_name or "", timeout=timeout, dedicated=True, **tls
    )


def _silence() -> None:
    """Keep pymilvus from logging tracebacks of errors that are translated here."""
    import pymilvus  # noqa: F401  (its import configures its logger, so it has to come first)

    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)


# --- what pymilvus raised ---


def _is_vendor_error(error: BaseException) -> bool:
    """Whether pymilvus or gRPC raised this, or the operating system below them."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("pymilvus", "grpc")


def _code(error: BaseException) -> int | None:
    """Milvus's error number."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def _text(error: BaseException) -> str:
    """The first line of what went wrong, without pymilvus's wrapping."""
    text = str(getattr(error, "message", "") or _details(error) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _details(error: BaseException) -> str:
    details = getattr(error, "details", None)
    return str(details() or "") if callable(details) else ""


def _status(error: BaseException | None) -> str:
    """The gRPC status name behind an error, or ``""``."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))  # pymilvus does `raise e from e`: an error that is its own cause
        code = getattr(error, "code", None)
        code = code() if callable(code) else code
        name = getattr(code, "name", None)
        if isinstance(name, str):
            return name
        error = error.__cause__
    return ""


def _reason(error: BaseException) -> str:
    """Why no connection came about, in a few words."""
    status = _status(error)
    text = " ".join(_details(e) for e in (error, error.__cause__) if e) + _text(error)
    for pattern, reason in (
        (r"resolv|lookup|DNS", "its name is unknown"),
        (r"refused|Connection reset", "connection refused"),
        (r"http2|HTTP/2|UNIMPLEMENTED", "what answers there does not speak Milvus's protocol"),
        (r"SSL|TLS|certificate|handshake", "the TLS handshake failed"),
    ):
        if re.search(pattern, text + status, re.IGNORECASE):
            return reason
    return "no answer" if status == "DEADLINE_EXCEEDED" else "connection failed"


def _access_error(error: BaseException, place: str) -> StoreError | None:
    """The error for a refused login or an unknown database; None if it is another one."""
    text = _text(error)
    if _code(error) == _NO_DATABASE or re.search(r"database .*(?:not found|does not exist)", text):
        return StoreError(f"{place} has no such database ({text}): check milvus.db_name")
    if re.search(r"auth check failure|unauthenticated|invalid (?:token|credential)|permission deny", text, re.I):
        return StoreError(f"{place} refused the login ({text}): check milvus.token")
    return None
