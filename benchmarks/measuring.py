"""What the benchmarks share: running the command line as a new process, its time and its peak of memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_ABILITIES = {"avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}
_LIBRARIES = {
    "PyTorch": "torch",
    "Transformers": "transformers",
    "OpenVINO": "openvino",
    "ONNX Runtime": "onnxruntime",
    "Milvus Lite": "milvus_lite",
}

# Runs the command line; the last line of stderr is the peaks of resident memory.
MEASURED = """
import sys
from imagesearch.frontends.cli import app
from measuring import peaks
try:
    app(sys.argv[1:])
finally:
    print(*peaks(), file=sys.stderr)
"""


def peaks() -> tuple[float, float]:
    """The peaks of resident memory so far, in MB: this process's, and the largest of those that it started.

    Not getrusage on Linux for the former: that begins with the peak of the process that started this one.
    """
    import resource

    unit = 1e6 if sys.platform == "darwin" else 1e3
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, children
    with open("/proc/self/status", encoding="ascii") as status:
        own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    return own, children


@dataclass(frozen=True)
class Run:
    """One run of ``imagesearch``: its stdout, seconds, and peak of resident memory in MB.

    Attributes:
        child_mb: the same of the largest process that it started: a conversion of the model, or none.
    """

    out: str
    seconds: float
    peak_mb: float
    child_mb: float


def run_cli(*arguments: str | os.PathLike[str]) -> Run:
    """Run ``imagesearch`` as a new process.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(os.fspath, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"imagesearch {' '.join(map(str, arguments))}: {done.stderr}")
    own, child = map(float, done.stderr.split()[-2:])
    return Run(done.stdout, seconds, own, child)


def machine() -> str:
    """Processor, cores and the libraries that do the work, in a line."""
    name = platform.processor() or platform.machine()
    abilities: list[str] = []
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
        flags = next((line.split() for line in lines if line.startswith("flags")), [])
        abilities = [title for flag, title in _ABILITIES.items() if flag in flags]
    able = f" with {', '.join(abilities)}" if abilities else ""
    libraries = ", ".join(
        f"{title} {version(package)}" for title, package in _LIBRARIES.items() if find_spec(package)
    )
    return f"{os.cpu_count()} cores of {name}{able}; Python {platform.python_version()}, {libraries}"
