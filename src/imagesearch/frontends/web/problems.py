"""Errors as problem details (RFC 9457): one shape for everything that is refused or fails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MEDIA_TYPE = "application/problem+json"
# Where the id of a request lies in the state of its ASGI scope.
REQUEST_ID = "imagesearch.request_id"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What went wrong with one request.

    Attributes:
        status: of the response, 400 to 599.
        detail: one line for people: what happened and what to do about it; any text, because it travels as JSON.
        title: the same for every problem of its kind; by default the standard phrase of the status.
        type: a URI that names the kind of problem.
        headers: of the response, besides its type and length.
        extra: members of the object besides the standard ones.
    """

    status: int
    detail: str
    title: str | None = None
    type: str = "about:blank"
    headers: tuple[tuple[str, str], ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


def rendered(problem: Problem, instance: str | None = None) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body of a response and its headers, names in lower case.

    Args:
        instance: the id of the request.
    """
    content: dict[str, object] = {
        **problem.extra,
        "type": problem.type,
        "title": problem.title or _phrase(problem.status),
        "status": problem.status,
        "detail": problem.detail,
    }
    if instance is not None:
        content["instance"] = instance
    # In ASCII, because file names may hold halves of surrogate pairs, which UTF-8 does not have.
    body = json.dumps(content, allow_nan=False).encode("ascii")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    return body, headers + [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in problem.headers
    ]


def request_id(scope: Mapping[str, Any]) -> str | None:
    """The id of the request of an ASGI scope; None before it has one."""
    identifier = scope.get("state", {}).get(REQUEST_ID)
    return identifier if isinstance(identifier, str) else None


class ProblemResponse(Response):
    """A problem as an ASGI response; ``instance`` is filled in from the request that it answers."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem) -> None:
        super().__init__(status_code=problem.status, headers=dict(problem.headers))
        self.problem = problem

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        self.body, _ = rendered(self.problem, request_id(scope))
        self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
