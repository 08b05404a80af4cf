"""The documentation of the command line and of the Python API is what the program says of itself."""

from __future__ import annotations

import runpy

from imagesearch.frontends.reference import reference

from ..conftest import REPOSITORY


def test_reference_is_up_to_date() -> None:
    there = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert there == reference(), "run: python -m imagesearch.frontends.reference > docs/cli.md"


def test_the_python_reference_is_up_to_date() -> None:
    there = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(REPOSITORY / "docs" / "make_python.py"))["reference"]()
    assert there == made, "run: python docs/make_python.py > docs/python.md"


def test_the_reference_of_the_http_api_is_up_to_date() -> None:
    there = (REPOSITORY / "docs" / "http-api.md").read_text(encoding="utf-8")
    made = runpy.run_path(str(REPOSITORY / "docs" / "make_http_api.py"))["reference"]()
    assert there == made, "run: python docs/make_http_api.py > docs/http-api.md"
