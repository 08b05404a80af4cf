"""Progress on terminals and elsewhere, and text that is safe to show."""

from __future__ import annotations

import io

from imagesearch.frontends.console import ProgressDisplay
from imagesearch.frontends.text import columns, printable, shorten_middle


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_quick_jobs_print_nothing() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock) as progress:
        for done in range(0, 101, 10):
            progress("encode", done, 100)
            clock.now += 0.4
    assert stream.getvalue() == ""


def test_long_jobs_print_a_line_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock) as progress:
        for done in range(0, 1001, 10):
            progress("encode", done, 1000)
            clock.now += 0.2
    lines = stream.getvalue().splitlines()
    assert lines[0] == "Encoding: 250 of 1,000 (50.0/s, 0:15 left)"
    assert len(lines) == 4


def test_totals_may_be_unknown() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock) as progress:
        progress("index", 0, None)
        clock.now += 10
        progress("index", 40, None)
    assert stream.getvalue() == "Building the index: 40 (4.0/s)\n"


def test_terminals_get_a_bar_that_disappears() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress("encode", 3, 10)
        assert progress._bars is not None
        progress._bars.refresh()
        assert "3/10" in stream.getvalue()
        assert "Encoding" in stream.getvalue()


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
