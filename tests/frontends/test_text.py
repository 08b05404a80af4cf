"""Text that is safe to show, and of known width."""

from __future__ import annotations

from imagesearch.frontends.text import columns, printable, shorten_middle


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
