"""Progress on terminals and elsewhere."""

from __future__ import annotations

import io

from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.records import describe, no_progress


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


def test_a_few_words_on_how_it_goes() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressDisplay(stream, clock) as progress:
        for done in range(0, 101, 10):
            progress("train", done, 100)
            if done == 50:
                progress.describe("train", "epoch 1: loss 0.512, accuracy 0.700")
            clock.now += 1
    assert stream.getvalue().splitlines() == [
        "Training: 50 of 100 (10.0/s, 0:05 left)",
        "Training, epoch 1: loss 0.512, accuracy 0.700: 100 of 100 (10.0/s, 0:00 left)",
    ]


def test_words_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with ProgressDisplay(stream) as progress:
        progress("train", 3, 10)
        describe(progress, "train", "loss 0.512")
        assert progress._bars is not None
        progress._bars.refresh()
    assert "Training, loss 0.512" in stream.getvalue()
    describe(no_progress, "train", "nobody listens")
