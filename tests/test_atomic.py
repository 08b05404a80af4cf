"""Files that are replaced as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesearch.atomic import replacing


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
