"""One browser and one server for all tests of the page; whatever a browser complains of fails the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .complaints import Complaints
from .site import Site, draw_pictures, images_in, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NewPage = Callable[..., "Page"]
# Pixels: all tiles of the collection are near this window, and so in the document.
_LARGE = {"width": 1600, "height": 1800}


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


@pytest.fixture
def new_page(browser: Browser, gallery_site: Site, complaints: Complaints) -> Iterator[NewPage]:
    """Opens windows that know nothing of each other, with options of Playwright's contexts."""
    contexts = []

    def open_one(**options: Any) -> Page:
        from ..chromium import PATIENCE

        usual = {"base_url": gallery_site.url, "reduced_motion": "reduce", "viewport": _LARGE}
        context = browser.new_context(**{**usual, **options})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        complaints.listen(page)
        return page

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    """A window of a desktop computer that shows all pictures."""
    from .steps import settled

    page = new_page()
    page.goto("/")
    settled(page)
    return page


@pytest.fixture
def picture_file(gallery_site: Site) -> Path:
    """A file like one of the collection's, but not the same."""
    return gallery_site.folder / "05.jpg"
