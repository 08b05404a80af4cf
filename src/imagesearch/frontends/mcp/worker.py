"""The process that searches, apart from the one that speaks the protocol.

Both take about as long to start: the protocol's library needs most of half a second to import, and so does a
search. In two processes they start at the same time; threads of one would take turns. It also keeps what a decoder
written in C may print, or break, away from the connection.

The processes talk in lines of JSON over pipes. First the worker is told where its settings come from, and says
whether they are right; then there is a line for each call, and one for its answer. The worker ends when its input
does, however the other process ended.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from imagesearch.errors import ConfigError, ImageSearchError
from imagesearch.frontends.mcp.results import ToolResult

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.service import ImageSearch

_log = logging.getLogger(__name__)

# Finds the same modules as this process, and none in the working directory, which the client chose.
_PROGRAM = f"import sys; sys.path = sys.argv[1:]; from {__name__} import main; main()"
# Seconds without a call after which the database is closed, so that other processes can use it.
RELEASE_AFTER = 2.0
# Seconds that the worker has to end by itself. Clients wait for 2 until they kill.
_PATIENCE = 1.0


class WorkerError(ImageSearchError):
    """The process that searches has ended."""


class Worker:
    """Calls tools in a process of its own, one call at a time; starts it again if it has ended.

    Args:
        file, overrides: for :func:`imagesearch.config.load_config`.
        environment: of that process, with the settings in it.
    """

    def __init__(
        self, file: str | None, overrides: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]
    ) -> None:
        self._settings = {"file": file, "overrides": overrides}
        self._environment = environment
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._is_closed = False

    def start(self) -> None:
        """Start the process; does not wait for it."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(self._environment),
        )
        self._is_ready = False
        self._send(self._settings)

    def remark(self) -> str:
        """Wait until the process has read its settings; what users should know of them, or nothing.

        Raises:
            ConfigError: they are wrong; the process has ended.
            WorkerError: it has ended for another reason.
        """
        read = self._receive()
        if "error" in read:
            self._end()
            raise ConfigError(read["error"])
        self._is_ready = True
        remark: str = read["remark"]
        return remark

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """See :func:`imagesearch.frontends.mcp.tools.call_tool`. Other threads wait for their turn."""
        with self._lock:
            try:
                self._start_again()
                if not self._is_ready:
                    self.remark()
                self._send({"tool": name, "arguments": arguments})
                read = self._receive()
            except (ConfigError, WorkerError) as error:
                return ToolResult(str(error), {}, is_error=True)
        jpeg = base64.b64decode(read["jpeg"]) if read["jpeg"] else None
        return ToolResult(read["text"], read["values"], jpeg, read["is_error"])

    def close(self) -> None:
        """End the process for good; it finishes nothing, for it changes nothing."""
        self._is_closed = True
        self._end()

    def _start_again(self) -> None:
        """Start the process if it has ended."""
        if self._is_closed:
            raise WorkerError("the server is ending")
        if self._process is None or self._process.poll() is not None:
            self._end()
            self.start()

    def _send(self, message: Mapping[str, Any]) -> None:
        pipe = self._pipe("stdin")
        # A broken pipe is noticed when the answer is read; a closed one was closed by close().
        with contextlib.suppress(OSError, ValueError):
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()

    def _receive(self) -> dict[str, Any]:
        line = self._pipe("stdout").readline()
        if not line.endswith(b"\n"):
            code = self._end()
            how = f" by signal {-code}" if code is not None and code < 0 else ""
            raise WorkerError(f"the process that searches has ended{how}; the next call starts another")
        read: dict[str, Any] = json.loads(line)
        return read

    def _pipe(self, name: str) -> IO[bytes]:
        process = self._process
        if process is None:
            raise WorkerError("the server is ending")
        pipe: IO[bytes] = getattr(process, name)
        return pipe

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        with contextlib.suppress(OSError):  # what was not sent yet, to a process that has ended
            process.stdin.close()
        try:
            return process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def main() -> None:
    """Answer calls until stdin ends; run by :class:`Worker` in a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the other process ends, and with it stdin
    gc.disable()  # while modules are imported, of which nearly nothing is garbage
    # What any library prints, in Python or in C, goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config = _load_settings(json.loads(sys.stdin.buffer.readline()), answers)
    if config is None:
        return
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(calls,), daemon=True).start()

    from imagesearch.service import ImageSearch

    with ImageSearch(config) as images:
        _prepare(images, calls)
        gc.enable()
        _answer_calls(images, calls, answers)


def _load_settings(told: Mapping[str, Any], answers: BinaryIO) -> Config | None:
    """Load the settings and tell the other process of them; None if they are wrong."""
    from imagesearch.config import load_config

    try:
        config = load_config(told["file"], told["overrides"])
    except ConfigError as error:
        _write(answers, {"error": str(error)})
        return None
    # One that was found may be somebody else's.
    _write(answers, {"remark": f"settings: {config.file}" if config.file_was_found else ""})
    return config


def _read_calls(calls: queue.SimpleQueue[bytes]) -> None:
    """One line each; at the end an empty one."""
    for line in sys.stdin.buffer:
        calls.put(line)
    calls.put(b"")


def _prepare(images: ImageSearch, calls: queue.SimpleQueue[bytes]) -> None:
    """Do what the first call may need, while the client still introduces itself."""
    import numpy as np

    from imagesearch.frontends.mcp import tools  # noqa: F401 - imports what searches need
    from imagesearch.search.query import Query

    if not images.config.database_address.is_local:
        return  # a server that does not answer would be waited for twice
    try:
        collection = images.find_collection()
        if collection is not None and calls.empty():
            images.search(Query.vector(np.ones(collection.fingerprint.dim, np.float32)), 1)
        if calls.empty():
            images.networks.known_words()
    except ImageSearchError as error:  # the call will say it
        _log.debug("not prepared: %s", error)


def _answer_calls(images: ImageSearch, calls: queue.SimpleQueue[bytes], answers: BinaryIO) -> None:
    from imagesearch.frontends.mcp.forwarding import forwarded, server_of
    from imagesearch.frontends.mcp.tools import call_tool

    is_open = True
    while True:
        try:
            line = calls.get(timeout=RELEASE_AFTER if is_open else None)
        except queue.Empty:
            images.release()
            is_open = False
            continue
        if not line:
            return
        request = json.loads(line)
        tool, arguments = request["tool"], request["arguments"]
        server = server_of(images.config)
        result = forwarded(server, tool, arguments) if server else None
        if result is None:
            result, is_open = call_tool(images, tool, arguments), True
        jpeg = base64.b64encode(result.jpeg).decode() if result.jpeg else None
        said = {"text": result.text, "values": result.values, "jpeg": jpeg, "is_error": result.is_error}
        _write(answers, said)


def _write(answers: BinaryIO, message: Mapping[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()
