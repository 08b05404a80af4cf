"""Who is let in, as whom, and what the others are told."""

from __future__ import annotations

import itertools
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.sessions import Attempts, Sessions

from .harness import CLOSED, OPEN, OWNER, TOKEN, ask, bearer, small_app

NAVIGATION = (("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", "text/html"))
PRIVATE = [
    "/",
    "/api/v1/search",
    "/api/v1/pictures/7",
    "/metrics",
    "/mcp",
    "/static/app.js",
    "/docs",
    "/healthz/x",
]


class Clock:
    """Time that tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("path", PRIVATE)
def test_without_a_token_this_machine_may_use_it(path: str) -> None:
    assert ask(secured(small_app, OPEN), "GET", path).json["rights"] == "user"


@pytest.mark.parametrize("path", PRIVATE)
def test_with_a_token_nobody_else_may(path: str) -> None:
    app = secured(small_app, CLOSED)
    reply = ask(app, "GET", path)
    assert reply.status == 401
    assert reply.header("content-type") == "application/problem+json"
    assert reply.header("www-authenticate") == 'Bearer realm="imagesearch"'
    assert ask(app, "GET", path, bearer(TOKEN)).json["rights"] == "user"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/favicon.ico"])
def test_open_paths_need_none(path: str) -> None:
    assert ask(secured(small_app, CLOSED), "GET", path).json["rights"] == "nobody"


@pytest.mark.parametrize(
    "path",
    [
        "/healthz/../api/v1/search",
        "/healthz/%2e%2e/api/v1/search",
        "/healthz%2f..%2fapi/v1/search",
        "/login/../api/v1/search",
        "/healthz\\..\\api",
        "/healthz%5c..%5capi",
        "/healthz%00",
        "/healthz%0a",
        "/./api/v1/search",
        "/api/v1/pictures/%2e%2e/%2e%2e/etc/passwd",
        "/healthz/",
        "//healthz",
        "/HEALTHZ",
        "/healthz;/api",
        "/healthz%20",
    ],
)
def test_no_spelling_of_an_open_path_opens_another(path: str) -> None:
    is_malformed = ".." in unquote(path) or "/./" in path or "%0" in path
    for policy, expected in ((CLOSED, 401), (OPEN, 200)):
        assert ask(secured(small_app, policy), "GET", path).status == (400 if is_malformed else expected)


@pytest.mark.parametrize(
    "shown",
    [
        "Bearer wrong-wrong-wrong-wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        f"Bearer {TOKEN} {TOKEN}",
        f"Bearer {TOKEN},",
        "Bearer",
        "Bearer ",
        "",
        TOKEN,
        f"Token {TOKEN}",
        f"Bearer{TOKEN}",
        f"Bearer\t{TOKEN}",
        f"Bearer {TOKEN}\x00",
        "Bearer " + "x" * 10_000,
    ],
)
def test_wrong_tokens(shown: str) -> None:
    for policy, path in itertools.product((OPEN, CLOSED), ("/api/v1/search", "/healthz")):
        reply = ask(secured(small_app, policy), "GET", path, ("authorization", shown))
        assert reply.status == 401
        assert 'error="invalid_token"' in (reply.header("www-authenticate") or "")
        assert TOKEN.encode() not in reply.body


def test_two_tokens_are_none() -> None:
    assert ask(secured(small_app, CLOSED), "GET", "/api/x", bearer(TOKEN), bearer(TOKEN)).status == 401


def test_the_scheme_may_be_written_in_any_case() -> None:
    assert ask(secured(small_app, CLOSED), "GET", "/api/x", ("authorization", f"bEARER  {TOKEN}")).status == 200


def test_only_the_owners_secret_makes_an_owner() -> None:
    for policy in (OPEN, CLOSED):
        assert ask(secured(small_app, policy), "GET", "/api/x", bearer(OWNER)).json["rights"] == "owner"
    app = secured(small_app, CLOSED)
    claims = [
        ("x-imagesearch-scope", "owner"),
        ("imagesearch.scope", "owner"),
        ("x-scope", "owner"),
        ("cookie", "imagesearch.scope=owner"),
    ]
    assert (
        ask(app, "GET", "/api/x?imagesearch.scope=owner&scope=owner", bearer(TOKEN), *claims).json["rights"]
        == "user"
    )
    assert ask(app, "GET", "/healthz", *claims).json["rights"] == "nobody"


def test_the_state_of_a_connection_before_grants_nothing() -> None:
    """Servers hand the same initial state to every request."""
    shared = {"imagesearch.scope": "owner"}
    app = secured(small_app, CLOSED)
    assert ask(app, "GET", "/healthz", extra={"state": dict(shared)}).json["rights"] == "nobody"
    assert ask(app, "GET", "/api/x", bearer(TOKEN), extra={"state": dict(shared)}).json["rights"] == "user"


def test_a_server_without_owner_has_none() -> None:
    app = secured(small_app, policy_for("127.0.0.1", 8000, None))
    assert ask(app, "GET", "/api/x", bearer(OWNER)).status == 401


@pytest.mark.parametrize("path", ["/", "/search", "/pictures/7?from=3&text=a%20b", "/jobs"])
def test_browsers_are_led_to_the_login_and_back(path: str) -> None:
    reply = ask(secured(small_app, CLOSED), "GET", path, *NAVIGATION)
    assert reply.status == 303
    location = urlsplit(reply.header("location") or "")
    assert (location.scheme, location.netloc, location.path) == ("", "", "/login")
    assert parse_qs(location.query).get("next", ["/"]) == [path]
    assert reply.header("cache-control") == "no-store"


@pytest.mark.parametrize("path", ["/api", "/api/v1/search", "/metrics", "/mcp"])
def test_programs_paths_never_redirect(path: str) -> None:
    assert ask(secured(small_app, CLOSED), "GET", path, *NAVIGATION).status == 401


def test_a_wrong_token_is_no_navigation() -> None:
    assert ask(secured(small_app, CLOSED), "GET", "/", *NAVIGATION, bearer("wrong-wrong-wrong")).status == 401


@pytest.mark.parametrize("path", ["//evil.example/", "//evil.example", "/%5cevil.example"])
def test_the_way_back_leads_to_no_other_site(path: str) -> None:
    reply = ask(secured(small_app, CLOSED), "GET", path, *NAVIGATION)
    assert reply.status == 400 or reply.header("location") == "/login"


def test_a_link_on_another_site_arrives_with_the_login() -> None:
    """Browsers withhold the cookie on the first request; the page that is answered asks again by itself."""
    link = (("sec-fetch-site", "cross-site"), *NAVIGATION)
    reply = ask(secured(small_app, CLOSED), "GET", "/?text=a&k=5%22%3E%3Cscript%3E", *link)
    assert reply.status == 200
    page = reply.body.decode()
    assert 'content="0;url=/?text=a&amp;k=5%22%3E%3Cscript%3E"' in page
    assert "<script" not in page
    again = ask(secured(small_app, CLOSED), "GET", "/?text=a", ("sec-fetch-site", "same-origin"), *NAVIGATION)
    assert again.status == 303


def test_guessing_gets_slower_and_slower() -> None:
    clock = Clock()
    app = secured(small_app, CLOSED, clock=clock)

    def guess(token: str, client: str = "10.0.0.9") -> int:
        return ask(app, "GET", "/api/x", bearer(token), client=client).status

    assert [guess(f"wrong-wrong-wrong-{n}") for n in range(6)] == [401] * 5 + [429]
    # Not even the right one is looked at: a guess learns nothing.
    assert guess(TOKEN) == 429
    assert guess(TOKEN, client="10.0.0.8") == 200
    assert guess(OWNER) == 200
    clock.now += 1.01
    assert guess("wrong-wrong-wrong-7") == 401
    reply = ask(app, "GET", "/api/x", bearer(TOKEN), client="10.0.0.9")
    assert (reply.status, reply.header("retry-after")) == (429, "2")
    guesses = 7
    for _ in range(24 * 60):
        clock.now += 60
        guesses += guess("wrong-wrong-wrong-8") == 401
    assert guesses < 310  # in a day
    clock.now += 300
    assert guess(TOKEN) == 200
    assert guess("wrong-wrong-wrong-9") == 401
    assert guess(TOKEN) == 200


def test_guessers_of_one_ipv6_network_are_one() -> None:
    attempts = Attempts(free=3, clock=Clock())
    for number in range(3):
        attempts.failed(f"2001:db8::{number:x}")
    assert attempts.wait("2001:db8::ffff:1") > 0
    assert attempts.wait("2001:db8:0:1::1") == 0
    assert attempts.wait("::1") == 0


def test_guesses_from_everywhere_take_bounded_memory() -> None:
    attempts = Attempts(free=3, clock=Clock())
    for number in range(Attempts.MOST_ADDRESSES + 500):
        attempts.failed(f"10.{number // 65536}.{number // 256 % 256}.{number % 256}")
    assert len(attempts) == Attempts.MOST_ADDRESSES


@given(st.lists(st.tuples(st.sampled_from(["begin", "end", "wait"]), st.integers(0, 30)), max_size=60))
def test_logins_end_as_they_should(steps: list[tuple[str, int]]) -> None:
    """Compared with a list of all logins that ever were."""
    clock = Clock()
    sessions = Sessions(seconds=50, most=4, clock=clock)
    open_ones: list[tuple[str, float]] = []
    ended: list[str] = []
    for step, number in steps:
        if step == "begin":
            open_ones.append((sessions.begin(), clock.now + 50))
            ended += [identifier for identifier, _ in open_ones[:-4]]
            open_ones = open_ones[-4:]
        elif step == "end" and open_ones:
            identifier, _ = open_ones.pop(number % len(open_ones))
            sessions.end(identifier)
            ended.append(identifier)
        elif step == "wait":
            clock.now += number
            ended += [identifier for identifier, end in open_ones if end <= clock.now]
            open_ones = [(identifier, end) for identifier, end in open_ones if end > clock.now]
        assert all(sessions.is_open(identifier) for identifier, _ in open_ones)
        assert not any(sessions.is_open(identifier) for identifier in ended)
        assert len(sessions) <= 4


def test_websockets_are_refused() -> None:
    import asyncio

    sent = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    async def never(scope: object, receive: object, send: object) -> None:
        raise AssertionError("reached")

    asyncio.run(secured(never, OPEN)({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
