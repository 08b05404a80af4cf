"""The log: one line of JSON per request that nobody outside can forge, and no secrets in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.request_log import LOGGER, current_request_id, log_to

from . import harness
from .harness import CLOSED, OPEN, OWNER, TOKEN, ask, bearer, small_app
from .test_login import cookie_of, log_in


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    loggers = [logging.getLogger(name) for name in (LOGGER, "uvicorn")]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    log_to(stream)
    yield stream
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    text = stream.getvalue()
    assert text.isascii()
    assert all(character == "\n" or character >= " " for character in text)
    return [json.loads(line) for line in text.splitlines()]


def test_a_request_is_one_line(log: io.StringIO) -> None:
    reply = ask(secured(small_app, CLOSED), "GET", "/api/v1/search?text=private+words", bearer(TOKEN))
    (entry,) = entries(log)
    assert entry.pop("time").endswith("+00:00")
    assert 0 <= entry.pop("milliseconds") < 10_000
    assert entry == {
        "level": "info",
        "logger": "imagesearch.web",
        "message": "request",
        "id": reply.header("x-request-id"),
        "client": "127.0.0.1",
        "method": "GET",
        "path": "/api/v1/search",
        "status": 200,
        "bytes": len(reply.body),
        "scope": "user",
    }


def test_refusals_are_logged_too(log: io.StringIO) -> None:
    app = secured(small_app, CLOSED)
    ask(app, "GET", "/api/x")
    ask(app, "GET", "/", ("host", "evil.example"))
    ask(app, "POST", "/api/x", ("content-length", "99999999"))
    assert [(entry["status"], entry["scope"]) for entry in entries(log)] == [
        (401, "nobody"),
        (421, "nobody"),
        (413, "nobody"),
    ]


@pytest.mark.parametrize("given_id", ["a", "A.b_c-9", "x" * 64])
def test_harmless_ids_are_taken_over(given_id: str) -> None:
    reply = ask(secured(small_app, CLOSED), "GET", "/api/x", ("x-request-id", given_id))
    assert reply.header("x-request-id") == given_id
    assert reply.json["instance"] == given_id


@pytest.mark.parametrize("given_id", ["", "x" * 65, "a b", "a\nb", "a\r\nX: y", "a;b", '"', "<b>", "ä", "a\x00"])
def test_other_ids_are_replaced(given_id: str, log: io.StringIO) -> None:
    reply = ask(secured(small_app, OPEN), "GET", "/api/x", ("x-request-id", given_id))
    made = reply.header("x-request-id")
    assert made is not None
    assert made != given_id.strip()
    assert len(made) == 16
    assert entries(log)[0]["id"] == made


def test_two_ids_are_none() -> None:
    made = ask(secured(small_app, OPEN), "GET", "/", ("x-request-id", "one"), ("x-request-id", "two"))
    assert made.header("x-request-id") not in ("one", "two")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=()), max_size=50), st.sampled_from(["GET", "PO\nST", "\x1b[2J"]))
def test_no_path_begins_a_line_of_its_own(log: io.StringIO, path: str, method: str) -> None:
    log.seek(0)
    log.truncate()
    reply = ask(secured(small_app, OPEN), method, "/", extra={"path": f"/{path}", "raw_path": b"/"})
    assert reply.status in (200, 400)
    (entry,) = entries(log)
    assert entry["path"].encode("utf-16", "surrogatepass") == f"/{path}".encode("utf-16", "surrogatepass")


def test_long_paths_are_cut(log: io.StringIO) -> None:
    ask(secured(small_app, OPEN), "GET", "/" + "x" * 8000)
    assert len(entries(log)[0]["path"]) == 500


def test_a_failure_is_answered_without_its_reason_and_logged_with_it(log: io.StringIO) -> None:
    reply = ask(secured(small_app, OPEN), "GET", "/api/fails")
    assert reply.status == 500
    assert reply.json["instance"] == reply.header("x-request-id")
    assert b"broken" not in reply.body
    failure, request = entries(log)
    assert failure["id"] == request["id"] == reply.header("x-request-id")
    assert 'ValueError: broken\n{"forged": true}' in failure["error"]
    assert (request["status"], request["level"]) == (500, "error")


def test_a_failure_that_was_answered_is_only_logged(log: io.StringIO) -> None:
    reply = ask(secured(small_app, OPEN), "GET", "/api/answers-and-fails")
    assert (reply.status, reply.body) == (500, b"{}")
    failure, request = entries(log)
    assert "broken after the answer" in failure["error"]
    assert request["status"] == 500


def test_a_client_that_left_is_no_failure(log: io.StringIO) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Request(scope, receive).body()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError("nobody is there")

    scope = harness.Request("POST", "/api/x", (harness.HOME, ("content-length", "9"))).scope()
    asyncio.run(secured(app, OPEN)(scope, receive, send))
    left, request = entries(log)
    assert (left["level"], request["level"], request["status"]) == ("info", "info", None)


def test_a_failure_in_the_middle_reaches_the_server_without_its_text(log: io.StringIO) -> None:
    with pytest.raises(RuntimeError, match="was cut off") as caught:
        ask(secured(small_app, OPEN), "GET", "/api/breaks")
    assert caught.value.__suppress_context__
    assert "broken in the middle" in entries(log)[0]["error"]


def test_no_secret_is_logged(log: io.StringIO) -> None:
    app = secured(small_app, CLOSED)
    cookie = cookie_of(log_in(app))
    log_in(app, "a-wrong-token-of-somebody")
    for target in ("/api/fails", f"/api/x?token={TOKEN}", f"/x/{TOKEN}", "/api/x"):
        for headers in (
            (bearer(TOKEN),),
            (bearer(OWNER),),
            (("cookie", cookie),),
            (bearer("a-wrong-token-of-somebody"),),
        ):
            ask(app, "GET", target, *headers)
    text = log.getvalue()
    assert len(entries(log)) > 15
    for secret in (TOKEN, OWNER, cookie.partition("=")[2], "a-wrong-token-of-somebody"):
        assert secret not in text


def test_other_lines_carry_the_id_of_their_request(log: io.StringIO) -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(current_request_id())
        logging.getLogger(LOGGER).warning("slow %s", "line\nbreak")
        await small_app(scope, receive, send)

    reply = ask(secured(app, OPEN), "GET", "/api/x")
    assert seen == [reply.header("x-request-id")]
    assert current_request_id() is None
    line, _ = entries(log)
    assert (line["id"], line["message"], line["level"]) == (seen[0], "slow line\nbreak", "warning")
