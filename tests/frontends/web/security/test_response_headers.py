"""Every response, whatever it is, tells browsers to run, frame, sniff and share nothing."""

from __future__ import annotations

import pytest

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.response_headers import CONTENT_SECURITY_POLICY

from .harness import CLOSED, OPEN, TOKEN, Reply, ask, bearer, small_app

EVERYTHING = {
    200: ("GET", "/api/v1/x", (bearer(TOKEN),)),
    400: ("GET", "/api/v1/x?token=1", ()),
    401: ("GET", "/api/v1/x", ()),
    303: ("GET", "/", (("accept", "text/html"),)),
    403: ("POST", "/api/v1/x", (("origin", "https://evil.example"),)),
    405: ("PUT", "/login", ()),
    413: ("POST", "/api/v1/x", (("content-length", "999999999"),)),
    414: ("GET", "/" + "x" * 9000, ()),
    421: ("GET", "/", (("host", "evil.example"),)),
    431: ("GET", "/", (("x-long", "x" * 70_000),)),
    500: ("GET", "/api/fails", (bearer(TOKEN),)),
}


def directives(reply: Reply) -> dict[str, list[str]]:
    policy = reply.header("content-security-policy")
    assert policy is not None
    return {part.split()[0]: part.split()[1:] for part in policy.split(";")}


@pytest.mark.parametrize("status", EVERYTHING)
def test_on_every_response(status: int) -> None:
    method, path, headers = EVERYTHING[status]
    reply = ask(secured(small_app, CLOSED), method, path, *headers)
    assert reply.status == status
    found = directives(reply)
    assert found["default-src"] == ["'none'"]
    assert found["script-src"] == found["style-src"] == found["connect-src"] == found["form-action"] == ["'self'"]
    assert found["base-uri"] == found["frame-ancestors"] == ["'none'"]
    assert found["img-src"] == ["'self'", "blob:", "data:"]
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("referrer-policy") == "same-origin"
    assert reply.header("cross-origin-opener-policy") == "same-origin"
    assert reply.header("cross-origin-resource-policy") == "same-origin"
    assert reply.header("x-frame-options") == "DENY"
    assert "camera=()" in (reply.header("permissions-policy") or "")
    assert reply.header("x-request-id")
    assert reply.header("server") is None
    assert not [name for name, _ in reply.headers if name.startswith("access-control-")]
    if status != 200:
        assert reply.header("cache-control") == "no-store"


def test_what_the_application_says_cannot_weaken_it() -> None:
    said = (
        (b"Content-Security-Policy", b"default-src *; sandbox"),
        (b"X-Content-Type-Options", b"sniff"),
        (b"X-Frame-Options", b"ALLOWALL"),
        (b"Access-Control-Allow-Origin", b"*"),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Server", b"small/1.0"),
    )
    reply = ask(secured(small_app, OPEN), "GET", "/api/x", extra={"extra_headers": said})
    assert reply.header("x-content-type-options") == "nosniff"
    assert reply.header("x-frame-options") == "DENY"
    assert reply.header("server") is None
    assert not [name for name, _ in reply.headers if name.startswith("access-control-")]
    # Browsers obey each of several policies, so one of its own can only be stricter, such as a sandbox.
    policies = [value for name, value in reply.headers if name == "content-security-policy"]
    assert policies == ["default-src *; sandbox", CONTENT_SECURITY_POLICY]


def test_answers_of_the_api_are_kept_nowhere_unless_they_say_so() -> None:
    app = secured(small_app, OPEN)
    assert ask(app, "GET", "/api/x").header("cache-control") == "no-store"
    assert ask(app, "GET", "/page").header("cache-control") is None
    own = ((b"cache-control", b"private, max-age=60"),)
    assert ask(app, "GET", "/api/x", extra={"extra_headers": own}).header("cache-control") == "private, max-age=60"
    cookie = ((b"set-cookie", b"a=b"),)
    assert ask(app, "GET", "/page", extra={"extra_headers": cookie}).header("cache-control") == "no-store"
