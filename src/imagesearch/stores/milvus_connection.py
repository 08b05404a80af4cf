"""Reaching a Milvus database by URI, and turning pymilvus's failures into this package's errors."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from imagesearch.errors import ConfigError, StoreError, StoreUnreachableError, UnsupportedIndexError
from imagesearch.stores.base import no_collection
from imagesearch.stores.index_types import INDEX_TYPES
from imagesearch.stores.milvus_lite import (
    LiteDatabase,
    is_os_error,
    lite_index_types,
    lite_version,
    open_lite,
    silence,
    write_failure,
)

_SERVER_SCHEMES = ("http", "https", "tcp")

# Seconds that one call to a connected server may take, retries included.
CALL_TIMEOUT = 30.0

# Seconds between two questions about work that the server does in the background.
POLL_SECONDS = 0.1

# Milvus's numbers: the collection is not there (old, new), is not loaded, the database is not there.
_NO_COLLECTION = (4, 100)
_NOT_LOADED = 101
_NO_DATABASE = 800

# Milvus Lite is inside this process: keep-alive pings are needless, and after a call of some minutes
# (a long index build) its gRPC server would hang up with "too many pings". A proxy is no use either.
_LITE_GRPC_OPTIONS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.enable_http_proxy": 0}


@dataclass(frozen=True, slots=True)
class Tls:
    """Files for a TLS connection, all optional; ``https://`` alone uses the system's certificates.

    Attributes:
        ca: certificate of the authority that signed the server's (or the server's own).
        client_cert, client_key: together, where the server wants to know its clients (mutual TLS).
        server_name: the name in the server's certificate, if it is not the host of the URI.
    """

    ca: str | Path | None = None
    client_cert: str | Path | None = None
    client_key: str | Path | None = None
    server_name: str | None = None

    def options(self) -> dict[str, Any]:
        """The keyword arguments of pymilvus.

        Raises:
            ConfigError: a file is not there.
        """
        for name in ("ca", "client_cert", "client_key"):
            file = getattr(self, name)
            if file and not Path(file).is_file():
                raise ConfigError(f"milvus.tls_{name} = {str(file)!r}: there is no such file")
        if not any((self.ca, self.client_cert, self.client_key, self.server_name)):
            return {}
        options: dict[str, Any] = {"secure": True}
        if self.client_cert and self.client_key and self.ca:
            options["ca_pem_path"] = str(self.ca)
            options["client_pem_path"] = str(self.client_cert)
            options["client_key_path"] = str(self.client_key)
        elif self.client_cert or self.client_key:
            raise ConfigError("milvus.tls_client_cert needs milvus.tls_client_key and milvus.tls_ca beside it")
        elif self.ca:
            options["server_pem_path"] = str(self.ca)
        if self.server_name:
            options["server_name"] = self.server_name
        return options


@dataclass(slots=True)
class Connection:
    """An open connection.

    Attributes:
        client: pymilvus's ``MilvusClient``.
        version: what the engine says it is, e.g. ``"v2.3.5"``.
        place: the URI without credentials, or the database's path.
        lite: the database, if it is Milvus Lite in this process.
        address: where Milvus Lite was reached when this connection was made.
    """

    client: Any
    version: str
    place: str
    lite: LiteDatabase | None = None
    address: str = ""

    @property
    def engine(self) -> str:
        """The database for people."""
        name = "Milvus Lite" if self.lite else "Milvus"
        return f"{name} {self.version.removeprefix('v')} at {self.place}"

    def index_types(self) -> list[str]:
        """Names of the index types that this engine builds; all, where its version says nothing."""
        if self.lite:
            return lite_index_types()
        number = re.match(r"v?(\d+)\.(\d+)", self.version)
        if number is None:  # Zilliz Cloud, development builds: the server itself will answer
            return list(INDEX_TYPES)
        version = (int(number[1]), int(number[2]))
        gpu = "gpu" in self.version
        return [name for name, kind in INDEX_TYPES.items() if kind.since <= version and (gpu or not kind.gpu)]

    def is_outdated(self) -> bool:
        """Whether Milvus Lite was restarted since, or has to be: see :class:`LiteDatabase`."""
        return self.lite is not None and (self.lite.failed or self.lite.address != self.address)

    def close(self) -> None:
        """Hang up; a Milvus Lite database is given back for other processes."""
        self.client.close()
        if self.lite:
            self.lite.close()

    @contextlib.contextmanager
    def translating(self, doing: str, collection: str) -> Iterator[None]:
        """Raise this package's errors in place of pymilvus's; ``doing`` completes "could not ..."."""
        try:
            with self.lite.turn if self.lite else contextlib.nullcontext():
                yield
        except Exception as error:
            if not is_vendor_error(error):
                raise
            raise self._translated(error, doing, collection) from error

    def _translated(self, error: Exception, doing: str, collection: str) -> StoreError:
        code, text = error_code(error), error_text(error)
        if code in _NO_COLLECTION:
            return no_collection(collection, self.place)
        if self.lite:
            failure = write_failure(text, self.lite.path)
            self.lite.failed = self.lite.failed or failure is not None or is_os_error(text)
            if failure:
                return failure
        if _status(error) in ("UNAVAILABLE", "DEADLINE_EXCEEDED") and not self.lite:
            return StoreUnreachableError(f"{self.place} does not answer any more, could not {doing}: {text}")
        if re.search(r"invalid index type|index type .*not (?:supported|match)", text, re.IGNORECASE):
            return UnsupportedIndexError(f"{self.engine} could not {doing}: {text}")
        return _access_error(code, text, self.place) or StoreError(f"{self.engine} could not {doing}: {text}")


def check_uri(uri: str, name: str = "milvus.uri") -> None:
    """Refuse what is neither a Milvus Lite path nor a server's address.

    Args:
        name: the setting, for the message.

    Raises:
        ConfigError: it is neither.
    """
    if "://" in uri and not uri.startswith("file:"):
        parts = urlsplit(uri)
        try:
            good = parts.scheme in _SERVER_SCHEMES and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # a port that is no number
            good = False
    else:
        good = uri.endswith(".db") and lite_path(uri).name != ".db"
    if not good:
        raise ConfigError(
            f"{name} = {display_uri(uri)!r}: must be a path that ends in .db (Milvus Lite) or a server's "
            f"address such as http://localhost:19530"
        )


def is_lite(uri: str) -> bool:
    """Whether the URI is a path, that is Milvus Lite's."""
    return "://" not in uri or uri.startswith("file:")


