"""The command ``check``: what is wrong with a database, and repairing it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from imagesearch.frontends import console as con
from imagesearch.frontends import options as opt
from imagesearch.frontends.text import counted
from imagesearch.records import CheckReport

# Lost pictures that are named one by one, of each finding; --json names all.
_SHOWN_PATHS = 5


def check(
    *,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Repair what can be; what is lost is encoded again from the pictures, if they are there.",
        ),
    ] = False,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Verify the database: files, rows, vectors, index, skipped files. Exit code 1: there is something wrong."""
    settings = opt.Flags(config=config, model=model, collection=collection, uri=uri).load()
    with opt.opened(settings) as images, con.ProgressDisplay() as progress:
        report = images.check(repair, progress)
    if as_json:
        con.print_json(report.to_dict())
    else:
        _print(report)
    if not repair and any(finding.can_be_repaired for finding in report.findings):
        con.note("'imagesearch check --repair' repairs what can be")
    if not report.is_sound:
        raise typer.Exit(con.FAILED)


def _print(report: CheckReport) -> None:
    out = con.make_console(sys.stdout)
    for finding in report.findings:
        mark, style = ("repaired", "green") if finding.is_repaired else ("problem", "red")
        where = finding.file or f"collection {finding.collection}"
        con.print_line(out, (f"{mark}: ", style), (f"{where} {finding.problem}: {finding.consequence}", ""))
        for path in finding.paths[:_SHOWN_PATHS]:
            con.print_line(out, (f"  {path}", "dim"))
        if len(finding.paths) > _SHOWN_PATHS:
            more = counted(len(finding.paths) - _SHOWN_PATHS, "more picture")
            con.print_line(out, (f"  ... and {more} (--json names all)", "dim"))
    looked_at = counted(report.collections, "collection")
    if report.pictures or report.is_sound:  # otherwise none could be counted
        looked_at += f", {counted(report.pictures, 'picture')}"
    con.print_line(out, (f"{looked_at}: {_summary(report)}", "bold"))


def _summary(report: CheckReport) -> str:
    open_ = [finding for finding in report.findings if not finding.is_repaired]
    repaired = len(report.findings) - len(open_)
    parts = [counted(len(open_), "problem")] if open_ else []
    parts += [f"{counted(repaired, 'problem')} repaired"] if repaired else []
    parts += [f"{counted(report.encoded, 'picture')} encoded again"] if report.encoded else []
    return ", ".join(parts) or "no problems"
