"""Results: how sure they are, folded, sorted and filtered; what is selected; and where people go from there."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import PLACED, Site
from .steps import choose, expect, ids, ids_of, link, listing, settled, tile, tiles, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A picture like none of the collection's."""
    pixels = np.random.default_rng(7).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_how_sure_hits_are_is_said(page: Page, gallery_site: Site, picture_file: Path) -> None:
    choose(page, picture_file)
    key = gallery_site.id_of("05.jpg")
    hits = gallery_site.search({"kind": "picture", "id": key}, group=True)["hits"]
    for number in (0, 5, 30):
        percent = tile(page, number).locator(".sure").text_content() or ""
        assert re.fullmatch(r"(> 99|< 1|\d\d?|100) %", percent)
        label = link(page, number).get_attribute("aria-label") or ""
        assert re.search(rf"{percent}, (very likely|probably|possibly) (un)?related$", label)
    assert hits[0]["confidence"] > 0.9
    expect(link(page, 0)).to_have_accessible_name(re.compile("very likely related$"))


def test_nothing_found_is_an_answer(page: Page, noise: Path) -> None:
    choose(page, noise)
    expect(tiles(page).first).to_be_visible()
    with listing(page):
        page.get_by_label("Only sure hits").check()
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    expect(page.locator("#message")).to_contain_text(re.compile(r"The closest picture is .+ \(.+ %: .+\)"))
    expect(tiles(page)).to_have_count(0)
    with listing(page):
        page.get_by_role("button", name="Show unsure hits as well").click()
    expect(tiles(page).first).to_be_visible()
    expect(page.get_by_label("Only sure hits")).not_to_be_checked()


def test_only_sure_hits(page: Page, gallery_site: Site) -> None:
    one = {"kind": "picture", "id": gallery_site.id_of("05.jpg")}
    page.goto(f"/?picture={one['id']}")
    settled(page)
    with listing(page):
        page.get_by_label("Only sure hits").check()
    assert ids(page) == ids_of(gallery_site.search(one, group=True, only_confident=True))
    assert ids(page) != ids_of(gallery_site.search(one, group=True))


def test_of_words_it_is_not_known_how_sure_hits_are(page: Page, gallery_site: Site) -> None:
    page.goto("/?q=goldfish&sure=1")
    settled(page)
    assert ids(page) == ids_of(gallery_site.search({"kind": "words", "text": "goldfish"}, group=True))
    expect(page.get_by_label("Only sure hits")).to_be_hidden()
    expect(page.get_by_label("Fold near-identical")).to_be_visible()


def test_near_identical_pictures_are_folded(page: Page, gallery_site: Site) -> None:
    best, other = gallery_site.id_of("00.jpg"), gallery_site.id_of("zero again.jpg")
    page.goto(f"/?picture={best}")
    settled(page)
    assert other not in ids(page)
    unfold = tile(page, 0).get_by_role("button", name=re.compile("near-identical pictures? of 00.jpg$"))
    unfold.click()
    expect(page.locator(f"#grid > li[data-id='{other}'] .tile-link")).to_be_focused()
    unfolded = ids(page)
    assert unfolded.index(other) <= 3
    assert len(set(unfolded)) == len(unfolded)
    with listing(page):
        page.get_by_label("Fold near-identical").uncheck()
    assert ids(page) == ids_of(gallery_site.search({"kind": "picture", "id": best}, group=False))


def dates(page: Page, site: Site) -> list[str]:
    """Of the pictures in the list."""
    known = {one["id"]: one["date"] for one in site.pictures()}
    return [known[key] for key in ids(page)]


def test_all_pictures_by_date(page: Page, gallery_site: Site) -> None:
    assert dates(page, gallery_site) == sorted(dates(page, gallery_site), reverse=True)
    with listing(page, "/api/v1/pictures"):
        page.get_by_label("Sort").select_option("Oldest first")
    assert dates(page, gallery_site) == sorted(dates(page, gallery_site))
    expect(tiles(page).first.locator(".when")).to_have_text("Jan 2, 2020")


def test_results_by_date(page: Page, picture_file: Path, gallery_site: Site) -> None:
    choose(page, picture_file)
    before = set(ids(page))
    with listing(page):
        page.get_by_label("Sort").select_option("Newest first")
    assert before <= set(ids(page))
    assert dates(page, gallery_site) == sorted(dates(page, gallery_site), reverse=True)
    expect(page.locator("#count")).to_have_text(f"The {len(ids(page))} most similar pictures, newest first")


