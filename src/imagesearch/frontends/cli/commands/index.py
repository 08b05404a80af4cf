"""``imagesearch index``: make the pictures in folders searchable, and keep it so."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING, WHICH_FILES, DryRun, Folders
from imagesearch.frontends.cli.options import opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import Format, note, print_facts, print_line, print_result, print_skipped
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.options import Library
    from imagesearch.reports import IndexReport, OfflineRoot

STARTER_NOTE = (
    "starter is the small bundled model; --model vit (346 MB, downloaded once) knows much more, and 'imagesearch"
    " models' lists others"
)

_PROBLEMS = "Missing and unreadable files"

Prune = Annotated[
    bool,
    typer.Option(
        "--prune",
        help="Remove missing pictures even where their folder looks like an unplugged disk.",
        rich_help_panel=_PROBLEMS,
    ),
]
RetrySkipped = Annotated[
    bool,
    typer.Option(
        "--retry-skipped",
        help="Try again files that could not be read before and have not changed since.",
        rich_help_panel=_PROBLEMS,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Exit with 1 if any file was skipped or any folder is offline.",
        rich_help_panel=_PROBLEMS,
    ),
]


@prints()
@settings_from(*WHICH_FILES, *COLLECTION, *COMPUTING, "batch_size")
def index(
    *,
    settings: Config,
    output: Format,
    folders: Folders = None,
    dry_run: DryRun = False,
    prune: Prune = False,
    retry_skipped: RetrySkipped = False,
    strict: Strict = False,
) -> None:
    """Make the pictures in folders searchable, and keep it so: run it again after any change.

    Only what is new or changed is read; vectors of moved and renamed pictures are reused, and deleted ones drop
    out. Every batch is kept, so the command can be interrupted and repeated.
    """
    from imagesearch.serving_file import INDEXING

    with opened_or_served(settings, INDEXING) as images:
        _check_first_run(images, folders)
        with ProgressDisplay() as progress:
            report = images.index(
                *(folders or ()), prune=prune, retry_skipped=retry_skipped, dry_run=dry_run, progress=progress
            )
        result = IndexResult(report, images.engine)
        outgrown = None if dry_run else _now_outgrown(images, report)
    print_result(result, output, partial(show_indexed, result))
    if outgrown:
        note_outgrown(report.collection, outgrown)
    if problem := _problem(report, strict):
        note(f"imagesearch: error: {problem}")
        raise typer.Exit(FAILED)


class IndexResult:
    """What ``index`` and ``build`` did, or what a dry run would do, and in which database."""

    def __init__(self, report: IndexReport, database: str) -> None:
        self.report = report
        self.database = database

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**self.report.to_dict(), "database": self.database}


def show_indexed(result: IndexResult, out: Console) -> None:
    """The numbers on stdout; skipped files and offline folders on stderr."""
    report = result.report
    print_skipped(report.skipped, "imagesearch info --skipped")
    for folder in report.offline:
        note(offline_text(folder, "plug the disk in and run this again, or remove them with --prune"))
    if report.dry_run:
        print_line(out, ("dry run: nothing was changed", "bold"))
    print_facts(out, {**_counts(report), "collection": report.collection, "database": result.database})


def _counts(report: IndexReport) -> dict[str, str]:
    would = "would be " if report.dry_run else ""
    reused = f"  (vectors reused of {report.reused:,}: moved, renamed or copied)"
    counts = {
        "found": f"{report.found:,}",
        f"{would}indexed": f"{report.indexed:,}{reused if report.reused else ''}",
        "unchanged": f"{report.unchanged:,}",
        "skipped": f"{len(report.skipped):,}",
        f"{would}removed": f"{report.removed:,}",
    }
    return counts if report.dry_run else {**counts, "time": f"{report.seconds:.1f} s{_rate(report)}"}


def _rate(report: IndexReport) -> str:
    if not report.indexed or report.seconds <= 0:
        return ""
    return f" ({report.indexed / report.seconds:,.1f} pictures/s)"


def offline_text(folder: OfflineRoot, then: str) -> str:
    """One line about a folder that looks like an unplugged disk.

    Args:
        then: what can be done about it.
    """
    missing = counted(folder.pictures, "missing picture")
    return f"offline: {folder.root}: {folder.reason}; {missing} kept in the collection: {then}"


def note_outgrown(name: str, reason: str) -> None:
    """Say that a collection should move to a server, and how."""
    note(
        f"collection {name} {reason}. To move it to a Milvus server: 'imagesearch migrate {name} --to"
        " http://SERVER:19530', then 'export IMAGESEARCH_MILVUS__URI=http://SERVER:19530' (or set milvus.uri)"
    )


def _check_first_run(images: Library, folders: list[str] | None) -> None:
    """At first, say which model it is, and refuse to run without a folder."""
    settings = images.config
    if images.find_collection() is not None:
        return
    if not folders and settings.data.raw_dir is None:
        raise WrongUsageError("name a folder of pictures (nothing has been indexed yet), or set data.raw_dir")
    if settings.model.name == "starter":
        note(STARTER_NOTE)


def _now_outgrown(images: Library, report: IndexReport) -> str | None:
    """Why the collection should move to a server, if it has become so by this run: it is said once."""
    from dataclasses import replace

    info = images.describe()
    before = replace(info, rows=info.rows - report.indexed + report.removed)
    return None if images.database.outgrown(before) else images.database.outgrown(info)


def _problem(report: IndexReport, strict: bool) -> str:
    """Why indexing counts as failed; empty if it does not."""
    if report.found and not report.indexed and not report.unchanged:
        return "none of the pictures could be indexed"
    if not strict or not (report.skipped or report.offline):
        return ""
    parts = []
    if report.skipped:
        parts.append(f"{counted(len(report.skipped), 'file')} skipped")
    if report.offline:
        parts.append(f"{counted(len(report.offline), 'folder')} offline")
    return f"{' and '.join(parts)}, and --strict was given"
