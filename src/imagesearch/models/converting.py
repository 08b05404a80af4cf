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
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesearch.models.classifier import Classifier
from imagesearch.models.devices import choose_precision
from imagesearch.models.embedder import Embedder
from imagesearch.models.exporting import GraphRuntime, export
from imagesearch.models.graphs import Manifest
from imagesearch.models.hub import Checkpoint
from imagesearch.models.loading import Network, Task
from imagesearch.models.preparing import Preparer
from imagesearch.models.runtime import Runtime, TorchRuntime

_log = logging.getLogger(__name__)

# Networks of a gigabyte take some minutes.
_SECONDS = 1800.0

# It finds this package where the first process found it.
_PROGRAM = (
    "import json, sys; order = json.load(sys.stdin); sys.path[:] = order.pop('sys.path');"
    " from imagesearch.models.converting import fulfil; fulfil(order)"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What embedder and classifier have in common; the description is the fingerprint as JSON, or the labels."""

    preparer: Preparer
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

    def load(self, precision: str, device: str) -> Loaded:
        """Load it in PyTorch.

        Raises:
            ModelError: see :func:`opening.open_embedder`.
        """
        network = Network(self.checkpoint, self.task, device=device, precision=precision)
        if self.task == "features":
            embedder = Embedder.of_network(network, pooling=self.pooling)
            return Loaded(network.preparer, embedder.runtime, embedder.fingerprint.to_json())
        classifier = Classifier.of_network(network)
        return Loaded(network.preparer, classifier.runtime, list(classifier.labels))


def convert(source: Source, precision: str, name: GraphRuntime, folder: Path) -> Manifest:
    """Make a graph in another process: see :func:`exporting.export`.

    Args:
        precision: the setting ``model.precision``.
        folder: where the graph's files go.

    Raises:
        OSError: there was no room on the disk or in memory: the next attempt may succeed.
    """
    order = {
        "sys.path": sys.path,
        "name": name,
        "folder": str(folder),
        "precision": precision,
        "task": source.task,
        "pooling": source.pooling,
        "checkpoint": [source.checkpoint.name, str(source.checkpoint.folder), source.checkpoint.revision],
    }
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            input=json.dumps(order).encode(),
            capture_output=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return _useless(folder, f"converting it took more than {_SECONDS / 60:.0f} minutes")
    said = done.stderr.decode(errors="replace").strip()
    _log.debug("the conversion ended with %d\n%s", done.returncode, said)
    with contextlib.suppress(ValueError):
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise OSError(answer["error"])
        return Manifest(**answer)
    if done.returncode == -signal.SIGKILL:
        raise OSError("the conversion was killed, as happens where memory runs out")
    reason = said.splitlines()[-1] if said else f"exit status {done.returncode}"
    return _useless(folder, f"the conversion failed: {reason}")


def _useless(folder: Path, problem: str) -> Manifest:
    for file in folder.iterdir():
        file.unlink()
    return Manifest(None, "float32", 0.0, 0.0, problem)


def fulfil(order: Mapping[str, Any]) -> None:
    """What the other process does; it answers on what is its standard output at the start."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # converters print
    name, folder, revision = order["checkpoint"]
    source = Source(Checkpoint(name, Path(folder), revision), order["task"], order["pooling"])
    try:
        manifest = convert_here(source, order["precision"], order["name"], Path(order["folder"]))
        answer = dataclasses.asdict(manifest)
    except (OSError, MemoryError) as error:
        answer = {"error": str(error) or type(error).__name__}
    with answers:
        json.dump(answer, answers)


def convert_here(source: Source, precision: str, name: GraphRuntime, folder: Path) -> Manifest:
    """Like :func:`convert`, but in this process."""
    import torch

    loaded = source.load(precision, "cpu")
    present = loaded.runtime
    assert isinstance(present, TorchRuntime)
    exact = present
    if present.network.dtype is not torch.float32:
        in_float32 = source.load("float32", "cpu").runtime
        assert isinstance(in_float32, TorchRuntime)
        exact = in_float32
    # Wider than what PyTorch itself computes in: whether a network suits it, the graph's check finds out.
    bfloat16 = choose_precision(precision, "cpu") is torch.bfloat16
    return export(name, folder, present, exact, loaded.description, bfloat16=bfloat16)
