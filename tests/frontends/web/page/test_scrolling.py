"""Two thousand hits are scrolled through without a long halt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..chromium import in_chromium
from .conftest import NewPage
from .site import Site, build_many, site
from .steps import drawn, expect, settled

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium

_HITS = 2000
# Milliseconds. On a quiet machine the bound is 200; machines of continuous integration are not quiet.
_LONGEST = 500
_WATCH = """
window.halts = [];
new PerformanceObserver((list) => halts.push(...list.getEntries().map((one) => one.duration)))
    .observe({ type: "longtask", buffered: true });
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A collection of as many rows."""
    place = tmp_path_factory.mktemp("large")
    with site(place / "many", build_many(place, _HITS)) as served:
        yield served


def scroll_to_the_end(page: Page, total: int) -> None:
    """Turn the wheel until the last picture is there."""
    last = page.locator(f"#grid > li[data-index='{total - 1}']")
    page.mouse.move(600, 400)
    for _ in range(400):
        page.mouse.wheel(0, 3000)
        drawn(page)
        if last.count():
            return
    expect(last).to_be_attached()


def test_scrolling_does_not_halt(new_page: NewPage, large: Site) -> None:
    page = new_page(base_url=large.url, viewport={"width": 1280, "height": 800})
    page.add_init_script(_WATCH)
    page.goto(f"/?picture={large.pictures()[0]['id']}&fold=0")
    settled(page)
    scroll_to_the_end(page, _HITS)
    halts = page.evaluate("halts")
    print(f"longest task {max(halts, default=0):.0f} ms, {len(halts)} longer than 50 ms")
    assert max(halts, default=0) <= _LONGEST
    assert page.locator("#grid > li").count() < 400  # those far away are not in the document
