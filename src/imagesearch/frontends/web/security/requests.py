"""What the layers read of a request, and the state that they leave in its ASGI scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from starlette.types import Scope

# Where the rights of whoever sent a request lie in the state of its ASGI scope.
SCOPE = "imagesearch.scope"
# "owner": the user who started the server, may index any folder. "user": may use it. "nobody": has shown nothing,
# and sees open paths only.
Rights = Literal["owner", "user", "nobody"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value that a request gives to a header, in order.

    Args:
        name: in lower case.
    """
    return [value.decode("latin-1").strip() for key, value in scope["headers"] if key.lower() == name]


def header(scope: Scope, name: bytes) -> str | None:
    """The value of a header; None if the request lacks it, and the last one of several."""
    values = header_values(scope, name)
    return values[-1] if values else None


def state_of(scope: Scope) -> dict[str, Any]:
    """The state of a request, which the layers and the application share."""
    state: dict[str, Any] = scope.setdefault("state", {})
    return state


def rights_of(scope: Scope) -> Rights:
    """The rights of whoever sent the request, as the security layer found them."""
    rights: Rights = scope.get("state", {}).get(SCOPE, "nobody")
    return rights


def has_body(scope: Scope) -> bool:
    """Whether the request announces a body that is not empty."""
    lengths = header_values(scope, b"content-length")
    return bool(header_values(scope, b"transfer-encoding")) or any(length != "0" for length in lengths)


def is_navigation(scope: Scope) -> bool:
    """Whether a browser asks for a page to show in a tab, as far as it says."""
    if scope["method"] not in ("GET", "HEAD"):
        return False
    mode = header(scope, b"sec-fetch-mode")
    if mode is not None:
        return mode == "navigate" and header(scope, b"sec-fetch-dest") in (None, "document")
    return "text/html" in (header(scope, b"accept") or "")
