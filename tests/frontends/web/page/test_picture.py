"""One picture by itself: what is known of it, its neighbours, and the way on and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..chromium import in_chromium
from .complaints import Complaints
from .site import PLACED, Site
from .steps import expect, ids, ids_of, is_loaded, link, listing, settled, tile

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium


def fact(page: Page, name: str) -> str:
    """What is said of the picture."""
    return page.locator("dl.facts > div").filter(has=page.get_by_text(name, exact=True)).locator("dd").inner_text()


def test_what_is_known_of_a_picture(page: Page, gallery_site: Site) -> None:
    key = gallery_site.id_of(PLACED)
    page.goto(f"/picture/{key}")
    expect(page.get_by_role("heading", level=1)).to_have_text(PLACED)
    is_loaded(page.get_by_role("img", name=PLACED))
    assert re.fullmatch(r"June 5, 2021 at 9:30\sAM", fact(page, "Taken"))
    assert fact(page, "Camera") == "Pinhole 5"
    assert fact(page, "Size").startswith("400 \u00d7 300 pixels, ")
    assert fact(page, "Place") == "48.85822, 2.29450"
    assert fact(page, "Folder") == str(gallery_site.folder)
    expect(page.locator("#detail-labels > li")).to_have_count(5)


def test_facts_of_any_length_stay_within_the_page(
    page: Page, gallery_site: Site, tmp_path: Path, complaints: Complaints
) -> None:
    name, value = "c" * 60, "v" * 3000
    path = gallery_site.folder / "30.jpg"
    (tmp_path / "columns.csv").write_text(f"path,{name}\n{path},{value}\n")
    gallery_site.images.annotate(tmp_path / "columns.csv")
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/picture/{gallery_site.id_of(path.name)}")
    assert fact(page, name) == value
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.set_viewport_size({"width": 1280, "height": 800})
    expect(page.locator("#detail-image")).to_be_in_viewport(ratio=0.9)
    page.set_viewport_size({"width": 360, "height": 740})
    complaints.expect("status of 422")
    page.goto("/?expression=widht%20%3E%203")  # the message has the names of all columns
    expect(page.locator("#filters-error")).to_contain_text(name)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_its_neighbours(page: Page, gallery_site: Site) -> None:
    key = gallery_site.id_of("05.jpg")
    page.goto(f"/picture/{key}")
    near = page.locator("#neighbours > li")
    expect(near).to_have_count(12)
    hits = ids_of(gallery_site.search({"kind": "picture", "id": key}))
    expect(near.first.get_by_role("link")).to_have_attribute("href", f"/picture/{hits[1]}")
    is_loaded(near.first.locator("img"))
    near.first.get_by_role("link").click()
    expect(page).to_have_url(re.compile(f"/picture/{hits[1]}$"))
    expect(page.locator("#detail-title")).to_be_focused()
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("05.jpg")


def test_the_pictures_before_and_after_it(page: Page) -> None:
    listed = ids(page)
    link(page, 0).click()
    previous = page.get_by_role("button", name="Previous picture")
    following = page.get_by_role("button", name="Next picture")
    expect(page).to_have_url(re.compile(f"/picture/{listed[0]}$"))
    expect(previous).to_be_disabled()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(f"/picture/{listed[1]}$"))
    following.click()
    expect(page).to_have_url(re.compile(f"/picture/{listed[2]}$"))
    page.keyboard.press("ArrowLeft")
    expect(page).to_have_url(re.compile(f"/picture/{listed[1]}$"))
    is_loaded(page.locator("#detail-image"))
    page.keyboard.press("Escape")
    expect(link(page, 1)).to_be_focused()
    assert ids(page) == listed
    link(page, len(listed) - 1).click()
    expect(following).to_be_disabled()
    page.go_back()  # steps are not in the history
    expect(link(page, len(listed) - 1)).to_be_focused()
    page.go_back()
    assert page.url == "about:blank"


def test_steps_are_among_the_results_of_a_search(page: Page) -> None:
    page.goto("/?q=goldfish")
    settled(page)
    listed = ids(page)
    link(page, 3).click()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(rf"/picture/{listed[4]}\?q=goldfish$"))
    page.reload()
    expect(page.get_by_role("button", name="Next picture")).to_be_enabled()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(rf"/picture/{listed[5]}\?q=goldfish$"))
    page.get_by_role("button", name="Back to the pictures").click()
    settled(page)
    assert ids(page) == listed
    expect(page.locator("#q")).to_have_value("goldfish")


def test_more_like_it(page: Page, gallery_site: Site) -> None:
    key = gallery_site.id_of("07.jpg")
    page.goto(f"/picture/{key}")
    expect(page.locator("#neighbours")).to_be_visible()
    with listing(page):
        page.get_by_role("link", name="More like this").click()
    assert ids(page) == ids_of(gallery_site.search({"kind": "picture", "id": key}, group=True))


def test_it_is_downloaded_as_it_is(page: Page, gallery_site: Site) -> None:
    page.goto(f"/picture/{gallery_site.id_of('07.jpg')}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "07.jpg"
    assert Path(download.value.path()).read_bytes() == (gallery_site.folder / "07.jpg").read_bytes()


def test_marks_of_a_search_stay_when_a_picture_was_looked_at(page: Page, gallery_site: Site) -> None:
    one, good = gallery_site.id_of("05.jpg"), gallery_site.id_of("20.jpg")
    page.goto(f"/?picture={one}&good={good}")
    settled(page)
    listed = ids(page)
    tile(page, 2).locator(".tile-link").click()
    expect(page.locator("#detail-title")).to_be_focused()
    page.keyboard.press("Escape")
    expect(link(page, 2)).to_be_focused()
    assert ids(page) == listed
    expect(page.locator("#chips > li.good")).to_have_count(1)
