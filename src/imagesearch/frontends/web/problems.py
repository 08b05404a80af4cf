"""Errors as problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


def problem_response(
    status: int, title: str, detail: str = "", *, kind: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """A problem as a response.

    Args:
        status: HTTP's.
        title: what kind of problem it is, the same for all of its kind.
        detail: what happened this time, and what to do.
        kind: names the kind for programs; it is never renamed.
    """
    body = {
        "type": f"urn:imagesearch:problem:{kind}" if kind else "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
    }
    content = json.dumps(body).encode("ascii")
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE)
