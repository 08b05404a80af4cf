"""How the command line finds the server that holds its local database: by a file that the server leaves there.

The file lies beside the lists of skipped files, is readable by its owner only, and goes when the server ends. It
says where the server is, what lets its owner in, and with which settings it works: a command asks the server only
where it would do the same itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesearch.atomic import replacing
from imagesearch.config import Config
from imagesearch.images.find import reason_of
from imagesearch.managing import ledger_folder

_NAME = "server.json"
_PRIVATE = 0o600
_PRIVATE_FOLDER = 0o700

_log = logging.getLogger(__name__)

# Not a setting, but another version may do something else, or speak another language.
_VERSION = "version"
_COLLECTION = ("milvus.collection_name",)
_NETWORK = ("model.name", "model.revision", "model.device", "model.precision", "model.runtime")
# Settings that have to be the same for the same results: of commands that only look at the database, that label
# pictures, that search, and that index.
LOOKING = (*_COLLECTION, "milvus.metric_type", "milvus.index_type")
LABELLING = (*_NETWORK, "model.classifier", "data.max_megapixels")
SEARCHING = (
    *LOOKING,
    *_NETWORK,
    "model.embedding_dim",
    "model.pooling",
    "model.normalize",
    "milvus.embedding_field_name",
    "milvus.index_params",
    "milvus.search_params",
    "data.max_megapixels",
)
INDEXING = (*SEARCHING, "milvus.index_name", "data.raw_dir", "data.include_hidden", "data.exclude")


@dataclass(frozen=True, slots=True)
class Announcement:
    """A server that says that it holds a database; whether it still does, only asking it tells.

    Attributes:
        url: its address.
        process: its process's id.
        secret: what lets the owner in.
        settings: those that matter, by ``section.key``.
    """

    url: str
    process: int
    secret: str = field(repr=False)
    settings: dict[str, Any]

    def differences(self, config: Config, keys: Sequence[str]) -> list[str]:
        """In which of some settings it differs from a command's, and whether in its version; each in words."""
        mine = _settings_of(config)
        return [
            f"{key} = {_shown(self.settings.get(key))} there, {_shown(mine[key])} here"
            for key in (_VERSION, *keys)
            if self.settings.get(key) != mine[key]
        ]


@contextlib.contextmanager
def announce(config: Config, url: str, secret: str) -> Iterator[None]:
    """Say until the block ends that a server with these settings holds their database.

    Nothing is said of a database on a server of its own, which anybody can use meanwhile.

    Args:
        config: the server's settings.
        url: where it is, for processes of this machine.
        secret: what lets the owner in.
    """
    file = _file(config)
    if file is None:
        yield
        return
    try:
        _write(file, {"url": url, "process": os.getpid(), "secret": secret, "settings": _settings_of(config)})
    except OSError as error:
        _log.warning("cannot write %s: %s; the command line will not find this server", file, reason_of(error))
    try:
        yield
    finally:
        there = find(config)
        if there is not None and there.secret == secret:  # not that of a server that came after this one
            with contextlib.suppress(OSError):  # a stale one does no harm
                file.unlink()


def find(config: Config) -> Announcement | None:
    """What the server says that holds the configured database, if there is one; costs one look at a file.

    A file that others could have written, or could read, is not believed.
    """
    file = _file(config)
    if file is None:
        return None
    try:
        with open(file, encoding="ascii") as stream:
            if not _is_private(os.fstat(stream.fileno())):
                return None
            values = json.load(stream)
        return Announcement(values["url"], values["process"], values["secret"], values["settings"])
    except (OSError, ValueError, TypeError, KeyError):  # none, or half of one
        return None


def _write(file: Path, values: dict[str, Any]) -> None:
    # A database yet to be made is private; the lists of skipped files in it are for all who may use it.
    file.parent.parent.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    file.parent.mkdir(exist_ok=True)
    with replacing(file) as temporary:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            json.dump(values, stream)


def _file(config: Config) -> Path | None:
    return ledger_folder(config) / _NAME if config.database_address.is_local else None


def _is_private(status: os.stat_result) -> bool:
    if not hasattr(os, "geteuid"):  # Windows: who may read a file is inherited from its folder
        return True
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def _settings_of(config: Config) -> dict[str, Any]:
    """The settings that matter, as JSON has them."""
    values: dict[str, Any] = {}
    from importlib.metadata import version

    for key in dict.fromkeys((*LABELLING, *INDEXING)):
        section, _, name = key.partition(".")
        values[key] = getattr(getattr(config, section), name)
    values["milvus.collection_name"] = config.collection_spec.name
    values[_VERSION] = version("imagesearch")
    plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return plain


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
