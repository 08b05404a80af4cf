"""What browsers complain of: errors of scripts, of the security policy, and of what could not be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page

_TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
    console.error(`security policy: ${event.violatedDirective} forbids ${event.blockedURI}`));
"""


class Complaints:
    """Notes them, of several windows."""

    def __init__(self) -> None:
        self._noted: list[str] = []
        self._expected: list[str] = []

    def listen(self, page: Page) -> None:
        """Note what a window complains of from now on."""
        page.add_init_script(_TELL_VIOLATIONS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self._noted.append(f"{page.url}: {error}"))

    def expect(self, text: str) -> None:
        """One or more that contain a text belong to the test."""
        self._expected.append(text)

    def check(self) -> None:
        """There are those that are expected, and no others."""
        for text in self._expected:
            assert any(text in said for said in self._noted), f"no complaint says {text!r}: {self._noted}"
        others = [said for said in self._noted if not any(text in said for text in self._expected)]
        assert not others, others

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._noted.append(f"{message.type}: {message.text} ({message.location.get('url')})")
