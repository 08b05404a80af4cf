"""What the benchmarks share: running programs as new processes, and their time, memory and files."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import sys
import tempfile
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

# Deleted when the benchmark ends.
_BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode-")

# Runs the command line; the last line of stderr is the peaks of resident memory.
MEASURED = """
import sys
try:
    from imagesearch.frontends.cli.app import app
except ImportError:  # an earlier commit, which had one module
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


def resident() -> float:
    """Resident memory of this process in MB, files that are mapped into it included; 0 if it cannot be told."""
    if sys.platform != "linux":
        return 0.0
    return _status_kilobytes("self", "VmRSS") / 1e3


def resident_of_children() -> float:
    """Resident memory of all processes that this one has started, and of theirs, in MB; 0 if it cannot be told."""
    if sys.platform != "linux":
        return 0.0
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, StopIteration):  # it has ended
                parents[int(entry)] = _status_kilobytes(entry, "PPid")
    family = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in family and child not in family}:
        family |= more
    total = 0
    for process in family - {os.getpid()}:
        with contextlib.suppress(OSError, StopIteration):  # it has ended, or is ending
            total += _status_kilobytes(str(process), "VmRSS")
    return total / 1e3


def _status_kilobytes(process: str, name: str) -> int:
    with open(f"/proc/{process}/status", encoding="utf-8", errors="replace") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{name}:"))


def size_on_disk(place: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    if place.is_file():
        return place.stat().st_size
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


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


def environment(tree: Path | None = None) -> dict[str, str]:
    """The environment of a process that imports this folder's modules, and the program of a source tree.

    Modules are compiled once per benchmark, as in an installed program, and no source tree is written to; unless
    ``$PYTHONPYCACHEPREFIX`` says where they are kept.

    Args:
        tree: of an earlier commit; default: the installed program.
    """
    folders = [str(tree / "src")] if tree else []
    folders += [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    found = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found.setdefault("PYTHONPYCACHEPREFIX", _BYTECODE.name)
    return {**found, "PYTHONPATH": os.pathsep.join(folders)}


# Where no config.yaml is found: an earlier program refuses the settings of a later one.
ELSEWHERE = tempfile.gettempdir()


def _absolute(argument: str | os.PathLike[str]) -> str:
    return argument if isinstance(argument, str) else os.path.abspath(argument)


def run_script(script: str, *arguments: str | os.PathLike[str], tree: Path | None = None) -> str:
    """Run a Python script as a new process; what it prints.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    command = [sys.executable, "-c", script, *map(_absolute, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(tree), cwd=ELSEWHERE
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def run_cli(*arguments: str | os.PathLike[str], tree: Path | None = None) -> Run:
    """Run ``imagesearch``, or that of another source tree, as a new process.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(_absolute, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=environment(tree),
        cwd=ELSEWHERE,
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
