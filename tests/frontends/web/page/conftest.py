"""One browser and one server for all tests of the page; whatever a browser complains of fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .complaints import Complaints
from .site import Site, draw_pictures, images_in, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NewPage = Callable[..., "Page"]
# Pixels: all tiles of the collection are near this window, and so in the document.
_LARGE: Any = {"width": 1600, "height": 1800}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    from ..chromium import chromium

    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def gallery_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Some fifty drawn pictures, and one folder more that may be indexed."""
    place = tmp_path_factory.mktemp("page")
    folder, more = place / "pictures", place / "more"
    draw_pictures(folder)
    more.mkdir()
    images = images_in(place)
    images.index(folder)
    with site(folder, images, more) as served:
        yield served


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What browsers complained of in the test: nothing, but for what it expects."""
    noted = Complaints()
    yield noted
    noted.check()


@pytest.fixture(scope="package")
def shared_context(browser: Browser, gallery_site: Site) -> Iterator[BrowserContext]:
    """The memory of one user, whose windows load faster than those of a new one."""
    context = browser.new_context(base_url=gallery_site.url, viewport=_LARGE, reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def new_page(
    browser: Browser, gallery_site: Site, shared_context: BrowserContext, complaints: Complaints
) -> Iterator[NewPage]:
    """Opens windows: of one user; or, with options of Playwright's contexts, each of another user."""
    from ..chromium import PATIENCE

    opened: list[Page | BrowserContext] = []

    def open_one(**options: Any) -> Page:
        context = shared_context
        if options:
            usual = {"base_url": gallery_site.url, "viewport": _LARGE, "reduced_motion": "reduce"}
            context = browser.new_context(**{**usual, **options})
            opened.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        opened.append(page)
        complaints.listen(page)
        return page

    yield open_one
    for one in reversed(opened):
        one.close()
    shared_context.clear_permissions()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A window of a desktop computer that shows all pictures."""
    from .steps import settled

    page = new_page()
    page.goto("/", wait_until="domcontentloaded")
    settled(page)
    return page


@pytest.fixture
def picture_file(gallery_site: Site) -> Path:
    """A file like one of the collection's, but not the same."""
    return gallery_site.folder / "05.jpg"
