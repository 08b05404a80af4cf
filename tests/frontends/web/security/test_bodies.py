"""Bodies that are too long or too slow end, with an answer."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.frontends.web.security.layers import secured

from .harness import OPEN, Reply, Request, ask, exchange, small_app

SMALL = dataclasses.replace(OPEN, max_body_bytes=1000, body_seconds=0.2, linger_seconds=0.2)
CHUNKED = ("transfer-encoding", "chunked")


def test_a_body_of_the_longest_length_passes() -> None:
    app = secured(small_app, SMALL)
    assert ask(app, "POST", "/api/x", parts=(b"x" * 1000,)).json["size"] == 1000
    assert ask(app, "POST", "/api/x", CHUNKED, parts=(b"x" * 500, b"x" * 500)).status == 400  # length and chunks


@pytest.mark.parametrize("length", ["1001", "25000001", "9" * 20, "9" * 30])
def test_an_announced_length_is_refused_before_anything_is_read(length: str) -> None:
    async def never(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("reached")

    reply = ask(secured(never, SMALL), "POST", "/api/x", ("content-length", length), extra={"parts": ()})
    assert reply.status == 413
    assert "1,000 bytes" in reply.json["detail"]
    assert reply.header("connection") == "close"


def send_chunks(app: Any, *parts: bytes) -> Reply:
    """A body whose length was not announced."""
    request = Request("POST", "/api/x", (("host", "localhost:8000"), CHUNKED, ("content-length", "")), parts)
    scope = request.scope()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    return asyncio.run(exchange(app, dataclasses.replace(request, extra={"headers": scope["headers"]})))


@given(st.lists(st.integers(0, 700), min_size=1, max_size=6))
def test_the_bound_counts_what_arrives(sizes: list[int]) -> None:
    reply = send_chunks(secured(small_app, SMALL), *(bytes(size) for size in sizes))
    if sum(sizes) <= 1000:
        assert (reply.status, reply.json["size"]) == (200, sum(sizes))
    else:
        # The application hears of a disconnect; what it answers then is not sent.
        assert reply.status == 413


def drip(policy: Any, seconds: float, path: str = "/api/x") -> tuple[Reply, float]:
    """A body that arrives byte by byte and never ends."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    request = Request("POST", path, (("host", "localhost:8000"), ("content-length", "900")))
    started = time.monotonic()
    asyncio.run(secured(small_app, policy)(request.scope(), receive, send))
    assert not sent[-1].get("more_body", False)
    headers = [(name.decode(), value.decode()) for name, value in sent[0]["headers"]]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], headers, body), time.monotonic() - started


@pytest.mark.parametrize("seconds", [0.01, 1000])
def test_a_slow_body_is_refused(seconds: float) -> None:
    reply, took = drip(SMALL, seconds)
    assert reply.status == 408
    assert reply.header("connection") == "close"
    assert "0.2 seconds" in reply.json["detail"]
    assert took < 3


def test_an_early_answer_does_not_wait_for_an_endless_body() -> None:
    reply, took = drip(SMALL, 0.01, "/api/early")
    assert reply.status == 200
    assert reply.header("connection") == "close"
    assert took < 3


def test_a_request_without_a_body_keeps_its_connection() -> None:
    app = secured(small_app, SMALL)
    assert ask(app, "GET", "/api/early").header("connection") is None
    assert ask(app, "POST", "/api/early", ("content-length", "0")).header("connection") is None
    assert ask(app, "POST", "/api/x", parts=(b"x",)).header("connection") is None


def test_an_answer_that_began_is_cut_off() -> None:
    """There is no second status to send; the server closes an answer that stays incomplete."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.body", "body": b"as if nothing were wrong"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 600, "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    request = Request("POST", "/api/x", (("host", "localhost:8000"), CHUNKED))
    asyncio.run(secured(app, SMALL)(request.scope(), receive, send))
    assert [message["type"] for message in sent] == ["http.response.start"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((("x-long", "x" * 65_536),), 431),
        (tuple((f"x-{number}", "") for number in range(100)), 431),
        ((("x-long", "x" * 60_000),), 200),
        ((("content-length", "3"), ("transfer-encoding", "chunked")), 400),
    ],
)
def test_headers_are_bounded(headers: tuple[tuple[str, str], ...], status: int) -> None:
    assert ask(secured(small_app, OPEN), "GET", "/api/x", *headers).status == status


def test_addresses_are_bounded() -> None:
    app = secured(small_app, OPEN)
    assert ask(app, "GET", "/" + "x" * 8192).status == 414
    assert ask(app, "GET", "/?" + "x" * 8192).status == 414
    assert ask(app, "GET", "/?" + "x" * 8000).status == 200
