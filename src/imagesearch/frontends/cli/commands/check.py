"""``imagesearch check``: what is wrong with a database, and repairing it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened, prints, settings_from
from imagesearch.frontends.cli.output import Format, note, print_line, print_result
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.reports import CheckReport

# Lost images that are named one by one, of each finding; --json names all.
_SHOWN_PATHS = 5

Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="Repair what can be; what is lost is encoded again from the pictures, if they are there.",
    ),
]


@prints()
@settings_from(*COLLECTION)
def check(*, settings: Config, output: Format, repair: Repair = False) -> None:
    """Verify the database: files, rows, vectors, index, skipped files. Exit code 1: there is something wrong."""
    with opened(settings) as images, ProgressDisplay() as progress:
        report = images.check(repair, progress)
    print_result(report, output, partial(_show, report))
    if not repair and any(finding.can_be_repaired for finding in report.findings):
        note("'imagesearch check --repair' repairs what can be")
    if not report.is_sound:
        raise typer.Exit(FAILED)


def _show(report: CheckReport, out: Console) -> None:
    for finding in report.findings:
        mark, style = ("repaired", "green") if finding.is_repaired else ("problem", "red")
        where = finding.file or f"collection {finding.collection}"
        print_line(out, (f"{mark}: ", style), (f"{where} {finding.problem}: {finding.consequence}", ""))
        for path in finding.paths[:_SHOWN_PATHS]:
            print_line(out, (f"  {path}", "dim"))
        if len(finding.paths) > _SHOWN_PATHS:
            more = counted(len(finding.paths) - _SHOWN_PATHS, "more picture")
            print_line(out, (f"  ... and {more} (--json names all)", "dim"))
    looked_at = counted(report.collections, "collection")
    if report.pictures or report.is_sound:  # otherwise none could be counted
        looked_at += f", {counted(report.pictures, 'picture')}"
    print_line(out, (f"{looked_at}: {_summary(report)}", "bold"))


def _summary(report: CheckReport) -> str:
    open_ = [finding for finding in report.findings if not finding.is_repaired]
    repaired = len(report.findings) - len(open_)
    parts = [counted(len(open_), "problem")] if open_ else []
    parts += [f"{counted(repaired, 'problem')} repaired"] if repaired else []
    parts += [f"{counted(report.encoded, 'picture')} encoded again"] if report.encoded else []
    return ", ".join(parts) or "no problems"