def lite_path(uri: str) -> Path:
    """The path of a Milvus Lite URI: a plain path or a ``file:`` URI."""
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri)


def display_uri(uri: str) -> str:
    """The URI without user name, password or token."""
    if is_lite(uri):
        return uri
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def connect(uri: str, token: str | None, db_name: str | None, tls: Tls, timeout: float) -> Connection:
    """Open the database, in ``timeout`` seconds at most.

    Raises:
        ConfigError: the URI or a TLS file is wrong.
        StoreLockedError: another process has the Milvus Lite database open.
        StoreUnreachableError: no Milvus server answers.
        StoreError: the server refuses the token or has no such database; a path cannot be opened.
    """
    check_uri(uri)
    options = tls.options()
    if not is_lite(uri):
        return _connect_server(uri, token, db_name, options, timeout)
    lite = open_lite(lite_path(uri))
    try:
        client = _client(lite.address, "", db_name, timeout, {"grpc_options": _LITE_GRPC_OPTIONS})
        client.list_collections(timeout=timeout)  # other calls take an unknown database for an empty one
    except Exception as error:
        lite.close()
        if not is_vendor_error(error):
            raise
        raise _access_error(error_code(error), error_text(error), str(lite.path)) or StoreError(
            f"cannot open the database {lite.path}: {error_text(error)}"
        ) from error
    return Connection(client, lite_version(), str(lite.path), lite, lite.address)


def _connect_server(
    uri: str, token: str | None, db_name: str | None, options: Mapping[str, Any], timeout: float
) -> Connection:
    place = display_uri(uri)
    silence()
    start = time.monotonic()
    try:
        # Most of the time is for reaching the server; one that was reached answers the rest at once.
        client = _client(uri, token or "", db_name, 0.7 * timeout, options)
        left = max(0.2, 0.9 * timeout - (time.monotonic() - start))
        version = str(client.get_server_version(timeout=left))
        client.list_collections(timeout=left)  # other calls take an unknown database for an empty one
    except Exception as error:
        if not is_vendor_error(error):
            raise
        text = error_text(error)
        raise _access_error(error_code(error), text, place) or StoreUnreachableError(
            f"no Milvus server answers at {place} within {timeout:g} s ({_reason(error)}): start it, check "
            f"milvus.uri, or set milvus.uri to a local path such as imagesearch.db"
        ) from error
    return Connection(client, version, place)


def _client(
    uri: str, token: str, db_name: str | None, timeout: float, options: Mapping[str, Any]
) -> Any:  # pymilvus is untyped
    from pymilvus import MilvusClient

    # Dedicated: pymilvus would otherwise share one connection, and its options, between all users of a URI.
    return MilvusClient(uri, token=token, db_name=db_name or "", timeout=timeout, dedicated=True, **options)


# --- what pymilvus raised ---


def is_vendor_error(error: BaseException) -> bool:
    """Whether pymilvus, gRPC or Milvus Lite raised this."""
    return type(error).__module__.partition(".")[0] in ("pymilvus", "grpc", "milvus_lite")


def is_not_loaded(error: BaseException) -> bool:
    """Whether the collection was not in the engine's memory (another client released it)."""
    return is_vendor_error(error) and (
        error_code(error) == _NOT_LOADED or "collection not loaded" in error_text(error).lower()
    )


def error_code(error: BaseException) -> int | None:
    """Milvus's error number."""
    code = getattr(error, "code", None)
    return code if isinstance(code, int) else None


def error_text(error: BaseException) -> str:
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
    text = " ".join(_details(e) for e in (error, error.__cause__) if e) + error_text(error)
    for pattern, reason in (
        (r"resolv|lookup|DNS", "its name is unknown"),
        (r"refused|Connection reset", "connection refused"),
        (r"http2|HTTP/2|UNIMPLEMENTED", "what answers there does not speak Milvus's protocol"),
        (r"SSL|TLS|certificate|handshake", "the TLS handshake failed"),
    ):
        if re.search(pattern, text + status, re.IGNORECASE):
            return reason
    return "no answer" if status == "DEADLINE_EXCEEDED" else "connection failed"


def _access_error(code: int | None, text: str, place: str) -> StoreError | None:
    """The error for a refused token or an unknown database; None if it is another one."""
    if code == _NO_DATABASE or re.search(r"database .*(?:not found|does not exist)", text):
        return StoreError(f"{place} has no such database ({text}): check milvus.db_name")
    if re.search(r"auth check failure|unauthenticated|invalid (?:token|credential)|permission deny", text, re.I):
        return StoreError(f"{place} refused the login ({text}): check milvus.token")
    return None
