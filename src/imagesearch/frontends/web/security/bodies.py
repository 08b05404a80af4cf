"""Bodies of requests are bounded in length and in time, and what is refused is still answered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.requests import has_body, header_values

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE = (b"connection", b"close")


class BodyLimits:
    """Refuses a body that is announced too long, turns out too long, or takes too long."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a body that ends, or answer it."""
        exchange = _Exchange(self._policy, scope, receive, send)
        if exchange.is_announced_too_long():
            await exchange.refuse(too_long(self._policy))
            return
        await self._app(scope, exchange.receive, exchange.send)


def too_long(policy: Policy) -> Problem:
    """What is answered to a body beyond the bound."""
    return Problem(status=413, detail=f"the request is longer than {policy.max_body_bytes:,} bytes")


class _Exchange:
    """One request and its answer, as the application sees them."""

    def __init__(self, policy: Policy, scope: Scope, receive: Receive, send: Send) -> None:
        self._policy = policy
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_complete = not has_body(scope)  # whether the whole body was received
        self._is_refused = False  # what the application sends from then on is dropped
        self._is_started = False  # whether an answer began
        self._is_receiving = False
        self._received = 0
        self._deadline: float | None = None

    def is_announced_too_long(self) -> bool:
        return any(
            len(length) > 20 or (length.isdecimal() and int(length) > self._policy.max_body_bytes)
            for length in header_values(self._scope, b"content-length")
        )

    async def receive(self) -> Message:
        """The next part of the body; a disconnect once the request has been refused."""
        if self._is_refused:
            return {"type": "http.disconnect"}
        if self._is_complete:
            return await self._receive()
        self._is_receiving = True
        try:
            message = await self._next_part()
        finally:
            self._is_receiving = False
        if message is None:
            problem = Problem(
                status=408, detail=f"the body took longer than {self._policy.body_seconds:g} seconds"
            )
            return await self._give_up(problem)
        self._note(message)
        if self._received > self._policy.max_body_bytes:
            return await self._give_up(too_long(self._policy))
        return message

    async def _next_part(self) -> Message | None:
        if self._deadline is None:
            self._deadline = time.monotonic() + self._policy.body_seconds
        try:
            return await asyncio.wait_for(self._receive(), max(self._deadline - time.monotonic(), 0.001))
        except asyncio.TimeoutError:
            return None

    def _note(self, message: Message) -> None:
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_complete = True
        self._received += len(message.get("body", b""))

    async def _give_up(self, problem: Problem) -> Message:
        """Answer in the application's place, which hears that nobody is there any more."""
        if self._is_started:
            self._is_refused = True  # the server cuts off an answer that stays incomplete
        else:
            await self.refuse(problem)
        return {"type": "http.disconnect"}

    async def refuse(self, problem: Problem) -> None:
        """Answer, whatever the application has to say."""
        self._is_refused = True
        await ProblemResponse(problem)(self._scope, self._receive, self._pass_on)

    async def send(self, message: Message) -> None:
        """Pass on what the application answers, unless something was answered in its place."""
        if not self._is_refused:
            await self._pass_on(message)

    async def _pass_on(self, message: Message) -> None:
        """Send; if the client is still sending its body, see that it can read the answer."""
        if message["type"] == "http.response.start":
            self._is_started = True
            if not self._is_complete:
                message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        elif not message.get("more_body", False) and not self._is_complete and not self._is_receiving:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _linger(self) -> None:
        """Read on for a while: closing a connection with unread data in it would take the answer back."""
        deadline = time.monotonic() + self._policy.linger_seconds
        allowance = self._received + 4 * self._policy.max_body_bytes
        while not self._is_complete and self._received < allowance and (rest := deadline - time.monotonic()) > 0:
            try:
                self._note(await asyncio.wait_for(self._receive(), rest))
            except asyncio.TimeoutError:
                return
