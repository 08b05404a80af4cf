"""Searches: by a picture that is dropped, pasted or chosen, by a region of it, by words, by examples."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from ....conftest import draw_picture
from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import Site
from .steps import (
    choose,
    copy_picture,
    drag,
    expect,
    ids,
    ids_of,
    is_loaded,
    link,
    listing,
    settled,
    tile,
    tiles,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium


def named(name: str) -> re.Pattern[str]:
    """What links to a picture of a name are called."""
    return re.compile(rf"^{re.escape(name)}, ")


def test_a_picture_is_dropped(page: Page, picture_file: Path) -> None:
    transfer = drag(page, picture_file.read_bytes(), "holiday.jpg")
    expect(page.get_by_text("Drop a picture to search for it")).to_be_visible()
    with listing(page):
        page.dispatch_event("body", "drop", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()
    is_loaded(page.get_by_role("img", name="Picture that is searched for: holiday.jpg"))
    expect(link(page, 0)).to_have_accessible_name(named("05.jpg"))
    for number in range(4):
        is_loaded(tile(page, number).locator("img"))
    expect(page.get_by_role("heading", name="What it shows")).to_be_visible()
    assert page.locator("#label-list > li").count() == 5


def test_what_is_found_is_what_the_library_finds(page: Page, gallery_site: Site, picture_file: Path) -> None:
    choose(page, picture_file)
    found = gallery_site.images.search(picture_file, tiles(page).count(), group=True)
    assert ids(page) == [str(hit.picture.id) for hit in found]


def test_a_drag_that_ends_elsewhere_leaves_nothing(page: Page, picture_file: Path) -> None:
    transfer = drag(page, picture_file.read_bytes(), "holiday.jpg")
    page.dispatch_event("body", "dragleave", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_be_hidden()


def test_a_picture_is_pasted(page: Page) -> None:
    data = io.BytesIO()
    draw_picture(9, (320, 240)).save(data, "PNG")
    copy_picture(page, data.getvalue())
    with listing(page):
        page.keyboard.press("ControlOrMeta+V")
    is_loaded(page.locator("#query-image"))
    expect(link(page, 0)).to_have_accessible_name(named("09.jpg"))


def test_text_is_pasted_into_the_field(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('goldfish')")
    page.locator("#q").click()
    page.keyboard.press("ControlOrMeta+V")
    expect(page.locator("#q")).to_have_value("goldfish")
    assert "upload" not in page.url


def test_the_same_file_can_be_chosen_twice(page: Page, picture_file: Path) -> None:
    choose(page, picture_file)
    first, address = ids(page), page.url
    with listing(page, "/api/v1/pictures"):
        page.get_by_role("button", name="Remove from the search: Your picture").click()
    choose(page, picture_file)
    assert ids(page) == first
    assert page.url != address


@pytest.mark.parametrize("touch", [True, False])
def test_a_photograph_is_taken_where_there_is_a_camera(new_page: NewPage, picture_file: Path, touch: bool) -> None:
    page = new_page(has_touch=touch, is_mobile=touch, viewport={"width": 390, "height": 800})
    page.goto("/")
    button = page.get_by_role("button", name="Take a photograph")
    if not touch:
        expect(button).to_be_hidden()
        return
    assert page.locator("#camera").get_attribute("capture") == "environment"
    with page.expect_file_chooser() as chooser, listing(page):
        button.tap()
        chooser.value.set_files(picture_file)
    expect(link(page, 0)).to_have_accessible_name(named("05.jpg"))


@pytest.mark.parametrize(
    ("choice", "value", "how"),
    [
        ("Original of a screenshot or copy", "original", {"views": "crops", "rerank": "none"}),
        ("Picture this was cut from", "whole", {"rerank": "patches"}),
    ],
)
def test_the_original_of_a_copy_is_looked_for(
    page: Page, gallery_site: Site, tmp_path: Path, choice: str, value: str, how: dict[str, str]
) -> None:
    cut = tmp_path / "cut.png"
    draw_picture(5, (320, 240)).crop((40, 30, 260, 200)).save(cut)
    choose(page, cut)
    similar, look_for = ids(page), page.get_by_label("Look for")
    with listing(page):
        look_for.select_option(choice)
    assert f"find={value}" in page.url
    found = gallery_site.images.search(cut, tiles(page).count(), group=True, **how)
    assert ids(page) == [str(hit.picture.id) for hit in found]
    assert ids(page) != similar
    page.go_back()
    expect(look_for).to_have_value("")
    settled(page)
    assert ids(page) == similar
    page.go_forward()
    expect(look_for).to_have_value(value)
    settled(page)
    with listing(page):  # beside a picture, words say what is looked for
        page.get_by_label("Words to add").fill("goldfish")
        page.keyboard.press("Enter")
    expect(look_for).to_be_hidden()


@pytest.mark.parametrize("value", ["more", "constructor"])
def test_an_address_with_another_way_looks_for_similar_pictures(
    page: Page, picture_file: Path, value: str
) -> None:
    choose(page, picture_file)
    similar, address = ids(page), page.url
    with listing(page):
        page.goto(f"{address}&find={value}")
    assert ids(page) == similar
    expect(page.get_by_label("Look for")).to_have_value("")


def halves(tmp_path: Path) -> Path:
    """Two pictures of the collection side by side."""
    both = Image.new("RGB", (640, 240))
    both.paste(draw_picture(3, (320, 240)), (0, 0))
    both.paste(draw_picture(31, (320, 240)), (320, 0))
    both.save(tmp_path / "both.png")
    return tmp_path / "both.png"


def pull(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw a rectangle on the query picture; corners in shares of it."""
    box = page.locator("#query-image").bounding_box()
    assert box is not None
    for step, (x, y) in enumerate((start, end)):
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"], steps=1 + 4 * step)
        if not step:
            page.mouse.down()
    page.mouse.up()


