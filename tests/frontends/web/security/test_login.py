"""Logging in and out with a browser, and what the login page lets through."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.login_page import login_page, safe_next

from .harness import CLOSED, OPEN, OWNER, TOKEN, Reply, ask, bearer, small_app
from .test_authentication import Clock

FORM = ("content-type", "application/x-www-form-urlencoded")
JSON = ("content-type", "application/json")
OURS = (("origin", "http://localhost:8000"), ("sec-fetch-site", "same-origin"))


def log_in(
    app: object, token: str = TOKEN, next_path: str = "/", *headers: tuple[str, str], **options: object
) -> Reply:
    body = urlencode({"token": token, "next": next_path}).encode()
    return ask(app, "POST", "/login", FORM, *OURS, *headers, parts=(body,), **options)


def cookie_of(reply: Reply) -> str:
    return (reply.header("set-cookie") or "").partition(";")[0]


def test_the_right_token_begins_a_login() -> None:
    app = secured(small_app, CLOSED)
    reply = log_in(app, next_path="/search?text=a%20b")
    assert (reply.status, reply.header("location")) == (303, "/search?text=a%20b")
    cookie, _, attributes = (reply.header("set-cookie") or "").partition("; ")
    name, _, value = cookie.partition("=")
    assert name == "imagesearch-8000"  # cookies are sent to all ports of a host
    assert len(value) == 43
    assert TOKEN not in cookie
    assert attributes == "Max-Age=43200; HttpOnly; SameSite=Strict; Path=/"
    assert reply.header("cache-control") == "no-store"
    inside = ask(app, "GET", "/api/x", ("cookie", f"other=1; {cookie}; more=2"))
    assert inside.json["rights"] == "user"


def test_behind_tls_the_cookie_is_sent_by_tls_only() -> None:
    for options, headers in (({"scheme": "https"}, ()), ({}, (("x-forwarded-proto", "https"),))):
        app = secured(small_app, CLOSED)
        body = urlencode({"token": TOKEN}).encode()
        reply = ask(app, "POST", "/login", FORM, *headers, parts=(body,), **options)
        assert (reply.header("set-cookie") or "").startswith("__Host-imagesearch=")
        assert (reply.header("set-cookie") or "").endswith("; HttpOnly; SameSite=Strict; Path=/; Secure")
        inside = ask(app, "GET", "/api/x", ("cookie", cookie_of(reply)), *headers, **options)
        assert inside.json["rights"] == "user"


def test_programs_log_in_by_json() -> None:
    app = secured(small_app, CLOSED)
    reply = ask(app, "POST", "/login", JSON, parts=(json.dumps({"token": TOKEN}).encode(),))
    assert (reply.status, reply.body) == (204, b"")
    assert ask(app, "GET", "/api/x", ("cookie", cookie_of(reply))).status == 200
    wrong = ask(app, "POST", "/login", JSON, parts=(b'{"token": "wrong-wrong-wrong"}',))
    assert wrong.status == 401
    assert wrong.header("content-type") == "application/problem+json"
    assert wrong.header("set-cookie") is None


@pytest.mark.parametrize(
    "token", ["", "wrong", TOKEN[:-1], TOKEN + "x", OWNER, "\ud800", TOKEN + "\x00", "a" * 7000]
)
def test_wrong_tokens_begin_none(token: str) -> None:
    """Nor does the owner's secret: no page of a browser ever has the owner's rights."""
    app = secured(small_app, CLOSED)
    body = urlencode({"token": token.encode("utf-8", "surrogatepass")}).encode()
    replies = [
        ask(app, "POST", "/login", FORM, parts=(body,)),
        ask(app, "POST", "/login", JSON, parts=(json.dumps({"token": token}).encode(),)),
    ]
    for reply in replies:
        assert reply.status == 401
        assert reply.header("set-cookie") is None
        assert TOKEN.encode() not in reply.body
    assert b'role="alert"' in replies[0].body


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ((FORM,), b"", 400),
        ((FORM,), b"next=/", 400),
        ((FORM,), f"token={TOKEN}&token=x".encode(), 400),
        ((FORM,), b"\xff\xfe", 400),
        ((FORM,), b"&".join(b"a%d=1" % number for number in range(50)), 400),
        ((JSON,), b"", 400),
        ((JSON,), b"[]", 400),
        ((JSON,), b'"x"', 400),
        ((JSON,), b'{"token": null}', 400),
        ((JSON,), f'{{"token": ["{TOKEN}"]}}'.encode(), 400),
        ((JSON,), b'{"token": {"$ne": ""}}', 400),
        ((JSON,), b"[" * 8000, 400),
        ((JSON,), b"\xff", 400),
        ((FORM,), b"token=" + b"x" * 9000, 413),
        ((("content-type", "multipart/form-data; boundary=x"),), b"x", 415),
        ((("content-type", "text/plain"),), f'{{"token": "{TOKEN}"}}'.encode(), 415),
        ((), f"token={TOKEN}".encode(), 415),
    ],
)
def test_malformed_logins(headers: tuple[tuple[str, str], ...], body: bytes, status: int) -> None:
    reply = ask(secured(small_app, CLOSED), "POST", "/login", *headers, parts=(body or b"",))
    assert reply.status == status
    assert reply.header("set-cookie") is None


@pytest.mark.parametrize(
    "cookie",
    [
        "imagesearch-8000=",
        "imagesearch-8000=x",
        f"imagesearch-8000={TOKEN}",
        f"imagesearch-8000={OWNER}",
        "imagesearch-8000",
        "=",
        ";;;",
        "imagesearch-8000=" + "x" * 5000,
        "imagesearch-8000=\xff",
    ],
)
def test_invented_cookies_are_worth_nothing(cookie: str) -> None:
    app = secured(small_app, CLOSED)
    log_in(app)
    assert ask(app, "GET", "/api/x", ("cookie", cookie)).status == 401


def test_the_login_of_another_port_is_none() -> None:
    app = secured(small_app, CLOSED)
    value = cookie_of(log_in(app)).partition("=")[2]
    assert ask(app, "GET", "/api/x", ("cookie", f"imagesearch-8001={value}")).status == 401


def test_a_login_ends_after_twelve_hours() -> None:
    clock = Clock()
    app = secured(small_app, CLOSED, clock=clock)
    cookie = ("cookie", cookie_of(log_in(app)))
    clock.now += 12 * 3600 - 1
    assert ask(app, "GET", "/api/x", cookie).status == 200
    clock.now += 2
    assert ask(app, "GET", "/api/x", cookie).status == 401


def test_logging_out_ends_it_on_the_server_too() -> None:
    app = secured(small_app, CLOSED)
    cookie = ("cookie", cookie_of(log_in(app)))
    reply = ask(app, "POST", "/logout", cookie, ("accept", "text/html"), *OURS)
    assert (reply.status, reply.header("location")) == (303, "/login")
    assert "imagesearch-8000=; Max-Age=0;" in (reply.header("set-cookie") or "")
    assert ask(app, "GET", "/api/x", cookie).status == 401
    assert ask(app, "POST", "/logout", *OURS).status == 204


def test_logging_in_again_ends_the_login_before() -> None:
    app = secured(small_app, CLOSED)
    first = ("cookie", cookie_of(log_in(app)))
    second = ("cookie", cookie_of(log_in(app, TOKEN, "/", first)))
    assert first != second
    assert ask(app, "GET", "/api/x", first).status == 401
    assert ask(app, "GET", "/api/x", second).status == 200


def test_guessing_on_the_page_is_slowed_down_and_logins_go_on() -> None:
    app = secured(small_app, CLOSED, clock=Clock())
    cookie = ("cookie", cookie_of(log_in(app)))
    assert [log_in(app, "wrong-wrong-wrong").status for _ in range(6)] == [401] * 5 + [429]
    reply = log_in(app)
    assert (reply.status, reply.header("retry-after")) == (429, "1")
    assert b"Try again in 1 seconds" in reply.body
    assert ask(app, "GET", "/api/x", cookie).status == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/logout"), ("PUT", "/login"), ("DELETE", "/login.css")])
def test_other_methods_are_refused(method: str, path: str) -> None:
    reply = ask(secured(small_app, CLOSED), method, path)
    assert reply.status == 405
    assert reply.header("allow")


def test_who_is_in_already_goes_on() -> None:
    app = secured(small_app, CLOSED)
    cookie = ("cookie", cookie_of(log_in(app)))
    reply = ask(app, "GET", "/login?next=/jobs", cookie)
    assert (reply.status, reply.header("location")) == (303, "/jobs")
    assert ask(secured(small_app, OPEN), "GET", "/login").header("location") == "/"
    assert log_in(secured(small_app, OPEN), "").header("location") == "/"
    assert ask(app, "GET", "/login?next=//evil.example", bearer(TOKEN)).header("location") == "/"


class Page(HTMLParser):
    """The elements of a page, in order."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(content.decode("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_page_needs_no_script_and_is_labelled() -> None:
    reply = ask(secured(small_app, CLOSED), "GET", "/login?next=/jobs")
    assert (reply.status, reply.header("content-type")) == (200, "text/html; charset=utf-8")
    page = Page(reply.body)
    assert not page.all("script")
    assert not page.all("style")
    assert not any(name.startswith("on") or name == "style" for _, found in page.elements for name in found)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("title")) == 1
    hidden, user, field = page.all("input")
    assert (user["autocomplete"], "hidden" in user) == ("username", True)  # for managers of passwords
    assert hidden == {"type": "hidden", "name": "next", "value": "/jobs"}
    assert (field["type"], field["autocomplete"]) == ("password", "current-password")
    assert page.all("label") == [{"for": field["id"]}]
    identifiers = {found.get("id") for _, found in page.elements}
    assert field["aria-describedby"] in identifiers
    (sheet,) = (link["href"] for link in page.all("link") if link["rel"] == "stylesheet")
    style = ask(secured(small_app, CLOSED), "GET", str(sheet))
    assert (style.status, style.header("content-type")) == (200, "text/css; charset=utf-8")
    assert b"prefers-color-scheme: dark" in style.body
    assert b"url(" not in style.body


