"""From a checkpoint to an :class:`Embedder` or :class:`Classifier`, in the runtime that is fastest here.

On CPUs an exported graph is often many times faster than PyTorch, and it starts without importing PyTorch and
Transformers, which takes seconds. But making one takes seconds, too, once per machine and checkpoint. So that is a
step of its own, :func:`optimize`, for those who have many images to encode (:func:`worth_optimizing`);
:func:`open_embedder` and :func:`open_classifier` take a graph if a good one is there, and PyTorch otherwise.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagesearch.errors import ModelError
from imagesearch.models.classifier import Classifier, gives_several, read_temperature
from imagesearch.models.devices import choose_device
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint, weights_bytes
from imagesearch.models.network import Task, find_preprocessor
from imagesearch.models.runtimes.base import AUTO, RuntimeOptions
from imagesearch.models.runtimes.bundled import adopt, has_bundled_graph
from imagesearch.models.runtimes.cache import (
    GraphKey,
    Manifest,
    StoredGraph,
    discard_graph,
    find_graph,
    store_graph,
    temporary_graph,
)
from imagesearch.models.runtimes.conversion import Opened, Source, convert
from imagesearch.models.runtimes.export import (
    GRAPH_RUNTIMES,
    GraphRuntime,
    is_installed,
    load_graph,
    require_installed,
    version_of,
)
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.models.text import TextEmbedder, TextTower, require_shared_space
from imagesearch.records import Fingerprint, Progress, no_progress

_log = logging.getLogger(__name__)

# See worth_optimizing.
FEWEST_IMAGES = 64
_PARAMETERS_PER_SECOND, _FREE_SECONDS = 3e6, 2.0
_TORCH_IMAGES_PER_SECOND = 16.0
# A graph takes as much disk as the checkpoint, so it should be worth it: this much faster than PyTorch, or no
# slower where a network is so quick (images per second) that starting takes most of a search's time.
_WORTH_IT = 1.15
_NO_SLOWER, _QUICK = 0.95, 20.0


def open_embedder(
    checkpoint: Checkpoint,
    options: RuntimeOptions = AUTO,
    *,
    pooling: str = "auto",
    normalize: bool = True,
) -> Embedder:
    """Load a checkpoint that makes vectors.

    A runtime that ``options`` names is used at any speed, and a graph for it is made if there is none.

    Args:
        pooling, normalize: see :meth:`Embedder.of_network`.

    Raises:
        ModelError: it cannot be loaded or pooled that way, or the runtime or device is not there.
    """
    opened = _Selection(Source(checkpoint, "features", pooling), options).open()
    fingerprint = dataclasses.replace(
        Fingerprint.from_json(opened.description),
        model=checkpoint.name,
        normalized=normalize,
        earlier_revisions=checkpoint.earlier_revisions,
    )

    def load_texts(fingerprint: Fingerprint) -> TextEmbedder:
        if isinstance(opened.runtime, TorchRuntime):
            return TextEmbedder(TextTower.of_network(opened.runtime.network), fingerprint)
        return open_text_embedder(checkpoint, fingerprint, options)

    return Embedder(opened.preprocessor, opened.runtime, fingerprint, load_texts)


def open_text_embedder(
    checkpoint: Checkpoint, fingerprint: Fingerprint, options: RuntimeOptions = AUTO
) -> TextEmbedder:
    """Load the text tower of a checkpoint and nothing else, in PyTorch.

    Args:
        fingerprint: of the vectors of images that those of texts are to be compared with.

    Raises:
        ModelError: it cannot be loaded or has no trained text tower, or the device is not there.
    """
    require_shared_space(fingerprint)
    device = "cpu" if options.runtime in GRAPH_RUNTIMES else options.device
    return TextEmbedder(TextTower.load(checkpoint, device=device, precision=options.precision), fingerprint)


def open_classifier(checkpoint: Checkpoint, options: RuntimeOptions = AUTO) -> Classifier:
    """Load a checkpoint that labels images; see :func:`open_embedder`.

    Raises:
        ModelError: it cannot be loaded or has no trained head, its calibration is no number, or the runtime or
            device is not there.
    """
    temperature, several = read_temperature(checkpoint), gives_several(checkpoint)
    opened = _Selection(Source(checkpoint, "labels", ""), options).open()
    return Classifier(opened.preprocessor, opened.runtime, opened.description, temperature, several)


def optimize(
    checkpoint: Checkpoint,
    task: Task,
    options: RuntimeOptions = AUTO,
    *,
    pooling: str = "auto",
    progress: Progress = no_progress,
) -> bool:
    """Make the graphs that are missing for the runtimes installed here, check and time them, and keep them.

    In a process of its own, which takes several times the memory of the weights; so call it before other work that
    needs much. What was made before, or was found to be impossible, is not tried again.

    Args:
        task: ``"features"`` or ``"labels"``.
        pooling: the setting ``model.pooling``; of no account for labels.
        progress: told of the stage ``"optimize"`` for every runtime that is tried; not called if none has to be.

    Returns:
        Whether there is a graph now that is better than PyTorch.

    Raises:
        ModelError: a runtime or device was named that is not there, or a graph did not come about for a reason
            that may be gone the next time, such as too little memory.
    """
    return _Selection(Source(checkpoint, task, pooling if task == "features" else ""), options).optimize(progress)


def worth_optimizing(checkpoint: Checkpoint, images: int) -> bool:
    """Whether encoding this many images is reason enough to :func:`optimize` first.

    A job must not take much longer than it would without, so the conversion should take no longer than PyTorch
    would need for the images. Conversions took a second for every 3 million parameters, measured on two cores; two
    seconds are free, as every later start is quicker by more. How long PyTorch takes is not known before it runs:
    16 images per second is what ViT-B/16 reached in bfloat16 on those cores. Smaller networks are quicker, but
    converted in the free seconds; larger ones are slower, so for them the rule decides late rather than early.
    Never for fewer than 64 images: a single search should not pay for it.

    The number of parameters comes from the size of the weights' files.
    """
    seconds = _estimate_parameters(checkpoint) / _PARAMETERS_PER_SECOND - _FREE_SECONDS
    return images >= max(FEWEST_IMAGES, seconds * _TORCH_IMAGES_PER_SECOND)


def _estimate_parameters(checkpoint: Checkpoint) -> float:
    try:
        config = json.loads((checkpoint.folder / "config.json").read_bytes())
        in_half = str(config.get("dtype", config.get("torch_dtype"))).endswith("float16")
        return weights_bytes(checkpoint) / (2 if in_half else 4)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{checkpoint.name}: cannot read its settings: {error}") from error


@dataclass(frozen=True, slots=True)
class _Selection:
    """One checkpoint for one task, on its way to a runtime."""

    source: Source
    options: RuntimeOptions

    def open(self) -> Opened:
        """The first graph that is better than PyTorch, else PyTorch."""
        device, names = self._candidates()
        if (opened := self._open_graph(names)) is not None:
            return opened
        if self.options.runtime not in GRAPH_RUNTIMES:
            return self.source.load(self.options.precision, device)
        self.optimize(no_progress)
        if (opened := self._open_graph(names)) is None:
            raise ModelError(self._refusal(names))
        return opened

    def optimize(self, progress: Progress) -> bool:
        """See :func:`optimize`.

        Stops at the first graph that is better than PyTorch, not at the best of all: of those that were measured,
        OpenVINO, the first, was never more than 10 % behind ONNX Runtime and up to five times ahead, and each
        conversion takes some seconds.
        """
        names = self._candidates()[1]
        made = 0
        for done, name in enumerate(names):
            graph = self._find(name)
            if graph is None:
                progress("optimize", done, len(names))
                graph = self._make(name)
                made += 1
            if graph is not None and self._is_better(name, graph.manifest):
                break
        else:
            graph = None
        if made:
            progress("optimize", len(names), len(names))
        return graph is not None

    def _find(self, name: GraphRuntime) -> StoredGraph | None:
        """One that was kept, or that comes with the program; None if it would have to be converted."""
        key, precision = self._key(name), self.options.precision
        graph = find_graph(key) or temporary_graph(key)
        if graph is None and has_bundled_graph(self.source, name):
            return store_graph(key, lambda folder: adopt(self.source, precision, folder))
        return graph

    def _make(self, name: GraphRuntime) -> StoredGraph | None:
        _log.info("converting %s for %s, once on this machine", self.source.checkpoint.name, name)
        key, precision = self._key(name), self.options.precision
        return store_graph(key, lambda folder: convert(self.source, precision, name, folder))

    def _graphs(self, names: Sequence[GraphRuntime]) -> Iterator[tuple[GraphRuntime, StoredGraph]]:
        """Those that were made, failed ones included, up to the first that was not."""
        for name in names:
            if (graph := self._find(name)) is None:
                return
            yield name, graph

    def _open_graph(self, names: Sequence[GraphRuntime]) -> Opened | None:
        """The graph that :meth:`optimize` chose, loaded; None if there is none, or it is damaged."""
        for name, graph in self._graphs(names):
            if self._is_better(name, graph.manifest):
                return self._load(name, graph)
        return None

    def _is_better(self, name: GraphRuntime, manifest: Manifest) -> bool:
        return _is_better(manifest, asked_for=self.options.runtime == name)

    def _candidates(self) -> tuple[str, list[GraphRuntime]]:
        """The device, and the runtimes besides PyTorch that come into question on it.

        Raises:
            ModelError: a runtime was named that is not installed or cannot do what other settings ask for.
        """
        wanted, options = self.options.runtime, self.options
        for name in GRAPH_RUNTIMES:
            if wanted == name:
                require_installed(name)
                if options.device not in ("auto", "cpu"):
                    raise ModelError(
                        f"model.runtime = {name!r} runs on CPUs only, not on model.device = {options.device!r}"
                    )
                if options.precision not in _precisions(name):
                    raise ModelError(
                        f"model.runtime = {name!r} does not compute in model.precision = {options.precision!r}"
                        f" (allowed: {', '.join(_precisions(name))})"
                    )
                return "cpu", [name]
        device = choose_device(options.device)
        if wanted == "torch" or device != "cpu":
            return device, []
        able = [name for name in GRAPH_RUNTIMES if options.precision in _precisions(name)]
        return device, [name for name in able if is_installed(name)]

    def _key(self, name: GraphRuntime) -> GraphKey:
        return GraphKey(
            revision=self.source.checkpoint.revision,
            task=self.source.task,
            pooling=self.source.pooling,
            precision=self.options.precision,
            runtime=version_of(name),
            exporter=importlib.metadata.version("torch"),
        )

    def _load(self, name: GraphRuntime, graph: StoredGraph) -> Opened | None:
        try:
            runtime = load_graph(name, graph.folder, graph.manifest.precision, self.source.task)
        except Exception as error:  # noqa: BLE001 - whatever the library finds wrong with it, it can be made again
            _log.debug("%s: cannot be loaded: %s", graph.folder, error)
            discard_graph(graph.folder)
            return None
        return Opened(find_preprocessor(self.source.checkpoint), runtime, graph.manifest.description)

    def _refusal(self, names: Sequence[GraphRuntime]) -> str:
        graph = self._find(names[0])
        problem = graph.manifest.problem if graph else "there is no room for its graph"
        return (
            f"model.runtime = {names[0]!r} cannot run {self.source.checkpoint.name}: {problem};"
            " leave model.runtime at auto, or set it to torch"
        )


def _precisions(name: GraphRuntime) -> tuple[str, ...]:
    """The settings of ``model.precision`` that a runtime supports."""
    return ("auto", "float32", "bfloat16") if name == "openvino" else ("auto", "float32")


def _is_better(manifest: Manifest, *, asked_for: bool) -> bool:
    """Whether to use a graph rather than PyTorch; one that was asked for by name is used at any speed."""
    if manifest.problem:
        return False
    needed = _NO_SLOWER if manifest.torch_speed >= _QUICK else _WORTH_IT
    return asked_for or manifest.speed >= needed * manifest.torch_speed
