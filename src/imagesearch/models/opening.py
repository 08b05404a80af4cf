"""From a checkpoint to an :class:`Embedder` or :class:`Classifier`, in the runtime that is fastest here.

On CPUs an exported graph is often many times faster than PyTorch, and it starts without importing PyTorch and
Transformers, which takes seconds. But it takes seconds to make, too. So PyTorch begins, and after some pictures
(:data:`EXPORT_AFTER`) the graphs of the installed runtimes are made, once a machine and checkpoint: a single
search never pays for them, indexing a folder does, and every later search is quicker.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.images.files import LARGE_PICTURES
from imagesearch.images.pipeline import SECONDS_A_PICTURE
from imagesearch.models.classifier import Classifier
from imagesearch.models.converting import Loaded, Source, convert
from imagesearch.models.devices import choose_device
from imagesearch.models.embedder import Embedder
from imagesearch.models.exporting import (
    GRAPH_RUNTIMES,
    GraphRuntime,
    is_installed,
    require_installed,
    start,
    version_of,
)
from imagesearch.models.graphs import GraphKey, Manifest, StoredGraph, discard_graph, find_graph, store_graph
from imagesearch.models.hub import Checkpoint
from imagesearch.models.loading import find_preparer
from imagesearch.models.preparing import Pixels
from imagesearch.models.quickening import release_memory
from imagesearch.models.runtime import Runtime, TorchRuntime
from imagesearch.records import Fingerprint

_log = logging.getLogger(__name__)

# Pictures that PyTorch runs before graphs are made, and for a large network also the seconds it computes: about
# those that making a graph takes, so that no job takes much longer than it would without. Two seconds are free, as
# every later start is quicker by more.
EXPORT_AFTER = 64
_PARAMETERS_A_SECOND, _FREE_SECONDS = 3e6, 2.0
# A graph takes as much disk as the checkpoint, so it should be worth it: this much faster than PyTorch, or no
# slower where a network is so quick (pictures per second) that starting takes most of a search's time.
_WORTH_IT = 1.15
_NO_SLOWER, _QUICK = 0.95, 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """The settings ``model.device``, ``model.precision`` and ``model.runtime``."""

    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"


def open_embedder(
    checkpoint: Checkpoint, running: Running = Running(), *, pooling: str = "auto", normalize: bool = True
) -> Embedder:
    """Load a checkpoint that makes vectors.

    Args:
        pooling, normalize: see :meth:`Embedder.of_network`.

    Raises:
        ModelError: it cannot be loaded or pooled that way, or the runtime or device is not there.
    """
    loaded = _Opening(Source(checkpoint, "features", pooling), running).open()
    fingerprint = dataclasses.replace(
        Fingerprint.from_json(loaded.description), model=checkpoint.name, normalized=normalize
    )
    return Embedder(loaded.preparer, loaded.runtime, fingerprint)


def open_classifier(checkpoint: Checkpoint, running: Running = Running()) -> Classifier:
    """Load a checkpoint that labels pictures.

    Raises:
        ModelError: it cannot be loaded or has no trained head, or the runtime or device is not there.
    """
    loaded = _Opening(Source(checkpoint, "labels", ""), running).open()
    return Classifier(loaded.preparer, loaded.runtime, loaded.description)


@dataclass(frozen=True, slots=True)
class _Opening:
    """One checkpoint for one task, on its way to a runtime."""

    source: Source
    running: Running

    def open(self) -> Loaded:
        """A cached graph if there is a good one, else PyTorch, which may become a graph later."""
        device, names = self._candidates()
        if (loaded := self._from_graph(lambda key, _: find_graph(key))) is not None:
            return loaded
        if self.running.runtime in GRAPH_RUNTIMES:
            if (loaded := self._convert()) is None:
                raise ModelError(self._refusal(names))
            return loaded
        loaded = self.source.load(self.running.precision, device)
        if all(find_graph(self._key(name)) for name in names):  # all were made, and PyTorch is the fastest
            return loaded
        assert isinstance(loaded.runtime, TorchRuntime)
        parameters = sum(tensor.numel() for tensor in loaded.runtime.network.model.parameters())
        patience = parameters / _PARAMETERS_A_SECOND - _FREE_SECONDS
        return dataclasses.replace(loaded, runtime=_Upgrading(loaded.runtime, self._convert, patience))

    def _candidates(self) -> tuple[str, list[GraphRuntime]]:
        """The device, and the runtimes besides PyTorch that come into question on it.

        Raises:
            ModelError: a runtime was named that is not installed or cannot do what other settings ask for.
        """
        wanted, running = self.running.runtime, self.running
        for name in GRAPH_RUNTIMES:
            if wanted == name:
                require_installed(name)
                if running.device not in ("auto", "cpu"):
                    raise ModelError(
                        f"model.runtime = {name!r} runs on CPUs only, not on model.device = {running.device!r}"
                    )
                if running.precision not in _precisions(name):
                    raise ModelError(
                        f"model.runtime = {name!r} does not compute in model.precision = {running.precision!r}"
                        f" (allowed: {', '.join(_precisions(name))})"
                    )
                return "cpu", [name]
        device = choose_device(running.device)
        if wanted == "torch" or device != "cpu":
            return device, []
        able = [name for name in GRAPH_RUNTIMES if running.precision in _precisions(name)]
        return device, [name for name in able if is_installed(name)]

    def _key(self, name: GraphRuntime) -> GraphKey:
        return GraphKey(
            revision=self.source.checkpoint.revision,
            task=self.source.task,
            pooling=self.source.pooling,
            precision=self.running.precision,
            runtime=version_of(name),
            exporter=importlib.metadata.version("torch"),
        )

    def _convert(self) -> Loaded | None:
        """Like :meth:`_from_graph`, and make what is missing."""

        def find_or_make(key: GraphKey, name: GraphRuntime) -> StoredGraph | None:
            if (graph := find_graph(key)) is not None:
                return graph
            _log.info("converting %s for %s, once on this machine", self.source.checkpoint.name, name)
            return store_graph(key, lambda folder: convert(self.source, self.running.precision, name, folder))

        return self._from_graph(find_or_make)

    def _from_graph(self, find: Callable[[GraphKey, GraphRuntime], StoredGraph | None]) -> Loaded | None:
        """The first graph that is better than PyTorch, loaded; None if there is none, or it is damaged.

        Not the best of all: of those that were measured, OpenVINO, the first, was never more than 10 % behind ONNX
        Runtime and up to five times ahead, and each conversion takes some seconds.
        """
        for name in self._candidates()[1]:
            graph = find(self._key(name), name)
            if graph is None:
                return None
            if _is_better(graph.manifest, asked_for=self.running.runtime == name):
                return self._start(name, graph)
        return None

    def _start(self, name: GraphRuntime, graph: StoredGraph) -> Loaded | None:
        try:
            runtime = start(name, graph.folder, graph.manifest.precision)
        except Exception as error:  # noqa: BLE001 - whatever the library finds wrong with it, it can be made anew
            _log.debug("%s: cannot be loaded: %s", graph.folder, error)
            discard_graph(graph.folder)
            return None
        return Loaded(find_preparer(self.source.checkpoint), runtime, graph.manifest.description)

    def _refusal(self, names: Sequence[GraphRuntime]) -> str:
        graph = find_graph(self._key(names[0]))
        problem = graph.manifest.problem if graph else "there is no room for its graph"
        return (
            f"model.runtime = {names[0]!r} cannot run {self.source.checkpoint.name}: {problem};"
            " leave model.runtime at auto, or set it to torch"
        )


def _precisions(name: GraphRuntime) -> tuple[str, ...]:
    """The settings of ``model.precision`` that a runtime can fulfil."""
    return ("auto", "float32", "bfloat16") if name == "openvino" else ("auto", "float32")


def _is_better(manifest: Manifest, *, asked_for: bool) -> bool:
    """Whether to use a graph rather than PyTorch; one that was asked for by name is used at any speed."""
    if manifest.problem:
        return False
    needed = _NO_SLOWER if manifest.torch_speed >= _QUICK else _WORTH_IT
    return asked_for or manifest.speed >= needed * manifest.torch_speed


def _better(improve: Callable[[], Loaded | None]) -> Runtime | None:
    """What a conversion gives, if anything. It takes as much memory as a large picture, so it waits for its turn.

    Not for ever, though: the thread that would give up a decoder that hangs is this one.
    """
    with LARGE_PICTURES.passing(patience=SECONDS_A_PICTURE):
        try:
            better = improve()
        except ModelError as error:
            _log.warning("%s; PyTorch goes on", error)
            return None
    return None if better is None else better.runtime


class _Upgrading:
    """PyTorch at first, and what ``improve`` gives, if anything, once enough pictures have come.

    Enough are :data:`EXPORT_AFTER`, and as many as keep PyTorch busy for ``patience`` seconds.
    """

    def __init__(self, runtime: Runtime, improve: Callable[[], Loaded | None], patience: float) -> None:
        self._runtime = runtime
        self._improve: Callable[[], Loaded | None] | None = improve
        self._patience = patience
        self._pictures, self._seconds = 0, 0.0
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        """See :attr:`Runtime.device`."""
        return self._runtime.device

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`Runtime.run`."""
        with self._lock:
            enough = self._pictures >= EXPORT_AFTER and self._seconds >= self._patience
            if self._improve is not None and enough:
                improve, self._improve = self._improve, None
                self._runtime = _better(improve) or self._runtime
                release_memory()
            runtime = self._runtime
        started = time.monotonic()
        outputs = runtime.run(batch)
        with self._lock:
            self._pictures += len(batch)
            self._seconds += time.monotonic() - started
        return outputs
