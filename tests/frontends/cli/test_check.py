"""``imagesearch check`` as somebody types it, on a copy of a small library."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ..conftest import Library, Run


@pytest.fixture
def uri(library: Library, tmp_path: Path) -> str:
    shutil.copytree(library.uri, tmp_path / "images.db")
    return str(tmp_path / "images.db")


def the_data_file(uri: str) -> Path:
    (file,) = Path(uri).glob("collections/*/partitions/*/data/*.parquet")
    return file


def test_no_problems(run: Run, uri: str) -> None:
    done = run("check", "--uri", uri)
    assert (done.code, done.out, done.err) == (0, "1 collection, 6 pictures: no problems\n", "")


def test_there_is_no_database(run: Run, tmp_path: Path) -> None:
    done = run("check", "--uri", tmp_path / "none.db")
    assert (done.code, done.out) == (0, "0 collections, 0 pictures: no problems\n")
    assert not (tmp_path / "none.db").exists()


def test_a_problem_is_told_and_repaired(run: Run, uri: str) -> None:
    file = the_data_file(uri)
    file.write_bytes(b"")
    done = run("check", "--uri", uri)
    assert done.code == 1
    assert f"{file.name} is empty: 6 pictures must be encoded again" in done.out
    assert done.out.splitlines()[-1] == "1 collection: 1 problem"
    assert "check --repair" in done.err
    assert file.read_bytes() == b""
    done = run("check", "--repair", "--uri", uri)
    assert done.code == 0
    assert done.out.splitlines()[-1] == "1 collection, 6 pictures: 1 problem repaired, 6 pictures encoded again"
    assert run("check", "--uri", uri).code == 0


def test_what_a_damaged_database_says_names_the_command(run: Run, uri: str, library: Library) -> None:
    the_data_file(uri).unlink()
    done = run("search", library.folder / "plain.png", "--uri", uri)
    assert done.code == 1
    assert "imagesearch check --repair" in done.err


def test_what_is_still_wrong(run: Run, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    shutil.copytree(library.folder, folder)
    uri = str(tmp_path / "other.db")
    assert run("index", folder, "--uri", uri).code == 0
    the_data_file(uri).write_bytes(b"")
    shutil.rmtree(folder)
    done = run("check", "--repair", "--uri", uri)
    assert done.code == 1
    assert "run 'imagesearch index FOLDER'" in done.out


def test_json(run: Run, uri: str) -> None:
    data = bytearray(the_data_file(uri).read_bytes())
    data[len(data) // 3] ^= 4
    the_data_file(uri).write_bytes(data)
    done = run("check", "--json", "--uri", uri)
    report = json.loads(done.out)
    assert (done.code, report["sound"], report["collections"]) == (1, False, 1)
    assert report["findings"][0]["file"].endswith(".parquet")
    report = json.loads(run("check", "--repair", "--json", "--uri", uri).out)
    assert report["sound"]
    assert report["findings"][0]["is_repaired"]
