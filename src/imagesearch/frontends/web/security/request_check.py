"""The shape of a request: its host, its size, its path, and no secret in its address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.security.authorities import Authority, parse_authority
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.requests import header_values

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SECRET_FIELDS = frozenset(
    {"token", "access_token", "auth_token", "key", "api_key", "apikey", "secret", "password", "authorization"}
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\\]")


class RequestCheck:
    """Refuses malformed requests and those sent to another host, before anything else looks at them."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy
        self._secrets = policy.secrets

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with what is wrong with it."""
        problem = (
            self._wrong_size(scope) or self._wrong_host(scope) or self._wrong_target(scope) or self._leaked(scope)
        )
        await (self._app if problem is None else ProblemResponse(problem))(scope, receive, send)

    def _wrong_size(self, scope: Scope) -> Problem | None:
        policy = self._policy
        target = len(raw_path(scope)) + len(scope["query_string"])
        if target > policy.max_target_bytes:
            return Problem(status=414, detail=f"the address is longer than {policy.max_target_bytes} bytes")
        # The parser bounds what it waits for, not what arrives at once.
        total = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if total > policy.max_header_bytes or len(scope["headers"]) > policy.max_headers:
            return Problem(
                status=431,
                detail=f"more than {policy.max_header_bytes} bytes or {policy.max_headers} lines of headers",
            )
        # Which of the two counts is where proxies and servers disagree, and requests are smuggled.
        if header_values(scope, b"content-length") and header_values(scope, b"transfer-encoding"):
            return Problem(status=400, detail="Content-Length and Transfer-Encoding exclude each other")
        return None

    def _wrong_host(self, scope: Scope) -> Problem | None:
        host = single_host(scope)
        if host is None:
            return Problem(status=400, detail="the header Host is missing, doubled or malformed")
        if self._policy.allows_host(host, scope.get("scheme", "http")):
            return None
        return Problem(
            status=421,
            detail="this server does not go by that name; if it should, start it with --allow-host NAME",
        )

    def _wrong_target(self, scope: Scope) -> Problem | None:
        path = scope["path"]
        segments = path.split("/")
        if not path.startswith("/") or _UNPRINTABLE.search(path) or "." in segments or ".." in segments:
            return Problem(status=400, detail="the path is malformed")
        return None

    def _leaked(self, scope: Scope) -> Problem | None:
        """Addresses land in histories, logs and bookmarks: what was in one is no secret any more."""
        query = scope["query_string"].decode("latin-1")
        names = [name.lower() for name, _ in parse_qsl(query, keep_blank_values=True, encoding="latin-1")]
        # A plus may be a space, but is a digit in base64.
        written = f"{scope['path']} {unquote(query, encoding='latin-1')}"
        is_within = True in [secret.is_within(written) for secret in self._secrets]
        is_basic = any(value.lower().startswith("basic") for value in header_values(scope, b"authorization"))
        if is_within or is_basic or not _SECRET_FIELDS.isdisjoint(names):
            return Problem(
                status=400,
                detail="a token is never taken from an address: send 'Authorization: Bearer TOKEN', or log in at"
                " /login; if the real token was in it, replace the token",
            )
        return None


def single_host(scope: Scope) -> Authority | None:
    """The host that a request was sent to; None if it does not say so exactly once."""
    values = header_values(scope, b"host")
    return parse_authority(values[0]) if len(values) == 1 else None


def raw_path(scope: Scope) -> bytes:
    """The path as it was sent, percent-encoded."""
    raw = scope.get("raw_path")
    return raw if isinstance(raw, bytes) else scope["path"].encode("utf-8", "surrogateescape")
