"""How far long operations are: bars on a terminal, now and then a line elsewhere; and how long stages took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TextIO

import typer

from imagesearch.frontends.cli.output import make_console, note

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as Bars

# Without a terminal (a log file, a pipe) progress is a line at most this often, and none for quick jobs.
SECONDS_BETWEEN_LINES = 5.0

_STAGES = {
    "optimize": "Preparing the model for this machine",
    "scan": "Reading the collection",
    "find": "Looking for pictures",
    "compare": "Comparing",
    "encode": "Encoding",
    "insert": "Inserting",
    "index": "Building the index",
    "classify": "Labelling",
    "evaluate": "Ranking",
    "distort": "Looking for originals of copies",
    "fit": "Fitting the probe",
    "train": "Training",
    "probe": "Probing the index",
    "copy": "Copying",
    "export": "Exporting",
    "import": "Importing",
}


class Stopwatch:
    """Seconds of the stages of a command, for ``--timings``; the first stage begins when it is made."""

    def __init__(self, is_wanted: bool = True) -> None:
        """Start.

        Args:
            is_wanted: whether :meth:`report` prints anything.
        """
        self.is_wanted = is_wanted
        self._seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage; the next one begins."""
        now = time.perf_counter()
        self._seconds[stage] = now - self._since
        self._since = now

    def report(self) -> None:
        """One line on stderr, if wanted."""
        if self.is_wanted:
            stages = ", ".join(f"{stage} {seconds:.2f} s" for stage, seconds in self._seconds.items())
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
        self._texts: dict[str, str] = {}
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
        title = self._title(stage)
        if self._bars is None:
            self._line(stage, title, done, total)
            return
        if "" in self._tasks:
            self._bars.remove_task(self._tasks.pop(""))
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(title, total=total)
        self._bars.update(self._tasks[stage], description=title, completed=done, total=total)

    def describe(self, stage: str, text: str) -> None:
        """Show a text beside a stage: see :class:`imagesearch.records.DescribedProgress`."""
        self._texts[stage] = text
        if self._bars is not None and stage in self._tasks:
            self._bars.update(self._tasks[stage], description=self._title(stage))

    def _title(self, stage: str) -> str:
        title = _STAGES.get(stage, stage)
        return f"{title}, {self._texts[stage]}" if stage in self._texts else title

    def _line(self, stage: str, title: str, done: int, total: int | None) -> None:
        now = self._clock()
        if stage not in self._started:
            self._started[stage] = self._last_line = now
        began = self._started[stage]
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
        """Units per second."""

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
