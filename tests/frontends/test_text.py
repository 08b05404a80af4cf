"""Text that is safe to show, and of known width."""

from __future__ import annotations

import pytest

from imagesearch.frontends.text import columns, printable, shorten_middle, shortest_names


def test_printable_leaves_ordinary_text_alone() -> None:
    for text in ("plain.jpg", "Łódź 写真.jpg", "emoji 👩\u200d🚀.png", "wide\u3000space", "a\\b $x_1$ [bold]"):
        assert printable(text) == text


def test_printable_escapes_what_has_power() -> None:
    assert printable("a\nb\r\x1b[0m\x07\u202egpj\udcff\u2028") == "a\\nb\\r\\x1b[0m\\x07\\u202egpj\\udcff\\u2028"


def test_shortened_names_keep_both_ends_and_the_width() -> None:
    for width in range(5, 40):
        short = shorten_middle("IMG_20240101_写真の名前_long_long_long.jpeg", width)
        assert columns(short) <= width
        assert "…" in short
        assert short.startswith("I")
        assert short.endswith("g")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/1.jpg"], ["1.jpg"]),
        (["/a/b/1.jpg", "/a/c/1.jpg"], ["b/1.jpg", "c/1.jpg"]),
        (["/x/b/1.jpg", "/y/b/1.jpg", "/y/2.jpg"], ["x/b/1.jpg", "y/b/1.jpg", "2.jpg"]),
        (["/1.jpg", "/a/1.jpg"], ["1.jpg", "a/1.jpg"]),
        ([], []),
        (["/"], ["/"]),
    ],
)
def test_names_tell_pictures_apart(paths: list[str], names: list[str]) -> None:
    assert shortest_names(paths) == names
