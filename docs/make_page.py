"""Take the pictures of the web page: a search by one of the demo's photographs, light and dark.

    python docs/make_page.py

Writes docs/page.png and docs/page-dark.png: what ``imagesearch serve`` shows in Chromium. Nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from imagesearch import ImageSearch
from imagesearch.config import config_of
from imagesearch.frontends.cli.samples import make_samples

SIZE = (1280, 800)
QUERY = "motorcycle_left.jpg"
# The samples' files are new, and dates that are all the same say nothing.
FIRST_DAY, DAYS_APART = 1_717_200_000, 3.37
PATIENCE = 60.0


def index_samples(folder: Path, database: Path) -> None:
    """Write the photographs and their variants, with dates, and index them."""
    for number, path in enumerate(make_samples(folder)):
        day = FIRST_DAY + int(number * DAYS_APART * 86_400)
        os.utime(path, (day, day))
    with ImageSearch(config_of({"milvus": {"uri": str(database)}})) as images:
        images.index(folder)


@contextlib.contextmanager
def served(database: Path) -> Iterator[str]:
    """The address of ``imagesearch serve``.

    Raises:
        TimeoutError: it does not answer.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = (sys.executable, "-m", "imagesearch", "serve", "--uri", str(database), "--port", str(port))
    process = subprocess.Popen(command, cwd=database.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/readyz", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the server answers."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


def take(browser: Browser, url: str, query: Path, scheme: str, target: Path) -> None:
    """Search by a picture, and keep what the page shows then."""
    width, height = SIZE
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(url)
    page.set_input_files("#file", query)
    page.wait_for_selector("#labels:not([hidden])")
    page.wait_for_load_state("networkidle")
    page.screenshot(path=target)
    page.close()
    # A photograph's colours are many; 256 of them look the same here, and are a fifth of the bytes.
    Image.open(target).convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)


def main() -> None:
    """Write the files."""
    docs = Path(__file__).parent
    with tempfile.TemporaryDirectory() as place:
        folder, database = Path(place) / "photographs", Path(place) / "pictures.db"
        index_samples(folder, database)
        with served(database) as url, sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            take(browser, url, folder / QUERY, "light", docs / "page.png")
            take(browser, url, folder / QUERY, "dark", docs / "page-dark.png")
            browser.close()


if __name__ == "__main__":
    main()
