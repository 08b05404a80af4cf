"""A server on this machine that sends what a test says, byte by byte if it has to be."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

Answer = Callable[[socket.socket], None]


class WebServer:
    """Takes connections and lets ``answers`` speak, the n-th request the n-th, the last one from then on.

    Attributes:
        requests: what was received, up to the empty line, in order.
    """

    def __init__(self, *answers: Answer, context: ssl.SSLContext | None = None, reads_first: bool = True) -> None:
        self._answers, self._context, self._reads_first = answers, context, reads_first
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self.requests: list[str] = []
        self._closed = False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._closed = True
        self._listening.close()

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                plug, _ = self._listening.accept()
            except OSError:
                return
            answer = self._answers[min(number, len(self._answers) - 1)]
            number += 1
            threading.Thread(target=self._speak, args=(plug, answer), daemon=True).start()

    def _speak(self, plug: socket.socket, answer: Answer) -> None:
        # Those who are refused hang up in the middle of it.
        with contextlib.suppress(OSError), plug:
            plug.settimeout(5)
            if self._context:
                plug = self._context.wrap_socket(plug, server_side=True)
            with plug:
                if self._reads_first:
                    self.requests.append(_read_head(plug))
                answer(plug)
                with contextlib.suppress(OSError):
                    plug.shutdown(socket.SHUT_WR)
                    plug.recv(1)  # until the other side closes


def _read_head(plug: socket.socket) -> str:
    received = b""
    while b"\r\n\r\n" not in received:
        part = plug.recv(4096)
        if not part:
            break
        received += part
    return received.decode("latin-1")


@contextlib.contextmanager
def serving(
    *answers: Answer, context: ssl.SSLContext | None = None, reads_first: bool = True
) -> Iterator[WebServer]:
    server = WebServer(*answers, context=context, reads_first=reads_first)
    try:
        yield server
    finally:
        server.close()


def sends(data: bytes) -> Answer:
    return lambda plug: plug.sendall(data)


def response(body: bytes, kind: str | None = "image/png", *headers: str, status: str = "200 OK") -> bytes:
    """A complete answer; ``kind`` is the Content-Type."""
    lines = [f"HTTP/1.1 {status}", *headers]
    lines += [f"Content-Type: {kind}"] if kind is not None else []
    if not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location: str, status: str = "302 Found") -> Answer:
    return sends(response(b"", None, f"Location: {location}", status=status))


def endless(start: bytes, again: bytes) -> Answer:
    """The start, and then the same part again and again, as fast as it is taken."""

    def answer(plug: socket.socket) -> None:
        plug.sendall(start)
        block = again * max(1, 4096 // len(again))
        while True:
            plug.sendall(block)

    return answer


def drips(data: bytes, pause: float = 0.05) -> Answer:
    """Byte after byte, each long before a timeout that starts anew with every byte."""

    def answer(plug: socket.socket) -> None:
        for number in range(len(data)):
            plug.sendall(data[number : number + 1])
            time.sleep(pause)

    return answer
