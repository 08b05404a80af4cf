"""An id for every request, and one line of JSON in the log."""

from __future__ import annotations

import json
import logging
import re
import secrets
import sys
import time
from contextvars import ContextVar
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TextIO

from starlette.requests import ClientDisconnect

from imagesearch.frontends.web.problems import REQUEST_ID, Problem, ProblemResponse, request_id
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.requests import header_values, rights_of, state_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGGER = "imagesearch.web"
_log = logging.getLogger(LOGGER)
_current: ContextVar[str | None] = ContextVar("imagesearch_request_id", default=None)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LONGEST_PATH = 500
_LONGEST_SEARCHED = 10_000


class RequestLog:
    """Gives ids, and writes what became of each request."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._secrets = policy.secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and log how it ended."""
        identifier = _identifier(scope)
        state_of(scope)[REQUEST_ID] = identifier
        token = _current.set(identifier)
        answer = _Answer(identifier, send)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            answer.log(scope, self._shown(scope["path"]))
            _current.reset(token)

    def _shown(self, path: str) -> str:
        is_secret = True in [secret.is_within(path[:_LONGEST_SEARCHED]) for secret in self._secrets]
        return "(withheld: a secret is in it)" if is_secret else path[:_LONGEST_PATH]


class _Answer:
    """Counts what is sent."""

    def __init__(self, identifier: str, send: Send) -> None:
        self._status: int | None = None
        self._identifier = identifier
        self._send = send
        self._bytes = 0
        self._started = time.monotonic()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            kept = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
            message = {**message, "headers": [*kept, (b"x-request-id", self._identifier.encode())]}
        self._bytes += len(message.get("body", b""))
        await self._send(message)

    def log(self, scope: Scope, path: str) -> None:
        client = scope.get("client")
        fields = {
            "id": self._identifier,
            "client": client[0] if client else None,
            "method": scope["method"],
            "path": path,
            "status": self._status,
            "milliseconds": round((time.monotonic() - self._started) * 1000, 1),
            "bytes": self._bytes,
            "scope": rights_of(scope),
        }
        level = logging.ERROR if self._status is not None and self._status >= 500 else logging.INFO
        _log.log(level, "request", extra={"fields": fields})


class Failures:
    """Answers what nobody caught: the client learns that it failed, the log why."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on.

        Raises:
            RuntimeError: the application failed in the middle of its answer, so that the server must cut it off.
        """
        is_started = is_complete = False

        async def send_noticed(message: Message) -> None:
            nonlocal is_started, is_complete
            is_started = True
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._app(scope, receive, send_noticed)
        except ClientDisconnect:
            _log.info("the client left before its request was read")
        except Exception as error:  # noqa: BLE001 - whatever it is: the client gets an answer, the log the traceback
            _log.error("a request failed", exc_info=error)
            if is_complete:  # by the application's own handler, which raises it all the same
                return
            if is_started:
                # Without the text of the error, which may hold anything.
                raise RuntimeError(f"the answer to request {request_id(scope)} was cut off") from None
            problem = Problem(status=500, detail="the server failed; its log says more under the id in 'instance'")
            await ProblemResponse(problem)(scope, receive, send)


class JsonFormatter(logging.Formatter):
    """One line of ASCII per record, whatever is in it: nothing that a client sends can begin a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one JSON object."""
        time_of_record = datetime.fromtimestamp(record.created, tz=timezone.utc)
        entry: dict[str, object] = {
            "time": time_of_record.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (identifier := _current.get()) is not None:
            entry["id"] = identifier
        entry.update(getattr(record, "fields", {}))
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def log_to(stream: TextIO | None = None, *, level: int = logging.INFO) -> logging.Handler:
    """Write what the server logs, uvicorn included, as lines of JSON.

    Args:
        stream: stderr by default.

    Returns:
        The handler, to be removed by whoever ends the server but not the process.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    for name in (LOGGER, "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level if name == LOGGER else max(level, logging.WARNING))
        logger.propagate = False
    return handler


def current_request_id() -> str | None:
    """The id of the request that this task or thread works on; None outside of requests."""
    return _current.get()


def _identifier(scope: Scope) -> str:
    """The id that a proxy or a program gave, if it is harmless; otherwise a new one."""
    given = header_values(scope, b"x-request-id")
    if len(given) == 1 and _ACCEPTABLE_ID.match(given[0]):
        return given[0]
    return secrets.token_hex(8)
