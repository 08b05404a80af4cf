"""A warm Python process that runs functions in forked children: a fault costs milliseconds, not a start of Python.

    LD_PRELOAD=shim.so python -m tests.faults.server MODULE ...

imports the modules, then reads requests from stdin, a line of JSON each, and answers each with a line on stdout.
What a child had to import is imported here afterwards, so that the next one need not. The children share nothing
but the shim's counters, which outlive them. Importing must not open a database or run OpenMP: neither survives a
fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from .shim import Call, Shim

_REPOSITORY = Path(__file__).resolve().parents[2]

# Longest report of what a child wrote on stderr.
_LONGEST_TEXT = 20_000

_NOTHING: dict[str, Any] = {"result": None, "trace": "", "raised": [], "imported": []}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a child.

    Attributes:
        result: what the function returned, as JSON has it; None if it did not return.
        trace: the traceback of an exception that it raised.
        raised: the names of that exception's class and of those that it is derived from.
        killed: the signal that ended it, or 0.
        timed_out: whether it had to be killed because it took too long.
        stderr: what it wrote there.
        count: calls that the shim counted.
        call: the call that was asked for, if there was one of this number.
        calls: all of them, if they were asked for.
    """

    result: Any
    trace: str
    raised: list[str]
    killed: int
    timed_out: bool
    stderr: str
    count: int
    call: Call | None
    calls: list[Call]


class ForkServer:
    """Such a process; a context manager, for one thread at a time.

    Args:
        shim: what to load into it, compiled.
        modules: imported before the first fork.
    """

    def __init__(self, shim: Path, modules: Sequence[str]) -> None:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("IMAGESEARCH_")},
            "LD_PRELOAD": str(shim),
            "PYTHONPATH": os.pathsep.join([str(_REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
            # Threads do not survive a fork.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self, function: str, *arguments: Any, first: int = 0, log: bool = False, seconds: float = 60.0
    ) -> Answer:
        """Run a function in a child of its own.

        Args:
            function: such as ``"tests.faults.writers:plain"``.
            arguments: what JSON can hold.
            first: number of the call that :attr:`Answer.call` tells.
            log: whether :attr:`Answer.calls` tells all of them.
            seconds: after which it is killed.

        Raises:
            RuntimeError: the server itself has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"function": function, "arguments": arguments, "first": first, "log": log, "seconds": seconds}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fork server has ended with exit code {self._process.wait()}")
        fields = json.loads(line)
        call, calls = fields.pop("call"), fields.pop("calls")
        return Answer(**fields, call=Call(**call) if call else None, calls=[Call(**call) for call in calls])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- within the process ---


def serve(requests: IO[str], answers: IO[str], shim: Shim) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        with tempfile.TemporaryFile() as errors:
            fields = _run(request, errors.fileno())
            _import_too(fields.pop("imported"))
            errors.seek(0)
            fields["stderr"] = errors.read(_LONGEST_TEXT).decode(errors="replace")
        call = shim.call(request["first"]) if request["first"] else None
        calls = shim.calls() if request["log"] else []
        fields |= {"count": shim.count, "call": asdict(call) if call else None, "calls": list(map(asdict, calls))}
        answers.write(json.dumps(fields) + "\n")
        answers.flush()


def _run(request: dict[str, Any], errors: int) -> dict[str, Any]:
    """Fork, and wait for what the child sends."""
    receiving, sending = os.pipe()
    gc.freeze()  # a child need not look at what is here already when it collects garbage, and so does not copy it
    child = os.fork()
    if not child:
        os.close(receiving)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        _child(request, sending)
    os.close(sending)
    try:
        text, timed_out = _received(receiving, request["seconds"])
        if timed_out:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(receiving)
    status = os.waitpid(child, 0)[1]
    fields: dict[str, Any] = json.loads(text) if text else dict(_NOTHING)
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {**fields, "killed": killed, "timed_out": timed_out}


def _import_too(names: Sequence[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):  # some modules are only made, and cannot be found by their name
            importlib.import_module(name)


def _child(request: dict[str, Any], sending: int) -> None:
    fields, before = dict(_NOTHING), set(sys.modules)
    try:
        module, _, name = request["function"].partition(":")
        fields["result"] = getattr(importlib.import_module(module), name)(*request["arguments"])
        gc.collect()  # what is not closed complains now
        sys.stderr.flush()
    except BaseException as error:  # noqa: BLE001 - reported to whoever asked
        fields["trace"] = traceback.format_exc()
        fields["raised"] = [kind.__name__ for kind in type(error).__mro__]
    finally:
        fields["imported"] = [name for name in sys.modules if name not in before]
        with os.fdopen(sending, "w") as stream:
            stream.write(json.dumps(fields))
        os._exit(0)


def _received(handle: int, seconds: float) -> tuple[str, bool]:
    """What the child sends until it ends, and whether that took too long."""
    deadline, parts = time.monotonic() + seconds, []
    while (left := deadline - time.monotonic()) > 0:
        if select.select([handle], [], [], left)[0]:
            part = os.read(handle, 1 << 16)
            if not part:
                return b"".join(parts).decode(), False
            parts.append(part)
    return "", True


def main() -> None:
    """Keep stdout for the answers, and serve."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    serve(sys.stdin, answers, Shim())


if __name__ == "__main__":
    main()
