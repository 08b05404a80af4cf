"""A running server to attack with raw sockets, and how clients that do not keep to the rules behave."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import Policy, policy_for

from .harness import listen, read_all, serving, small_app


@dataclass
class Site:
    """A running server."""

    server: uvicorn.Server
    port: int

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def request(self, text: str) -> bytes:
        """A request; HOST stands for the header that names this server."""
        lines = text.replace("HOST", f"Host: localhost:{self.port}").split("\n")
        return "\r\n".join(lines).encode("latin-1")

    def say(self, text: str) -> bytes:
        """What is answered to a request until the connection is closed."""
        with self.connect() as connection:
            connection.sendall(self.request(text))
            return read_all(connection)

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)


def served(change: Callable[[Policy], Policy], token: str | None = None, **options: object) -> Iterator[Site]:
    listener, port = listen()
    policy = change(policy_for("127.0.0.1", port, token, **options))  # type: ignore[arg-type]
    with serving(secured(small_app, policy), policy, listener) as server:
        yield Site(server, port)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def drip(connection: socket.socket, data: bytes, pause: float = 0.03) -> float:
    """Send a byte at a time until the server has enough; how many seconds it took."""
    started = time.monotonic()
    connection.settimeout(pause)
    for byte in data:
        try:
            connection.send(bytes([byte]))
            if connection.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - started


def read_response(connection: socket.socket) -> bytes:
    """One response of a connection that stays open."""
    connection.settimeout(10)
    response = b""
    while b"\r\n\r\n" not in response:
        response += connection.recv(65536)
    head, _, body = response.partition(b"\r\n\r\n")
    (length,) = (int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    while len(body) < length:
        body += connection.recv(65536)
    assert len(body) == length
    return head + b"\r\n\r\n" + body


def body_of(response: bytes) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(response.partition(b"\r\n\r\n")[2])
    return parsed
