"""Files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imagesearch.atomic import replacing, replacing_folder, require_place


def test_the_file_is_there_when_the_block_ends(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    with replacing(final) as temporary:
        temporary.write_text("new")
        assert not final.exists()
    assert final.read_text() == "new"
    assert list(final.parent.glob("a*")) == [final]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def dies() -> None:
        with replacing(final) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dies()
    assert final.read_text() == "old"
    assert list(final.parent.glob("a*")) == [final]


def test_what_was_never_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "model"
    for content in ("one", "two"):
        require_place(final)
        with replacing_folder(final) as fresh:
            (fresh / content).touch()
        assert [file.name for file in final.iterdir()] == [content]

    def fails() -> None:
        with replacing_folder(final) as fresh:
            (fresh / "three").touch()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert [file.name for file in final.iterdir()] == ["two"]
    assert list(final.parent.iterdir()) == [final]


def test_where_a_folder_cannot_be_made_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    before = set(tmp_path.iterdir())
    with pytest.raises(NotADirectoryError):
        require_place(tmp_path / "file" / "model")
    with pytest.raises(OSError, match="too long"):
        require_place(tmp_path / ("x" * 250))
    assert set(tmp_path.iterdir()) == before
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        require_place(tmp_path / "new" / "model")
