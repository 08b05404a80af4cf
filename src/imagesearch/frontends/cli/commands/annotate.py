"""``imagesearch annotate``: join columns of one's own to the pictures of a collection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import SHOWN_SKIPPED, Format, note, print_facts, print_result
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.reports import AnnotateReport

Table = Annotated[
    str, typer.Argument(metavar="FILE", help="A CSV file with a header, or a Parquet file.", show_default=False)
]
On = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="The column that says which picture: path (absolute, or relative to FILE's folder or an indexed one),"
        " name (of the file), content_hash.",
    ),
]


@prints()
@settings_from(*COLLECTION)
def annotate(*, settings: Config, output: Format, file: Table, on: On = "path") -> None:
    """Join columns of your own (labels, ratings, people) to pictures, to filter by them: search --filter."""
    from imagesearch.serving_file import LOOKING

    with opened_or_served(settings, LOOKING) as images, ProgressDisplay() as progress:
        report = images.annotate(file, on, progress=progress)
    for key in report.unmatched[:SHOWN_SKIPPED]:
        note(f"no picture of the collection is {key!r}")
    if len(report.unmatched) > SHOWN_SKIPPED:
        note(f"... nor {counted(len(report.unmatched) - SHOWN_SKIPPED, 'other')} (--json lists all)")
    print_result(report, output, partial(_show, report))


def _show(report: AnnotateReport, out: Console) -> None:
    facts = {
        "annotated": counted(report.pictures, "picture"),
        "columns": ", ".join(report.columns),
        "unmatched": f"{len(report.unmatched):,}",
        "collection": report.collection,
    }
    print_facts(out, facts)
