"""Requests to the HTTP API: kept-alive connections, several threads, retries, and problems raised as errors."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from imagesearch.errors import ImageSearchError, StoreUnreachableError, UsageError
from imagesearch.search.wire import PROBLEM, error_from_dict, to_json

API = "/api/v1"

# Of a server that is busy: how often it is asked again, and the longest pause between two tries, in seconds.
_RETRIES = 5
_LONGEST_PAUSE = 5.0
# Idle connections that are kept.
_KEPT = 8
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
# What stands in a path as it is (RFC 3986, section 3.3), besides letters and digits; what is encoded already.
_PATH = "/!$&'()*+,;=:@%"
_TOO_LONG = 413
_BUSY = 503
_NO_SUCH_PATH = (404, 405)
# What a connection that was kept open says when the server has closed it meanwhile.
_STALE = (http.client.RemoteDisconnected, http.client.CannotSendRequest, ConnectionError)


class TooLongError(ImageSearchError):
    """The server takes no request of that length."""


class _Reply(dict[str, Any]):
    """What came back, which must have the fields that are looked for."""

    def __init__(self, fields: Mapping[str, Any], strange: str) -> None:
        super().__init__(fields)
        self._strange = strange

    def __missing__(self, name: str) -> Any:
        raise ImageSearchError(self._strange)


class Form:
    """Files and fields as ``multipart/form-data`` (RFC 7578)."""

    def __init__(self, files: Sequence[tuple[str, str, bytes]], fields: Mapping[str, str]) -> None:
        """Put it together.

        Args:
            files: the field, the file's name, its bytes.
            fields: names and values.
        """
        boundary = secrets.token_hex(16)
        parts: list[bytes] = []
        for name, value in fields.items():
            parts.append(_part(boundary, f'name="{name}"') + value.encode())
        for field, name, data in files:
            shown = re.sub(r'[\x00-\x1f"\\\x7f]', "_", name).encode("utf-8", "replace").decode()
            parts.append(_part(boundary, f'name="{field}"; filename="{shown}"') + data)
        self.body = b"".join(part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"


class Connection:
    """Talks to one server; several threads may use it.

    Redirects are not followed, so a token goes nowhere else.
    """

    def __init__(self, url: str, token: str | None, timeout: float, *, allow_insecure_token: bool) -> None:
        """Check the address; nothing is sent yet.

        Raises:
            UsageError: it is none of a server, or the token is none, or would be sent in the clear.
        """
        parts = _checked(url)
        path = parts.path.rstrip("/")
        self._is_secure, self._prefix = parts.scheme.lower() == "https", quote(path, safe=_PATH)
        self._host, self._port = parts.hostname or "", parts.port
        self.url = f"{parts.scheme.lower()}://{parts.netloc}{path}"
        self._strange = f"what answers at {self.url} is no ImageSearch server, or one of another version"
        self.timeout = timeout
        self._headers = {"Accept": "application/json", "User-Agent": "imagesearch"}
        if token is not None:
            if not (self._is_secure or allow_insecure_token or _is_loopback(self._host)):
                raise UsageError(
                    f"a token would be sent to {self.url} where others can read it: use https://, or allow it with"
                    " allow_insecure_token"
                )
            if not _TOKEN.fullmatch(token):
                raise UsageError("the token must be printable characters of ASCII without spaces")
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._process = os.getpid()

    def get(self, path: str) -> Any:
        """The JSON at a path.

        Raises:
            ImageSearchError: see :meth:`ask`.
        """
        return self._parsed(self.ask("GET", path))

    def post(self, path: str, value: Any = None, *, form: Form | None = None, repeatable: bool = True) -> Any:
        """What comes back for JSON, or for a form.

        Args:
            repeatable: whether sending it twice does no harm.

        Raises:
            ImageSearchError: see :meth:`ask`.
        """
        body = form.body if form else to_json(value)
        kind = form.content_type if form else "application/json"
        return self._parsed(self.ask("POST", path, body, kind, repeatable=repeatable))

    def delete(self, path: str) -> None:
        """Remove what is at a path of the API.

        Raises:
            ImageSearchError: see :meth:`ask`.
        """
        self.ask("DELETE", path)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        kind: str | None = None,
        *,
        repeatable: bool = True,
    ) -> bytes:
        """The body of the answer to one request.

        Raises:
            StoreUnreachableError: nothing answers, or not in time.
            TooLongError: the server takes no request of that length.
            ImageSearchError: the server refuses it, or fails; the error of the library that it names.
        """
        for attempt in range(_RETRIES + 1):
            with self._answer(method, path, body, kind, repeatable=repeatable) as answer:
                try:
                    content = answer.read()
                except (OSError, http.client.HTTPException) as error:
                    raise self._unreachable(error) from error
                pause = _pause(answer, content) if repeatable and attempt < _RETRIES else None
                if pause is None:
                    return content if answer.status < 300 else self._refused(answer, content)
            time.sleep(pause)
        raise AssertionError("the last attempt ends the loop")

    def lines(self, path: str, timeout: float) -> Iterator[bytes]:
        """The whole lines of an answer as they come, on a connection of its own, closed with the iterator.

        Args:
            timeout: seconds of silence.

        Raises:
            ImageSearchError: see :meth:`ask`.
        """
        with contextlib.closing(self._connect(timeout)) as connection:
            try:
                answer = _exchange(connection, "GET", f"{self._prefix}{path}", None, self._headers)
                if answer.status != 200:
                    self._refused(answer, answer.read())
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from error
            while True:
                try:
                    line = answer.readline()
                except (OSError, http.client.HTTPException) as error:
                    raise self._unreachable(error) from error
                if not line.endswith(b"\n"):  # the end, or where the connection broke off
                    return
                yield line

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, kind: str | None, *, repeatable: bool
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer; its connection is kept if the answer was read to its end."""
        headers = self._headers if kind is None else {**self._headers, "Content-Type": kind}
        if self._process != os.getpid():
            # This process was forked off, and its parent goes on using these: each would read the other's answers.
            # A thread that is not here may have held the lock.
            self._idle, self._lock, self._process = [], threading.Lock(), os.getpid()
        # The server may have closed a connection that was kept; what must not be sent twice goes over a new one.
        connection = self._kept() if repeatable else None
        is_new = connection is None
        connection = connection or self._connect(self.timeout)
        try:
            try:
                answer = _exchange(connection, method, f"{self._prefix}{path}", body, headers)
            except _STALE:
                if is_new:
                    raise
                connection.close()
                connection = self._connect(self.timeout)
                answer = _exchange(connection, method, f"{self._prefix}{path}", body, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        try:
            yield answer
        finally:
            self._keep(connection, answer)

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=timeout)

    def _kept(self) -> http.client.HTTPConnection | None:
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _keep(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        with self._lock:
            if answer.isclosed() and not answer.will_close and len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def _parsed(self, content: bytes) -> Any:
        fields = _object(content)
        if fields is None:
            raise ImageSearchError(self._strange)
        return _Reply(fields, self._strange)

    def _unreachable(self, error: Exception) -> StoreUnreachableError:
        reason = f"no answer in {self.timeout:g} s" if isinstance(error, TimeoutError) else str(error)
        return StoreUnreachableError(f"cannot reach the server at {self.url}: {reason or type(error).__name__}")

    def _refused(self, answer: http.client.HTTPResponse, content: bytes) -> bytes:
        """
        Raises:
            ImageSearchError: always; what the answer says.
        """
        if 300 <= answer.status < 400:
            raise UsageError(f"{self.url} leads elsewhere (HTTP {answer.status}): name the server's own address")
        problem = _object(content) or {}
        if answer.status == _TOO_LONG:
            raise TooLongError(problem.get("detail") or "the server takes no request of that length")
        if answer.status == 401:
            raise UsageError(f"the server at {self.url} lets nobody in without its token, or not with this one")
        if answer.status in _NO_SUCH_PATH and not str(problem.get("type", "")).startswith(PROBLEM):
            raise ImageSearchError(f"{self._strange} (HTTP {answer.status})")
        if not problem:
            raise ImageSearchError(f"the server at {self.url} answered HTTP {answer.status} {answer.reason}")
        raise error_from_dict(problem)


def _exchange(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    try:
        connection.request(method, path, body, dict(headers))
    except (BrokenPipeError, ConnectionResetError):
        # Perhaps it refused a long body before it was there as a whole: then it said so.
        if connection.sock is None or not body:
            raise
        response = http.client.HTTPResponse(connection.sock, method=method)
        response.begin()
        return response
    return connection.getresponse()


def _pause(answer: http.client.HTTPResponse, content: bytes) -> float | None:
    """Seconds until a busy server should be asked again; None: it should not be."""
    said = answer.getheader("Retry-After", "")
    kind = str((_object(content) or {}).get("type", ""))
    is_busy = answer.status == _BUSY and (not kind.startswith(PROBLEM) or kind == f"{PROBLEM}busy")
    return min(float(said), _LONGEST_PAUSE) if is_busy and said.isdecimal() else None


def _object(content: bytes) -> dict[str, Any] | None:
    """An object of JSON, as everything of the API is; None: it is something else."""
    try:
        found = json.loads(content)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _part(boundary: str, disposition: str) -> bytes:
    return f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n".encode()


def _checked(url: str) -> Any:
    """The parts of an address.

    Raises:
        UsageError: it is none of a server.
    """
    try:
        parts: Any = urlsplit(url)
        is_server = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and parts.port != 0
        if is_server:
            parts.hostname.encode("idna")
            quote(parts.path)
    except ValueError:  # a port that is no number, half an IPv6 address, what no name or path can be
        is_server = False
    if not is_server or re.search(r"[\x00-\x20\x7f]", url):
        raise UsageError("the address of a server must be http://HOST:PORT or https://HOST")
    if "@" in parts.netloc or parts.query or parts.fragment:  # not shown: it may hold a secret
        raise UsageError("the address of a server must hold no user, password or token: give the token as 'token'")
    return parts


def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may lead anywhere
        return False
