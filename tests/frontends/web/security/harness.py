"""A small application behind the security layer, asked directly or through a real server with raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import uvicorn

from imagesearch.frontends.web.security.policy import Policy, policy_for
from imagesearch.frontends.web.security.protocol import uvicorn_options
from imagesearch.frontends.web.security.requests import rights_of

TOKEN = "correct-horse-battery-staple"
OWNER = "owner-secret-of-the-command-line"
HOME = ("host", "localhost:8000")
OPEN = policy_for("127.0.0.1", 8000, None, owner_secret=OWNER)
CLOSED = policy_for("127.0.0.1", 8000, TOKEN, owner_secret=OWNER)


async def small_app(scope: Any, receive: Any, send: Any) -> None:
    """Says what it was asked; some paths misbehave."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/api/fails":
        raise ValueError("broken\n{}".format('{"forged": true}'))
    size = 0
    if path != "/api/early":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                # As FastAPI does with a body that it cannot read: it must not be heard.
                await answer(send, 400, b'{"detail": "There was an error parsing the body"}')
                return
            size += len(message.get("body", b""))
            more = message.get("more_body", False)
    if path == "/api/answers-and-fails":
        # As Starlette does with what nobody caught.
        await answer(send, 500, b"{}")
        raise ValueError("broken after the answer")
    if path == "/api/breaks":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ValueError("broken in the middle")
    if path == "/api/medium":
        await answer(send, 200, bytes(50_000))
        return
    if path == "/api/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    said = {"path": path, "rights": rights_of(scope), "size": size}
    await answer(send, 200, json.dumps(said).encode(), *scope.get("extra_headers", ()))


async def answer(
    send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes], kind: bytes = b"application/json"
) -> None:
    standard = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*standard, *headers]})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Reply:
    """A response."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} is given {len(values)} times"
        return values[0] if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Request:
    """A request as a server would hand it over."""

    method: str = "GET"
    target: str = "/"
    headers: tuple[tuple[str, str], ...] = (HOME,)
    parts: tuple[bytes, ...] = ()
    scheme: str = "http"
    client: str = "127.0.0.1"
    extra: dict[str, Any] = field(default_factory=dict)

    def scope(self) -> dict[str, Any]:
        path, _, query = self.target.partition("?")
        headers = list(self.headers)
        if self.parts and not any(name == "content-length" for name, _ in headers):
            headers.append(("content-length", str(sum(map(len, self.parts)))))
        return {
            "type": "http",
            "http_version": "1.1",
            "scheme": self.scheme,
            "method": self.method,
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": "",
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": (self.client, 50000),
            "server": ("127.0.0.1", 8000),
            **self.extra,
        }


def ask(app: Any, method: str = "GET", target: str = "/", *headers: tuple[str, str], **options: Any) -> Reply:
    """Send one request to an application, from a page of no site unless headers say so."""
    host = () if any(name == "host" for name, _ in headers) else (HOME,)
    return asyncio.run(exchange(app, Request(method, target, (*host, *headers), **options)))


async def exchange(app: Any, request: Request) -> Reply:
    parts = list(request.parts) or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(request.scope(), receive, send)
    assert sent[0]["type"] == "http.response.start"
    assert [message for message in sent if message["type"] == "http.response.start"] == sent[:1]
    assert not sent[-1].get("more_body", False), "the response does not end"
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    return Reply(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


@contextlib.contextmanager
def serving(
    app: Any, policy: Policy, listener: socket.socket, *, lifespan: str = "on"
) -> Iterator[uvicorn.Server]:
    """A real server in a thread."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = uvicorn.Server(uvicorn.Config(app, lifespan=lifespan, **uvicorn_options(policy)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        yield server
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
        logging.getLogger("uvicorn.error").setLevel(logging.NOTSET)
    assert not thread.is_alive()


def listen() -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return listener, listener.getsockname()[1]


def read_all(connection: socket.socket, seconds: float = 10.0) -> bytes:
    """Everything until the server closes."""
    connection.settimeout(seconds)
    received = b""
    while True:
        part = connection.recv(65536)
        if not part:
            return received
        received += part


def status_of(response: bytes) -> int:
    """The status of a raw response."""
    assert response.startswith(b"HTTP/1.1 "), response[:100]
    return int(response[9:12])
