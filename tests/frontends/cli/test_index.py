"""``imagesearch index`` and ``info --skipped``: what changed, what is offline, what could not be read."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from imagesearch.frontends.cli.commands.info import show_skipped
from imagesearch.frontends.cli.output import make_console
from imagesearch.records import Skipped

from ...conftest import draw_picture
from ..conftest import Ran, Run


def facts_of(ran: Ran) -> dict[str, str]:
    """The two columns of a report; names may be two words."""
    pairs = [line.split("  ", maxsplit=1) for line in ran.out.splitlines() if "  " in line]
    return {name: value.strip() for name, value in pairs}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "images.db")


@pytest.fixture
def indexed(run: Run, picture_folder: Path, uri: str) -> Path:
    """The folder of six pictures, indexed."""
    assert run("index", picture_folder, "--uri", uri).code == 0
    return picture_folder


def test_moved_pictures_keep_their_vector_and_deleted_ones_go(run: Run, indexed: Path, uri: str) -> None:
    (indexed / "0.png").rename(indexed / "sub" / "moved.png")
    (indexed / "1.png").unlink()
    ran = run("index", indexed, "--uri", uri)
    facts = facts_of(ran)
    assert ran.code == 0
    assert (facts["found"], facts["unchanged"], facts["removed"]) == ("5", "4", "1")
    assert facts["indexed"] == "1  (vectors reused of 1: moved, renamed or copied)"


def test_a_dry_run_says_so_and_changes_nothing(run: Run, indexed: Path, uri: str) -> None:
    (indexed / "0.png").unlink()
    draw_picture(8).save(indexed / "8.png")
    ran = run("index", indexed, "--uri", uri, "--dry-run")
    facts = facts_of(ran)
    assert ran.code == 0
    assert ran.out.startswith("dry run: nothing was changed\n")
    assert (facts["would be indexed"], facts["would be removed"], facts["unchanged"]) == ("1", "1", "5")
    report = json.loads(run("index", indexed, "--uri", uri, "--dry-run", "--json").out)
    assert (report["dry_run"], report["indexed"], report["removed"]) == (True, 1, 1)
    assert json.loads(run("collections", "--uri", uri, "--json").out)[0]["rows"] == 6


def test_without_a_folder_all_that_were_indexed_before_are_refreshed(run: Run, indexed: Path, uri: str) -> None:
    report = json.loads(run("index", "--uri", uri, "--json").out)
    assert (report["found"], report["unchanged"]) == (6, 6)


def test_an_offline_folder_keeps_its_pictures_until_prune(run: Run, indexed: Path, uri: str) -> None:
    indexed.rename(indexed.with_name("unplugged"))
    ran = run("index", "--uri", uri)
    assert ran.code == 0
    (line,) = ran.err.splitlines()
    assert line.startswith(f"offline: {indexed}: no such file or directory; 6 missing pictures kept")
    assert "--prune" in line
    strict = run("index", "--uri", uri, "--strict", "--json")
    assert strict.code == 1
    assert "1 folder offline" in strict.err
    (offline,) = json.loads(strict.out)["offline"]
    assert offline == {"root": str(indexed), "reason": "no such file or directory", "pictures": 6}
    pruned = run("index", "--uri", uri, "--prune")
    assert pruned.code == 0
    assert facts_of(pruned)["removed"] == "6"


def test_strict_fails_over_a_skipped_file(run: Run, picture_folder: Path, uri: str) -> None:
    (picture_folder / "bad.jpg").write_text("no picture")
    assert run("index", picture_folder, "--uri", uri).code == 0
    ran = run("index", picture_folder, "--uri", uri, "--strict")
    assert ran.code == 1
    assert ran.err.splitlines()[-1] == "imagesearch: error: 1 file skipped, and --strict was given"
    (picture_folder / "bad.jpg").unlink()
    assert run("index", picture_folder, "--uri", uri, "--strict").code == 0


def test_which_files_count(run: Run, picture_folder: Path, uri: str) -> None:
    draw_picture(7).save(picture_folder / ".hidden.png")
    draw_picture(8, (1200, 1000)).save(picture_folder / "large.png")
    Path("config.yaml").write_text("data: {exclude: ['1.png']}\n")
    flags = ("--exclude", "sub", "--exclude", "2.*", "--include-hidden", "--max-megapixels", "1", "--uri", uri)
    report = json.loads(run("index", picture_folder, *flags, "--json").out)
    # Six drawn pictures less those of config.yaml and of the flags; the hidden one; the large one is skipped.
    assert (report["found"], report["indexed"]) == (5, 4)
    assert [skip["path"] for skip in report["skipped"]] == [str(picture_folder / "large.png")]


@pytest.mark.parametrize("flags", [("--max-megapixels", "0"), ("--exclude", ""), ("--max-megapixels", "big")])
def test_senseless_selections_are_wrong_usage(run: Run, picture_folder: Path, flags: tuple[str, ...]) -> None:
    ran = run("index", picture_folder, *flags)
    assert (ran.code, ran.out) == (2, "")


def test_skipped_files_are_remembered_and_listed(run: Run, picture_folder: Path, uri: str) -> None:
    for number in range(22):
        (picture_folder / f"bad{number:02}.jpg").write_text("no picture")
    (picture_folder / "zero.png").touch()
    indexing = run("index", picture_folder, "--uri", uri)
    assert "... and 3 more files skipped (imagesearch info --skipped lists all)" in indexing.err
    ran = run("info", "--skipped", "--uri", uri)
    lines = ran.out.splitlines()
    assert ran.code == 0
    assert sum(line.startswith(f"{picture_folder}/bad") for line in lines) == 22
    assert "23 files skipped for collection images_starter:" in lines
    assert [line.split()[0] for line in lines[-3:-1]] == ["22", "1"]
    assert lines[-1].startswith("They are tried again once they change")
    assert "\nskipped     23 files" in run("info", "--uri", uri).out
    assert json.loads(run("info", "--uri", uri, "--json").out)["skipped"] == 23


def test_kinds_of_skipped_files(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = [
        Skipped("/a.jpg", "300x200 pixels exceed 1 megapixels"),
        Skipped("/b.jpg", "no permission", retryable=True),
        Skipped("/c.jpg", "4000x3000 pixels exceed 1 megapixels"),
    ]
    show_skipped("mine", skipped, make_console(sys.stdout))
    assert capsys.readouterr().out.splitlines() == [
        "/a.jpg: 300x200 pixels exceed 1 megapixels",
        "/b.jpg: no permission  (tried again at every run)",
        "/c.jpg: 4000x3000 pixels exceed 1 megapixels",
        "",
        "3 files skipped for collection mine:",
        "      2  … pixels exceed … megapixels",
        "      1  no permission",
        "The others are tried again once they change, or with 'imagesearch index --retry-skipped'",
    ]


def test_skipped_files_as_data(run: Run, indexed: Path, uri: str) -> None:
    bad = indexed / os.fsdecode(b"caf\xe9.jpg")
    bad.write_text("no picture")
    run("index", indexed, "--uri", uri)
    (entry,) = json.loads(run("info", "--skipped", "--uri", uri, "--json").out)
    assert entry == {"path": str(bad), "reason": entry["reason"], "retryable": False}
    assert "is not a picture" in entry["reason"]
    rows = list(csv.reader(io.StringIO(run("info", "--skipped", "--uri", uri, "--csv").out)))
    assert rows[0] == ["path", "reason", "retryable"]
    assert len(rows) == 2


def test_nothing_skipped(run: Run, indexed: Path, uri: str) -> None:
    ran = run("info", "--skipped", "--uri", uri)
    assert (ran.code, ran.out) == (0, "")
    assert "no file was skipped" in ran.err
    assert run("info", "--skipped", "--uri", uri, "--json").out == "[]\n"
    assert "\nskipped" not in run("info", "--uri", uri).out


def test_csv_of_info_needs_skipped(run: Run, uri: str) -> None:
    assert run("info", "--csv", "--uri", uri).code == 2
    assert run("info", "--skipped", "--csv", "--json", "--uri", uri).code == 2


def test_retry_skipped_tries_again(run: Run, indexed: Path, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that could not be read, and can be now without a change of its own: it came back from a copy."""
    good, bad = (indexed / "0.png").read_bytes(), indexed / "later.png"
    bad.write_bytes(b"x" * len(good))
    os.utime(bad, ns=(1, 1))
    run("index", indexed, "--uri", uri)
    shutil.copyfile(indexed / "0.png", bad)
    os.utime(bad, ns=(1, 1))
    assert len(json.loads(run("index", indexed, "--uri", uri, "--json").out)["skipped"]) == 1
    report = json.loads(run("index", indexed, "--uri", uri, "--retry-skipped", "--json").out)
    assert (report["indexed"], report["skipped"]) == (1, [])


def test_an_empty_mount_point_does_not_wipe_the_list_of_skipped_files(run: Run, uri: str, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert run("index", disk, tmp_path / "a.png", "--uri", uri).code == 0
    skipped = ("info", "--skipped", "--json", "--uri", uri)
    before = run(*skipped).out
    assert "broken.png" in before
    (disk / "broken.png").rename(tmp_path / "kept.png")
    run("index", disk, tmp_path / "a.png", "--uri", uri)
    assert run(*skipped).out == before
    run("index", disk, tmp_path / "a.png", "--prune", "--uri", uri)
    assert "broken.png" not in run(*skipped).out
