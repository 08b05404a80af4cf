"""``imagesearch extract``: write the vectors of pictures to files."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COMPUTING
from imagesearch.frontends.cli.options import opened, prints, settings_from
from imagesearch.frontends.cli.output import Format, print_facts, print_result, print_skipped
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.reports import ExtractReport

NewFolders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...", help="Folders (or single pictures). Default: data.raw_dir.", show_default=False
    ),
]
Prefix = Annotated[
    str | None,
    typer.Option(
        *("-o", "--output"),
        metavar="PREFIX",
        help="Writes PREFIX_features.npy and PREFIX_paths.txt. Default: the folder's and the model's name in"
        " data.processed_dir.",
    ),
]


@prints()
@settings_from("model", *COMPUTING, "batch_size")
def extract(*, settings: Config, output: Format, folders: NewFolders = None, prefix: Prefix = None) -> None:
    """Write the vectors of pictures to files, for 'imagesearch build' or other programs."""
    roots = _need_folders(folders, settings)
    prefix = prefix or _default_prefix(settings, roots[0])
    with opened(settings) as images, ProgressDisplay() as progress:
        report = images.extract(roots, prefix, progress)
    print_result(report, output, partial(_show, report))


def _show(report: ExtractReport, out: Console) -> None:
    print_skipped(report.skipped, "--json")
    facts = {
        "extracted": f"{counted(report.extracted, 'vector')} of dimension {report.dim}",
        "skipped": f"{len(report.skipped):,}",
        "features": report.features,
        "paths": report.paths,
    }
    print_facts(out, facts)


def _need_folders(folders: list[str] | None, settings: Config) -> list[str]:
    if folders:
        return folders
    if settings.data.raw_dir is None:
        raise WrongUsageError("name a folder of pictures, or set data.raw_dir in config.yaml")
    return [os.fspath(settings.data.raw_dir)]


def _default_prefix(settings: Config, folder: str) -> str:
    from imagesearch.models.catalogue import slug

    if settings.data.processed_dir is None:
        raise WrongUsageError("say where to write (-o PREFIX), or set data.processed_dir in config.yaml")
    name = os.path.basename(os.path.abspath(os.path.expanduser(folder)))
    return os.path.join(settings.data.processed_dir, f"{name}_{slug(settings.model.name)}")
