"""What a request shows to be let in: a token in a header, or the cookie of a login."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.request_check import single_host
from imagesearch.frontends.web.security.requests import Rights, header, header_values
from imagesearch.frontends.web.security.sessions import Attempts, Clock, Sessions
from imagesearch.frontends.web.security.tokens import Secret

if TYPE_CHECKING:
    from starlette.types import Scope

_BEARER = re.compile(r"bearer +(?P<token>[!-~]{1,512})\Z", re.IGNORECASE)
# Cookies of one name for several paths or hosts: more than one is no login of ours.
_MOST_COOKIES = 4


@dataclass(frozen=True)
class Verdict:
    """What the credentials of a request are worth.

    Attributes:
        rights: of whoever sent it.
        is_wrong: whether a token was shown that lets nobody in.
        wait: seconds until this address may show a token again; 0 if it may.
    """

    rights: Rights
    is_wrong: bool = False
    wait: float = 0.0


class Doorkeeper:
    """Knows the secrets, the logins, and who guessed how often.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, policy: Policy, clock: Clock = time.monotonic) -> None:
        self._token = Secret(policy.token) if policy.token is not None else None
        self._owner = Secret(policy.owner_secret) if policy.owner_secret is not None else None
        self._attempts = Attempts(free=policy.free_attempts, clock=clock)
        self.sessions = Sessions(seconds=policy.session_seconds, most=policy.max_sessions, clock=clock)

    @property
    def needs_login(self) -> bool:
        """Whether there is a token at all; without one everybody who reaches the server is a user."""
        return self._token is not None

    def judge(self, scope: Scope) -> Verdict:
        """What a request may do."""
        shown = header_values(scope, b"authorization")
        if shown:
            match = _BEARER.match(shown[0]) if len(shown) == 1 else None
            return self.judge_token(match["token"] if match else "", scope, with_owner=True)
        if self._token is None or any(self.sessions.is_open(identifier) for identifier in session_ids(scope)):
            return Verdict("user")
        return Verdict("nobody")

    def judge_token(self, token: str, scope: Scope, *, with_owner: bool = False) -> Verdict:
        """What a token is worth.

        Args:
            with_owner: whether it may be the owner's secret, which never logs a browser in.
        """
        # Random by construction, so it cannot be guessed; and nobody who guesses may lock the owner out.
        if with_owner and self._owner is not None and self._owner.matches(token):
            return Verdict("owner")
        client = _client(scope)
        if (wait := self._attempts.wait(client)) > 0:
            return Verdict("nobody", is_wrong=True, wait=wait)
        if self._token is not None and self._token.matches(token):
            self._attempts.succeeded(client)
            return Verdict("user")
        self._attempts.failed(client)
        return Verdict("nobody", is_wrong=True)


def session_ids(scope: Scope) -> list[str]:
    """The ids of logins that a request's cookies claim."""
    name = cookie_name(scope)
    pairs = [pair.strip().partition("=") for line in header_values(scope, b"cookie") for pair in line.split(";")]
    return [value for key, _, value in pairs if key == name][:_MOST_COOKIES]


def session_cookie(scope: Scope, identifier: str, seconds: float) -> str:
    """The header ``Set-Cookie`` of a login; of a logout, with 0 seconds."""
    attributes = "; HttpOnly; SameSite=Strict; Path=/" + ("; Secure" if _is_encrypted(scope) else "")
    return f"{cookie_name(scope)}={identifier}; Max-Age={int(seconds)}{attributes}"


def cookie_name(scope: Scope) -> str:
    """The name of the cookie: browsers send cookies to all ports of a host, so it names the port.

    With TLS its beginning makes browsers refuse it from anybody but this host by TLS.
    """
    if _is_encrypted(scope):
        return "__Host-imagesearch"
    host = single_host(scope)
    return f"imagesearch-{host.port_for('http') if host else 80}"


def _is_encrypted(scope: Scope) -> bool:
    """Whether the browser's side of the connection is, as a proxy says; who lies spoils his own cookie only."""
    return scope.get("scheme") == "https" or header(scope, b"x-forwarded-proto") == "https"


def _client(scope: Scope) -> str:
    client = scope.get("client")
    return str(client[0]) if client else ""