def test_a_region_is_searched(page: Page, tmp_path: Path) -> None:
    choose(page, halves(tmp_path))
    is_loaded(page.locator("#query-image"))
    with listing(page):
        pull(page, (0.02, 0.02), (0.49, 0.98))
    left = ids(page)
    expect(link(page, 0)).to_have_accessible_name(named("03.jpg"))
    expect(page.get_by_role("heading", name="What the region shows")).to_be_visible()
    with listing(page):  # another rectangle: from outside of the first
        pull(page, (0.98, 0.98), (0.51, 0.02))
    expect(link(page, 0)).to_have_accessible_name(named("31.jpg"))
    assert ids(page) != left
    with listing(page):
        page.get_by_role("button", name="Whole picture").click()
    assert "region" not in page.url
    expect(page.get_by_role("group", name="Region to search")).to_be_hidden()


def test_a_region_is_moved_and_stretched_by_its_corners(page: Page, tmp_path: Path) -> None:
    choose(page, halves(tmp_path))
    is_loaded(page.locator("#query-image"))
    with listing(page):
        pull(page, (0.1, 0.1), (0.4, 0.6))
    with listing(page):  # moved by its middle
        pull(page, (0.25, 0.35), (0.75, 0.35))
    frame = page.get_by_role("group", name="Region to search: 60 % from the left, 10 % from the top, 30 % wide")
    expect(frame).to_be_visible()
    with listing(page):
        pull(page, (0.9, 0.6), (0.99, 0.9))
    expect(page.get_by_role("group", name="39 % wide, 80 % high")).to_be_visible()


def test_words_are_suggested_and_searched(page: Page, gallery_site: Site) -> None:
    page.get_by_role("combobox", name="Search by words").click()
    page.keyboard.type("gold")
    expect(page.locator("#suggestions > option[value^=goldfish]")).to_have_count(1)
    # Others were suggested before anything was typed.
    expect(page.locator("#suggestions > option:not([value*=gold i])")).to_have_count(0)
    page.keyboard.type("fish")
    with listing(page):
        page.keyboard.press("Enter")
    assert ids(page) == ids_of(gallery_site.search({"kind": "words", "text": "goldfish"}, group=True))
    expect(page.get_by_text("“goldfish”")).to_be_visible()
    expect(page).to_have_title("goldfish - ImageSearch")


