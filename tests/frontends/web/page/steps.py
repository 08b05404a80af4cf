"""What people do on the page, and what they see."""

from __future__ import annotations

import base64
import contextlib
import mimetypes
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..chromium import playwright

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

expect = playwright.expect
TILES = "#grid > li.tile:not(.skeleton)"

_MAKE_TRANSFER = """({data, name, type}) => {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type}));
    return transfer;
}"""
_COPY_PICTURE = """async ({data, type}) => {
    const bytes = Uint8Array.from(atob(data), (char) => char.charCodeAt(0));
    await navigator.clipboard.write([new ClipboardItem({[type]: new Blob([bytes], {type})})]);
}"""


def tiles(page: Page) -> Locator:
    """The pictures that are listed."""
    return page.locator(TILES)


def tile(page: Page, number: int) -> Locator:
    """One of them, from 0; those far from the window are not in the document."""
    return page.locator(f"#grid > li[data-index='{number}']")


def link(page: Page, number: int) -> Locator:
    """The link of one of them."""
    return tile(page, number).locator(".tile-link")


def ids(page: Page) -> list[str]:
    """Their ids, in their order; a window of the usual size shows all that the tests know of."""
    found: list[str] = page.eval_on_selector_all(TILES, "tiles => tiles.map((tile) => tile.dataset.id)")
    return found


def settled(page: Page) -> None:
    """Wait until the first page of a list is there, or a message instead."""
    expect(page.locator("#grid")).to_have_attribute("aria-busy", "false")


def drawn(page: Page) -> None:
    """Wait until the page is as it is after what was done last."""
    page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")


@contextlib.contextmanager
def listing(page: Page, path: str = "/api/v1/search") -> Iterator[None]:
    """Wait for another list, which what is done in the block makes the page ask for."""
    with page.expect_response(lambda response: response.url.split("?")[0].endswith(path)):
        yield
    settled(page)


def ids_of(answer: dict[str, Any]) -> list[str]:
    """Ids of an answer's hits."""
    return [hit["picture"]["id"] for hit in answer["hits"]]


def choose(page: Page, path: Path) -> None:
    """Search by a file, by the button for it."""
    with page.expect_file_chooser() as chooser, listing(page):
        page.get_by_role("button", name="Search by a picture").click()
        chooser.value.set_files(path)


def drag(page: Page, data: bytes, name: str) -> Any:
    """Carry a file over the page; returns what is carried."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    what = {"data": base64.b64encode(data).decode(), "name": name, "type": kind}
    transfer = page.evaluate_handle(_MAKE_TRANSFER, what)
    for event in ("dragenter", "dragover"):
        page.dispatch_event("body", event, {"dataTransfer": transfer})
    return transfer


def drop(page: Page, data: bytes, name: str) -> None:
    """Let a file fall onto the page."""
    page.dispatch_event("body", "drop", {"dataTransfer": drag(page, data, name)})


def copy_picture(page: Page, data: bytes) -> None:
    """Put a PNG onto the clipboard."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(_COPY_PICTURE, {"data": base64.b64encode(data).decode(), "type": "image/png"})


def is_loaded(image: Locator) -> None:
    """Wait until a picture is seen, not only the place for it."""
    expect(image).to_be_visible()
    expect(image).to_have_js_property("complete", True)
    assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 1


def until(page: Page, expression: str, seconds: float = 10.0) -> Any:
    """The value of an expression once it is true.

    Playwright's ``wait_for_function`` evaluates it in the page where it is not true at once, which the page's
    security policy forbids.
    """
    last = time.monotonic() + seconds
    while not (value := page.evaluate(expression)):
        assert time.monotonic() < last, f"still not true: {expression}"
        page.wait_for_timeout(20)
    return value
