"""Requests that another website makes a browser send are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesearch.frontends.web.problems import Problem, ProblemResponse
from imagesearch.frontends.web.security.authorities import parse_origin
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.security.request_check import single_host
from imagesearch.frontends.web.security.requests import SAFE_METHODS, header, header_values, is_navigation

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send


class CrossSite:
    """Lets browsers in from the server's own pages only; from others they may follow a link to a page.

    A page that another port of this machine serves is another one too, although browsers call it the same site.
    """

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        reason = self._suspicion(scope)
        if reason is None:
            await self._app(scope, receive, send)
        else:
            await ProblemResponse(Problem(status=403, detail=reason))(scope, receive, send)

    def _suspicion(self, scope: Scope) -> str | None:
        if scope["method"] == "OPTIONS" and header(scope, b"access-control-request-method") is not None:
            return "pages of other sites may not use this server (CORS is off)"
        sites, origins = header_values(scope, b"sec-fetch-site"), header_values(scope, b"origin")
        if len(sites) > 1 or len(origins) > 1:
            return "Origin and Sec-Fetch-Site are given at most once"
        if origins and not _is_own(scope, origins[0]):
            return "the request comes from a page of another site (Origin)"
        is_safe = scope["method"] in SAFE_METHODS
        # "none": typed into the address bar, or a bookmark.
        own_sites = ("same-origin", "none") if is_safe else ("same-origin",)
        if sites and sites[0] not in own_sites and not self._is_followed_link(scope):
            return "the request comes from a page of another site (Sec-Fetch-Site)"
        if not is_safe and not origins and not sites and _is_browser(scope):
            return "a browser that sends neither Origin nor Sec-Fetch-Site cannot be told from an attack"
        return None

    def _is_followed_link(self, scope: Scope) -> bool:
        """Whether it only shows a page in a tab; the session's cookie does not come along (SameSite=Strict)."""
        declared = (
            header(scope, b"sec-fetch-mode") == "navigate" and header(scope, b"sec-fetch-dest") == "document"
        )
        return declared and is_navigation(scope) and not self._policy.is_api(scope["path"])


def _is_own(scope: Scope, text: str) -> bool:
    origin, host = parse_origin(text), single_host(scope)
    if origin is None or host is None:
        return False
    scheme, authority = origin
    # Behind a proxy that ends TLS the page is https although the request to here is not.
    is_downgrade = scope.get("scheme") == "https" and scheme != "https"
    same = (authority.host, authority.port_for(scheme)) == (host.host, host.port_for(scheme))
    return same and not is_downgrade


def _is_browser(scope: Scope) -> bool:
    """Whether it carries what browsers add by themselves: cookies, or the name that they all go by."""
    agent = header(scope, b"user-agent") or ""
    return header(scope, b"cookie") is not None or agent.startswith("Mozilla/")
