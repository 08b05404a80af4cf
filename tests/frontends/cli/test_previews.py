"""Previews: on which terminal which way, and what is printed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from imagesearch.frontends.cli.previews import KINDS, preview_kind, show_previews
from imagesearch.records import Hit, ImageRecord

from .test_graphics import draw_sixels


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm2"),
        ({"TERM": "foot"}, "sixel"),
        ({"TERM": "foot-extra"}, "sixel"),
        ({"TERM": "xterm-sixel"}, "sixel"),
        ({"TERM": "mlterm"}, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "230805"}, "sixel"),
        ({"TERM": "xterm-256color", "KONSOLE_VERSION": "210800"}, "blocks"),
        ({"TERM": "xterm-256color"}, "blocks"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "Apple_Terminal"}, "blocks"),
        ({}, "blocks"),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux", "LC_TERMINAL": "iTerm2"}, "blocks"),
        ({"TERM": "xterm-kitty", "KITTY_WINDOW_ID": "1", "TMUX": "/tmp/x"}, "blocks"),
        ({"TERM": "screen"}, "blocks"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, None),
        ({"TERM": "xterm-kitty", "NO_COLOR": "1"}, "kitty"),
        ({"TERM": "dumb"}, None),
    ],
)
def test_terminals_are_known_by_their_variables(environ: dict[str, str], kind: str | None) -> None:
    assert preview_kind("auto", Terminal(), environ) == kind
    assert preview_kind("auto", io.StringIO(), environ) is None


def test_who_insists_gets_it() -> None:
    for kind in KINDS[1:]:
        assert preview_kind(kind, io.StringIO(), {"TERM": "dumb"}) == kind


@pytest.fixture
def hits(picture_folder: Path) -> list[Hit]:
    paths = sorted(picture_folder.glob("*.png"))
    return [Hit(rank, 1 - rank / 10, ImageRecord(str(path))) for rank, path in enumerate(paths, start=1)]


def shown(hits: list[Hit], kind: str, width: int = 50) -> str:
    out = io.StringIO()
    show_previews(hits, out, kind, width=width)
    return out.getvalue()


def test_as_many_side_by_side_as_fit(hits: list[Hit]) -> None:
    text = re.sub("\x1b\\[[0-9;]*m|▀|▄", "", shown(hits, "blocks", width=64))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    assert lines == [
        "1  0.900              2  0.800              3  0.700",
        "0.png                 1.png                 2.png",
        "4  0.600              5  0.500",
        "3.png                 4.png",
    ]


def test_blocks_have_the_size_of_their_captions(hits: list[Hit]) -> None:
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown(hits[:2], "blocks")).splitlines()
    assert [len(line) for line in lines[:10]] == [42] * 10
    assert {line[20:22] for line in lines[:10]} == {"  "}
    assert any(line[:20] == "▀" * 20 for line in lines[:10])
    assert lines[10].startswith("1  0.900")


def test_a_narrow_terminal_gets_one_below_the_other(hits: list[Hit]) -> None:
    assert len(re.findall("\x1b_Ga=T,f=100,q=2,c=20,r=10,", shown(hits, "kitty", width=10))) == len(hits)


def test_pictures_for_terminals_that_can(hits: list[Hit]) -> None:
    assert "\x1b_Ga=T,f=100,q=2,c=42,r=10," in shown(hits[:2], "kitty")
    assert ";width=42;height=10;" in shown(hits[:2], "iterm2")
    text = shown(hits[:2], "sixel")
    drawn = draw_sixels(text[: text.index("\x1b\\") + 2])
    assert drawn.shape == (200, 420, 4)  # 10 x 20 pixels a character
    first = draw_sixels(text[: text.index("\x1b\\") + 2])[:, :200, 3]
    assert first.any()
    assert not drawn[:, 201:219].any()


def test_what_cannot_be_read_says_why(hits: list[Hit], tmp_path: Path) -> None:
    gone = Hit(9, 0.1, ImageRecord(str(tmp_path / "go\x1bne.jpg")))
    text = shown([gone, hits[0]], "blocks")
    assert "9  0.100              1  0.900\ngo\\x1bne.jpg          0.png\nno such fil…irectory\n" in text
    assert "38;2;128;128;128;48;2;128;128;128m" in text


def test_nothing(hits: list[Hit]) -> None:
    assert shown([], "blocks") == ""
