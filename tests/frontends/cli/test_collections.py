"""The commands about collections: list, copy, rename, drop, export, import, migrate."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import Library, Run


@pytest.fixture
def uri(library: Library, tmp_path: Path) -> str:
    """A database with one collection of six pictures, for one test alone."""
    shutil.copytree(library.uri, tmp_path / "own.db")
    return str(tmp_path / "own.db")


def names(run: Run, uri: object) -> list[str]:
    return [row["name"] for row in json.loads(run("collections", "--uri", uri, "--json").out)]


# --- collections ---


def test_collections_are_listed(run: Run, library: Library) -> None:
    ran = run("collections", "--uri", library.uri)
    assert ran.code == 0
    (line,) = [line for line in ran.out.splitlines() if "images_starter" in line]
    assert line.split() == ["*", "images_starter", "6", "starter", "320", "COSINE", "FLAT"]
    other = run("collections", "--uri", library.uri, "--collection", "another").out
    assert "*" not in other
    rows = list(csv.DictReader(io.StringIO(run("collections", "--uri", library.uri, "--csv").out)))
    assert [(row["name"], row["configured"], row["rows"]) for row in rows] == [("images_starter", "True", "6")]
    (described,) = json.loads(run("collections", "--uri", library.uri, "--json").out)
    assert (described["model"], described["dimension"], described["configured"]) == ("starter", 320, True)


def test_no_collections_and_no_database(run: Run, tmp_path: Path) -> None:
    ran = run("collections", "--uri", tmp_path / "none.db")
    assert (ran.code, ran.out) == (0, "")
    assert "there is no collection in" in ran.err
    assert run("collections", "--uri", tmp_path / "none.db", "--json").out == "[]\n"
    assert not (tmp_path / "none.db").exists()


# --- copy and rename ---


def test_copy_then_search_the_copy(run: Run, library: Library, uri: str) -> None:
    ran = run("copy", "images_starter", "second", "--uri", uri)
    assert ran.code == 0
    assert ran.out.startswith("second: 6 pictures copied")
    query = ("search", library.folder / "plain.png", "-k", "3", "--json", "--uri", uri)
    assert json.loads(run(*query, "--collection", "second").out) == json.loads(run(*query).out)
    again = json.loads(run("copy", "images_starter", "second", "--uri", uri, "--json").out)
    assert (again["rows"], again["already_there"]) == (0, 6)


def test_rename_and_a_word_about_the_settings(run: Run, uri: str) -> None:
    ran = run("rename", "images_starter", "holidays", "--uri", uri)
    assert (ran.code, ran.out) == (0, "images_starter is now holidays\n")
    assert "--collection holidays" in ran.err
    assert names(run, uri) == ["holidays"]
    back = run("rename", "holidays", "images_starter", "--uri", uri, "--json")
    assert json.loads(back.out) == {"collection": "images_starter", "renamed_from": "holidays"}
    assert back.err == ""


def test_rename_to_a_name_that_is_taken(run: Run, uri: str) -> None:
    run("copy", "images_starter", "second", "--uri", uri)
    ran = run("rename", "second", "images_starter", "--uri", uri)
    assert (ran.code, ran.out) == (1, "")
    assert "images_starter" in ran.err
    assert names(run, uri) == ["images_starter", "second"]


@pytest.mark.parametrize("command", ["copy", "rename"])
def test_onto_itself_is_wrong_usage(run: Run, library: Library, command: str) -> None:
    ran = run(command, "images_starter", "images_starter", "--uri", library.uri)
    assert (ran.code, ran.out) == (2, "")
    assert "the same name" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("copy", "holidays", "new"),
        ("rename", "holidays", "new"),
        ("drop", "holidays", "--yes"),
        ("export", "x.parquet", "--collection", "holidays"),
        ("migrate", "holidays", "--to", "other.db"),
    ],
)
def test_unknown_collections_are_told_with_those_that_are_there(
    run: Run, library: Library, arguments: tuple[str, ...]
) -> None:
    ran = run(*arguments, "--uri", library.uri)
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert "'holidays'" in ran.err
    assert "(there: images_starter)" in ran.err
    assert not Path("x.parquet").exists()
    assert not Path("other.db").exists()


@pytest.mark.parametrize("name", ["with space", "naïve", "../a", "9lives", "", "x" * 256])
def test_names_that_milvus_does_not_take(run: Run, uri: str, name: str) -> None:
    for command in (("copy", "images_starter"), ("rename", "images_starter"), ("import", "x", "--collection")):
        ran = run(*command, name, "--uri", uri)
        assert (ran.code, ran.out) == (2, ""), command
        assert "cannot be the name of a collection" in ran.err
    assert names(run, uri) == ["images_starter"]


# --- drop ---


def test_drop_does_not_go_without_a_question(run: Run, uri: str) -> None:
    ran = run("drop", "images_starter", "--uri", uri)  # the tests' stdin is no terminal
    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.err
    assert names(run, uri) == ["images_starter"]


def test_drop_says_what_goes(run: Run, library: Library, uri: str) -> None:
    ran = run("drop", "images_starter", "--uri", uri, "--yes")
    assert (ran.code, ran.err) == (0, "")
    assert "the vectors of 6 pictures" in ran.out
    assert "not touched" in ran.out
    assert names(run, uri) == []
    assert (library.folder / "plain.png").exists()


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("n\n", 1, ["images_starter"]), ("y\n", 0, []), ("", 1, None)]
)
def test_drop_asks_on_a_terminal(uri: str, run: Run, answer: str, code: int, left: list[str] | None) -> None:
    """On a real terminal, in a process of its own."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    program = [sys.executable, "-m", "imagesearch", "drop", "images_starter", "--uri", uri]
    process = subprocess.Popen(program, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.close(theirs)
    os.write(ours, answer.encode() or b"\x04")  # Ctrl-D
    out, err = process.communicate(timeout=120)
    os.close(ours)
    assert process.returncode == code, err
    assert b"the vectors of 6 pictures" in err
    assert (b"dropped" in out) == (code == 0)
    assert names(run, uri) == (["images_starter"] if left is None else left)


# --- export and import ---


def test_export_then_import_elsewhere(run: Run, library: Library, tmp_path: Path) -> None:
    exported = json.loads(run("export", "mine.parquet", "--uri", library.uri, "--json").out)
    assert (exported["collection"], exported["rows"]) == ("images_starter", 6)
    other = tmp_path / "other.db"
    imported = run("import", "mine.parquet", "--uri", other)
    assert imported.code == 0
    assert imported.out.startswith("images_starter: 6 pictures imported")
    query = ("search", library.folder / "plain.png", "--json")
    assert json.loads(run(*query, "--uri", other).out) == json.loads(run(*query, "--uri", library.uri).out)
    named = json.loads(run("import", "mine.parquet", "--uri", other, "--collection", "second", "--json").out)
    assert (named["collection"], named["rows"]) == ("second", 6)
    assert names(run, other) == ["images_starter", "second"]


def test_export_replaces_a_file_only_when_forced(run: Run, library: Library) -> None:
    Path("mine.parquet").write_text("precious")
    refused = run("export", "mine.parquet", "--uri", library.uri)
    assert (refused.code, refused.out) == (1, "")
    assert "--force" in refused.err
    assert Path("mine.parquet").read_text() == "precious"
    assert run("export", "mine.parquet", "--uri", library.uri, "--force").code == 0
    assert Path("mine.parquet").read_bytes()[:4] == b"PAR1"


@pytest.mark.parametrize("name", ["mine.csv", "mine", ".parquet.gz"])
def test_export_to_another_ending_is_wrong_usage(run: Run, library: Library, name: str) -> None:
    ran = run("export", name, "--uri", library.uri)
    assert (ran.code, ran.out) == (2, "")
    assert ".parquet" in ran.err
    assert not Path(name).exists()


def test_export_to_where_nothing_can_be_written(run: Run, library: Library) -> None:
    Path("file").touch()
    ran = run("export", "file/mine.parquet", "--uri", library.uri)
    assert (ran.code, ran.out) == (1, "")
    assert len(ran.err.splitlines()) == 1
    assert ran.err.startswith("imagesearch: error: ")


def test_import_of_what_is_no_export(run: Run, tmp_path: Path) -> None:
    Path("text.parquet").write_text("no table")
    Path("empty.parquet").touch()
    for name in ("gone.parquet", "text.parquet", "empty.parquet", "."):
        ran = run("import", name, "--uri", tmp_path / "a.db")
        assert (ran.code, ran.out) == (1, ""), name
        assert len(ran.err.splitlines()) == 1
        assert ran.err.startswith("imagesearch: error: ")


# --- migrate ---


def test_migrate_copies_everything_and_goes_on(run: Run, library: Library, uri: str) -> None:
    run("copy", "images_starter", "second", "--uri", uri)
    ran = run("migrate", "--to", "other.db", "--uri", uri)
    assert ran.code == 0
    assert [line.partition(":")[0] for line in ran.out.splitlines()] == ["images_starter", "second"]
    again = json.loads(run("migrate", "second", "--to", "other.db", "--uri", uri, "--json").out)
    assert [(report["rows"], report["already_there"]) for report in again] == [(0, 6)]
    query = ("search", library.folder / "plain.png", "--json")
    assert json.loads(run(*query, "--uri", "other.db").out) == json.loads(run(*query, "--uri", uri).out)


def test_migrate_to_where_nobody_answers(run: Run, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGESEARCH_MILVUS__TIMEOUT", "1")
    ran = run("migrate", "--to", "http://127.0.0.1:9", "--uri", library.uri)
    assert (ran.code, ran.out) == (1, "")
    assert "127.0.0.1:9" in ran.err
    assert "Traceback" not in ran.err


def test_migrate_to_no_database_or_the_same(run: Run, library: Library) -> None:
    ran = run("migrate", "--to", "folder/without/ending", "--uri", library.uri)
    assert ran.code == 2
    assert "--to = 'folder/without/ending': must be a path that ends in .db" in ran.err
    assert run("migrate", "--uri", library.uri).code == 2
    ran = run("migrate", "--to", library.uri, "--uri", library.uri)
    assert (ran.code, ran.out) == (1, "")


def test_the_variable_for_the_other_token_is_no_setting(
    run: Run, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGESEARCH_TO_TOKEN", "root:secret")
    monkeypatch.setenv("IMAGESEARCH_MILVUS__TIMEOUT", "1")
    assert run("info", "--uri", library.uri).code == 0
    ran = run("migrate", "--to", "http://127.0.0.1:9", "--uri", library.uri)
    assert ran.code == 1
    assert "secret" not in ran.out + ran.err
