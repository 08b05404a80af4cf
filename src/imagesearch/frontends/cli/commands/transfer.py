"""Collections to and from files and other databases: ``imagesearch export``, ``import`` and ``migrate``."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.commands.collections import check_new_name, show_transfers
from imagesearch.frontends.cli.flags import COLLECTION, TO_TOKEN
from imagesearch.frontends.cli.options import opened, prints, settings_from
from imagesearch.frontends.cli.output import Format, print_result, print_results
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from imagesearch.config import Config

_ENDING = ".parquet"

Target = Annotated[str, typer.Argument(metavar="FILE.parquet", help="The file to write.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
Source = Annotated[
    str, typer.Argument(metavar="FILE.parquet", help="What 'imagesearch export' wrote.", show_default=False)
]
Into = Annotated[
    str | None, typer.Option(metavar="NAME", help="Collection to put it into. Default: the name in the file.")
]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[COLLECTION]...", help="Default: all that imagesearch made.", show_default=False),
]
To = Annotated[str, typer.Option(metavar="URI", help="The other database: a file.db, or a Milvus server.")]
ToToken = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        envvar=TO_TOKEN,
        help=f"The other server's 'user:password' or API key. Better in ${TO_TOKEN}.",
    ),
]


@prints()
@settings_from(*COLLECTION)
def export_file(*, settings: Config, output: Format, file: Target, force: Force = False) -> None:
    """Write a collection with its vectors to a Parquet file: a backup, or for other programs."""
    file = os.path.expanduser(file)
    if not file.lower().endswith(_ENDING):
        raise WrongUsageError(f"{file!r}: the name must end in {_ENDING}")
    if not force and os.path.lexists(file):
        raise UsageError(f"{file!r} is there already: choose another name, or replace it with --force")
    with opened(settings) as images, ProgressDisplay() as progress:
        report = images.database.export(file, progress=progress)
    print_result(report, output, partial(show_transfers, [report], "exported"))


@prints()
@settings_from("uri")
def import_file(*, settings: Config, output: Format, file: Source, collection: Into = None) -> None:
    """Read an exported collection into the database; no model is needed.

    Pictures that the collection has already are then as the file says, annotations included; other pictures stay.
    """
    if collection is not None:
        check_new_name(collection)
    with opened(settings) as images, ProgressDisplay() as progress:
        report = images.database.import_file(os.path.expanduser(file), collection, progress)
    print_result(report, output, partial(show_transfers, [report], "imported"))


@prints()
@settings_from("uri")
def migrate(*, settings: Config, output: Format, names: Names = None, to: To, to_token: ToToken = None) -> None:
    """Copy collections to another database, such as from a file to a server; repeat it to go on."""
    from imagesearch.stores.address import DatabaseAddress

    address = DatabaseAddress.parse(to, "--to").anchored(os.getcwd())
    with opened(settings) as images, ProgressDisplay() as progress:
        done = images.database.migrate(address, names or (), to_token, progress)
    print_results(done, output, partial(show_transfers, done, "copied"))