def test_filters(page: Page, gallery_site: Site) -> None:
    page.get_by_role("button", name="Filters").click()
    form = page.get_by_role("form", name="Filters")
    form.get_by_label("Taken from").fill("2020-01-10")
    form.get_by_label("Taken before").fill("2020-01-20")
    with listing(page, "/api/v1/pictures"):
        form.get_by_role("button", name="Apply").click()
    expected = [one["id"] for one in gallery_site.pictures("&after=2020-01-10&before=2020-01-20")]
    assert 0 < len(expected) < 30
    assert ids(page) == expected
    expect(page.get_by_role("button", name="Filters (2)")).to_be_visible()
    shown = tiles(page).first  # filters stay where one searches from there
    shown.hover()
    with listing(page):
        shown.get_by_role("button", name="More like this").click()
    assert set(ids(page)) <= set(expected)
    expect(form).to_be_visible()
    form.get_by_label("Camera").fill("Pinhole 5")
    with listing(page):
        form.get_by_label("Camera").press("Enter")
    expect(page.get_by_role("heading", name="Nothing found")).to_be_visible()
    with listing(page):
        form.get_by_role("button", name="Clear filters").click()
    expect(page.get_by_role("button", name="Filters", exact=True)).to_be_visible()
    expect(form.get_by_label("Taken from")).to_have_value("")


def test_pictures_near_a_place(page: Page, gallery_site: Site) -> None:
    placed = gallery_site.id_of(PLACED)
    page.get_by_role("button", name="Filters").click()
    form = page.get_by_role("form", name="Filters")
    for text, found in (("48.9 2.3 20", [placed]), ("48.86, 2.29", [placed]), ("48.9, 2.3, 0.5 km", [])):
        form.get_by_label("Near").fill(text)
        with listing(page, "/api/v1/pictures"):
            form.get_by_role("button", name="Apply").click()
        assert ids(page) == found, text
    form.get_by_label("Near").fill("Paris")
    form.get_by_role("button", name="Apply").click()
    expect(page.locator("#filters-error")).to_contain_text("latitude, longitude and kilometres")
    page.goto(f"/picture/{placed}")
    with listing(page, "/api/v1/pictures"):
        page.get_by_role("link", name="48.85822, 2.29450").click()
    assert ids(page) == [placed]
    with listing(page):  # of a search, too
        tiles(page).first.hover()
        tiles(page).first.get_by_role("button", name="More like this").click()
    assert ids(page) == [placed]


@pytest.mark.parametrize(
    ("query", "field", "value", "said"),
    [("", "Expression", "widht > 3", "width"), ("?q=goldfish", "Taken from", "yesterday", "yesterday")],
)
def test_what_the_server_says_against_a_filter(
    page: Page, complaints: Complaints, query: str, field: str, value: str, said: str
) -> None:
    complaints.expect("status of 422")
    page.goto(f"/{query}")
    settled(page)
    page.get_by_role("button", name="Filters").click()
    form = page.get_by_role("form", name="Filters")
    form.get_by_label(field).fill(value)
    with listing(page, "/api/v1/search" if query else "/api/v1/pictures"):
        form.get_by_role("button", name="Apply").click()
    expect(form.get_by_role("alert")).to_contain_text(said)
    expect(form.get_by_label(field)).to_have_value(value)
    with listing(page, "/api/v1/search" if query else "/api/v1/pictures"):
        form.get_by_role("button", name="Clear filters").click()
    expect(form.get_by_role("alert")).to_be_hidden()
    expect(tiles(page).first).to_be_visible()


def select(page: Page, number: int, *modifiers: Any) -> None:
    """Click the mark of a picture."""
    tile(page, number).hover()
    tile(page, number).get_by_role("checkbox").click(modifiers=list(modifiers))


