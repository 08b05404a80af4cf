"""Connections are bounded too: uvicorn's HTTP/1.1 protocol with bounds on time, size and number."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from imagesearch.frontends.web.problems import Problem, ProblemResponse, rendered
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.request_log import RequestLog
from imagesearch.frontends.web.security.response_headers import ResponseHeaders, secured_headers

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_REFUSALS = {
    400: "this is no HTTP request",
    408: "the headers took too long to arrive",
    431: "the headers are too long",
    501: "this transfer encoding is not known here",
}
_BUSY = Problem(
    status=503,
    detail="the server has as many connections as it can serve; try again in a few seconds",
    headers=(("Retry-After", "5"), ("Connection", "close")),
)
# What a connection beyond the bound may take to hear so.
_BUSY_SECONDS = 2.0


def uvicorn_options(policy: Policy) -> dict[str, Any]:
    """Arguments of ``uvicorn.Config`` that go with a policy, besides the application and its address.

    What uvicorn logs is left to ``request_log.log_to``; its access log, which has queries in it, is off.
    """
    return {
        "http": type("Protocol", (BoundedProtocol,), {"policy": policy}),
        "ws": "none",
        "workers": 1,
        "server_header": False,
        "access_log": False,
        "log_config": None,
        "proxy_headers": bool(policy.proxies),
        "forwarded_allow_ips": sorted(policy.proxies),
        "root_path": "",
        "h11_max_incomplete_event_size": policy.max_header_bytes,
        "timeout_keep_alive": policy.keep_alive_seconds,
    }


class _Connection(h11.Connection):
    """The parser, which keeps the status that it would answer a malformed request with."""

    refused_with = 400

    def next_event(self) -> Any:
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.refused_with = error.error_status_hint
            raise


class BoundedProtocol(H11Protocol):
    """One connection. Subclasses set ``policy`` (see ``uvicorn_options``)."""

    policy: ClassVar[Policy]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.conn: h11.Connection = _Connection(h11.SERVER, self.policy.max_header_bytes)
        self._header_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._closing_timer: asyncio.TimerHandle | None = None
        self._has_data = False  # whether anything arrived since the last request
        self._is_refused = False  # an answer is out; the rest is read and thrown away

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Count it, and start the clock for its first request."""
        super().connection_made(transport)
        # Or the body of an answer would wait 40 ms for the client to acknowledge the headers; asyncio sees to it
        # only where sockets were made with the number of the protocol.
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        most = self.policy.max_connections
        if len(self.connections) > 2 * most:
            transport.abort()
            return
        is_busy = len(self.connections) > most
        if is_busy:
            self.app = ResponseHeaders(RequestLog(_busy, self.policy), self.policy)
        self._await_headers(_BUSY_SECONDS if is_busy else self.policy.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        for timer in (self._header_timer, self._write_timer, self._closing_timer):
            if timer is not None:
                timer.cancel()
        self._header_timer = self._write_timer = self._closing_timer = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse it; once a request is complete up to its body, the clock for headers stops."""
        if self._is_refused:
            return
        self._has_data = True
        super().data_received(data)
        self._watch_headers()

    def _watch_headers(self) -> None:
        if self.conn.their_state is h11.IDLE and not self._is_refused:
            self._await_headers(self.policy.header_seconds)
            return
        self._has_data = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _await_headers(self, seconds: float) -> None:
        """Start the clock, unless it runs: bytes that trickle in do not set it back."""
        if self._header_timer is None:
            self._header_timer = self.loop.call_later(seconds, self._headers_are_late)

    def _headers_are_late(self) -> None:
        self._header_timer = None
        if self.transport.is_closing() or self._is_refused:
            return
        if self._has_data and self.conn.our_state is h11.IDLE:
            self._refuse(408)
        else:
            self._close()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - named as uvicorn names it
        """What uvicorn calls when the parser gives up; the message is replaced by a problem."""
        assert isinstance(self.conn, _Connection)
        if self.cycle is not None and not self.cycle.response_complete:
            # A body that breaks the rules of HTTP: the application is reading it, or has begun to answer.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(self.conn.refused_with)
        else:
            self._close()

    def _refuse(self, status: int) -> None:
        """Answer without the application and close, but not before the client had time to read the answer."""
        self._is_refused = True
        self._unset_keepalive_if_required()
        body, headers = rendered(Problem(status=status, detail=_REFUSALS.get(status, _REFUSALS[400])))
        headers = [
            *self.server_state.default_headers,
            *secured_headers(headers, status),
            (b"connection", b"close"),
        ]
        reason = STATUS_PHRASES.get(status, b"")
        for event in (
            h11.Response(status_code=status, headers=headers, reason=reason),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            output = self.conn.send(event)
            if output:
                self.transport.write(output)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._closing_timer = self.loop.call_later(self.policy.linger_seconds, self.transport.abort)

    def _close(self) -> None:
        """Close, in bounded time even if the client never takes what is still to be sent."""
        self.transport.close()
        if self._closing_timer is None:
            self._closing_timer = self.loop.call_later(self.policy.write_seconds, self.transport.abort)

    def on_response_complete(self) -> None:
        """Go on to the next request, if there is one."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._close()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that waits for its next request."""
        if self._is_refused:
            return
        super().timeout_keep_alive_handler()
        self._close()

    def shutdown(self) -> None:
        """The server ends."""
        if self._is_refused:
            self.transport.close()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """The client takes less than is sent: it has some time to go on."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.policy.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It took something."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    await ProblemResponse(_BUSY)(scope, receive, send)
