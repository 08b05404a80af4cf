"""The command line run inside the test's process, on one small library that is indexed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagesearch.frontends.cli.app import app

from ..conftest import draw_picture


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]

ODD_NAMES = ("two words.png", 'it\'s "quoted".png', "new\nline.png", "emoji 😀.png", "caf\udce9.png")


@pytest.fixture(scope="session")
def runner() -> CliRunner:
    return CliRunner()


@pytest.fixture
def run(runner: CliRunner) -> Run:
    """Run ``imagesearch`` with arguments; an unexpected exception fails the test with its traceback."""

    def invoke(*arguments: object) -> Ran:
        result = runner.invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert "Traceback" not in result.output
        return Ran(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of trainings have one figure only: most tests are about other things, and drawing is slow."""
    from imagesearch.frontends import training_page

    panels = training_page.training_panels
    monkeypatch.setattr(training_page, "training_panels", lambda found: panels(found)[:1])


@dataclass(frozen=True)
class Library:
    folder: Path
    uri: str


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory, runner: CliRunner) -> Library:
    """Pictures with ordinary and with odd names, and the database that holds them."""
    place = tmp_path_factory.mktemp("library")
    folder = place / "pictures"
    folder.mkdir()
    for number, name in enumerate(("plain.png", *ODD_NAMES)):
        draw_picture(number).save(folder / name)
    found = Library(folder, str(place / "images.db"))
    result = runner.invoke(app, ["index", str(folder), "--uri", found.uri])
    assert result.exit_code == 0, result.output
    return found
