"""Problem details are as RFC 9457 wants them, whatever is in the text."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.frontends.web.problems import Problem, ProblemResponse, rendered


def test_a_problem_is_complete() -> None:
    problem = Problem(status=404, detail="there is no picture 7", headers=(("Retry-After", "5"),), extra={"id": 7})
    body, headers = rendered(problem, "abc")
    assert json.loads(body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "there is no picture 7",
        "instance": "abc",
        "id": 7,
    }
    assert dict(headers) == {
        b"content-type": b"application/problem+json",
        b"content-length": str(len(body)).encode(),
        b"retry-after": b"5",
    }


def test_the_standard_members_cannot_be_replaced() -> None:
    body, _ = rendered(Problem(status=400, detail="right", extra={"status": 200, "detail": "wrong"}))
    assert (json.loads(body)["status"], json.loads(body)["detail"]) == (400, "right")


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_survives(detail: str) -> None:
    """Halves of surrogate pairs too, which stand in file names that are no UTF-8."""
    body, _ = rendered(Problem(status=400, detail=detail))
    assert body.isascii()
    assert b"\n" not in body
    # Two halves that follow each other are one character in JSON.
    decoded = json.loads(body)["detail"]
    assert decoded.encode("utf-16-le", "surrogatepass") == detail.encode("utf-16-le", "surrogatepass")


@pytest.mark.parametrize("state", [{}, {"state": {}}, {"state": {"imagesearch.request_id": "r1"}}])
def test_the_response_names_its_request(state: dict[str, object]) -> None:
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        raise AssertionError("a problem reads no body")

    response = ProblemResponse(Problem(status=503, detail="busy", headers=(("Retry-After", "2"),)))
    response.headers["X-Other"] = "kept"
    asyncio.run(response({"type": "http", **state}, receive, send))  # type: ignore[arg-type]
    start, body = sent
    assert start["status"] == 503
    headers = dict(start["headers"])  # type: ignore[call-overload]
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"retry-after"] == b"2"
    assert headers[b"x-other"] == b"kept"
    assert headers[b"content-length"] == str(len(body["body"])).encode()  # type: ignore[arg-type]
    assert json.loads(body["body"]).get("instance") == ("r1" if state.get("state") else None)  # type: ignore[arg-type]
