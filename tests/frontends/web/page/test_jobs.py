"""Indexing from the page: its progress, what could not be read, and new pictures where all are shown."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ....conftest import draw_picture
from ..chromium import in_chromium
from .complaints import Complaints
from .conftest import NewPage
from .site import Site
from .steps import expect, ids, is_loaded, settled, tiles

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = in_chromium

# What the page needs to look for new pictures twice.
_A_MINUTE = 60_000


@pytest.fixture
def more(gallery_site: Site) -> Iterator[Path]:
    """The folder that may be indexed, with one new picture and one broken file; forgotten afterwards."""
    folder = Path(gallery_site.backend.folders[0])
    draw_picture(70, (320, 240)).save(folder / "brand new.jpg", quality=90)
    (folder / "cut short.jpg").write_bytes((folder / "brand new.jpg").read_bytes()[:300])
    yield folder
    shutil.rmtree(folder)
    gallery_site.images.forget(folder)
    gallery_site.backend.browser.forget_orders()
    folder.mkdir()


class Gate:
    """Lets indexing go on when the test says so."""

    def __init__(self, index: Callable[..., Any]) -> None:
        self._index, self._opened, self.reached = index, threading.Event(), threading.Event()

    def open(self) -> None:
        """From now on nothing is held up."""
        self._opened.set()

    def __call__(self, *folders: Any, progress: Any, **options: Any) -> Any:
        def told(stage: str, done: int, total: int | None) -> None:
            progress(stage, done, total)
            if done and not self._opened.is_set():
                self.reached.set()
                assert self._opened.wait(60)

        return self._index(*folders, progress=told, **options)


@pytest.fixture
def gate(gallery_site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Indexing stops at its first step, until it is opened."""
    held = Gate(gallery_site.images.index)
    monkeypatch.setattr(gallery_site.images, "index", held)
    yield held
    held.open()


def start(page: Page, folder: Path) -> None:
    """Start indexing a folder."""
    page.goto("/jobs")
    page.get_by_label("Folder").fill(str(folder))
    page.get_by_role("button", name="Start indexing").click()


def test_a_job_goes_to_its_end_and_its_picture_appears(
    page: Page, new_page: NewPage, more: Path, gate: Gate
) -> None:
    gallery = new_page(locale="en-US")  # a clock of its own
    gallery.clock.install()
    gallery.goto("/")
    settled(gallery)
    known = ids(gallery)

    start(page, more)
    job = page.locator("#jobs > li").first
    expect(job).to_have_attribute("data-state", "running")
    expect(job.get_by_role("heading")).to_have_text(str(more))
    bar = job.get_by_role("progressbar", name="Progress")
    expect(bar).to_be_visible()
    expect(job.locator(".job-text")).to_have_text(re.compile(r"^\w.*: \d+( of \d+)?"))
    expect(job.get_by_role("button", name="Cancel")).to_be_visible()
    gate.open()
    expect(job).to_have_attribute("data-state", "done")
    expect(bar).to_be_hidden()
    expect(job.locator(".job-text")).to_have_text(re.compile(r"^1 new or changed, .*1 skipped, in \d+ second"))
    expect(page.locator("#jobs-live")).to_contain_text("Done")
    expect(page.locator("#skipped")).to_contain_text("cut short.jpg")

    gallery.clock.fast_forward(_A_MINUTE)
    news = gallery.get_by_role("button", name="Show 1 new picture")
    expect(news).to_be_visible()
    assert ids(gallery) == known  # nothing jumps before somebody asks for it
    news.click()
    expect(tiles(gallery)).to_have_count(len(known) + 1)
    expect(tiles(gallery).first.locator(".tile-link")).to_have_accessible_name(re.compile("^brand new.jpg, "))
    is_loaded(tiles(gallery).first.locator("img"))
    expect(news).to_be_hidden()


def test_the_page_is_used_while_a_job_runs(page: Page, new_page: NewPage, more: Path, gate: Gate) -> None:
    start(page, more)
    assert gate.reached.wait(30)
    other = new_page()
    other.goto("/?q=goldfish")
    settled(other)
    expect(tiles(other).first).to_be_visible()
    other.goto("/jobs")  # whoever comes later sees the job, too
    expect(other.locator("#jobs > li[data-state=running]")).to_have_count(1)
    gate.open()
    for one in (page, other):
        expect(one.locator("#jobs > li").first).to_have_attribute("data-state", "done")


def test_a_job_is_cancelled(page: Page, more: Path, gate: Gate) -> None:
    start(page, more)
    assert gate.reached.wait(30)
    job = page.locator("#jobs > li").first
    with page.expect_response(re.compile("/api/v1/jobs/[^/]+$")):
        job.get_by_role("button", name="Cancel").click()
    gate.open()
    expect(job).to_have_attribute("data-state", "cancelled")
    expect(job).to_contain_text("Cancelled")
    expect(job.get_by_role("button", name="Cancel")).to_be_hidden()


def test_files_that_could_not_be_read_are_told_and_tried_again(page: Page, gallery_site: Site) -> None:
    page.goto("/jobs")
    skipped = page.locator("#skipped > li").filter(has_text="broken.jpg")
    expect(skipped).to_contain_text("damaged")
    broken = gallery_site.folder / "broken.jpg"
    before = broken.read_bytes()
    draw_picture(71, (320, 240)).save(broken, "JPEG")
    try:
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#jobs > li").first).to_have_attribute("data-state", "done")
        expect(skipped).to_have_count(0)
    finally:
        broken.write_bytes(before)
        gallery_site.images.index(gallery_site.folder)
        gallery_site.backend.browser.forget_orders()


@pytest.mark.parametrize("folder", ["/etc", "no such folder"])
def test_a_folder_that_may_not_be_indexed(page: Page, complaints: Complaints, folder: str) -> None:
    complaints.expect("status of 403")
    page.goto("/jobs")
    page.get_by_label("Folder").fill(folder)
    page.get_by_role("button", name="Start indexing").click()
    alert = page.get_by_role("form", name="Start indexing").get_by_role("alert")
    expect(alert).to_contain_text("imagesearch serve FOLDER")
    expect(page.get_by_label("Folder")).to_have_value(folder)
