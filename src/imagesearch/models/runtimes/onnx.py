"""Runs exported graphs in ONNX Runtime; the only importer of ``onnxruntime``. For CPUs, in float32."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.models.preprocessing import Pixels

if TYPE_CHECKING:
    import torch

_FILE = "graph.onnx"
# ONNX Runtime's number for "errors only": its remarks on constants that it cannot fold are of no use to a user.
_ERRORS_ONLY = 3


def convert(program: torch.export.ExportedProgram, folder: Path) -> None:
    """Write a program with one input and one output as ``graph.onnx``; needs the packages onnx and onnxscript."""
    import torch

    with _quiet():
        converted = torch.onnx.export(program, dynamo=True, optimize=True, verbose=False)
    assert converted is not None  # it is None only where a file name was given
    converted.save(folder / _FILE)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks that torchvision's operators are not there."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


class ONNXRuntime:
    """A graph that :func:`convert` wrote."""

    device = "cpu"

    def __init__(self, folder: Path, precision: str) -> None:
        """Load it.

        Args:
            folder: where the graph is.
            precision: ``"float32"``; ONNX Runtime has few bfloat16 kernels for CPUs.
        """
        import onnxruntime

        assert precision == "float32", precision
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        # Waiting threads that spin would take the cores from those that decode pictures.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            str(folder / _FILE), options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
        """See :meth:`Runtime.run`."""
        outputs: NDArray[np.float32] = self._session.run(None, {self._input: np.stack(batch)})[0]
        return outputs
