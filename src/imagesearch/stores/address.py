"""The address of a database: parsed and checked once, and the only thing that decides which engine serves it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from imagesearch.errors import ConfigError
from imagesearch.stores import engines
from imagesearch.stores.base import ConnectionOptions, VectorDatabase


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """Where a database is.

    Attributes:
        uri: as it was given; may hold credentials, so show :attr:`place` to people instead.
        engine: what serves it.
        path: of a local database, as it was given; None for others.
    """

    uri: str
    engine: engines.Engine
    path: Path | None = None

    @classmethod
    def parse(cls, uri: str, setting: str = "milvus.uri") -> DatabaseAddress:
        """Check an address.

        Args:
            uri: a path or ``file:`` URI of a local database, or ``scheme://host:port``.
            setting: where it was set, for the message.

        Raises:
            ConfigError: no engine takes it.

        Examples:
            >>> DatabaseAddress.parse("photos.db").engine.name
            'milvus-lite'
            >>> DatabaseAddress.parse("http://root:secret@localhost:19530").place
            'http://localhost:19530'
        """
        scheme = _scheme(uri)
        for engine in engines.ENGINES:
            if scheme in engine.schemes:
                address = cls(uri, engine, _path(uri) if engine.is_local else None)
                if address._is_complete():
                    address._require_home(setting)
                    return address
        raise ConfigError(
            f"{setting} = {_without_credentials(uri)!r}: must be a path that ends in .db (Milvus Lite) or a"
            f" server's address such as http://localhost:19530"
        )

    @property
    def is_local(self) -> bool:
        """Whether the database is a file or folder of this machine."""
        return self.path is not None

    @property
    def place(self) -> str:
        """The address without credentials; of a local database its resolved path. Equal for equal databases."""
        if self.path is not None:
            return str(self.path.expanduser().resolve())
        return _without_credentials(self.uri).rstrip("/")

    @property
    def shown(self) -> str:
        """The address as it was given, without credentials."""
        return str(self.path) if self.path is not None else self.place

    def anchored(self, base: str | os.PathLike[str]) -> DatabaseAddress:
        """The same with a relative path made absolute, from that folder."""
        if self.path is None or _scheme(self.uri):
            return self
        path = os.path.normpath(Path(base) / self.path.expanduser())
        return DatabaseAddress(path, self.engine, Path(path))

    def open(self, options: ConnectionOptions | None = None) -> VectorDatabase:
        """The database; it is connected to when first used."""
        module = import_module(self.engine.module)
        return cast(VectorDatabase, module.open_database(self, options or ConnectionOptions()))

    def _require_home(self, setting: str) -> None:
        if self.path is not None:
            try:
                self.path.expanduser()
            except RuntimeError as error:  # "~somebody": no such user, or no home
                raise ConfigError(f"{setting} = {self.uri!r}: {str(error).rstrip('.').lower()}") from error

    def _is_complete(self) -> bool:
        if self.path is not None:
            return self.path.name.endswith(self.engine.suffix) and self.path.name != self.engine.suffix
        parts = urlsplit(self.uri)
        try:
            return bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:  # a port that is no number
            return False


def _scheme(uri: str) -> str:
    if uri.startswith("file:"):
        return "file"
    return uri.partition("://")[0] if "://" in uri else ""


def _path(uri: str) -> Path:
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri)


def _without_credentials(uri: str) -> str:
    if "://" not in uri or uri.startswith("file:"):
        return uri
    scheme, _, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"
