"""Commands that ask a running server print what they print without it; others say who holds the database."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from imagesearch import serving_file
from imagesearch.config import Config, config_of
from imagesearch.frontends.cli.app import app
from imagesearch.frontends.cli.holders import serves
from imagesearch.records import picture_id
from imagesearch.service import ImageSearch

from ...conftest import draw_picture
from ..conftest import ODD_NAMES, Ran, Run

SECRET, TOKEN = "owner" * 8, "user" * 8


class Shelf(NamedTuple):
    """A database, its pictures, and a folder for others."""

    uri: str
    folder: Path
    place: Path

    @property
    def config(self) -> Config:
        return config_of({"milvus": {"uri": self.uri}})

    @property
    def first(self) -> str:
        return str(self.folder / "00.png")

    @property
    def new(self) -> str:
        """A picture that is not in the collection."""
        return str(self.place / "new.png")


# What to run -> its arguments; --uri is added.
CASES: dict[str, Callable[[Shelf], list[str]]] = {
    "annotate": lambda shelf: ["annotate", str(shelf.place / "stars.csv"), "--on", "name", "--json"],
    "text": lambda shelf: ["search", shelf.first],
    "json": lambda shelf: ["search", shelf.new, "--json"],
    "jsonl": lambda shelf: ["search", shelf.new, "--jsonl", "-k", "3"],
    "csv": lambda shelf: ["search", shelf.new, "--csv"],
    "odd names": lambda shelf: ["search", str(shelf.folder / ODD_NAMES[-1]), "--json"],
    "parts": lambda shelf: ["search", shelf.new, f"+0.5:{shelf.first}", "-0.2:dog", "--json"],
    "several": lambda shelf: ["search", shelf.new, shelf.first, "text:dog", "--json"],
    "no words": lambda _: ["search", "text:"],
    "no words among others": lambda shelf: ["search", shelf.new, "text:", "--json"],
    "words": lambda _: ["search", "dog", "--json"],
    "unknown words": lambda _: ["search", "xyzzy"],
    "crop": lambda shelf: ["search", shelf.new, "--crop", "10%,0%,33.3333333%,50%", "--json"],
    "crop outside": lambda shelf: ["search", shelf.new, "--crop", "9999,0,5,5"],
    "id": lambda shelf: ["search", f"id:{picture_id(shelf.first)}", "--json"],
    "no such id": lambda _: ["search", "id:5"],
    "vector": lambda shelf: ["search", str(shelf.place / "query.npy"), "--json"],
    "queries": lambda shelf: ["search", "--queries", str(shelf.place / "queries.txt"), "--json"],
    "queries as csv": lambda shelf: ["search", "--queries", str(shelf.place / "queries.txt"), "--csv"],
    "a folder of queries": lambda shelf: ["search", "--queries", str(shelf.folder), "--json"],
    "filters": lambda shelf: [
        *("search", shelf.new, "--under", str(shelf.folder), "--min-width", "90"),
        *("--filter", "height < 70", "--json"),
    ],
    "filter without pictures": lambda shelf: ["search", shelf.new, "--after", "2100", "--json"],
    "wrong filter": lambda shelf: ["search", shelf.new, "--filter", "width >"],
    "group": lambda shelf: ["search", shelf.first, "--group"],
    "diverse": lambda shelf: ["search", shelf.first, "--diverse", "--json"],
    "confident": lambda shelf: ["search", shelf.first, "--only-confident"],
    "paging": lambda shelf: ["search", shelf.first, "--offset", "2", "-k", "4", "--sort", "date", "--json"],
    "threshold": lambda shelf: ["search", shelf.new, "--threshold", ".999"],
    "ranking": lambda shelf: ["search", shelf.new, "--rerank", "none", "--json"],
    "patches": lambda shelf: ["search", shelf.new, "--rerank", "patches", "--json"],
    "patches and views": lambda shelf: ["search", shelf.new, "--rerank", "patches", "--views", "crops", "--json"],
    "views": lambda shelf: ["search", shelf.new, shelf.first, "--views", "crops", "--json"],
    "no such views": lambda shelf: ["search", shelf.new, "--views", "all"],
    "paths": lambda shelf: ["search", shelf.new, "-0"],
    "copies": lambda shelf: ["search", shelf.new, "-k", "2", "--copy-to", str(shelf.place / "copies")],
    "page": lambda shelf: ["search", shelf.new, "-k", "2", "--html", str(shelf.place / "page.html")],
    "no such file": lambda shelf: ["search", str(shelf.place / "nowhere.png")],
    "no picture": lambda shelf: ["search", str(shelf.folder / "broken.jpg")],
    "info": lambda _: ["info"],
    "info as json": lambda _: ["info", "--json"],
    "skipped": lambda _: ["info", "--skipped", "--json"],
    "collections": lambda _: ["collections", "--csv"],
    "a column of one's own": lambda shelf: ["search", shelf.new, "--filter", "stars >= 2", "--json"],
    "dry run": lambda shelf: ["index", str(shelf.folder), "--dry-run"],
    "index nowhere": lambda shelf: ["index", str(shelf.place / "nowhere")],
    "forget nothing": lambda shelf: ["forget", str(shelf.place / "nowhere"), "--json"],
}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    place = tmp_path_factory.mktemp("through").resolve()
    folder = place / "pictures"
    folder.mkdir()
    names = [*(f"{number:02}.png" for number in range(45)), *ODD_NAMES]
    for number, name in enumerate(names):
        draw_picture(number).save(folder / name)
    draw_picture(0).save(folder / "zero again.jpg", quality=80)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    draw_picture(7, (300, 200)).save(place / "new.png")
    found = Shelf(str(place / "shelf.db"), folder, place)
    lines = [found.new, found.first, "dog", str(place / "nowhere.png"), f"{found.new} -{found.first}"]
    (place / "stars.csv").write_text("name,stars\n01.png,1\n02.png,2\n03.png,3\nnowhere.png,9\n")
    (place / "queries.txt").write_text("\n".join(lines))
    with ImageSearch(found.config) as images:
        images.index(folder)
        np.save(place / "query.npy", images.embed([found.new])[0])
    return found


def ran(runner: CliRunner, shelf: Shelf, name: str) -> Ran:
    result = runner.invoke(app, [*CASES[name](shelf), "--uri", shelf.uri])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def alone(shelf: Shelf, runner: CliRunner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """What every case prints without a server."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("nothing here"))
        found = {name: ran(runner, shelf, name) for name in CASES}
    for file in (shelf.place / "copies").iterdir():
        file.unlink()
    return found


