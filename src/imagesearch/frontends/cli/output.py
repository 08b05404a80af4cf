"""What commands print: results on stdout as text, JSON or CSV; remarks and errors on stderr.

So ``--json`` and ``--csv`` leave nothing on stdout but themselves.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

import typer

from imagesearch.frontends.text import counted, printable

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.records import Skipped

# Skipped files named on the terminal; those of a folder of ten thousand broken files must not scroll the summary
# away.
SHOWN_SKIPPED = 20


class Format(Enum):
    """How a result is printed."""

    TEXT = "text"
    JSON = "json"
    LINES = "jsonl"
    CSV = "csv"


class Result(Protocol):
    """What a command has to say: plain values for programs.

    Those of commands are no dataclasses: making one takes half a millisecond, at the start of every command.
    """

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, by name."""


R = TypeVar("R", bound=Result)


def print_result(result: Result, output: Format, show: Callable[[Console], None]) -> None:
    """Print one result on stdout.

    Args:
        show: prints it as text.
    """
    if output is Format.JSON:
        # In ASCII: bytes of a path that are no text appear as \udcXX.
        typer.echo(json.dumps(result.to_dict(), indent=2))
    else:
        show(make_console(sys.stdout))


def print_results(
    results: Iterable[R],
    output: Format,
    show: Callable[[Console], None],
    columns: Sequence[str] = (),
    *,
    rows_of: Callable[[R], Iterable[Mapping[str, Any]]] = lambda result: [result.to_dict()],
    stream: TextIO | None = None,
) -> None:
    """Print a list of results, in JSON and CSV each one as it comes.

    Args:
        show: prints all of them as text.
        columns: what CSV shows of each, by the names of ``to_dict()``.
        rows_of: the rows of CSV that stand for one result.
        stream: default: stdout.
    """
    stream = stream or sys.stdout
    if output is Format.JSON:
        _write_json_array((result.to_dict() for result in results), stream)
    elif output is Format.LINES:
        for result in results:
            stream.write(json.dumps(result.to_dict()) + "\n")
            stream.flush()  # somebody may read answers while later ones are computed
    elif output is Format.CSV:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(
            [_cell(row.get(name, "")) for name in columns] for result in results for row in rows_of(result)
        )
    else:
        show(make_console(stream))


# What spreadsheets take for the beginning of a formula.
_FORMULAS = ("=", "+", "-", "@")


def _cell(value: Any) -> Any:
    """A value that neither a terminal nor a spreadsheet acts on; JSON has it as it is."""
    if not isinstance(value, str):
        return value
    text = "\n".join(map(printable, value.split("\n")))  # line ends are harmless between quotes
    return f"'{text}" if value.startswith(_FORMULAS) else text


def _write_json_array(values: Iterable[Any], stream: TextIO) -> None:
    """What ``json.dumps(list(values), indent=2)`` gives."""
    before = "["
    for value in values:
        stream.write(f"{before}\n{textwrap.indent(json.dumps(value, indent=2), '  ')}")
        before = ","
    stream.write("[]\n" if before == "[" else "\n]\n")


def note(text: str) -> None:
    """A remark or an error on stderr, one line."""
    typer.echo(printable(text), err=True)


def tolerant_streams() -> None:
    """Let no character end the program: what a stream's encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


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


def print_table(console: Console, columns: Mapping[str, str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a header.

    Args:
        columns: title -> ``"left"``, ``"right"`` or ``"fold"`` (long values go on in the next line).
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, style in columns.items():
        folds = style == "fold"
        table.add_column(
            title,
            no_wrap=not folds,
            overflow="fold" if folds else "ellipsis",
            justify="right" if style == "right" else "left",
        )
    for row in rows:
        table.add_row(*map(printable, row))
    console.print(table)


def print_skipped(skipped: Sequence[Skipped], all_of_them: str) -> None:
    """The files that were passed over and why, on stderr; the first :data:`SHOWN_SKIPPED` of them.

    Args:
        all_of_them: what lists the others, such as ``"--json"``.
    """
    for skip in skipped[:SHOWN_SKIPPED]:
        note(f"skipped {skip.path}: {skip.reason}")
    if len(skipped) > SHOWN_SKIPPED:
        note(f"... and {counted(len(skipped) - SHOWN_SKIPPED, 'more file')} skipped ({all_of_them} lists all)")
