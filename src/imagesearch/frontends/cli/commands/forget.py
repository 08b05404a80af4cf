"""``imagesearch forget``: take folders out of a collection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COLLECTION, DryRun
from imagesearch.frontends.cli.options import opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import Format, note, print_line, print_result
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.reports import ForgetReport

Forgotten = Annotated[
    list[str],
    typer.Argument(metavar="DIR...", help="Folders or pictures, which need not be there.", show_default=False),
]


@prints()
@settings_from(*COLLECTION)
def forget(*, settings: Config, output: Format, folders: Forgotten, dry_run: DryRun = False) -> None:
    """Take folders out of the database; the pictures themselves stay where they are."""
    from imagesearch.serving_file import LOOKING

    with opened_or_served(settings, LOOKING) as images:
        report = images.forget(*folders, dry_run=dry_run)
    print_result(report, output, partial(_show, report))
    for root in report.still_indexed:
        note(f"{root} is indexed as a whole: 'imagesearch index' brings back what is below it, unless --exclude")


def _show(report: ForgetReport, out: Console) -> None:
    doing = "would be removed from" if report.dry_run else "removed from"
    line = f"{counted(report.removed, 'picture')} {doing} collection {report.collection}"
    print_line(out, (line, "bold"))