class Server(NamedTuple):
    url: str
    process: int


@contextlib.contextmanager
def serving(uri: str, home: Path) -> Iterator[Server]:
    """The real command in a process of its own."""
    home.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "imagesearch", "serve", "--port", "0", "--uri", uri]
    world = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    config, log = config_of({"milvus": {"uri": uri}}), home / "log"
    with log.open("w") as told, subprocess.Popen(command, stderr=told, cwd=home, env=world) as process:
        try:
            while (there := serving_file.find(config)) is None or not serves(there, config):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            assert there.process == process.pid
            assert log.read_text().startswith(f"ImageSearch is at {there.url}/")
            yield Server(there.url, there.process)
        finally:
            process.terminate()
            process.wait(timeout=30)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def server(shelf: Shelf, alone: dict[str, Ran]) -> Iterator[Server]:
    """A server that has the database: nobody else can open it."""
    with serving(shelf.uri, shelf.place / "home") as served:
        yield served


class TestServed:
    @pytest.mark.parametrize("name", CASES)
    def test_the_same_as_without(
        self, shelf: Shelf, alone: dict[str, Ran], server: Server, runner: CliRunner, name: str
    ) -> None:
        page = shelf.place / "page.html"
        before = page.read_bytes() if name == "page" else b""
        assert ran(runner, shelf, name) == alone[name]
        assert not before or page.read_bytes() == before

    def test_labels(self, shelf: Shelf, server: Server, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        command = ("classify", shelf.new, shelf.first, shelf.folder / "broken.jpg", "--json")
        without = run(*command)
        monkeypatch.setenv("IMAGESEARCH_MILVUS__URI", shelf.uri)
        with monkeypatch.context() as patch:
            patch.setattr(ImageSearch, "__init__", _forbidden)
            assert run(*command) == without
        assert without.code == 1
        assert run("classify", shelf.folder, "-k", "1", "--csv").out.count("\n") > 50

    def test_timings_name_the_server(self, shelf: Shelf, server: Server, run: Run) -> None:
        assert f"server at {server.url}" in run("search", shelf.first, "--timings", "--uri", shelf.uri).err

    def test_index_and_forget(self, shelf: Shelf, server: Server, run: Run, tmp_path: Path) -> None:
        more = tmp_path / "m\udce9hr"
        more.mkdir()
        draw_picture(70).save(more / "70.png")
        (more / "bad.png").write_bytes(b"")
        indexed = run("index", more, "--strict", "--uri", shelf.uri)
        assert indexed.code == 1
        assert "bad.png: is empty (0 bytes)" in indexed.err
        assert "1 file skipped, and --strict was given" in indexed.err
        assert indexed.out.splitlines()[:2] == ["found       2", "indexed     1"]
        hits = json.loads(run("search", more / "70.png", "-k", "1", "--json", "--uri", shelf.uri).out)
        assert hits[0]["path"] == str(more / "70.png")
        assert "1 picture removed" in run("forget", more, "--uri", shelf.uri).out

    @pytest.mark.parametrize(
        "command",
        [
            ["check"],
            ["rename", "images_starter", "other"],
            ["drop", "images_starter", "--yes"],
            ["copy", "images_starter", "other"],
            ["export", "images.parquet"],
        ],
        ids=lambda command: command[0],
    )
    def test_what_the_server_cannot_do(self, shelf: Shelf, server: Server, run: Run, command: list[str]) -> None:
        done = run(*command, "--uri", shelf.uri)
        assert (done.code, done.out) == (1, "")
        advice = f"which cannot do this: stop it first (process {server.process})"
        told = f"the database {shelf.uri} is in use by the server at {server.url}, {advice}"
        assert done.err.strip().endswith(told)

    def test_other_settings(self, shelf: Shelf, server: Server, run: Run) -> None:
        done = run("search", shelf.first, "--precision", "float32", "--uri", shelf.uri)
        assert done.code == 1
        assert f"{server.url}, whose settings are others (model.precision = auto there, float32 here)" in done.err
        done = run("index", shelf.folder, "--exclude", "*.gif", "--uri", shelf.uri)
        assert "data.exclude = " in done.err


def _forbidden(*_: Any, **__: Any) -> None:
    raise AssertionError("the command did it itself")


class TestFile:
    """The file by which a server is found; one that is not right is no obstacle."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Shelf:
        folder = tmp_path / "few"
        folder.mkdir()
        draw_picture(1).save(folder / "00.png")
        found = Shelf(str(tmp_path / "few.db"), folder, tmp_path)
        with ImageSearch(found.config) as images:
            images.index(folder)
        return found

    def test_it_is_private_and_goes(self, database: Shelf) -> None:
        file = Path(database.uri) / "imagesearch-skipped" / "server.json"
        with serving_file.announce(database.config, "http://127.0.0.1:9", SECRET):
            assert file.stat().st_mode & 0o777 == 0o600
            there = serving_file.find(database.config)
            assert there is not None
            assert (there.url, there.process, there.secret) == ("http://127.0.0.1:9", os.getpid(), SECRET)
            assert SECRET not in repr(there)
            assert there.differences(database.config, serving_file.INDEXING) == []
            later = dataclasses.replace(there, settings={**there.settings, "version": "0.0"})
            (difference,) = later.differences(database.config, serving_file.LOOKING)
            assert difference.startswith("version = 0.0 there, ")
        assert not file.exists()
        assert serving_file.find(database.config) is None

    def test_that_of_a_later_server_stays(self, database: Shelf) -> None:
        with serving_file.announce(database.config, "http://127.0.0.1:9", SECRET):
            later = serving_file.announce(database.config, "http://127.0.0.1:10", TOKEN)
            later.__enter__()
        assert serving_file.find(database.config) is not None
        later.__exit__(None, None, None)
        assert serving_file.find(database.config) is None

    def test_of_a_database_yet_to_be_made(self, tmp_path: Path) -> None:
        config = config_of({"milvus": {"uri": str(tmp_path / "new.db")}})
        with serving_file.announce(config, "http://127.0.0.1:9", SECRET):
            assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o700
            with ImageSearch(config) as images:
                assert images.find_collection() is None

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such permissions")
    def test_a_group_that_shares_the_database_keeps_its_list_of_skipped_files(self, database: Shelf) -> None:
        before = os.umask(0o002)
        try:
            with serving_file.announce(database.config, "http://127.0.0.1:9", SECRET):
                pass
        finally:
            os.umask(before)
        folder = Path(database.uri) / "imagesearch-skipped"
        assert folder.stat().st_mode & 0o777 == 0o775

    def test_where_nothing_can_be_written(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        (tmp_path / "new.db").write_text("a file")
        config = config_of({"milvus": {"uri": str(tmp_path / "new.db")}})
        with serving_file.announce(config, "http://127.0.0.1:9", SECRET):
            assert "the command line will not find this server" in caplog.text

    def test_none_of_a_database_on_a_server(self) -> None:
        config = config_of({"milvus": {"uri": "http://127.0.0.1:19530"}})
        with serving_file.announce(config, "http://127.0.0.1:9", SECRET):
            assert serving_file.find(config) is None

    def test_a_stale_one(self, database: Shelf, run: Run) -> None:
        with serving_file.announce(database.config, "http://127.0.0.1:9", SECRET):
            done = run("search", database.first, "--json", "--uri", database.uri)
        assert (done.code, done.err) == (0, run("search", database.first, "--json", "--uri", database.uri).err)
        assert json.loads(done.out)[0]["path"] == database.first

    def test_of_another_database(self, database: Shelf, server: Server, run: Run) -> None:
        with serving_file.announce(database.config, server.url, SECRET):
            assert json.loads(run("search", database.first, "--json", "--uri", database.uri).out)[0]["rank"] == 1
            assert run("check", "--uri", database.uri).code == 0

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such permissions")
    @pytest.mark.parametrize("text", [None, "{", "[]", '{"url": 3}'])
    def test_one_that_others_could_have_written_or_half_a_one(self, database: Shelf, text: str | None) -> None:
        file = Path(database.uri) / "imagesearch-skipped" / "server.json"
        with serving_file.announce(database.config, "http://127.0.0.1:9", SECRET):
            if text is None:
                file.chmod(0o640)
            else:
                file.write_text(text)
            assert serving_file.find(database.config) is None
        file.unlink()


def test_a_search_without_a_server_imports_nothing_of_one(tmp_path: Path, shelf: Shelf) -> None:
    show = "import atexit, sys; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    program = f"{show}; from imagesearch.frontends.cli.app import main; main()"
    command = [sys.executable, "-c", program, "search", "nowhere.png", "--uri", str(tmp_path / "none.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    loaded = done.stderr.split()
    assert "imagesearch.serving_file" in loaded
    assert not {"imagesearch.client", "http.client", "fastapi"} & set(loaded)


def test_a_server_that_ends_takes_its_file_along(tmp_path: Path) -> None:
    uri = str(tmp_path / "own.db")
    with serving(uri, tmp_path / "other home"):
        assert (Path(uri) / "imagesearch-skipped" / "server.json").exists()
    assert not (Path(uri) / "imagesearch-skipped" / "server.json").exists()
