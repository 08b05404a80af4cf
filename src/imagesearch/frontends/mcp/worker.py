"""The process that searches, apart from the one that speaks the protocol.

Both take about as long to start: the protocol's library needs most of half a second to import, and so does a
search. In two processes they start at the same time; threads of one would take turns. It also keeps what a decoder
written in C may print, or break, away from the connection.

The processes talk over pipes: a pickled :class:`imagesearch.config.Config` first, then a line of JSON for each
call and one for its answer. The worker ends when its input does, however the other process ended.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from imagesearch.frontends.mcp.results import ToolResult

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.service import ImageSearch

_log = logging.getLogger(__name__)

# Seconds without a call after which the database is closed, so that other processes can use it.
RELEASE_AFTER = 2.0
# Seconds that the worker has to end by itself. Clients wait for 2 until they kill.
_PATIENCE = 1.0
_NO_ANSWER = "the process that searches has ended{how}; the next call starts another"


class Worker:
    """Calls tools in a process of its own, one call at a time; starts it again if it has ended.

    Args:
        config: the settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        # The same modules as here, and none from the working directory, which the client chose.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
        )
        pickle.dump(self._config, _pipe(self._process.stdin))
        _pipe(self._process.stdin).flush()

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """See :func:`imagesearch.frontends.mcp.tools.call_tool`. Other threads wait for their turn."""
        request = json.dumps({"tool": name, "arguments": arguments}) + "\n"
        with self._lock:
            answer = self._exchange(request.encode())
        return _read_answer(answer)

    def _exchange(self, request: bytes) -> bytes:
        self.start()
        assert self._process is not None
        try:
            _pipe(self._process.stdin).write(request)
            _pipe(self._process.stdin).flush()
            answer = _pipe(self._process.stdout).readline()
        except (OSError, ValueError):  # a broken pipe, or one that close() has closed meanwhile
            answer = b""
        if answer.endswith(b"\n"):
            return answer
        code = self._end()
        how = f" by signal {-code}" if code is not None and code < 0 else ""
        return json.dumps({"text": _NO_ANSWER.format(how=how), "is_error": True}).encode()

    def close(self) -> None:
        """End the process; it finishes nothing, for it changes nothing."""
        self._end()

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(OSError):  # what was not sent yet to a process that has ended
            _pipe(process.stdin).close()
        try:
            return process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _pipe(stream: Any) -> BinaryIO:
    pipe: BinaryIO = stream
    return pipe


def _read_answer(line: bytes) -> ToolResult:
    read = json.loads(line)
    jpeg = base64.b64decode(read["jpeg"]) if read.get("jpeg") else None
    return ToolResult(read["text"], read.get("values", {}), jpeg, read["is_error"])


def _answer_line(result: ToolResult) -> bytes:
    jpeg = base64.b64encode(result.jpeg).decode() if result.jpeg else None
    values = {"text": result.text, "values": result.values, "jpeg": jpeg, "is_error": result.is_error}
    return json.dumps(values).encode() + b"\n"


def main() -> None:
    """Answer calls until stdin ends; run by :class:`Worker` in a new process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the other process ends, and with it stdin
    gc.disable()  # while modules are imported, of which nearly nothing is garbage
    # What any library prints, in Python or in C, goes to stderr.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    config: Config = pickle.load(sys.stdin.buffer)
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read_calls, args=(calls,), daemon=True).start()

    from imagesearch.service import ImageSearch

    with ImageSearch(config) as images:
        _prepare(images)
        gc.enable()
        _answer_calls(images, calls, answers)


def _read_calls(calls: queue.SimpleQueue[bytes]) -> None:
    """One line each; at the end an empty one."""
    for line in sys.stdin.buffer:
        calls.put(line)
    calls.put(b"")


def _prepare(images: ImageSearch) -> None:
    """Do what the first call will need, while the client still introduces itself."""
    from imagesearch.errors import ImageSearchError
    from imagesearch.frontends.mcp import tools  # noqa: F401 - imports what searches need

    if not images.config.database_address.is_local:
        return  # a server that does not answer would be waited for twice
    try:
        images.find_collection()
    except ImageSearchError as error:  # each call will say it
        _log.debug("not prepared: %s", error)


def _answer_calls(images: ImageSearch, calls: queue.SimpleQueue[bytes], answers: BinaryIO) -> None:
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
        result = call_tool(images, request["tool"], request["arguments"])
        is_open = True
        answers.write(_answer_line(result))
        answers.flush()
