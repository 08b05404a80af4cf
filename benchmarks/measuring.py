"""What the benchmarks share: running the command line as a new process, its time and its peak of memory."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# Runs the command line; the last line of stderr is the peak of resident memory in MB. Not getrusage on Linux: its
# peak begins with that of the process that started this one.
MEASURED = """
import sys
from imagesearch.frontends.cli import app

def peak():
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)

try:
    app(sys.argv[1:])
finally:
    print(peak(), file=sys.stderr)
"""

_ABILITIES = {"avx512f": "AVX-512", "avx512_bf16": "bfloat16", "amx_bf16": "AMX"}


@dataclass(frozen=True)
class Run:
    """One run of ``imagesearch``: its stdout, seconds, and peak of resident memory in MB."""

    out: str
    seconds: float
    peak_mb: float


def run_cli(*arguments: str | os.PathLike[str]) -> Run:
    """Run ``imagesearch`` as a new process.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(os.fspath, arguments)], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"imagesearch {' '.join(map(str, arguments))}: {done.stderr}")
    return Run(done.stdout, seconds, float(done.stderr.split()[-1]))


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
        f"{title} {version(package)}"
        for title, package in {
            "PyTorch": "torch",
            "Transformers": "transformers",
            "OpenVINO": "openvino",
            "ONNX Runtime": "onnxruntime",
            "Milvus Lite": "milvus-lite",
        }.items()
    )
    return f"{os.cpu_count()} cores of {name}{able}; Python {platform.python_version()}, {libraries}"
