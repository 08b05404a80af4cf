"""Connections to public addresses that end at a deadline, whatever the other side does or leaves undone."""

from __future__ import annotations

import contextlib
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from imagesearch.images.addresses import Address, Network, special_kind

# What getaddrinfo gives: family, type, protocol, canonical name, and the numeric address that connect() takes.
Found: TypeAlias = "tuple[Any, Any, int, str, tuple[Any, ...]]"


class Deadline:
    """A moment of the monotonic clock after which nothing more is waited for."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds that are left.

        Raises:
            TimeoutError: none are.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class NotPublicError(Exception):
    """A host has an address that is not public; the text says which and of what kind."""


class TooMuchError(Exception):
    """The other side sent more than it may."""


def resolve(host: str, port: int, deadline: Deadline, allowed: Sequence[Network] = ()) -> list[Found]:
    """All addresses of a host, each of them public. Nobody needs to resolve the name again to connect to them.

    Numbers in other forms (``2130706433``, ``0x7f.1``) are what the system's resolver makes of them.

    Args:
        allowed: networks that pass for public.

    Raises:
        NotPublicError: one of them is not.
        OSError: there is no such host, or the system does not say in time (TimeoutError).
    """
    found = _look_up(host, port, deadline)
    for entry in found:
        address = _address(entry)
        kind = special_kind(address, allowed)
        if kind is not None:
            raise NotPublicError(f"{address} ({kind})")
    return found


def _address(entry: Found) -> Address:
    return ipaddress.ip_address(str(entry[4][0]))


def _look_up(host: str, port: int, deadline: Deadline) -> list[Found]:
    """``getaddrinfo`` in a thread that can be left behind: it knows no timeout, and may wait for half a minute."""
    answers: queue.SimpleQueue[list[Found] | BaseException] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised by the thread that asked
            answers.put(error)

    threading.Thread(target=ask, name="imagesearch-resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.remaining())
    except queue.Empty as error:
        raise TimeoutError from error
    if isinstance(answer, BaseException):
        raise answer
    return answer


def connect(found: Sequence[Found], deadline: Deadline) -> socket.socket:
    """A connection to the first of these addresses that takes it.

    Each may take its share of the time that is left, so that one that never answers leaves some for the next.

    Raises:
        OSError: none of them does.
    """
    failure: OSError = OSError("no address")
    for number, (family, kind, protocol, _, address) in enumerate(found):
        try:
            plug = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            failure = error
            continue
        try:
            plug.settimeout(deadline.remaining() / (len(found) - number))
            plug.connect(address)
        except OSError as error:
            plug.close()
            failure = error
        else:
            return plug
    raise failure


def encrypted(plug: socket.socket, host: str, deadline: Deadline, context: ssl.SSLContext) -> ssl.SSLSocket:
    """The connection in TLS, with a certificate that is good for this name.

    Raises:
        OSError: it has none, does not speak TLS, or is not done at the deadline (TimeoutError).
    """
    plug.settimeout(deadline.remaining())
    return context.wrap_socket(plug, server_hostname=host)


class BoundedSocket:
    """What :mod:`http.client` needs of a socket, with a deadline and a number of bytes for everything together.

    A socket's own timeout starts anew with every byte that comes.

    Attributes:
        allowed: bytes that the other side may send in all; what it sent may exceed them by one buffer, of some KB.
    """

    def __init__(self, plug: socket.socket, deadline: Deadline, allowed: int) -> None:
        self._plug, self._deadline, self.allowed = plug, deadline, allowed

    def sendall(self, data: bytes) -> None:
        """Send all of it before the deadline."""
        self._plug.settimeout(self._deadline.remaining())
        self._plug.sendall(data)

    def receive_into(self, buffer: memoryview) -> int:
        """Wait for some bytes; 0 at the end.

        Raises:
            TooMuchError: all that is allowed has come already.
            OSError: the connection broke, or the deadline has come (TimeoutError).
        """
        if self.allowed <= 0:
            raise TooMuchError
        self._plug.settimeout(self._deadline.remaining())
        received = self._plug.recv_into(buffer)
        self.allowed -= received
        return received

    def makefile(self, mode: str) -> io.BufferedReader:
        """The incoming bytes as a file."""
        del mode  # http.client asks for "rb"
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        """Close the connection; what is in the way of that does not matter any more."""
        with contextlib.suppress(OSError):
            self._plug.close()


class _Incoming(io.RawIOBase):
    def __init__(self, plug: BoundedSocket) -> None:
        self._source = plug

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._source.receive_into(memoryview(buffer))
