"""Every view of the page, each opened as people come to it; and what is true of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .steps import choose, expect, is_loaded, listing, settled, tile

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from .site import Site

# What cannot be reached because it lies beside the window; scrolled parts of the page have none.
_BESIDE = """() => {
    const seen = (one) => one.checkVisibility({ visibilityProperty: true, opacityProperty: true });
    const found = [...document.querySelectorAll("a, button, input, select, [tabindex='0']")].filter(seen);
    const beside = found.filter((one) => {
        const { left, right } = one.getBoundingClientRect();
        return left < -0.5 || right > document.documentElement.clientWidth + 0.5;
    });
    return beside.map((one) => one.outerHTML.slice(0, 100));
}"""


def beside(page: Page) -> list[str]:
    """Controls that are not wholly within the width of the window."""
    found: list[str] = page.evaluate(_BESIDE)
    return found


def start(page: Page, _: Site) -> None:
    page.goto("/")
    settled(page)


def filters(page: Page, site: Site) -> None:
    start(page, site)
    page.get_by_role("button", name="Filters").click()


def wrong_filter(page: Page, site: Site) -> None:
    page.goto("/?expression=widht%20%3E%203")
    expect(page.locator("#filters-error")).not_to_be_empty()


def results(page: Page, site: Site) -> None:
    page.goto(f"/?picture={_some(site, 3)}")
    settled(page)
    expect(page.locator("#label-list > li")).to_have_count(5)
    is_loaded(page.locator("#query-image"))


def original(page: Page, site: Site) -> None:
    start(page, site)
    choose(page, site.folder / "05.jpg")
    with listing(page):
        page.get_by_label("Look for").select_option("Original of a screenshot or copy")
    expect(page.locator("#label-list > li")).to_have_count(5)
    is_loaded(page.locator("#query-image"))


def refined(page: Page, site: Site) -> None:
    page.goto(
        f"/?picture={_some(site, 3)}&good={_some(site, 8)}&bad={_some(site, 12)}&region=10%25,10%25,60%25,70%25"
    )
    settled(page)
    expect(page.locator("#label-list > li")).to_have_count(5)
    is_loaded(page.locator("#query-image"))


def words(page: Page, _: Site) -> None:
    page.goto("/?q=goldfish")
    settled(page)


def nothing_found(page: Page, _: Site) -> None:
    page.goto("/?q=goldfish&camera=none")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()


def unknown_words(page: Page, _: Site) -> None:
    page.goto("/?q=goldfish+bowl")
    expect(page.get_by_role("link", name="goldfish")).to_be_visible()


def expired(page: Page, _: Site) -> None:
    page.goto(f"/?upload={'A' * 32}")
    expect(page.get_by_role("heading", name="The picture is not here any more")).to_be_visible()


def selected(page: Page, site: Site) -> None:
    start(page, site)
    tile(page, 1).hover()
    for number, modifiers in ((1, []), (4, ["Shift"])):
        tile(page, number).get_by_role("checkbox").click(modifiers=modifiers)  # type: ignore[arg-type]


def picture(page: Page, site: Site) -> None:
    page.goto(f"/picture/{_some(site, 3)}")
    expect(page.locator("#detail-labels > li")).to_have_count(5)
    expect(page.locator("#neighbours")).to_be_visible()
    is_loaded(page.locator("#detail-image"))


def jobs(page: Page, _: Site) -> None:
    page.goto("/jobs")
    expect(page.locator("#skipped-count")).not_to_be_empty()
    expect(page.locator("#library-state")).not_to_be_empty()


def keys(page: Page, site: Site) -> None:
    jobs(page, site)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_be_visible()


def labelling(page: Page, _: Site) -> None:
    page.goto("/label")
    is_loaded(page.locator("#picture"))


def labelling_refused(page: Page, _: Site) -> None:
    problem = {"title": "Not allowed", "detail": "only the owner may label pictures", "status": 403}
    page.route("**/api/v1/labelling*", lambda route: route.fulfill(status=403, json=problem))
    page.goto("/label")
    expect(page.locator("#state")).to_have_text("only the owner may label pictures")


View = Callable[["Page", "Site"], None]
# And the status that a view's own requests are answered with, where it is about an error.
VIEWS: dict[str, tuple[View, int | None]] = {
    "start": (start, None),
    "filters": (filters, None),
    "wrong-filter": (wrong_filter, 422),
    "results": (results, None),
    "original": (original, None),
    "refined": (refined, None),
    "words": (words, None),
    "nothing-found": (nothing_found, None),
    "unknown-words": (unknown_words, 422),
    "expired": (expired, 404),
    "selected": (selected, None),
    "picture": (picture, None),
    "jobs": (jobs, None),
    "labelling": (labelling, None),
    "labelling-refused": (labelling_refused, 403),
    "keys": (keys, None),
}


def _some(site: Site, number: int) -> str:
    """The id of one of the pictures."""
    pictures: list[dict[str, Any]] = site.pictures()
    key: str = sorted(pictures, key=lambda one: one["path"])[number]["id"]
    return key
