"""Every view in light and dark, on a desktop computer and on a telephone of 360 pixels: accessible and whole.

With IMAGESEARCH_SCREENSHOTS=FOLDER in the environment, pictures of all of them are written there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import Site
from .steps import choose, drawn, expect, listing, settled, tile, until
from .views import VIEWS, beside

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium
axe = pytest.importorskip("axe_playwright_python.base")

# Read before the test's own environment begins.
_SCREENSHOTS = os.environ.get("IMAGESEARCH_SCREENSHOTS")
_DESKTOP, _TELEPHONE = (1280, 800), (360, 740)
_ALL_RULES = {"rules": {"target-size": {"enabled": True}}}
_RULES_OF_COLOURS = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


def violations(page: Page, rules: dict[str, Any]) -> list[str]:
    """Rules of axe-core that a view breaks, and where."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe.AXE_SCRIPT)
    options = {"resultTypes": ["violations"], **rules}
    found: list[dict[str, Any]] = page.evaluate("(options) => axe.run(options)", options)["violations"]
    return [
        f"{one['id']}: {node['html'][:150]} {node.get('failureSummary')}" for one in found for node in one["nodes"]
    ]


def keep(page: Page, name: str) -> None:
    """Take a picture of a view, where somebody wants them."""
    if _SCREENSHOTS:
        page.screenshot(path=Path(_SCREENSHOTS, f"{name}.png"))


@pytest.mark.parametrize("view", VIEWS)
def test_no_rule_of_accessibility_is_broken(
    new_page: NewPage, gallery_site: Site, complaints: Complaints, view: str
) -> None:
    show, status = VIEWS[view]
    if status:
        complaints.expect(f"status of {status}")
    page = new_page()
    for number, (width, height) in enumerate((_DESKTOP, _TELEPHONE)):
        page.set_viewport_size({"width": width, "height": height})
        if not number:
            show(page, gallery_site)
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert beside(page) == []
        # What a scheme changes is colours; everything else is looked at once.
        for scheme, rules in (("light", _ALL_RULES), ("dark", _RULES_OF_COLOURS)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert violations(page, rules) == []
            keep(page, f"{view}-{width}-{scheme}")


def colours(page: Page) -> tuple[str, str]:
    """Of the page, and of what is written on it."""
    background, text = page.evaluate("""() => {
        const { backgroundColor, color } = getComputedStyle(document.body);
        return [backgroundColor, color];
    }""")
    return background, text


def test_dark_by_the_system_and_by_the_switch(new_page: NewPage) -> None:
    page = new_page(color_scheme="light")
    page.goto("/")
    settled(page)
    light = colours(page)
    page.emulate_media(color_scheme="dark")
    dark = colours(page)
    assert dark != light
    switch = page.get_by_role("button", name="Colours: like the system")
    switch.click()
    expect(page.get_by_role("button", name="Colours: light")).to_be_focused()
    assert colours(page) == light
    page.get_by_role("button", name="Colours: light").click()
    page.emulate_media(color_scheme="light")
    assert colours(page) == dark
    page.goto("/jobs")  # the choice stays
    expect(page.get_by_role("button", name="Colours: dark")).to_be_visible()
    assert colours(page) == dark
    page.get_by_role("button", name="Colours: dark").click()
    assert colours(page) == light


_COLOURS_OF = """element => {
    const { backgroundColor, color } = getComputedStyle(element);
    return [backgroundColor, color];
}"""


def test_what_colours_tell_is_told_where_the_system_chooses_them(page: Page, picture_file: Path) -> None:
    choose(page, picture_file)
    page.emulate_media(forced_colors="active")

    def drawn_as(selector: str) -> list[str]:
        found: list[str] = page.locator(selector).first.evaluate(_COLOURS_OF)
        return found

    tile(page, 1).locator(".pick input").check(force=True)
    not_selected, selected = drawn_as(".tile:not(.selected) .pick"), drawn_as(".tile.selected .pick")
    assert not_selected[0] == not_selected[1]  # no tick is seen
    assert selected[0] != selected[1]
    assert selected[0] != not_selected[0]
    with listing(page):
        tile(page, 2).locator("[data-do=good]").click(force=True)
    assert drawn_as(".actions [aria-pressed=true]") != drawn_as(".actions [aria-pressed=false]")
    assert drawn_as(".bar-fill")[0] != drawn_as(".bar-track")[0]


@pytest.mark.parametrize("width", [360, 768, 1280, 3840])
def test_the_grid_fills_its_width(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    until(
        page,
        """() => {
        const list = document.getElementById("grid").getBoundingClientRect();
        const boxes = [...document.querySelectorAll("#grid > .tile")].map((tile) => tile.getBoundingClientRect());
        const rows = Map.groupBy(boxes, (box) => Math.round(box.top));
        const widths = [...rows.values()].slice(0, -1).map((row) => row.at(-1).right - row[0].left);
        return widths.length > 1 && widths.every((one) => Math.abs(one - list.width) < 1);
    }""",
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_tiles_do_not_move_when_their_pictures_arrive(page: Page, new_page: NewPage) -> None:
    """Places come from the pictures' proportions, before any of them is loaded."""
    blank = new_page(viewport={"width": 1600, "height": 1800}, has_touch=False)
    blank.route("**/thumbnail*", lambda route: route.fulfill(status=204))
    blank.goto("/")
    settled(blank)
    boxes = """() => [...document.querySelectorAll("#grid > .tile")].map((tile) => {
        const { left, top, width, height } = tile.getBoundingClientRect();
        return [tile.dataset.id, left, top, width, height];
    })"""
    assert blank.evaluate(boxes) == page.evaluate(boxes)