def test_words_are_added_to_a_picture(page: Page, gallery_site: Site) -> None:
    key = gallery_site.id_of("05.jpg")
    page.goto(f"/?picture={key}&region=10%25,10%25,60%25,60%25")
    settled(page)
    form = page.get_by_role("form", name="Add words to the picture")
    form.get_by_label("Words to add").fill("goldfish")
    with listing(page):
        form.get_by_role("button", name="Add").click()
    picture = {"kind": "picture", "id": key, "region": "10%,10%,60%,60%"}
    assert ids(page) == ids_of(gallery_site.search({"kind": "words", "text": "goldfish"}, picture, group=True))
    expect(page.locator("#chips > li")).to_have_count(2)
    expect(form).to_be_hidden()
    with listing(page):
        page.get_by_role("button", name="Remove from the search: “goldfish”").click()
    assert ids(page) == ids_of(gallery_site.search(picture, group=True))
    expect(form).to_be_visible()


def test_unknown_words_name_those_that_are_near(page: Page, complaints: Complaints, gallery_site: Site) -> None:
    complaints.expect("status of 422")
    field = page.locator("#q")
    with listing(page):
        field.fill("goldfish")
        field.press("Enter")
    expect(page.locator("#meanings")).to_have_text("goldfish: goldfish, Carassius auratus")
    field.fill("goldfish bowl")
    field.press("Enter")
    expect(page.get_by_role("heading", name="does not know “goldfish bowl”")).to_be_visible()
    expect(page.locator("#meanings")).to_be_hidden()
    with listing(page):
        page.get_by_role("link", name="goldfish").click()
    assert ids(page) == ids_of(gallery_site.search({"kind": "words", "text": "goldfish"}, group=True))


def test_words_of_any_length_stay_within_the_page(page: Page, complaints: Complaints) -> None:
    complaints.expect("status of 422")
    for text in ("goldfish " * 60, "g" * 900):
        page.locator("#q").fill(text)
        page.locator("#q").press("Enter")
        expect(page.get_by_role("heading", name=f"does not know “{text[:20]}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_more_like_this(page: Page, gallery_site: Site) -> None:
    shown = tile(page, 7)
    key = shown.get_attribute("data-id")
    shown.hover()
    with listing(page):
        shown.get_by_role("button", name="More like this").click()
    assert ids(page) == ids_of(gallery_site.search({"kind": "picture", "id": key}, group=True))
    assert ids(page)[0] == key
    expect(page.get_by_text("Like a picture")).to_be_visible()
    is_loaded(page.locator("#query-image"))


def test_good_and_bad_marks_change_the_order(page: Page, gallery_site: Site) -> None:
    query = gallery_site.id_of("05.jpg")
    page.goto(f"/?picture={query}")
    settled(page)
    before = ids(page)
    good = before[12]
    one = {"kind": "picture", "id": query}
    mark(page, good, "Good result")
    marked = ids(page)
    assert marked != before
    assert marked.index(good) < before.index(good)
    assert marked == ids_of(gallery_site.search(one, {"kind": "picture", "id": good}, group=True))
    bad = next(key for key in marked[3:] if key != good)
    mark(page, bad, "Bad result")
    refined = ids(page)
    assert bad not in refined or refined.index(bad) > marked.index(bad)
    expect(page.locator("#chips > li.good")).to_have_count(1)
    expect(page.locator("#chips > li.bad")).to_have_count(1)
    pressed = tiles(page).and_(page.locator(f"[data-id='{good}']")).get_by_role("button", name="Good result")
    expect(pressed).to_have_attribute("aria-pressed", "true")
    for text in ("More like this", "Less like this"):  # both can be taken back
        with listing(page):
            page.get_by_role("button", name=f"Remove from the search: {text}").click()
    assert ids(page) == before


def mark(page: Page, key: str, how: str) -> None:
    """Say what a hit is."""
    shown = page.locator(f"#grid > li[data-id='{key}']")
    shown.hover()
    with listing(page):
        shown.get_by_role("button", name=how).click()


def test_a_label_leads_to_its_pictures(page: Page, picture_file: Path) -> None:
    choose(page, picture_file)
    label = page.locator("#label-list a").first
    expect(label).to_be_visible()
    text = label.inner_text()
    with listing(page):
        label.click()
    expect(page.locator("#q")).to_have_value(text)
