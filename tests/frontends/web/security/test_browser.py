"""The same attacks from a real browser, which decides by itself what it sends along."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.requests import rights_of

from ..chromium import chromium, in_chromium
from .harness import TOKEN, answer, listen, serving

pytestmark = in_chromium

HITS: list[tuple[str, str, str]] = []


async def victim(scope: Any, receive: Any, send: Any) -> None:
    """Notes what reaches it, and shows a page."""
    if scope["path"] != "/favicon.ico":
        HITS.append((scope["method"], scope["path"], rights_of(scope)))
    body = (
        b"<!DOCTYPE html><html lang=en><title>Inside</title><h1>Inside</h1><script>document.title='ran'</script>"
    )
    await answer(send, 200, body, kind=b"text/html; charset=utf-8")


ATTACK = """<!DOCTYPE html><title>Attack</title><h1>Attack</h1>
<a id="link" href="{victim}/page">a harmless link</a>
<form id="form" method="post" action="{victim}/api/v1/jobs"><input name="folder" value="/"></form>
<img src="{victim}/api/v1/pictures/1"><iframe src="{victim}/framed"></iframe>
<script src="{victim}/static/app.js"></script>
<script>
const post = (mode, type) => fetch("{victim}/api/v1/jobs", {{
    method: "POST", mode, credentials: "include", headers: {{"Content-Type": type}}, body: "x"
}}).then(answer => answer.type + answer.status, () => "failed");
window.outcomes = Promise.all([
    post("no-cors", "text/plain"), post("cors", "text/plain"), post("cors", "application/json"),
    fetch("{victim}/api/v1/search", {{credentials: "include"}}).then(() => "read", () => "failed"),
]);
</script>"""


def attacker(target: str) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, 200, ATTACK.format(victim=target).encode(), kind=b"text/html")

    return app


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # The names of the attackers lead to this machine, as their name servers would say.
    with chromium("--host-resolver-rules=MAP evil.example 127.0.0.1") as running:
        yield running


@pytest.fixture(params=[None, TOKEN], ids=["without a token", "with a token"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Ports of the victim and the attacker."""
    HITS.clear()
    listener, port = listen()
    other, other_port = listen()
    policy = policy_for("127.0.0.1", port, request.param)
    plain = policy_for("127.0.0.1", other_port, None)
    with (
        serving(secured(victim, policy), policy, listener, lifespan="off"),
        serving(attacker(f"http://localhost:{port}"), plain, other, lifespan="off"),
    ):
        yield port, other_port


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(10_000)
    yield page
    context.close()


def enter(page: Any, port: int) -> None:
    """Log in, if that is asked for."""
    page.goto(f"http://localhost:{port}/first?k=5")
    if page.locator("#token").count():
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Inside").wait_for()
    assert page.url == f"http://localhost:{port}/first?k=5"
    HITS.clear()


def test_people_get_in_and_scripts_do_not_run(page: Any, site: tuple[int, int]) -> None:
    enter(page, site[0])
    assert page.title() == "Inside"  # an injected script did not run
    assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("host", ["evil.example", "localhost"])
def test_another_site_reaches_nothing(
    page: Any, site: tuple[int, int], host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even one that is at the same host, at another port."""
    port, other_port = site
    enter(page, port)
    caplog.set_level(logging.INFO, logger="imagesearch.web")
    page.goto(f"http://{host}:{other_port}/")
    assert page.evaluate("window.outcomes") == ["failed"] * 4
    page.evaluate("document.getElementById('form').submit()")
    page.wait_for_url(f"http://localhost:{port}/api/v1/jobs")
    assert HITS == []
    # They did arrive: picture, frame, script, three posts or what asks for them, reading, and the form.
    logged = [record.fields for record in caplog.records if record.name == "imagesearch.web"]  # type: ignore[attr-defined]
    refused = [fields for fields in logged if fields["path"] != "/favicon.ico"]
    assert {fields["status"] for fields in refused} == {403}
    assert {"/api/v1/pictures/1", "/framed", "/static/app.js", "/api/v1/jobs", "/api/v1/search"} == {
        fields["path"] for fields in refused
    }
    assert {"GET", "POST", "OPTIONS"} == {fields["method"] for fields in refused}


def test_a_link_keeps_the_login(page: Any, site: tuple[int, int]) -> None:
    port, other_port = site
    enter(page, port)
    page.goto(f"http://127.0.0.1:{other_port}/")
    page.locator("#link").click()
    page.get_by_role("heading", name="Inside").wait_for()
    assert page.url == f"http://localhost:{port}/page"
    assert set(HITS) == {("GET", "/page", "user")}


def test_a_name_that_points_here_is_not_answered(page: Any, site: tuple[int, int]) -> None:
    port, _ = site
    enter(page, port)
    response = page.goto(f"http://evil.example:{port}/api/v1/search")
    assert response.status == 421
    read = page.evaluate("fetch('/api/v1/search').then(answer => answer.status)")
    assert read == 421
    assert HITS == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_login_page_is_for_everybody(browser: Any, scheme: str) -> None:
    """Readable on a telephone, in light and dark, by keyboard, without JavaScript; no rule of axe is broken."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    listener, port = listen()
    policy = policy_for("127.0.0.1", port, TOKEN)
    with serving(secured(victim, policy), policy, listener, lifespan="off"):
        # The rules are a script, which the security policy would not let in.
        context = browser.new_context(viewport={"width": 360, "height": 640}, color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        page.goto(f"http://localhost:{port}/jobs?k=1")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        for _ in range(2):
            found = axe.Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            page.keyboard.type("a-wrong-token-of-somebody")
            page.keyboard.press("Enter")
            page.get_by_role("alert").wait_for()
            assert page.get_by_label("Token").get_attribute("aria-invalid") == "true"
        assert all("401" in message for message in messages), messages
        context.close()
        without = browser.new_context(java_script_enabled=False)
        enter(without.new_page(), port)
        without.close()
