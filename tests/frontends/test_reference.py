"""The documentation of the command line is what the program says of itself."""

from __future__ import annotations

from imagesearch.frontends.reference import reference

from ..conftest import REPOSITORY


def test_reference_is_up_to_date() -> None:
    there = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert there == reference(), "run: python -m imagesearch.frontends.reference > docs/cli.md"
