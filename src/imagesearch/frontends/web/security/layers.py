"""The layers in their order, around an application."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from imagesearch.frontends.web.security.authentication import Authentication
from imagesearch.frontends.web.security.bodies import BodyLimits
from imagesearch.frontends.web.security.credentials import Doorkeeper
from imagesearch.frontends.web.security.cross_site import CrossSite
from imagesearch.frontends.web.security.login import Login
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.request_check import RequestCheck
from imagesearch.frontends.web.security.request_log import Failures, RequestLog
from imagesearch.frontends.web.security.response_headers import ResponseHeaders
from imagesearch.frontends.web.security.sessions import Clock

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


def secured(app: ASGIApp, policy: Policy, *, clock: Clock = time.monotonic) -> ASGIApp:
    """An application that only sees the requests that the policy lets through.

    Its requests carry an id and the rights of the sender in ``scope["state"]`` (``problems.request_id``,
    ``requests.rights_of``). The start and end of the server (``lifespan``) pass; WebSockets are refused.

    Args:
        clock: seconds that never go back; for the end of logins and the wait after wrong tokens.
    """
    doorkeeper = Doorkeeper(policy, clock)
    # From the inside out: the last one sees a request first. Whatever answers early leaves a body unread, so the
    # layer that deals with that is around all that refuse.
    guarded: ASGIApp = Login(app, policy, doorkeeper)
    guarded = Authentication(guarded, policy, doorkeeper)
    guarded = CrossSite(guarded, policy)
    guarded = RequestCheck(guarded, policy)
    guarded = Failures(guarded)
    guarded = BodyLimits(guarded, policy)
    guarded = RequestLog(guarded, policy)
    outermost = ResponseHeaders(guarded, policy)

    async def secured_app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await outermost(scope, receive, send)
        elif scope["type"] == "lifespan":
            await app(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    return secured_app
