"""The Chromium of this machine; test modules that import this one are skipped where there is none."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

# Two browsers at a time would slow each other down: one process runs all tests that use one.
in_chromium = pytest.mark.xdist_group("chromium")
# Milliseconds that anything may take; far more than it does on a quiet machine.
PATIENCE = 15_000


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser until the block ends, with more arguments on its command line."""
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *arguments])
        try:
            yield running
        finally:
            running.close()
