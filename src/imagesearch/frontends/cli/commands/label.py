"""``imagesearch label``: label pictures by hand, in the order that saves most labels."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import (
    Format,
    note,
    print_facts,
    print_line,
    print_result,
    print_results,
    print_table,
)
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.label_dialogue import Session
    from imagesearch.learning.questions import LabelProgress, Question

Labels = Annotated[
    str | None,
    typer.Option(
        metavar="LABELS|FILE",
        help="Labels to choose from, 'cat,dog', or a file with one per line; others can be added on the way.",
        show_default=False,
    ),
]
Under = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Only pictures below this folder.", show_default=False),
]
Next = Annotated[
    int | None,
    typer.Option(
        "--next", metavar="N", min=1, help="Only print the next N pictures; change nothing.", show_default=False
    ),
]
Paths = Annotated[bool, typer.Option("--paths", help="With --next: print paths and nothing else on stdout.")]
Export = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Write path and label of all that was labelled by hand into a CSV file, for imagesearch train DIR"
        " --labels FILE.",
        show_default=False,
    ),
]
Preview = Annotated[bool, typer.Option("--preview/--no-preview", help="Show pictures, where the terminal can.")]


@prints(csv="With --next: print CSV and nothing else on stdout.")
@settings_from(*COLLECTION, "max_megapixels")
def label(
    *,
    settings: Config,
    output: Format,
    labels: Labels = None,
    under: Under = None,
    next_: Next = None,
    paths: Paths = False,
    export: Export = None,
    preview: Preview = True,
) -> None:
    """Label pictures by hand, those first that teach most.

    Shows one picture after the other: typical ones of each kind first, then those that decide between labels. One
    key gives a label; n adds another one. Labels are written into the collection at once, into the column that
    'imagesearch annotate' and filters call label; a later run goes on. Where stdin is no terminal, each line of it
    is an answer: a label's name or key, =NAME for a name that looks like a key, s, u, or q.
    """
    from imagesearch.search.labels import read_candidates
    from imagesearch.serving_file import LOOKING

    _require_sense(output, next_, paths, export)
    named = () if labels is None else read_candidates(labels)
    stdout, stdin = sys.stdout, sys.stdin
    with (
        opened_or_served(settings, LOOKING) as images,
        images.label_session(named, under=under, release=True) as session,
    ):
        if export is not None:
            _export(session, export, images.indexed_folders())
            return
        if next_ is not None:
            _print_next(session, next_, output, stdout, is_bare=paths)
            return
        _ask(session, settings, stdin, stdout if output is Format.TEXT else sys.stderr, preview=preview)
        progress = session.progress()
    print_result(progress, output, partial(_show, progress))


def _require_sense(output: Format, next_: int | None, paths: bool, export: str | None) -> None:
    """
    Raises:
        WrongUsageError: flags that do not go together.
    """
    if next_ is None and (paths or output is Format.CSV):
        raise WrongUsageError("--paths and --csv are for --next N")
    if paths and output is not Format.TEXT:
        raise WrongUsageError("--paths and --json or --csv exclude each other")
    if export is not None and (next_ is not None or output is not Format.TEXT):
        raise WrongUsageError("--export FILE stands alone")


def _ask(session: Session, settings: Config, stdin: TextIO, out: TextIO, *, preview: bool) -> None:
    from imagesearch.frontends.cli.label_dialogue import Dialogue
    from imagesearch.frontends.cli.previews import preview_kind, show_picture

    kind = preview_kind("auto", out) if preview else None
    show = None
    if kind is not None:
        show = partial(show_picture, stream=out, kind=kind, max_megapixels=settings.data.max_megapixels)
    Dialogue(session, stdin, out, show).run()


class _Asked:
    """A picture to label, for programs."""

    def __init__(self, question: Question) -> None:
        self._question = question

    def to_dict(self) -> dict[str, Any]:
        return self._question.to_dict()

    def row(self) -> dict[str, Any]:
        """For CSV: the first suggestion only."""
        first = next(iter(self._question.suggestions), None)
        label, score = (first.label, first.score) if first else ("", "")
        return {"path": self._question.path, "suggestion": label, "score": score}


def _print_next(session: Session, count: int, output: Format, stdout: TextIO, *, is_bare: bool) -> None:
    questions = session.next(count)

    def show(out: Console) -> None:
        if is_bare:
            for question in questions:
                typer.echo(question.path, file=out.file)
            return
        rows = []
        for question in questions:
            first = next(iter(question.suggestions), None)
            rows.append((question.path, first.label if first else "", f"{first.score:.0%}" if first else ""))
        print_table(out, {"picture": "fold", "suggestion": "left", "score": "right"}, rows)

    columns = ("path", "suggestion", "score")
    print_results(
        list(map(_Asked, questions)), output, show, columns, rows_of=lambda one: [one.row()], stream=stdout
    )


def _export(session: Session, file: str, indexed: Sequence[str]) -> None:
    """
    Raises:
        UsageError: nothing is labelled, or the file cannot be written.
    """
    from imagesearch.atomic import replacing
    from imagesearch.errors import UsageError
    from imagesearch.images.find import reason_of

    found = session.labelled()
    if not found:
        raise UsageError("nothing was labelled by hand yet: run imagesearch label without --export first")
    place = Path(os.path.abspath(os.path.expanduser(file)))
    try:
        with (
            replacing(place) as fresh,
            fresh.open("w", encoding="utf-8", errors="surrogateescape", newline="") as lines,
        ):
            writer = csv.writer(lines)
            writer.writerow(["path", "label"])
            writer.writerows(found)
    except OSError as error:
        raise UsageError(f"cannot write {file!r}: {reason_of(error)}") from error
    folder = _folder_of([path for path, _ in found], indexed)
    follows = f": imagesearch train {shlex.quote(folder)} --labels {shlex.quote(str(place))}" if folder else ""
    note(f"{counted(len(found), 'file')} with labels written{follows}")


def _folder_of(paths: Sequence[str], indexed: Sequence[str]) -> str | None:
    """The folder to train with: what holds all pictures and is indexed as a whole; None if there is none."""
    from imagesearch.images.find import below

    try:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
    except ValueError:  # on several drives
        return None
    return folder if below(folder, indexed) else None


def _show(progress: LabelProgress, out: Console) -> None:
    from imagesearch.frontends.cli.label_dialogue import progress_text

    print_line(out, (progress_text(progress), "bold"))
    counts = {label: f"{count:,}" for label, count in progress.labels.items()}
    if counts:
        print_facts(out, counts)
    note("labels are kept: the same command goes on; imagesearch label --export FILE is for imagesearch train")
