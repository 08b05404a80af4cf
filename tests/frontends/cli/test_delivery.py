"""Hits as files for other programs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagesearch.errors import UsageError
from imagesearch.frontends.cli import delivery
from imagesearch.frontends.cli.delivery import Delivered, copy_hits, link_hits, print_paths, report_delivery
from imagesearch.records import Hit, ImageRecord

ODD = "new\nline caf\udce9.jpg"


def hit(path: str | Path, rank: int = 1) -> Hit:
    return Hit(rank, 0.5, ImageRecord(str(path)))


@pytest.fixture
def hits(tmp_path: Path) -> list[Hit]:
    """Three files, two of them of one name."""
    paths = [tmp_path / "2024" / "a.jpg", tmp_path / "2025" / "a.jpg", tmp_path / "2025" / "b.png"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"picture %d" % number)
        os.utime(path, (1_700_000_000, 1_700_000_000 + number))
    return [hit(path, rank) for rank, path in enumerate(paths, start=1)]


class TestCopy:
    def test_names_begin_with_ranks(self, hits: list[Hit], tmp_path: Path) -> None:
        done = copy_hits(hits, tmp_path / "new" / "folder")
        folder = tmp_path / "new" / "folder"
        assert sorted(os.listdir(folder)) == ["01-a.jpg", "02-a.jpg", "03-b.png"]
        assert [item.target for item in done] == [folder / n for n in ("01-a.jpg", "02-a.jpg", "03-b.png")]
        assert {item.action for item in done} == {"copied"}
        assert (folder / "02-a.jpg").read_bytes() == b"picture 1"
        assert (folder / "02-a.jpg").stat().st_mtime == 1_700_000_001
        assert not (folder / "02-a.jpg").is_symlink()

    def test_as_many_digits_as_are_needed(self, hits: list[Hit], tmp_path: Path) -> None:
        copy_hits([hits[0], hit(hits[1].path, 100)], tmp_path / "out")
        assert sorted(os.listdir(tmp_path / "out")) == ["001-a.jpg", "100-a.jpg"]

    def test_nothing_is_overwritten(self, hits: list[Hit], tmp_path: Path) -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "01-a.jpg").write_bytes(b"mine")
        (folder / "01-a-2.jpg").symlink_to("nowhere")
        done = copy_hits(hits[:1], folder)
        assert done[0].target == folder / "01-a-3.jpg"
        assert (folder / "01-a.jpg").read_bytes() == b"mine"
        assert os.readlink(folder / "01-a-2.jpg") == "nowhere"
        assert not (folder / "nowhere").exists()

    def test_what_cannot_be_copied_holds_up_nothing(self, hits: list[Hit], tmp_path: Path) -> None:
        folder = tmp_path / "pictures.jpg"
        folder.mkdir()
        done = copy_hits([hit(tmp_path / "gone.jpg"), hit(folder, 2), *hits[2:]], tmp_path / "out")
        assert [item.action for item in done] == ["no such file or directory", "is not a regular file", "copied"]
        assert os.listdir(tmp_path / "out") == ["03-b.png"]

    def test_half_a_copy_is_removed(
        self, hits: list[Hit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(reading: io.BufferedReader, writing: io.BufferedWriter, _: int) -> None:
            writing.write(reading.read(3))
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(delivery.shutil, "copyfileobj", fail)
        (done,) = copy_hits(hits[:1], tmp_path / "out")
        assert done == Delivered(hits[0].path, None, "no space left on device")
        assert os.listdir(tmp_path / "out") == []

    def test_odd_and_long_names(self, tmp_path: Path) -> None:
        long = "ä" * 125 + ".jpeg"
        for name in (ODD, long):
            (tmp_path / name).write_bytes(b"picture")
        done = copy_hits([hit(tmp_path / ODD), hit(tmp_path / long), hit(tmp_path / long)], tmp_path / "out")
        assert [item.action for item in done] == ["copied"] * 3
        names = [item.target.name for item in done if item.target]
        assert names[0] == f"01-{ODD}"
        assert names[1] == "01-" + "ä" * 123 + ".jpeg"
        assert names[2] == "01-" + "ä" * 122 + "-2.jpeg"

    def test_a_place_that_is_no_folder(self, hits: list[Hit], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="cannot make the folder"):
            copy_hits(hits, tmp_path / "file")

    def test_no_hits(self, tmp_path: Path) -> None:
        assert copy_hits([], tmp_path / "out") == []


class TestLink:
    def test_links_lead_to_the_files(self, hits: list[Hit], tmp_path: Path) -> None:
        done = link_hits(hits, tmp_path / "out")
        assert {item.action for item in done} == {"linked"}
        for item in done:
            assert item.target is not None
            assert item.target.is_symlink()
            assert os.path.samefile(item.target, item.source)

    def test_relative_paths_too(self, hits: list[Hit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (done,) = link_hits([hit("2024/a.jpg")], "out")
        assert done.target is not None
        assert (tmp_path / done.target).read_bytes() == b"picture 0"

    def test_hard_links_where_there_are_no_others(
        self, hits: list[Hit], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "symlink", refuse)
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "01-a.jpg").write_text("mine")
        (done,) = link_hits(hits[:1], tmp_path / "out")
        assert done.target == tmp_path / "out" / "01-a-2.jpg"
        assert done.action == "hard-linked"
        assert os.path.samefile(done.target, hits[0].path)
        monkeypatch.setattr(os, "link", refuse)
        assert link_hits(hits[:1], tmp_path / "out")[0].action == "operation not permitted"

    def test_no_link_leads_nowhere(self, tmp_path: Path) -> None:
        (done,) = link_hits([hit(tmp_path / "gone.jpg")], tmp_path / "out")
        assert done.target is None
        assert os.listdir(tmp_path / "out") == []


def test_what_was_done_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    done = [
        Delivered("/p/a.jpg", Path("out/01-a.jpg"), "linked"),
        Delivered("/p/\x1bb.jpg", None, "no such file or directory"),
        Delivered("/p/c.jpg", Path("out/03-c.jpg"), "linked"),
        Delivered("/p/d.jpg", Path("out/04-d.jpg"), "hard-linked"),
    ]
    assert not report_delivery(done, "out")
    assert capsys.readouterr().err.splitlines() == [
        "/p/\\x1bb.jpg: no such file or directory",
        "2 pictures linked to out",
        "1 picture hard-linked to out",
    ]
    assert report_delivery(done[:1], "out")


class TestPaths:
    def test_bytes_as_they_are_on_disk(self) -> None:
        out = io.BytesIO()
        print_paths([hit("/p/a b.jpg"), hit(f"/p/{ODD}")], stream=out)
        assert out.getvalue() == b"/p/a b.jpg\n/p/new\nline caf\xe9.jpg\n"

    def test_for_xargs(self, tmp_path: Path) -> None:
        program = (
            "import sys; from imagesearch.frontends.cli.delivery import print_paths;"
            "from imagesearch.records import *; print('first');"
            "print_paths([Hit(1, .5, ImageRecord(path)) for path in sys.argv[1:]], null=True)"
        )
        names = ["a b.jpg", ODD]
        arguments = [sys.executable, "-c", program, *names]
        run = subprocess.run(arguments, capture_output=True, check=True)
        assert run.stdout == b"first\na b.jpg\0" + os.fsencode(ODD) + b"\0"

    def test_a_terminal_is_not_sent_control_characters(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        print_paths([hit("/p/\x1b[31m.jpg")])
        assert capsys.readouterr().out == "/p/\\x1b[31m.jpg\n"
