"""The address of a database: parsed and checked once, and the only thing that decides which engine serves it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import cast
from urllib.parse import SplitResult, unquote, urlsplit

from imagesearch.errors import ConfigError
from imagesearch.stores import engines
from imagesearch.stores.base import ConnectionOptions, VectorDatabase


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is.

    Attributes:
        uri: as it was given; may hold credentials, so show :attr:`shown` to people instead.
        engine: what serves it.
        path: of a local database, as it was given; None for others.
        setting: where it was set, for messages.
    """

    uri: str = field(repr=False)
    engine: engines.Engine
    path: Path | None = None
    setting: str = field(default="milvus.uri", compare=False)

    @classmethod
    def parse(cls, uri: str, setting: str = "milvus.uri") -> DatabaseAddress:
        """Check an address.

        Args:
            uri: a path or ``file:`` URI of a local database, ``scheme://host:port``, or ``unix:`` with the path of
                a server's socket.
            setting: where it was set, for the message.

        Raises:
            ConfigError: no engine takes it.

        Examples:
            >>> DatabaseAddress.parse("photos.db").engine.name
            'milvus-lite'
            >>> DatabaseAddress.parse("http://root:secret@localhost:19530").place
            'http://localhost:19530'
        """
        scheme = _scheme(uri) if "\0" not in uri else None
        for engine in engines.ENGINES:
            if scheme in engine.schemes:
                address = cls(uri, engine, _path(uri) if engine.is_local else None, setting)
                if address._is_complete():
                    address._require_home()
                    return address
        examples = " or ".join(engine.example for engine in engines.ENGINES if engine.example)
        raise ConfigError(f"{setting} = {_refused(uri)!r}: must be {examples}")

    @property
    def is_local(self) -> bool:
        """Whether the database is a file or folder of this machine."""
        return self.path is not None

    @property
    def place(self) -> str:
        """Where it is, without credentials: equal for two addresses of one place, however they are written.

        Of a local database it is the path without links. What only the engine knows (its default port, which
        database of a server is meant) is in ``VectorDatabase.place``.
        """
        if self.path is not None:
            return os.path.realpath(
                self.path.expanduser()
            )  # Path.resolve() raises for links that lead in a circle
        parts = urlsplit(self.uri)
        if _scheme(self.uri) == _SOCKET:
            return f"{_SOCKET}://{os.path.realpath(parts.path)}"
        authority = parts.netloc.rpartition("@")[2].lower()
        return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}"

    @property
    def shown(self) -> str:
        """The address as it was given, without credentials."""
        if self.path is not None:
            return str(self.path)
        scheme, colon, _ = self.uri.partition(":")
        parts = urlsplit(self.uri)
        slashes = "//" if self.uri.startswith("//", len(scheme) + len(colon)) else ""
        return f"{scheme}:{slashes}{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")

    @property
    def has_credentials(self) -> bool:
        """Whether a user or password is part of it."""
        return self.path is None and "@" in urlsplit(self.uri).netloc

    @property
    def is_confidential(self) -> bool:
        """Whether nobody on the network can read what is sent there: encrypted, or never leaving this machine."""
        if self.path is not None or _scheme(self.uri) in ("https", _SOCKET):
            return True
        host = urlsplit(self.uri).hostname or ""
        if host.lower().rstrip(".") == "localhost":
            return True
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:  # a name, which may lead anywhere
            return False

    def anchored(self, base: str | os.PathLike[str]) -> DatabaseAddress:
        """The same with a relative path made absolute, from that folder."""
        if self.path is None:
            return self
        path = os.path.normpath(Path(base) / self.path.expanduser())
        return replace(self, uri=path, path=Path(path))

    def open(self, options: ConnectionOptions | None = None) -> VectorDatabase:
        """The database; it is connected to when first used."""
        module = import_module(self.engine.module)
        return cast(VectorDatabase, module.open_database(self, options or ConnectionOptions()))

    def _require_home(self) -> None:
        if self.path is not None:
            try:
                self.path.expanduser()
            except RuntimeError as error:  # "~somebody": no such user, or no home
                raise ConfigError(f"{self.setting} = {self.uri!r}: {str(error).rstrip('.').lower()}") from error

    def _is_complete(self) -> bool:
        try:
            parts = urlsplit(self.uri)
            if self.path is not None:
                is_here = _scheme(self.uri) != _FILE or parts.netloc in ("", "localhost")
                return (
                    is_here
                    and self.path.name.endswith(self.engine.suffix)
                    and self.path.name != self.engine.suffix
                )
            if _scheme(self.uri) == _SOCKET:
                return not parts.netloc and bool(parts.path.strip("/"))
            return bool(parts.hostname) and parts.port != 0 and not _has_stray_credentials(parts)
        except ValueError:  # a port that is no number, half an IPv6 address
            return False


# Their URIs may do without "//".
_FILE, _SOCKET = "file", "unix"


def _scheme(uri: str) -> str:
    scheme = uri.partition(":")[0].lower()
    return scheme if "://" in uri or (":" in uri and scheme in (_FILE, _SOCKET)) else ""


def _path(uri: str) -> Path:
    if _scheme(uri) != _FILE:
        return Path(uri)
    try:
        return Path(unquote(urlsplit(uri).path))
    except ValueError:  # half an IPv6 address
        return Path()


def _has_stray_credentials(parts: SplitResult) -> bool:
    """Whether a password was cut in two, because it has a character that ends the host (``http://me:a/b@host``)."""
    return "@" in parts.path + parts.query + parts.fragment


def _refused(uri: str) -> str:
    """What to show of an address that could not be understood: nothing that may be a password."""
    before, at, after = uri.rpartition("@")
    if not at or "/" in before.partition("://")[0].partition(":")[0]:  # a path
        return uri
    scheme = f"{uri.partition('://')[0]}://" if "://" in before else ""
    return f"{scheme}***@{after.partition('?')[0]}"
