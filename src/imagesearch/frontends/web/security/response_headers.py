"""Headers that every response carries, whatever made it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from imagesearch.frontends.web.security.policy import Policy

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
    )
)
# An <input type=file capture> opens the camera of a telephone without any of these.
_DENIED_FEATURES = ", ".join(
    f"{feature}=()"
    for feature in (
        "camera",
        "microphone",
        "geolocation",
        "display-capture",
        "payment",
        "usb",
        "serial",
        "hid",
        "midi",
    )
)

# Set in place of what the application says.
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"permissions-policy", _DENIED_FEATURES.encode()),
)
_POLICY_HEADER = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode())
_REPLACED = frozenset(name for name, _ in SECURITY_HEADERS) | {b"server", b"x-powered-by"}


class ResponseHeaders:
    """Adds the headers to what passes."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                is_api = self._policy.is_api(scope["path"])
                message = {
                    **message,
                    "headers": secured_headers(message.get("headers", ()), message["status"], is_api),
                }
            await send(message)

        await self._app(scope, receive, send_secured)


def secured_headers(
    headers: Iterable[tuple[bytes, bytes]], status: int, is_api: bool = True
) -> list[tuple[bytes, bytes]]:
    """The headers of a response with those of this module.

    A content security policy of the application's own is kept beside this one: browsers obey both.

    Args:
        is_api: whether JSON without a word on caching is to be kept nowhere.
    """
    kept = [(name.lower(), value) for name, value in headers]
    kept = [pair for pair in kept if pair[0] not in _REPLACED and not pair[0].startswith(b"access-control-")]
    names = {name for name, _ in kept}
    if b"cache-control" not in names and (status >= 400 or b"set-cookie" in names or (is_api and _is_json(kept))):
        kept.append((b"cache-control", b"no-store"))
    return [*kept, *SECURITY_HEADERS, _POLICY_HEADER]


def _is_json(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(name == b"content-type" and b"json" in value for name, value in headers)
