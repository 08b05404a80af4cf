"""What other websites can make a browser send is not answered, logged in or not."""

from __future__ import annotations

import itertools

import pytest

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import Policy, policy_for

from .harness import CLOSED, OPEN, TOKEN, ask, bearer, small_app
from .test_login import cookie_of, log_in

UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "MKCOL")
FOREIGN_ORIGINS = [
    "https://evil.example",
    "http://evil.example:8000",
    "http://localhost",
    "http://localhost:3000",
    "https://localhost:8000.evil.example",
    "http://127.0.0.1:8000",  # another origin than localhost, where it was not opened
    "http://localhost:8000.evil.example",
    "http://localhost:8000@evil.example",
    "chrome-extension://abcdefgh",
    "file://",
    "null",
    "",
    "*",
]


def verdict(policy: Policy, method: str, path: str, *headers: tuple[str, str], **options: object) -> int:
    """The status, asked with everything that lets one in."""
    app = secured(small_app, policy)
    if policy.token is not None:
        headers = (*headers, ("cookie", cookie_of(log_in(app))))
    return ask(app, method, path, *headers, **options).status


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_foreign_origins_are_refused(policy: Policy, origin: str) -> None:
    for method, path in itertools.product(("GET", *UNSAFE), ("/api/v1/search", "/", "/healthz", "/mcp")):
        assert verdict(policy, method, path, ("origin", origin)) == 403
    assert verdict(policy, "POST", "/api/v1/search", ("origin", origin), ("sec-fetch-site", "same-origin")) == 403


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "nonsense", "same-origin, cross-site"])
def test_foreign_pages_are_refused(policy: Policy, site: str) -> None:
    """A page of another port of this machine counts as the same site, so that is not enough."""
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("no-cors", "script"), ("navigate", "iframe")):
        headers = (("sec-fetch-site", site), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest))
        for method, path in itertools.product(("GET", "HEAD", "POST"), ("/api/v1/search", "/", "/static/app.js")):
            assert verdict(policy, method, path, *headers) == 403
    assert verdict(policy, "GET", "/", ("sec-fetch-site", site), ("sec-fetch-mode", "navigate")) == 403
    link = (("sec-fetch-site", site), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
    assert verdict(policy, "POST", "/", *link) == 403
    assert verdict(policy, "GET", "/api/v1/pictures/1/original", *link) == 403
    assert verdict(policy, "GET", "/metrics", *link) == 403


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_links_to_pages_may_be_followed(policy: Policy) -> None:
    link = (("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"))
    assert verdict(policy, "GET", "/?text=beach", *link) == 200


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
def test_own_pages_may_do_everything(policy: Policy) -> None:
    for method in ("GET", *UNSAFE):
        assert verdict(policy, method, "/api/v1/x", ("sec-fetch-site", "same-origin")) == 200
        assert verdict(policy, method, "/api/v1/x", ("origin", "http://localhost:8000")) == 200
    assert verdict(policy, "GET", "/", ("sec-fetch-site", "none"), ("sec-fetch-mode", "navigate")) == 200
    assert verdict(policy, "POST", "/api/v1/x", ("sec-fetch-site", "none")) == 403


def test_a_form_of_another_site_does_nothing_even_from_an_old_browser() -> None:
    """Without Origin and Sec-Fetch-Site nothing tells whose form it is."""
    form = ("content-type", "application/x-www-form-urlencoded")
    multipart = ("content-type", "multipart/form-data; boundary=x")
    text = ("content-type", "text/plain")
    for kind in (form, multipart, text):
        assert verdict(CLOSED, "POST", "/api/v1/jobs", kind, parts=(b"folder=/",)) == 403
        assert verdict(OPEN, "POST", "/api/v1/jobs", kind, ("user-agent", "Mozilla/4.0"), parts=(b"x",)) == 403
        assert verdict(OPEN, "POST", "/api/v1/jobs", kind, ("cookie", "of=another"), parts=(b"x",)) == 403
    assert verdict(OPEN, "POST", "/logout", ("cookie", "imagesearch-8000=x")) == 403


def test_programs_need_to_say_nothing() -> None:
    multipart = ("content-type", "multipart/form-data; boundary=x")
    for agent in ("curl/8.0", "python-httpx/0.28", "imagesearch/1"):
        assert ask(secured(small_app, OPEN), "POST", "/api/x", multipart, ("user-agent", agent)).status == 200
    assert ask(secured(small_app, CLOSED), "POST", "/api/x", multipart, bearer(TOKEN)).status == 200


def test_a_foreign_page_cannot_use_a_token_that_it_stole() -> None:
    for header in (("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")):
        assert ask(secured(small_app, CLOSED), "POST", "/api/x", header, bearer(TOKEN)).status == 403


@pytest.mark.parametrize("policy", [OPEN, CLOSED])
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:8000", "null"])
def test_no_preflight_succeeds(policy: Policy, origin: str) -> None:
    headers = (("origin", origin), ("access-control-request-method", "POST"))
    app = secured(small_app, policy)
    for path in ("/api/v1/search", "/healthz", "/login"):
        reply = ask(
            app, "OPTIONS", path, *headers, ("access-control-request-private-network", "true"), bearer(TOKEN)
        )
        assert reply.status == 403
        assert not [name for name, _ in reply.headers if name.startswith("access-control-")]


def test_a_foreign_page_cannot_log_somebody_in() -> None:
    """Or its author could watch what is searched for under a login of his own."""
    app = secured(small_app, CLOSED)
    for header in (
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("user-agent", "Mozilla/5.0"),
    ):
        reply = ask(
            app, "POST", "/login", header, ("content-type", "application/json"), parts=(b'{"token": "x"}',)
        )
        assert reply.status == 403
        assert reply.header("set-cookie") is None


@pytest.mark.parametrize("name", ["origin", "sec-fetch-site"])
def test_what_a_browser_says_it_says_once(name: str) -> None:
    values = {
        "origin": ("http://localhost:8000", "https://evil.example"),
        "sec-fetch-site": ("same-origin", "none"),
    }
    for first, second in (values[name], values[name][::-1]):
        assert verdict(OPEN, "GET", "/api/x", (name, first), (name, second)) == 403


def test_behind_a_proxy_that_ends_tls_the_page_is_https() -> None:
    app = secured(small_app, policy_for("127.0.0.1", 8000, TOKEN, hosts=["photos.example"]))

    def status(origin: str, **options: object) -> int:
        headers = (("host", "photos.example"), ("origin", origin), bearer(TOKEN))
        return ask(app, "POST", "/api/x", *headers, **options).status

    assert status("https://photos.example") == 200
    assert status("https://photos.example:443") == 200
    assert status("https://photos.example:8443") == 403
    assert status("https://evil.example") == 403
    assert status("https://photos.example", scheme="https") == 200
    assert status("http://photos.example", scheme="https") == 403
