"""Exported graphs, kept in the user's cache so that a network is converted once per machine.

A graph has a folder of its own with the graph's files and ``manifest.json``, written last. The folder appears by
one rename, so two programs that export at the same time do not see each other's halves. What does not match its
manifest is thrown away and made again; a cache that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from imagesearch.models.digests import file_digest

_log = logging.getLogger(__name__)

# To be raised whenever older graphs must not be used any more.
_FORMAT = 3
_MANIFEST = "manifest.json"
_PRECISIONS = ("float32", "bfloat16")
# The beginning of the names of folders that are being filled, and how long that may take.
_UNFINISHED = "new-"
_SECONDS_UNFINISHED = 86_400.0
# What could not be kept, until the program ends: the folders are removed then.
_temporary: dict[GraphKey, tuple[StoredGraph, tempfile.TemporaryDirectory[str]]] = {}


@dataclass(frozen=True, slots=True)
class GraphKey:
    """What decides whether a graph is the one that is wanted.

    Attributes:
        revision: the checkpoint's.
        task: ``"features"`` or ``"labels"``.
        pooling, precision: the settings.
        runtime: name and version of the library that runs it.
        exporter: version of PyTorch, which made it.
    """

    revision: str
    task: str
    pooling: str
    precision: str
    runtime: str
    exporter: str

    @property
    def folder(self) -> Path:
        """Where the graph is kept. Another CPU may compute in another precision, or at another speed."""
        import platformdirs

        identity = [_FORMAT, *dataclasses.astuple(self), _cpu()]
        name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=10).hexdigest()
        return platformdirs.user_cache_path("imagesearch") / "graphs" / name


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a graph without opening it.

    Attributes:
        description: the fingerprint as JSON, or the labels.
        precision: what it computes in: ``"float32"`` or ``"bfloat16"``.
        speed, torch_speed: pictures per second of the graph and of PyTorch, measured in turns.
        problem: why it is not used (then there is no graph), or None.
    """

    description: Any
    precision: str
    speed: float
    torch_speed: float
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class StoredGraph:
    """A folder with a graph and its manifest."""

    folder: Path
    manifest: Manifest


@lru_cache(maxsize=1)
def _cpu() -> str:
    """The processor's model and abilities: home folders are shared between machines."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read().partition("\n\n")[0]
        lines = [
            line for line in first.splitlines() if line.startswith(("model name", "flags", "Features", "CPU"))
        ]
    except OSError:
        lines = [platform.processor()]
    return "\n".join([platform.system(), platform.machine(), *lines])


def find_graph(key: GraphKey) -> StoredGraph | None:
    """A whole graph, or the manifest of one that failed; None if it has to be made."""
    folder = key.folder
    if not _is_ours(folder.parent):
        return None
    try:
        manifest = _verified(folder)
    except (FileNotFoundError, NotADirectoryError):
        if not folder.exists():  # nothing was ever written
            return None
        manifest = None  # something is missing
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        _log.debug("%s: unreadable: %s", folder, error)
        manifest = None
    if manifest is None:
        discard_graph(folder)
        return None
    return StoredGraph(folder, manifest)


def _verified(folder: Path) -> Manifest | None:
    """The manifest, if the files beside it are those that it was written for."""
    content = json.loads((folder / _MANIFEST).read_bytes())
    manifest = Manifest(**content["manifest"])
    if manifest.precision not in _PRECISIONS or not all(
        isinstance(speed, (int, float)) for speed in (manifest.speed, manifest.torch_speed)
    ):
        raise ValueError("not a graph's manifest")
    files = content["files"]
    if set(files) != {entry.name for entry in folder.iterdir()} - {_MANIFEST}:
        return None
    return manifest if all(file_digest(folder / name) == digest for name, digest in files.items()) else None


def _is_ours(graphs: Path) -> bool:
    """Whether nobody else can put graphs there: who can, decides what the network computes.

    Other users' rights to write, which a generous umask gave, are taken back.
    """
    if not hasattr(os, "getuid"):  # Windows keeps the folder below the user's profile
        return True
    try:
        status = graphs.stat()
        if status.st_uid == os.getuid() and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            graphs.chmod(stat.S_IRWXU)
    except FileNotFoundError:
        return True
    except OSError as error:
        _say_once(f"exported graphs in {graphs} are not used: {error.strerror or error}")
        return False
    if status.st_uid != os.getuid():
        _say_once(f"exported graphs in {graphs} are not used: the folder belongs to another user")
    return status.st_uid == os.getuid()


def temporary_graph(key: GraphKey) -> StoredGraph | None:
    """A graph that this process made for itself, as the cache could not be written; None if it made none."""
    return _temporary[key][0] if key in _temporary else None


def discard_graph(folder: Path) -> None:
    """Throw a damaged graph away."""
    _log.warning("the exported graph in %s is damaged: it will be made again", folder)
    shutil.rmtree(folder, ignore_errors=True)


def store_graph(key: GraphKey, make: Callable[[Path], Manifest]) -> StoredGraph | None:
    """Make a graph and keep it; where the cache cannot be written, as a :func:`temporary_graph`.

    Args:
        make: writes the graph's files into the folder that it gets, and says what is known of it.

    Returns:
        None if there is no room for it anywhere.
    """
    final = key.folder
    try:
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_ours(final.parent):
            raise PermissionError(errno.EACCES, "the folder belongs to another user")
        _sweep(final.parent)
        # Not in the system's temporary folder: a rename does not cross file systems.
        building = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=final.parent))
        try:
            manifest = _complete(building, make)
            if (other := find_graph(key)) is not None:
                return other  # another program was quicker
            building.rename(final)
            return StoredGraph(final, manifest)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        _say_once(f"cannot keep exported graphs in {final.parent}: {error.strerror or error}")
    try:
        home = tempfile.TemporaryDirectory(prefix="imagesearch-")
        graph = StoredGraph(Path(home.name), _complete(Path(home.name), make))
        _temporary[key] = graph, home
        return graph
    except OSError as error:
        _say_once(f"no room for an exported graph: {error.strerror or error}")
        return None


def _sweep(graphs: Path) -> None:
    """Remove what programs that were killed have left unfinished."""
    for folder in graphs.glob(f"{_UNFINISHED}*"):
        with contextlib.suppress(OSError):  # another program removes it, too
            if time.time() - folder.stat().st_mtime > _SECONDS_UNFINISHED:
                shutil.rmtree(folder, ignore_errors=True)


def _complete(folder: Path, make: Callable[[Path], Manifest]) -> Manifest:
    """Let the graph be made, then write what proves that it is whole."""
    manifest = make(folder)
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"manifest": dataclasses.asdict(manifest), "files": files})
    with (folder / _MANIFEST).open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return manifest


@lru_cache
def _say_once(message: str) -> None:
    _log.warning("%s", message)
