"""What routes share: how answers are sent, which problems they may have, and what they are given."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Response

from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.replies import Problem
from imagesearch.frontends.web.security.requests import rights_of
from imagesearch.search.wire import to_json

# Of every route that can refuse a request.
_REASONS = {
    400: "the request makes no sense",
    401: "a token is needed",
    403: "not allowed",
    404: "not found",
    408: "the body came too slowly",
    409: "the collection cannot be searched like this",
    413: "the body or the picture is too large",
    414: "the address is too long",
    421: "the server does not go by this name",
    422: "a value or a picture cannot be used",
    429: "too many wrong tokens",
    431: "the headers are too long",
    503: "too busy, or the model or the database cannot be reached; Retry-After says when to try again",
}
_USUAL = (400, 401, 403, 414, 421, 422, 429, 431, 503)


def problems(*more: int) -> dict[int | str, dict[str, Any]]:
    """For ``responses=`` of a route: the usual problems and these."""
    schema = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _REASONS[status], "content": schema, "model": Problem}
        for status in sorted({*_USUAL, *more})
    }


def links(key: str, *operations: str) -> dict[str, Any]:
    """Links of OpenAPI: what an answer names, and which operations take it as their ``key``.

    Args:
        key: where it stands in the body, as a JSON pointer.
        operations: their ids.
    """
    return {
        "links": {
            name: {"operationId": name, "parameters": {"key": f"$response.body#{key}"}} for name in operations
        }
    }


class ApiResponse(Response):
    """JSON in ASCII: paths may hold bytes that are not valid text."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """See :func:`imagesearch.search.wire.to_json`."""
        return to_json(content)


async def _backend(request: Request) -> Backend:  # not in a thread of its own, as a plain function would be
    backend: Backend = request.app.state.backend
    return backend


ServedBy = Annotated[Backend, Depends(_backend)]


def is_owner(request: Request) -> bool:
    """Whether the owner of the database asks, who may index any folder."""
    return rights_of(request.scope) == "owner"


def is_fresh(request: Request, etag: str | None) -> bool:
    """Whether the client has this version already (RFC 9110, section 13.1.2); never, of what has no tag."""
    if etag is None:
        return False
    tags = request.headers.get("if-none-match", "")
    return tags.strip() == "*" or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
