"""Everything without a mouse; and the focus is always seen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..chromium import in_chromium
from .conftest import NewPage
from .site import Site
from .steps import choose, expect, ids, is_loaded, link, listing, settled, tile, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium

# Why somebody who looks for the focus does not find it; empty if it is seen.
_HIDDEN_FOCUS = """() => {
    const focused = document.activeElement;
    if (!focused || focused === document.body) return "nothing has the focus";
    const name = focused.id || focused.getAttribute("aria-label") || focused.outerHTML.slice(0, 80);
    const box = focused.getBoundingClientRect();
    const isInside = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
    if (!isInside || !box.width || !box.height) return `${name} is not on the screen`;
    const top = document.elementFromPoint(
        Math.max(1, Math.min(innerWidth - 1, box.left + box.width / 2)),
        Math.max(1, Math.min(innerHeight - 1, box.top + box.height / 2)));
    const around = focused.closest("label, form") ?? focused;
    if (!top || !(focused.contains(top) || around.contains(top))) return `${name} is covered`;
    if (focused.matches("h1, main")) return ""; // where reading begins, not what can be used
    const isDrawn = (element) => {
        const { outlineStyle, outlineWidth } = getComputedStyle(element);
        return outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
    };
    return isDrawn(focused) || isDrawn(around) ? "" : `${name} has no outline`;
}"""


def press(page: Page, *keys: str) -> None:
    """Press keys one by one; after each, the focus can be seen."""
    for key in keys:
        page.keyboard.press(key)
        hidden = page.evaluate(_HIDDEN_FOCUS)
        assert not hidden, f"after {key}: {hidden}"


def focused(page: Page) -> str:
    """The id of the element, or of the picture, that has the focus."""
    found: str = page.evaluate(
        "document.activeElement.closest('[data-id]')?.dataset.id ?? document.activeElement.id"
    )
    return found


def test_search_move_open_close_and_select(page: Page) -> None:
    press(page, "/")
    assert focused(page) == "q"
    page.keyboard.type("goldfish")
    with listing(page):
        press(page, "Enter")
    listed = ids(page)
    page.keyboard.press("Escape")  # leaves the field
    press(page, "ArrowRight")
    assert focused(page) == listed[0]
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert focused(page) == listed[1]
    press(page, "ArrowDown")
    below = listed.index(focused(page))
    assert below > 2
    press(page, "ArrowUp")
    assert focused(page) == listed[1]
    press(page, "End")
    assert focused(page) == listed[-1]
    press(page, "Home")
    assert focused(page) == listed[0]

    press(page, "Enter")
    expect(page.locator("#detail-title")).to_be_focused()
    press(page, "ArrowRight")
    expect(page).to_have_url(re.compile(f"/picture/{listed[1]}"))
    press(page, "Escape")
    expect(link(page, 1)).to_be_focused()

    press(page, "x", "ArrowRight", "ArrowRight", "Shift+X")
    expect(page.locator("#selection-count")).to_have_text("3 selected")
    press(page, "Escape")
    expect(page.locator("#selection")).to_be_hidden()
    press(page, "ControlOrMeta+a")
    expect(page.locator("#selection-count")).to_have_text(f"{len(listed)} selected")


def test_refine_and_more_like_this(page: Page, gallery_site: Site) -> None:
    page.goto(f"/?picture={gallery_site.id_of('05.jpg')}")
    settled(page)
    link(page, 0).focus()
    press(page, "ArrowRight", "ArrowRight", "ArrowRight")
    key = focused(page)
    for pressed in ("+", "-"):
        with listing(page):
            page.keyboard.press(pressed)
        # The focus stays on the picture, wherever it stands now, or on the list if it is gone.
        until(page, "document.activeElement.closest('.tile')")
        assert not page.evaluate(_HIDDEN_FOCUS)
    expect(page.locator("#chips > li.bad")).to_have_count(1)
    with listing(page):
        page.keyboard.press("m")
    assert key != focused(page) or ids(page)[0] == key


def test_a_region_by_keyboard(page: Page, picture_file: Path) -> None:
    choose(page, picture_file)
    is_loaded(page.locator("#query-image"))
    before = ids(page)
    page.get_by_role("button", name="Search a region").focus()
    press(page, "Enter")
    expect(page.get_by_role("group", name="Region to search: 25 % from the left")).to_be_focused()
    press(page, "ArrowLeft", "ArrowLeft", "Shift+ArrowLeft")
    with listing(page):
        press(page, "Enter")
    frame = page.get_by_role("group", name="Region to search: 21 % from the left, 25 % from the top, 48 % wide")
    expect(frame).to_be_focused()
    assert ids(page) != before
    with listing(page):  # and without Enter, after a rest
        press(page, "ArrowDown")


def test_every_control_is_reached_and_seen(page: Page, gallery_site: Site) -> None:
    page.goto(f"/?picture={gallery_site.id_of('05.jpg')}")
    settled(page)
    expect(page.locator("#label-list > li")).to_have_count(5)
    seen = []
    for _ in range(60):
        press(page, "Tab")
        seen.append(focused(page))
        if len(seen) > 1 and page.evaluate("document.activeElement.matches('[data-index=\"1\"] .tile-link')"):
            break
    wanted = ["q", "choose", "nav-pictures", "nav-jobs", "theme", "help", "region-start"]
    wanted += ["sure", "fold", "sort", "filters-button"]
    assert [one for one in seen if one in wanted] == wanted  # in the order in which they stand
    # Of a tile: the picture, its mark, and what can be done with it.
    assert seen.count(ids(page)[0]) >= 5
    for _ in range(20):
        press(page, "Shift+Tab")


def test_skip_to_the_pictures(page: Page) -> None:
    press(page, "Tab")
    skip = page.get_by_role("link", name="Skip to the pictures")
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    expect(skip).not_to_be_in_viewport()


def test_the_list_of_shortcuts(page: Page) -> None:
    page.get_by_role("button", name="Keyboard shortcuts").focus()
    press(page, "Enter")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_focused()


def test_keys_are_text_where_one_types(page: Page) -> None:
    page.locator("#q").focus()
    page.keyboard.type("m/?x+-")
    expect(page.locator("#q")).to_have_value("m/?x+-")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url.endswith("/")


def test_what_changes_is_told(page: Page, new_page: NewPage) -> None:
    """Screen readers are told of results and of messages, by regions that are there from the start."""
    count = page.get_by_role("status").and_(page.locator("#count"))
    expect(count).to_have_text(re.compile(r"^\d+ pictures$"))
    page.locator("#q").fill("goldfish")
    with listing(page):
        page.locator("#q").press("Enter")
    expect(count).to_have_text(re.compile(r"^\d+ pictures$"))
    expect(page.get_by_role("list", name="Results")).to_be_visible()
    expect(tile(page, 3)).to_have_attribute("aria-posinset", "4")
