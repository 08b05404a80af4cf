"""What goes wrong, and what is said then: every message is one that people understand, and none is markup."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from imagesearch.frontends.web import uploads

from ....models.conftest import save_checkpoint
from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import HOSTILE, Site, images_in, site
from .steps import choose, drop, expect, is_loaded, link, listing, settled, tiles

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium

_DROP_LARGE = """(size) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([new Uint8Array(size)], "huge.jpg", {type: "image/jpeg"}));
    document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
}"""


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("broken.jpg", b"\xff\xd8\xff\xe0 no picture", "broken.jpg: damaged"),
        ("<b onclick=alert(1)>.txt", b"no picture at all", "<b onclick=alert(1)>.txt: is not a picture"),
    ],
)
def test_an_upload_that_is_no_picture(
    page: Page, complaints: Complaints, name: str, data: bytes, reason: str
) -> None:
    complaints.expect("status of 422")
    before, count = page.url, page.locator("#count").inner_text()
    drop(page, data, name)
    alert = page.get_by_role("alert").filter(has_text=reason)
    expect(alert).to_be_visible()
    assert not re.search(r"Traceback|Error\(|0x|<bytes|undefined|\[object", alert.inner_text())
    assert page.url == before
    expect(tiles(page).first).to_be_visible()
    expect(page.locator("#count")).to_have_text(count)


def test_an_upload_that_is_too_large(page: Page, complaints: Complaints) -> None:
    complaints.expect("status of 413")
    page.evaluate(_DROP_LARGE, 25_100_000)
    expect(page.get_by_role("alert").filter(has_text=re.compile("25|large"))).to_be_visible()


def test_an_upload_expires(
    page: Page, complaints: Complaints, picture_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(page, picture_file)
    complaints.expect("status of 404")
    a_day_later = time.time() + uploads.KEPT + 60
    monkeypatch.setattr(uploads, "time", SimpleNamespace(time=lambda: a_day_later))
    page.reload()
    settled(page)
    expect(page.get_by_role("heading", name="The picture is not here any more")).to_be_visible()
    expect(page.get_by_role("button", name="Search a region")).to_be_hidden()
    expect(page.locator("#message")).to_contain_text("kept for a day")
    with page.expect_file_chooser() as chooser, listing(page):
        page.get_by_role("button", name="Choose a picture").click()
        monkeypatch.undo()
        chooser.value.set_files(picture_file)
    expect(page.locator("#message")).to_be_hidden()


def test_a_picture_that_is_not_there(new_page: NewPage, complaints: Complaints) -> None:
    complaints.expect("status of 404")
    page = new_page()
    response = page.goto("/picture/12345")
    assert response is not None
    assert response.status == 404


def test_the_server_is_gone_and_comes_back(page: Page, complaints: Complaints) -> None:
    complaints.expect("Failed to load resource")
    page.route("**/api/v1/search", lambda route: route.abort())
    page.locator("#q").fill("goldfish")
    page.locator("#q").press("Enter")
    expect(page.locator("#message")).to_contain_text("The server cannot be reached")
    page.unroute("**/api/v1/search")
    with listing(page):
        page.get_by_role("button", name="Try again").click()
    expect(tiles(page).first).to_be_visible()


def test_the_server_is_busy(page: Page, complaints: Complaints) -> None:
    complaints.expect("status of 503")
    problem = {"status": 503, "title": "Too busy", "detail": "too many searches wait", "type": "urn:x:busy"}
    page.route("**/api/v1/search", lambda route: route.fulfill(status=503, json=problem))
    page.locator("#q").fill("goldfish")
    page.locator("#q").press("Enter")
    expect(page.get_by_role("heading", name="Too busy")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


@pytest.mark.skipif(os.name != "posix", reason="such names are only there on POSIX")
def test_hostile_names_are_text(page: Page, gallery_site: Site, complaints: Complaints) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    keys = {name: gallery_site.id_of(name) for name in HOSTILE}
    for name, key in keys.items():
        shown = page.locator(f"#grid > li[data-id='{key}'] .tile-link")
        expect(shown).to_have_accessible_name(re.compile(rf"^{re.escape(name)}, "))
    for name, key in keys.items():
        page.goto(f"/picture/{key}")
        expect(page.get_by_role("heading", level=1)).to_have_text(name)
        expect(page).to_have_title(f"{name} - ImageSearch")
        is_loaded(page.locator("#detail-image"))
        with listing(page):
            page.get_by_role("link", name="More like this").click()
        expect(page.locator("#query-title")).to_have_text(name)
    assert dialogs == []
    assert page.locator("[onerror], [onfocus], [autofocus], [onclick]").count() == 0
    assert page.evaluate("document.querySelectorAll('script').length") == 2


@pytest.fixture(scope="module")
def wordless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Pictures in a collection of a model that knows no words, and has no labels."""
    place = tmp_path_factory.mktemp("wordless")
    (place / "pictures").mkdir()
    from ....conftest import draw_picture

    for number in range(6):
        draw_picture(number).save(place / "pictures" / f"{number}.png")
    images = images_in(place, name=str(save_checkpoint(place / "dinov2", "dinov2")))
    images.index(place / "pictures")
    with site(place / "pictures", images) as served:
        yield served


def test_a_model_without_words_is_explained(new_page: NewPage, wordless: Site) -> None:
    page = new_page(base_url=wordless.url)
    page.goto("/")
    settled(page)
    expect(page.locator("#q")).to_be_disabled()
    expect(page.get_by_text("Words cannot be searched for: ")).to_contain_text("dinov2")
    expect(page.locator("#q")).to_have_accessible_description(re.compile("cannot be searched by words"))
    choose(page, wordless.folder / "3.png")
    expect(tiles(page)).not_to_have_count(0)
    is_loaded(tiles(page).first.locator("img"))
    link(page, 0).click()  # a picture by itself needs no labels either
    expect(page.get_by_role("heading", name="Similar pictures")).to_be_visible()
    expect(page.get_by_role("alert").filter(has_text=re.compile("."))).to_have_count(0)


def test_nothing_is_indexed_yet(new_page: NewPage, tmp_path: Path) -> None:
    with site(tmp_path / "none", images_in(tmp_path)) as empty:
        page = new_page(base_url=empty.url)
        page.goto("/")
        expect(page.get_by_role("heading", name="Nothing has been indexed yet")).to_be_visible()
        page.get_by_role("link", name="Index a folder").click()
        expect(page.get_by_role("heading", name="Indexing", level=1)).to_be_visible()
        expect(page.get_by_text("None.")).to_be_visible()
        page.context.close()
