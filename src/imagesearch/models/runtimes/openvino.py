"""Runs exported graphs in OpenVINO; the only importer of ``openvino``. For CPUs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.preprocessing import Pixels

if TYPE_CHECKING:
    import torch

_FILE = "graph.xml"
# OpenVINO's names; without a name it would choose bfloat16 by itself where the CPU multiplies it.
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


_making_it = threading.Lock()
_the_core: Any = None


def _openvino() -> Any:
    """The library, without its telemetry.

    Changes the process: ``sys.modules["openvino_telemetry"]`` becomes None unless that package was imported
    before, so that importing it fails. Otherwise each import of OpenVINO would report to its maker, without
    asking. There is no other way for one process: OpenVINO has no argument for it, the only environment variables
    are those of continuous integration, and its command ``opt_in_out`` writes into the user's home.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _core() -> Any:
    """The only one of this process, never let go of.

    Each gives its thread a stack for signals, and at its end puts back the one from before, which may be that of
    another core that is gone by then: the next signal would end the process.
    """
    global _the_core  # noqa: PLW0603 - state of the process
    with _making_it:
        if _the_core is None:
            _the_core = _openvino().Core()
        return _the_core


def convert(
    program: torch.export.ExportedProgram, folder: Path, *, outputs: Sequence[str] = (), half: bool = False
) -> None:
    """Write a program with one input as ``graph.xml`` and ``graph.bin``.

    Args:
        outputs: their names, for :class:`OpenVINORuntime`, where there are several.
        half: keep weights in float16, at half the size; otherwise in float32.
    """
    openvino = _openvino()
    model = openvino.convert_model(program)
    for output, name in zip(model.outputs, outputs, strict=False):
        output.get_tensor().set_names({name})
    openvino.save_model(model, folder / _FILE, compress_to_fp16=half)


def multiplies_bfloat16() -> bool:
    """Whether this CPU does (AMX or AVX512-BF16); others emulate it, and are slower with it."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINORuntime:
    """A graph that :func:`convert` wrote."""

    device = "cpu"

    def __init__(self, folder: Path, precision: str, output: str) -> None:
        """Compile it for this CPU.

        Args:
            folder: where the graph is.
            precision: ``"float32"`` or ``"bfloat16"``; the latter needs AMX or AVX512-BF16 to be of use.
            output: which one is wanted, where the graph has several.
        """
        # One batch at a time on all cores; batches side by side would each need their own activations.
        options = {"INFERENCE_PRECISION_HINT": _PRECISIONS[precision], "PERFORMANCE_HINT": "LATENCY"}
        core = _core()
        model = core.read_model(folder / _FILE)
        if len(model.outputs) > 1:  # what the others need besides is not computed then
            model = _openvino().Model([model.output(output)], model.get_parameters())
        self._request: Any = core.compile_model(model, "CPU", options).create_infer_request()
        self._one_at_a_time = threading.Lock()

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`Runtime.run`."""
        pixels = np.stack(batch)
        with self._one_at_a_time:
            self._request.infer([pixels], share_inputs=True)
            # A copy: the request overwrites its output with the next batch's.
            return np.array(self._request.get_output_tensor(0).data, dtype=np.float32)
