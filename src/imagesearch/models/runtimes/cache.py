"""Exported graphs, kept in the user's cache so that a network is converted once per machine.

A graph has a folder of its own with the graph's files and ``manifest.json``, written last. The folder appears by
one rename, so two programs that export at the same time do not see each other's halves. What does not match its
manifest is thrown away and made again; a cache that cannot be written is done without.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from imagesearch.models.hub import sampled

_log = logging.getLogger(__name__)

# To be raised whenever older graphs must not be used any more.
_FORMAT = 2
_MANIFEST = "manifest.json"
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
    try:
        content = json.loads((folder / _MANIFEST).read_bytes())
        manifest = Manifest(**content["manifest"])
        whole = all(_digest(folder / name) == digest for name, digest in content["files"].items())
    except (FileNotFoundError, NotADirectoryError):
        whole = not folder.exists()  # nothing was ever written, or something is missing
        manifest = None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.debug("%s: unreadable: %s", folder, error)
        whole, manifest = False, None
    if whole:
        return None if manifest is None else StoredGraph(folder, manifest)
    discard_graph(folder)
    return None


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
        final.parent.mkdir(parents=True, exist_ok=True)
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
    files = {path.name: _digest(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"manifest": dataclasses.asdict(manifest), "files": files})
    with (folder / _MANIFEST).open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _digest(file: Path) -> str:
    """Tells a truncated file or lost blocks without reading gigabytes: see :func:`hub.sampled`."""
    size, sample = sampled(file)
    return hashlib.blake2b(str(size).encode() + sample, digest_size=10).hexdigest()


@lru_cache
def _say_once(message: str) -> None:
    _log.warning("%s", message)
