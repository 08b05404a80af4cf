"""What all commands share: the two output streams, progress, and errors as lines with an exit code.

Results go to stdout; progress, remarks and errors to stderr. So ``--json`` and ``--csv`` leave nothing on stdout
but themselves.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from imagesearch.errors import ConfigError, ImageSearchError
from imagesearch.frontends.text import counted, printable
from imagesearch.records import Skipped

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as Bars

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# Skipped files named on the terminal; a folder of ten thousand broken files shall not scroll the summary away.
SHOWN_SKIPPED = 20

# Without a terminal (a log file, a pipe) progress is a line at most this often, and none for quick jobs.
SECONDS_BETWEEN_LINES = 5.0

_STAGES = {
    "scan": "Reading the collection",
    "find": "Looking for pictures",
    "compare": "Comparing",
    "encode": "Encoding",
    "insert": "Inserting",
    "index": "Building the index",
    "classify": "Labelling",
    "copy": "Copying",
    "export": "Exporting",
    "import": "Importing",
}


class WrongUsageError(ImageSearchError):
    """What was typed makes no sense; ends with exit code 2 like a misspelt flag."""


STARTER_NOTE = (
    "starter is the small bundled model; --model vit (346 MB, downloaded once) knows much more, and 'imagesearch"
    " models' lists others"
)


def note(text: str) -> None:
    """A remark or an error for people, on stderr, one line."""
    typer.echo(printable(text), err=True)


def one_format(as_json: bool, as_csv: bool) -> None:
    """Refuse to print two formats on one stream.

    Raises:
        WrongUsageError: both are asked for.
    """
    if as_json and as_csv:
        raise WrongUsageError("--json and --csv exclude each other")


def tolerant_streams() -> None:
    """Let no character end the program: what a stream's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def errors_as_exit_codes(kept: Callable[[], str] = str) -> Iterator[None]:
    """Turn every error that the library raises on purpose into a line on stderr and an exit code.

    Args:
        kept: asked, when somebody interrupts the command, for what to add to the line about it.
    """
    try:
        yield
    except ImageSearchError as error:
        for line in str(error).splitlines():
            note(f"imagesearch: error: {line}")
        wrong_usage = isinstance(error, (ConfigError, WrongUsageError))
        raise typer.Exit(WRONG_USAGE if wrong_usage else FAILED) from error
    except KeyboardInterrupt as error:
        note(f"imagesearch: interrupted{kept()}")
        raise typer.Exit(INTERRUPTED) from error


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send to stderr whatever a library prints meanwhile: stdout belongs to results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def make_console(stream: TextIO) -> Console:
    """A Rich console on a stream that takes everything literally and never cuts a line."""
    from rich.console import Console

    # Rich assumes 80 columns where there is no terminal to ask; a file or a pipe has no width.
    width = None if stream.isatty() else 200
    return Console(file=stream, highlight=False, markup=False, emoji=False, width=width)


def print_line(console: Console, *parts: tuple[str, str]) -> None:
    """One line of (text, style) parts, neither wrapped nor cut, so that paths can be copied."""
    from rich.text import Text

    console.print(Text.assemble(*((printable(text), style) for text, style in parts)), soft_wrap=True)


def print_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Names and values in two columns."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print_line(console, (f"{name:<{width}}  ", "dim"), (value, ""))


def print_json(value: Any) -> None:
    """One JSON document on stdout, in ASCII: bytes of a path that are no text appear as ``\\udcXX``."""
    typer.echo(json.dumps(value, indent=2))


def print_json_array(values: Iterable[Any], stream: TextIO) -> None:
    """What :func:`print_json` prints of a list, each value as it comes."""
    before = "["
    for value in values:
        stream.write(f"{before}\n{textwrap.indent(json.dumps(value, indent=2), '  ')}")
        before = ","
    stream.write("[]\n" if before == "[" else "\n]\n")


def print_csv(header: Sequence[str], rows: Iterable[Sequence[Any]], stream: TextIO | None = None) -> None:
    """A CSV table with a header line, each row as it comes; on stdout by default."""
    writer = csv.writer(stream or sys.stdout, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def print_skipped(skipped: Sequence[Skipped], all_of_them: str) -> None:
    """The files that were passed over and why, on stderr; the first :data:`SHOWN_SKIPPED` of them.

    Args:
        all_of_them: what lists the others, such as ``"--json"``.
    """
    for skip in skipped[:SHOWN_SKIPPED]:
        note(f"skipped {skip.path}: {skip.reason}")
    if len(skipped) > SHOWN_SKIPPED:
        note(f"... and {counted(len(skipped) - SHOWN_SKIPPED, 'more file')} skipped ({all_of_them} lists all)")


class Stopwatch:
    """Seconds of the stages of a command, for ``--timings``."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    def report(self) -> None:
        """One line on stderr."""
        stages = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self._seconds.items())
        note(f"timings: {stages}; together {sum(self._seconds.values()):.2f} s")


class ProgressDisplay:
    """Draws what long operations report: bars on a terminal, now and then a line elsewhere.

    Use as a context manager, and pass it as the ``progress`` of a library call.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is drawn yet.

        Args:
            stream: where to draw; default: stderr.
            clock: seconds, replaceable for tests.
        """
        self._stream = stream or sys.stderr
        self._clock = clock
        self._bars: Bars | None = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._last_line = 0.0

    def __enter__(self) -> ProgressDisplay:
        if self._stream.isatty():
            self._bars = _make_bars(make_console(self._stream))
            # The model takes seconds to load before anything can be counted.
            self._tasks[""] = self._bars.add_task("Loading", total=None)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Take a report: see :class:`imagesearch.records.Progress`."""
        title = _STAGES.get(stage, stage)
        if self._bars is None:
            self._line(title, done, total)
            return
        if "" in self._tasks:
            self._bars.remove_task(self._tasks.pop(""))
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(title, total=total)
        self._bars.update(self._tasks[stage], completed=done, total=total)

    def _line(self, title: str, done: int, total: int | None) -> None:
        now = self._clock()
        if title not in self._started:
            self._started[title] = self._last_line = now
        began = self._started[title]
        if now - self._last_line < SECONDS_BETWEEN_LINES or not done:
            return
        self._last_line = now
        rate = done / (now - began)
        left = "" if total is None else f" of {total:,}"
        ends = "" if total is None else f", {_duration((total - done) / rate)} left"
        typer.echo(f"{title}: {done:,}{left} ({rate:.1f}/s{ends})", file=self._stream)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _make_bars(console: Console) -> Bars:
    from rich import progress
    from rich.text import Text

    class Rate(progress.ProgressColumn):
        """Units a second."""

        def render(self, task: progress.Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        Rate(),
        progress.TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        speed_estimate_period=60.0,
    )
