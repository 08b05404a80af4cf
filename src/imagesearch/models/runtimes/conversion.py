"""Convert a network for another runtime in a process of its own.

PyTorch, the converter and the new runtime together take several hundred megabytes, which a process keeps once it
has them; and a converter that crashes takes only itself along. The process that wants the graph need not import
PyTorch at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesearch.errors import ModelError
from imagesearch.models.classifier import Classifier
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint
from imagesearch.models.network import Network, Task
from imagesearch.models.preprocessing import Preprocessor
from imagesearch.models.runtimes.base import Runtime
from imagesearch.models.runtimes.cache import Manifest
from imagesearch.models.runtimes.export import GraphRuntime, export, failed_manifest, min_cosine_by_precision
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.models.tuning import keep_freed_memory

_log = logging.getLogger(__name__)

# Networks of a gigabyte take some minutes. What takes longer is not tried again: every run would wait as long.
_SECONDS = 1800.0
# How often the other process looks whether this one is still there.
_SECONDS_PER_LOOK = 1.0

# Nothing is imported from the working directory, and this package from where the first process found it.
_PROGRAM = (
    "import sys; sys.path[:] = filter(None, sys.path); import json; order = json.load(sys.stdin);"
    " sys.path[:] = order['sys.path']; from imagesearch.models.runtimes.conversion import convert_as_ordered;"
    " convert_as_ordered(order)"
)

# Signals by which a program ends itself; by any other one, somebody ended it, which says nothing of the network.
_CRASHES = {
    6: "aborted",
    11: "segmentation fault",
    4: "illegal instruction",
    7: "bus error",
    8: "arithmetic error",
}
_KILLED = 9


@dataclass(frozen=True, slots=True)
class Opened:
    """What embedder and classifier are made of.

    Attributes:
        preprocessor, runtime: see :class:`PictureModel`.
        description: the fingerprint as JSON, or the labels.
    """

    preprocessor: Preprocessor
    runtime: Runtime
    description: Any


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint for one task: what graphs are made of.

    Attributes:
        pooling: the setting ``model.pooling``; empty for labels.
    """

    checkpoint: Checkpoint
    task: Task
    pooling: str

    def load(self, precision: str, device: str) -> Opened:
        """Load it in PyTorch.

        Raises:
            ModelError: see :func:`selection.open_embedder`.
        """
        network = Network.load(self.checkpoint, self.task, device=device, precision=precision)
        if self.task == "features":
            embedder = Embedder.of_network(network, pooling=self.pooling)
            return Opened(network.preprocessor, embedder.runtime, embedder.fingerprint.to_json())
        classifier = Classifier.of_network(network)
        return Opened(network.preprocessor, classifier.runtime, list(classifier.labels))


def convert(source: Source, precision: str, name: GraphRuntime, folder: Path) -> Manifest:
    """Make a graph in another process: see :func:`export.export`.

    Args:
        precision: the setting ``model.precision``.
        folder: where the graph's files go.

    Raises:
        OSError: the folder's disk is full, or it cannot be written to.
        ModelError: it did not come about, for a reason that may be gone the next time.
    """
    if not sys.executable or getattr(sys, "frozen", False):  # this program has no Python that it could start
        return convert_here(source, precision, name, folder)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps(_order(source, precision, name, folder)).encode(),
            capture_output=True,
            check=False,
            timeout=_SECONDS,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one if it ends itself
        )
    except subprocess.TimeoutExpired:
        return failed_manifest(folder, f"converting it took more than {_SECONDS / 60:.0f} minutes")
    return _outcome(done, source, name, folder)


def _order(source: Source, precision: str, name: GraphRuntime, folder: Path) -> dict[str, Any]:
    """What the other process reads: see :func:`convert_as_ordered`."""
    return {
        "sys.path": [entry for entry in sys.path if isinstance(entry, str)],
        "parent": os.getpid(),
        "name": name,
        "folder": str(folder),
        "precision": precision,
        "task": source.task,
        "pooling": source.pooling,
        "checkpoint": [source.checkpoint.name, str(source.checkpoint.folder), source.checkpoint.revision],
    }


def _outcome(
    done: subprocess.CompletedProcess[bytes], source: Source, name: GraphRuntime, folder: Path
) -> Manifest:
    """The answer of the other process, or what its end says of the network."""
    said = done.stderr.decode(errors="replace").strip()
    _log.debug("the conversion ended with %d\n%s", done.returncode, said)
    if (crash := _CRASHES.get(-done.returncode)) is not None:
        return failed_manifest(folder, f"the converter crashed ({crash})")
    with contextlib.suppress(ValueError):
        return _understood(json.loads(done.stdout))
    reason = f"exit status {done.returncode}"
    if done.returncode == -_KILLED:
        reason = "killed, as happens where memory runs out"
    elif said and done.returncode > 0:
        reason = said.splitlines()[-1]
    raise ModelError(f"{source.checkpoint.name} could not be converted for {name}: {reason}")


def _understood(answer: dict[str, Any]) -> Manifest:
    if "disk" in answer:
        raise OSError(*answer["disk"])
    if "error" in answer:
        raise ModelError(answer["error"])
    return Manifest(**answer)


def convert_as_ordered(order: Mapping[str, Any]) -> None:
    """What the other process does; it answers with JSON on what is its standard output at the start."""
    keep_freed_memory()  # it belongs to us, and times PyTorch as it runs in front ends
    threading.Thread(target=_end_with, args=(order["parent"],), daemon=True).start()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # converters print
    name, folder, revision = order["checkpoint"]
    source = Source(Checkpoint(name, Path(folder), revision), order["task"], order["pooling"])
    try:
        manifest = convert_here(source, order["precision"], order["name"], Path(order["folder"]))
        answer = dataclasses.asdict(manifest)
    except OSError as error:
        answer = {"disk": [error.errno, error.strerror or str(error)]}
    except ModelError as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{name} could not be converted for {order['name']}: there is not enough memory"}
    with answers:
        json.dump(answer, answers)


def _end_with(parent: int) -> None:
    """End this process soon after the one that wants its result, which may be killed at any time."""
    while sys.platform == "win32" or os.getppid() == parent:
        time.sleep(_SECONDS_PER_LOOK)
    os.kill(os.getpid(), signal.SIGTERM)


def convert_here(source: Source, precision: str, name: GraphRuntime, folder: Path) -> Manifest:
    """Like :func:`convert`, but in this process."""
    import torch

    opened = source.load(precision, "cpu")
    present = opened.runtime
    assert isinstance(present, TorchRuntime)
    exact = present
    if present.network.dtype is not torch.float32:
        in_float32 = source.load("float32", "cpu").runtime
        assert isinstance(in_float32, TorchRuntime)
        exact = in_float32
    return export(
        name, folder, present, exact, opened.description, min_cosine=min_cosine_by_precision(name, precision)
    )