def test_what_is_wrong_is_announced() -> None:
    page = Page(login_page("/", "Wrong <b>token</b>"))
    assert not page.all("b")
    field = page.all("input")[2]
    (alert,) = page.all("p")[:1]
    assert (field["aria-invalid"], field["aria-errormessage"], alert["role"]) == ("true", alert["id"], "alert")


HOSTILE = [
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "https://evil.example",
    "http:evil.example",
    "javascript:alert(1)",
    " //evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/x\r\nSet-Cookie: a=b",
    "evil.example",
    "",
    "@evil.example",
    "/login",
    "/logout",
    "/login?next=/login",
    "/" + "x" * 3000,
    "/\u2028",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_the_way_on_leads_to_no_other_site(target: str) -> None:
    assert safe_next(target) == "/"
    app = secured(small_app, CLOSED)
    assert log_in(app, TOKEN, target).header("location") == "/"
    assert Page(login_page(target)).all("input")[0]["value"] == "/"


@given(st.text(st.sampled_from("/\\:@?#&;=.%\t\n\r \"'<>ahtpsjvcriptlogn0"), max_size=30))
def test_every_way_on_stays_here(text: str) -> None:
    for base in ("http://localhost:8000/login", "https://photos.example/login"):
        arrived, here = urlsplit(urljoin(base, safe_next(text))), urlsplit(base)
        assert (arrived.scheme, arrived.netloc) == (here.scheme, here.netloc)
    page = Page(login_page(text))
    assert page.all("input")[0] == {"type": "hidden", "name": "next", "value": safe_next(text)}
    assert len(page.all("input")) == 3
