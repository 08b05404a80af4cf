"""The commands that read folders of pictures: ``index``, ``watch``, ``extract`` and ``build``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends import console as con
from imagesearch.frontends import options as opt
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.records import IndexReport
    from imagesearch.service import ImageSearch

_HOW_BOLD = "Missing and unreadable files"

Folders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Folders (or single pictures). Default: data.raw_dir, or else all that were indexed before.",
        show_default=False,
    ),
]


def index(
    *,
    folders: Folders = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; only say what would be done.")
    ] = False,
    as_json: opt.AsJson = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove missing pictures even where their folder looks like an unplugged disk.",
            rich_help_panel=_HOW_BOLD,
        ),
    ] = False,
    retry_skipped: Annotated[
        bool,
        typer.Option(
            "--retry-skipped",
            help="Try again files that could not be read before and have not changed since.",
            rich_help_panel=_HOW_BOLD,
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 if any file was skipped or any folder is offline.",
            rich_help_panel=_HOW_BOLD,
        ),
    ] = False,
    exclude: opt.Exclude = None,
    include_hidden: opt.IncludeHidden = False,
    max_megapixels: opt.MaxMegapixels = None,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Make the pictures in folders searchable, and keep it so: run it again after any change.

    Only what is new or changed is read; moved and renamed pictures keep their vector, and deleted ones drop out.
    Every batch is kept, so the command can be interrupted and repeated.
    """
    from imagesearch.frontends import reports

    settings = opt.Flags(
        config=config,
        model=model,
        collection=collection,
        uri=uri,
        device=device,
        precision=precision,
        batch_size=batch_size,
        exclude=exclude,
        include_hidden=include_hidden,
        max_megapixels=max_megapixels,
    ).load()
    with opt.opened(settings) as images:
        _before_indexing(images, folders)
        with con.ProgressDisplay() as progress:
            report = images.index(
                *(folders or ()), prune=prune, retry_skipped=retry_skipped, dry_run=dry_run, progress=progress
            )
        database = images.engine
        outgrown = None if dry_run else _now_outgrown(images, report)
    reports.print_indexed(report, database, as_json=as_json)
    if outgrown:
        reports.note_outgrown(report.collection, outgrown)
    problem = _problem(report, strict)
    if problem:
        con.note(f"imagesearch: error: {problem}")
        raise typer.Exit(con.FAILED)


def watch(
    *,
    folders: Folders = None,
    debounce: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0.1, help="How long it has to be quiet before changes are read."),
    ] = 2.0,
    poll: Annotated[
        bool,
        typer.Option(
            "--poll", help="Look at the folders every few seconds: for network drives that tell of no changes."
        ),
    ] = False,
    exclude: opt.Exclude = None,
    include_hidden: opt.IncludeHidden = False,
    max_megapixels: opt.MaxMegapixels = None,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Keep folders searchable while they change, until Ctrl-C or SIGTERM.

    Does what 'index' does, and again after every change, with one line for each time. The database is free in
    between, so other commands can use it.
    """
    from imagesearch.frontends.keeping import keep_current

    settings = opt.Flags(
        config=config,
        model=model,
        collection=collection,
        uri=uri,
        device=device,
        precision=precision,
        batch_size=batch_size,
        exclude=exclude,
        include_hidden=include_hidden,
        max_megapixels=max_megapixels,
    ).load()
    out = con.make_console(sys.stdout)
    with opt.opened(settings) as images:
        keep_current(images, folders or (), out, debounce=debounce, poll=poll)


def extract(
    *,
    folders: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DIR]...", help="Folders (or single pictures). Default: data.raw_dir.", show_default=False
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            *("-o", "--output"),
            metavar="PREFIX",
            help="Writes PREFIX_features.npy and PREFIX_paths.txt. Default: the folder's and the model's name in"
            " data.processed_dir.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Write the vectors of pictures to files, for 'imagesearch build' or other programs."""
    from imagesearch.frontends import reports

    settings = opt.Flags(
        config=config, model=model, device=device, precision=precision, batch_size=batch_size
    ).load()
    roots = _need_folders(folders, settings)
    prefix = output or _default_prefix(settings, roots[0])
    with opt.opened(settings) as images, con.ProgressDisplay() as progress:
        report = images.extract(roots, prefix, progress)
    reports.print_extracted(report, as_json=as_json)


def build(
    *,
    features: Annotated[
        str, typer.Option("-f", "--features", metavar="FILE", help="PREFIX_features.npy of 'extract'.")
    ],
    paths: Annotated[str, typer.Option("-p", "--paths", metavar="FILE", help="PREFIX_paths.txt of 'extract'.")],
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Make extracted vectors searchable: insert them into the collection and build its index."""
    from imagesearch.frontends import reports

    with opt.opened(opt.Flags(config=config, model=model, collection=collection, uri=uri).load()) as images:
        with con.ProgressDisplay() as progress:
            report = images.build(features, paths, progress)
        database = images.engine
    reports.print_indexed(report, database, as_json=as_json)


def _before_indexing(images: ImageSearch, folders: list[str] | None) -> None:
    """Say which model it is at first, and refuse a first run that names no folder."""
    settings = images.config
    if images.find_collection() is not None:
        return
    if not folders and settings.data.raw_dir is None:
        raise con.WrongUsageError("name a folder of pictures (nothing has been indexed yet), or set data.raw_dir")
    if settings.model.name == "starter":
        con.note(con.STARTER_NOTE)


def _now_outgrown(images: ImageSearch, report: IndexReport) -> str | None:
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


def _need_folders(folders: list[str] | None, settings: Config) -> list[str]:
    if folders:
        return folders
    if settings.data.raw_dir is None:
        raise con.WrongUsageError("name a folder of pictures, or set data.raw_dir in config.yaml")
    return [os.fspath(settings.data.raw_dir)]


def _default_prefix(settings: Config, folder: str) -> str:
    from imagesearch.models.catalogue import slug

    if settings.data.processed_dir is None:
        raise con.WrongUsageError("say where to write (-o PREFIX), or set data.processed_dir in config.yaml")
    name = os.path.basename(os.path.abspath(os.path.expanduser(folder)))
    return os.path.join(settings.data.processed_dir, f"{name}_{slug(settings.model.name)}")
