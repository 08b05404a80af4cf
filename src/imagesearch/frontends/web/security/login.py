"""The paths ``/login``, ``/logout`` and the style sheet of the login page."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.responses import Response

from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.security.authentication import refusal
from imagesearch.frontends.web.security.credentials import Doorkeeper, Verdict, session_cookie, session_ids
from imagesearch.frontends.web.security.login_page import login_page, login_style, safe_next
from imagesearch.frontends.web.security.policy import LOGIN_PATH, LOGIN_STYLE_PATH, LOGOUT_PATH, Policy
from imagesearch.frontends.web.security.requests import header, rights_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_LONGEST_FORM = 8_192
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"


@dataclass(frozen=True)
class _Form:
    token: str
    next_path: str


class _RefusedError(Exception):
    """The form is none; carries the answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Login:
    """Answers the paths of the login; everything else passes."""

    def __init__(self, app: ASGIApp, policy: Policy, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._policy = policy
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on."""
        path, method = scope["path"], scope["method"]
        if path not in (LOGIN_PATH, LOGOUT_PATH, LOGIN_STYLE_PATH):
            await self._app(scope, receive, send)
            return
        allowed = {LOGIN_PATH: ("GET", "HEAD", "POST"), LOGOUT_PATH: ("POST",), LOGIN_STYLE_PATH: ("GET", "HEAD")}[
            path
        ]
        if method not in allowed:
            response: Response = _problem(405, f"{path} takes {', '.join(allowed)} only", Allow=", ".join(allowed))
        elif path == LOGIN_STYLE_PATH:
            response = Response(login_style(), media_type="text/css", headers={"Cache-Control": "max-age=3600"})
        elif path == LOGOUT_PATH:
            response = self._log_out(scope)
        elif method == "POST":
            response = await self._log_in(scope, receive)
        else:
            response = self._show(scope)
        await response(scope, receive, send)

    def _show(self, scope: Scope) -> Response:
        fields = parse_qs(scope["query_string"].decode("latin-1"))
        target = safe_next(fields.get("next", ["/"])[0])
        if rights_of(scope) != "nobody":
            return _see(target)
        return _page(200, target, None)

    async def _log_in(self, scope: Scope, receive: Receive) -> Response:
        try:
            form = await _read_form(scope, receive)
        except _RefusedError as refused:
            return ProblemResponse(refused.problem)
        is_form = _media_type(scope) == _FORM
        if not self._doorkeeper.needs_login:
            return _see(form.next_path) if is_form else Response(status_code=204)
        verdict = self._doorkeeper.judge_token(form.token, scope)
        if verdict.rights == "nobody":
            return _rejected(verdict, form) if is_form else ProblemResponse(refusal(verdict))
        for identifier in session_ids(scope):
            self._doorkeeper.sessions.end(identifier)
        identifier = self._doorkeeper.sessions.begin()
        response = _see(form.next_path) if is_form else Response(status_code=204)
        response.headers["Set-Cookie"] = session_cookie(scope, identifier, self._policy.session_seconds)
        return response

    def _log_out(self, scope: Scope) -> Response:
        for identifier in session_ids(scope):
            self._doorkeeper.sessions.end(identifier)
        wants_page = "text/html" in (header(scope, b"accept") or "")
        response = _see(LOGIN_PATH) if wants_page else Response(status_code=204)
        response.headers["Set-Cookie"] = session_cookie(scope, "", 0)
        return response


def _rejected(verdict: Verdict, form: _Form) -> Response:
    if verdict.wait > 0:
        seconds = math.ceil(verdict.wait)
        message = f"Too many wrong tokens. Try again in {seconds} seconds."
        response = _page(429, form.next_path, message)
        response.headers["Retry-After"] = str(seconds)
        return response
    response = _page(401, form.next_path, "This token is wrong.")
    response.headers["WWW-Authenticate"] = 'Bearer realm="imagesearch", error="invalid_token"'
    return response


async def _read_form(scope: Scope, receive: Receive) -> _Form:
    media_type = _media_type(scope)
    if media_type not in (_FORM, _JSON):
        raise _RefusedError(Problem(status=415, detail=f"a login is {_FORM} or {_JSON}"))
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _RefusedError(Problem(status=400, detail="the request broke off"))
        body += message.get("body", b"")
        if len(body) > _LONGEST_FORM:
            raise _RefusedError(Problem(status=413, detail=f"a login is at most {_LONGEST_FORM:,} bytes long"))
        if not message.get("more_body", False):
            break
    try:
        fields = _json_fields(body) if media_type == _JSON else _form_fields(body)
        return _Form(fields["token"].strip(), safe_next(fields.get("next", "/")))
    except (ValueError, KeyError, RecursionError) as error:
        raise _RefusedError(Problem(status=400, detail="a login has one field 'token', a text")) from error


def _form_fields(body: bytes) -> dict[str, str]:
    fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=10)
    if any(len(values) != 1 for values in fields.values()):
        raise ValueError("a field is given twice")
    return {name: values[0] for name, values in fields.items()}


def _json_fields(body: bytes) -> dict[str, str]:
    content = json.loads(body)
    if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
        raise ValueError("not an object of texts")
    return content


def _media_type(scope: Scope) -> str:
    return (header(scope, b"content-type") or "").partition(";")[0].strip().lower()


def _page(status: int, next_path: str, error: str | None) -> Response:
    page = login_page(next_path, error)
    return Response(page, status_code=status, media_type="text/html", headers={"Cache-Control": "no-store"})


def _see(target: str) -> Response:
    return Response(status_code=303, headers={"Location": target, "Cache-Control": "no-store"})


def _problem(status: int, detail: str, **headers: str) -> ProblemResponse:
    return ProblemResponse(Problem(status=status, detail=detail, headers=tuple(headers.items())))
