"""From a network in PyTorch to a graph for another runtime, and what that graph is worth.

The graph is the whole way from uint8 pixels to vectors or logits: normalisation, network and pooling. It is used
only if it gives the same results as PyTorch in float32.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError
from imagesearch.models.classifier import probabilities
from imagesearch.models.hub import first_line
from imagesearch.models.network import Task
from imagesearch.models.preprocessing import Pixels, Preprocessor
from imagesearch.models.runtimes import onnx, openvino
from imagesearch.models.runtimes.base import Runtime
from imagesearch.models.runtimes.cache import Manifest
from imagesearch.models.runtimes.torch import TorchRuntime

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)

GraphRuntime = Literal["openvino", "onnx"]
# Runtime -> packages of the extra of that name; the first one runs the graph, the others only help to make it.
_PACKAGES: dict[GraphRuntime, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnx": ("onnxruntime", "onnx", "onnxscript"),
}
GRAPH_RUNTIMES = tuple(_PACKAGES)

# The bounds to which every shortcut is held; see also the tests on photographs.
_COSINE = 0.999
_PROBABILITY = 0.01
# Where nobody asked for bfloat16: rounding may show more in other pictures than in those of the check.
_COSINE_BFLOAT16 = 0.9995
# Pictures to check and to time a graph with, and how long timing may take at most, in seconds.
_TRIAL_PICTURES = 8
_TRIAL_SECONDS = 2.0
_TRIAL_ROUNDS = (3, 20)


def is_installed(name: GraphRuntime) -> bool:
    """Whether graphs can be made for this runtime and run in it."""
    return all(importlib.util.find_spec(package) is not None for package in _PACKAGES[name])


def version_of(name: GraphRuntime) -> str:
    """Name and version of the library that runs graphs."""
    package = _PACKAGES[name][0]
    return f"{package} {importlib.metadata.version(package)}"


def load_graph(name: GraphRuntime, folder: Path, precision: str, task: Task) -> Runtime:
    """Load a graph; any error of the library comes through.

    Args:
        precision: ``"float32"`` or ``"bfloat16"``.
        task: what it is to be used for, if it was made for several.
    """
    if name == "openvino":
        return openvino.OpenVINORuntime(folder, precision, task)
    return onnx.ONNXRuntime(folder, precision)


def min_cosine_by_precision(name: GraphRuntime, precision: str) -> dict[str, float]:
    """Precisions to try in a runtime, in order, and the smallest cosine to PyTorch in float32 to accept in each.

    bfloat16 is tried for every network: unlike PyTorch, which must guess which networks tolerate it, a graph is
    compared before it is used.

    Args:
        precision: the setting ``model.precision``.
    """
    wanted = precision == "bfloat16" or (precision == "auto" and name == "openvino")
    if name != "openvino" or not wanted or (precision == "auto" and not openvino.multiplies_bfloat16()):
        return {"float32": _COSINE}
    return {"bfloat16": _COSINE if precision == "bfloat16" else _COSINE_BFLOAT16, "float32": _COSINE}


def export(
    name: GraphRuntime,
    folder: Path,
    present: TorchRuntime,
    exact: TorchRuntime,
    description: Any,
    *,
    min_cosine: Mapping[str, float],
) -> Manifest:
    """Write a graph, compare it with PyTorch and time both.

    Args:
        folder: where the graph's files go; left empty if the graph is not to be used.
        present: what runs the network now.
        exact: the same in float32.
        description: for the manifest.
        min_cosine: see :func:`min_cosine_by_precision`; the first precision that is faithful is taken.
    """
    network = exact.network
    pictures = trial_pictures(network.preprocessor, _TRIAL_PICTURES)
    try:
        _convert(name, folder, exact)
        precision, graph = first_faithful(
            name, folder, network.task, pictures, exact.run(pictures), min_cosine=min_cosine
        )
        speed, torch_speed = _speeds([graph, present], pictures)
        return Manifest(description, precision, speed, torch_speed)
    except (OSError, MemoryError):
        raise  # not the graph's fault: the next attempt may succeed
    except Exception as error:  # noqa: BLE001 - converters fail in many ways; PyTorch still runs the network
        problem = first_line(error)
        _log.debug("%s: no graph for %s", network.checkpoint.name, name, exc_info=True)
    return failed_manifest(folder, problem)


def first_faithful(
    name: GraphRuntime,
    folder: Path,
    task: Task,
    pictures: Sequence[Pixels],
    reference: NDArray[np.float32],
    *,
    min_cosine: Mapping[str, float],
) -> tuple[str, Runtime]:
    """The first precision in which a graph gives the same results, and the graph in it.

    Args:
        pictures: what to try it with.
        reference: what should come out, shape (n, outputs).
        min_cosine: see :func:`min_cosine_by_precision`.

    Raises:
        ModelError: none does; says what differs.
    """
    problem = "no precision was tried"
    for precision, cosine in min_cosine.items():
        graph = load_graph(name, folder, precision, task)
        problem = difference(graph.run(pictures), reference, cosine, labels=task == "labels") or ""
        if not problem:
            return precision, graph
        _log.debug("%s in %s: %s", name, precision, problem)
    raise ModelError(problem)


def failed_manifest(folder: Path, problem: str) -> Manifest:
    """The manifest of a network that cannot be converted; empties the folder."""
    for file in folder.iterdir():
        file.unlink()
    return Manifest(None, "float32", 0.0, 0.0, problem)


def _convert(name: GraphRuntime, folder: Path, exact: TorchRuntime) -> None:
    convert = openvino.convert if name == "openvino" else onnx.convert
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's own code about itself
        convert(_program(exact), folder)


def _program(runtime: TorchRuntime) -> torch.export.ExportedProgram:
    """The network from preprocessed pixels to outputs, for any number of images, without running it."""
    import torch

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = runtime.network.model  # its weights become the program's

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return runtime.compute(runtime.network.normalise(pixels))

    # Two pictures: PyTorch takes sizes of 0 and 1 for constants.
    example = torch.from_numpy(np.stack([runtime.network.blank] * 2))
    count = torch.export.Dim("pictures", min=1, max=2**16)
    with torch.no_grad():
        return torch.export.export(Whole(), (example,), dynamic_shapes=({0: count},), strict=False)


def trial_pictures(preprocessor: Preprocessor, number: int) -> list[Pixels]:
    """Preprocessed pictures with shapes and colours of all sizes, always the same ones."""
    from PIL import Image

    random = np.random.default_rng(0)
    height, width = preprocessor.input_size
    pictures = []
    for _ in range(number):
        layers = [
            Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
            for cells in (3, 8, 32)
        ]
        pictures.append(Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.2))
    return [preprocessor.preprocess(picture) for picture in pictures]


def difference(
    outputs: NDArray[np.float32], reference: NDArray[np.float32], least: float = _COSINE, *, labels: bool
) -> str | None:
    """What makes outputs unfaithful to the reference, None if they are not.

    Args:
        outputs, reference: shape (n, outputs).
        least: the smallest cosine that is faithful.
        labels: whether they are logits: then probabilities count, and which one is the largest.
    """
    lengths = np.linalg.norm(outputs, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = float(((outputs * reference).sum(axis=1) / np.maximum(lengths, np.float32(1e-12))).min())
    if not cosine >= least:  # so that NaN is unfaithful
        return f"its results differ from PyTorch's (cosine {cosine:.5f})"
    if labels:
        one, other = probabilities(outputs), probabilities(reference)
        apart = float(np.abs(one - other).max())
        # Where the largest two are within the bound of each other, either may come first.
        chosen = np.take_along_axis(other, one.argmax(axis=1, keepdims=True), axis=1)
        behind = float((other.max(axis=1, keepdims=True) - chosen).max())
        if max(apart, behind) > _PROBABILITY:
            return f"its probabilities differ from PyTorch's by {max(apart, behind):.3f}"
    return None


def _speeds(runtimes: Sequence[Runtime], pictures: Sequence[Pixels]) -> list[float]:
    """Pictures per second of each, at its best; in turns, so that other programs disturb all alike."""
    best = [float("inf")] * len(runtimes)
    least, most = _TRIAL_ROUNDS
    deadline = time.monotonic() + _TRIAL_SECONDS
    for turn in range(most):
        if turn >= least and time.monotonic() > deadline:
            break
        for number, runtime in enumerate(runtimes):
            best[number] = min(best[number], _seconds(lambda runtime=runtime: runtime.run(pictures)))  # type: ignore[misc]
    return [len(pictures) / seconds for seconds in best]


def _seconds(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def require_installed(name: GraphRuntime) -> None:
    """Check that a runtime that was asked for by name is there.

    Raises:
        ModelError: it is not installed; says how to.
    """
    if not is_installed(name):
        raise ModelError(
            f"model.runtime = {name!r}, but it is not installed: pip install {' '.join(_PACKAGES[name])}"
            " (or leave model.runtime at auto)"
        )
