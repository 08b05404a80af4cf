"""Lets in who shows a token or has logged in, and says who it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response

from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.security.credentials import Doorkeeper, Verdict
from imagesearch.frontends.web.security.login_page import followed_link_page, safe_next
from imagesearch.frontends.web.security.policy import LOGIN_PATH, Policy
from imagesearch.frontends.web.security.request_check import raw_path
from imagesearch.frontends.web.security.requests import SCOPE, header, is_navigation, state_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class Authentication:
    """Everything needs rights, except the paths that the policy opens.

    The rights are left in the state of the scope for the application (``requests.rights_of``).
    """

    def __init__(self, app: ASGIApp, policy: Policy, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._policy = policy
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its rights, or refuse it."""
        verdict = self._doorkeeper.judge(scope)
        state_of(scope)[SCOPE] = verdict.rights
        is_open = scope["path"] in self._policy.open_paths
        if verdict.rights != "nobody" or (is_open and not verdict.is_wrong):
            await self._app(scope, receive, send)
        elif self._doorkeeper.needs_login and not verdict.is_wrong and self._is_for_people(scope):
            await _to_login(scope)(scope, receive, send)
        else:
            await ProblemResponse(refusal(verdict))(scope, receive, send)

    def _is_for_people(self, scope: Scope) -> bool:
        return is_navigation(scope) and not self._policy.is_api(scope["path"])


def refusal(verdict: Verdict) -> Problem:
    """What is answered to somebody without rights."""
    if verdict.wait > 0:
        return Problem(
            status=429,
            detail="too many wrong tokens came from this address",
            headers=(("Retry-After", str(math.ceil(verdict.wait))),),
        )
    challenge = 'Bearer realm="imagesearch"' + (', error="invalid_token"' if verdict.is_wrong else "")
    detail = "the token is wrong" if verdict.is_wrong else "this needs a token: send 'Authorization: Bearer TOKEN'"
    return Problem(status=401, detail=detail, headers=(("WWW-Authenticate", challenge),))


def _to_login(scope: Scope) -> Response:
    query = scope["query_string"].decode("latin-1")
    target = safe_next(raw_path(scope).decode("latin-1") + (f"?{query}" if query else ""))
    if header(scope, b"sec-fetch-site") in ("cross-site", "same-site"):
        return Response(followed_link_page(target), media_type="text/html", headers={"Cache-Control": "no-store"})
    suffix = f"?next={quote(target, safe='/')}" if target != "/" else ""
    return Response(status_code=303, headers={"Location": LOGIN_PATH + suffix, "Cache-Control": "no-store"})
