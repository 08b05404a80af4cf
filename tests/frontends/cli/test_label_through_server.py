"""``imagesearch label`` beside a running server: the same answers, and what others label meanwhile is not lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from imagesearch import Client, ImageSearch
from imagesearch.config import config_of
from imagesearch.frontends.cli.app import app

from ...conftest import draw_picture
from ..conftest import Ran
from .test_through_server import Server, serving


class Twins(NamedTuple):
    """Two databases of the same pictures; a server has one of them."""

    alone: str
    served: str
    server: Server
    folder: Path


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    place = tmp_path_factory.mktemp("twins").resolve()
    folder = place / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(12):
        draw_picture(number).save(folder / ("sub" if number > 7 else "") / f"{number:02}.png")
    shutil.copy(folder / "03.png", folder / "copy \udce9.png")
    alone, served = str(place / "alone.db"), str(place / "served.db")
    for uri in (alone, served):
        with ImageSearch(config_of({"milvus": {"uri": uri}})) as images:
            images.index(folder)
    with serving(served, place / "home") as server:
        yield Twins(alone, served, server, folder)


class Outcome(NamedTuple):
    """What a command said, and the table that it wrote."""

    ran: Ran
    table: bytes


Label = Callable[..., tuple[Outcome, Outcome]]


@pytest.fixture
def label(twins: Twins, runner: CliRunner, monkeypatch: pytest.MonkeyPatch) -> Label:
    """Run the command with each of them."""

    def run(uri: str, lines: str, arguments: tuple[object, ...]) -> Outcome:
        done = runner.invoke(app, ["label", "--uri", uri, *map(str, arguments)], input=lines)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        table = Path("labels.csv").read_bytes() if Path("labels.csv").exists() else b""
        Path("labels.csv").unlink(missing_ok=True)
        return Outcome(Ran(done.exit_code, done.stdout, done.stderr), table)

    def run_both(lines: str, *arguments: object) -> tuple[Outcome, Outcome]:
        alone = run(twins.alone, lines, arguments)
        with monkeypatch.context() as patch:
            patch.setattr(ImageSearch, "__init__", _forbidden)
            return alone, run(twins.served, lines, arguments)

    return run_both


def _forbidden(*_: object, **__: object) -> None:
    raise AssertionError("the command did it itself")


def test_the_same_as_without(twins: Twins, label: Label) -> None:
    """One command after the other, each with what those before it have left."""
    commands: list[tuple[str, tuple[object, ...]]] = [
        ("", ("--export", "labels.csv")),
        ("", ("--next", 5, "--json")),
        ("cat\n2\ns\nu\n=7\nzebra\nx\n\nq\n", ("--labels", "cat,dog")),
        ("u\nq\n", ()),
        ("", ("--next", 100, "--csv")),
        ("", ("--next", 3, "--paths")),
        ("=below\ns\nq\n", ("--under", twins.folder / "sub")),
        ("=cat\n=dog\n", ("--json",)),
        ("", ("--under", "elsewhere")),
        ("", ("--export", "labels.csv")),
        ("s\n" * 20, ()),
    ]
    written = []
    for lines, arguments in commands:
        alone, served = label(lines, *arguments)
        assert served == alone
        written.append(served.table.count(b"\n"))
    assert sum(written) == written[9] > 7


def test_the_page_and_the_command_line_at_once(twins: Twins, label: Label) -> None:
    from imagesearch import serving_file

    there = serving_file.find(config_of({"milvus": {"uri": twins.served}}))
    assert there is not None
    with Client(there.url, there.secret) as client, client.label_session() as session:
        question = session.next()[0]
        session.give(question.id, "from afar")
        _, done = label("", "--json")
        assert json.loads(done.ran.out)["labels"]["from afar"] == 1
        _, done = label("", "--next", 50, "--paths")
        assert question.path not in done.ran.out
        session.undo()


def test_a_command_that_began_before_the_server_says_how_to_go_on(
    twins: Twins, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has let go of the database between two pictures, and the server has taken it."""
    monkeypatch.setattr("imagesearch.library.hand_labels._PATIENCE", 0.2)
    monkeypatch.setattr("imagesearch.serving_file.find", _once_nothing(twins))
    done = runner.invoke(app, ["label", "--uri", twins.served], input="cat\n")
    assert done.exit_code == 1
    advice = "which was started meanwhile: run the command again, and it asks the server"
    assert f"is in use by the server at {twins.server.url}, {advice}" in done.stderr


def _once_nothing(twins: Twins) -> Callable[..., object]:
    from imagesearch.serving_file import find

    answers = iter([None])
    return lambda config: next(answers, find(config))