def test_a_range_is_selected_copied_and_downloaded(page: Page, gallery_site: Site) -> None:
    select(page, 1)
    select(page, 6, "Shift")
    selection = page.get_by_role("region", name="Selection")
    expect(selection.get_by_role("status")).to_have_text("6 selected")
    select(page, 3)
    expect(selection.get_by_role("status")).to_have_text("5 selected")
    assert ids(page)[1:7] == [one["id"] for one in gallery_site.pictures()][1:7]
    paths = [one["path"] for number, one in enumerate(gallery_site.pictures()) if number in (1, 2, 4, 5, 6)]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    selection.get_by_role("button", name="Copy paths").click()
    expect(page.get_by_role("alert").filter(has_text="Copied 5 paths")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(paths)
    with page.expect_download() as download:
        selection.get_by_role("button", name="Download").click()
    archive = zipfile.ZipFile(io.BytesIO(Path(download.value.path()).read_bytes()))
    assert sorted(archive.read(name) for name in archive.namelist()) == sorted(
        Path(path).read_bytes() for path in paths
    )
    selection.get_by_role("button", name="Clear the selection").click()
    expect(selection).to_be_hidden()
    expect(page.locator(".tile.selected")).to_have_count(0)


def test_a_click_with_shift_selects_from_the_last_one_on(page: Page) -> None:
    select(page, 4)
    link(page, 2).click(modifiers=["Shift"])
    expect(page.locator("#selection-count")).to_have_text("3 selected")
    assert page.locator(".tile.selected").evaluate_all("all => all.map((one) => one.dataset.id)") == ids(page)[2:5]
    assert "/picture/" not in page.url


def test_back_and_forward_and_reload(page: Page, picture_file: Path) -> None:
    start = ids(page)
    choose(page, picture_file)
    found = ids(page)
    assert found != start
    link(page, 9).click()
    expect(page.locator("#detail")).to_be_visible()
    page.go_back()
    expect(link(page, 9)).to_be_focused()
    assert ids(page) == found
    page.go_back()
    expect(page.get_by_role("heading", name="Pictures", level=1)).to_be_visible()
    settled(page)
    assert ids(page) == start
    page.go_forward()
    expect(page.get_by_role("heading", name="Results")).to_be_visible()
    settled(page)
    assert ids(page) == found
    page.reload()
    settled(page)
    assert ids(page) == found
    expect(page.locator("#query-image")).to_be_visible()


def test_the_place_in_the_list_is_kept(new_page: NewPage) -> None:
    page = new_page(viewport={"width": 500, "height": 500})
    page.goto("/")
    settled(page)
    page.mouse.move(250, 250)
    page.mouse.wheel(0, 1300)
    until(page, "scrollY === 1300")
    there = "document.elementFromPoint(250, 250).closest('.tile')?.dataset.index"
    last = tile(page, int(until(page, there)))
    scrolled = page.evaluate("scrollY")
    last.locator(".tile-link").click()
    expect(page.locator("#detail")).to_be_visible()
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(last.locator(".tile-link")).to_be_focused()
    assert page.evaluate("scrollY") == scrolled


def test_everything_of_a_search_is_in_its_address(page: Page, new_page: NewPage, gallery_site: Site) -> None:
    one, good = gallery_site.id_of("05.jpg"), gallery_site.id_of("zero again.jpg")
    page.goto(f"/?picture={one}&good={good}&fold=0&sort=date&min_width=300")
    settled(page)
    assert ids(page)
    with listing(page):
        page.get_by_label("Only sure hits").check()
    shared = new_page()
    shared.goto(page.url)
    settled(shared)
    assert ids(shared) == ids(page)  # which are sure depends on what other tests indexed; perhaps none
    expect(shared.get_by_label("Only sure hits")).to_be_checked()
    expect(shared.get_by_label("Fold near-identical")).not_to_be_checked()
    expect(shared.get_by_label("Sort")).to_have_value("date")
    expect(shared.locator("#chips > li.good")).to_have_count(1)
    expect(shared.get_by_role("button", name="Filters (1)")).to_be_visible()


def test_a_region_is_in_the_address(page: Page, gallery_site: Site) -> None:
    one = {"kind": "picture", "id": gallery_site.id_of("05.jpg"), "region": "0%,0%,50%,100%"}
    page.goto(f"/?picture={one['id']}&region=0%25,0%25,50%25,100%25")
    settled(page)
    assert ids(page) == ids_of(gallery_site.search(one, group=True))
    expect(page.get_by_role("group", name=re.compile("50 % wide, 100 % high"))).to_be_visible()


def test_a_hit_opens_in_a_tab_of_its_own(page: Page) -> None:
    with page.context.expect_page() as opened:
        link(page, 2).click(modifiers=["ControlOrMeta"])
    opened.value.wait_for_url(re.compile(r"/picture/\d+$"))
    expect(opened.value.locator("#detail-image")).to_be_visible()
    assert page.url.endswith("/")
