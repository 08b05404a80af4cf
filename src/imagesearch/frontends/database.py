"""The commands about the database: what is in it, and copying, renaming, dropping and moving collections."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from imagesearch.errors import UsageError
from imagesearch.frontends import console as con
from imagesearch.frontends import options as opt
from imagesearch.frontends.text import counted

_ENDING = ".parquet"

Old = Annotated[str, typer.Argument(metavar="OLD", help="The collection as it is called now.", show_default=False)]
New = Annotated[str, typer.Argument(metavar="NEW", help="The other name.", show_default=False)]


def info(
    *,
    skipped: Annotated[
        bool,
        typer.Option("--skipped", help="List the files that indexing could not read, and why, instead."),
    ] = False,
    as_json: opt.AsJson = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="With --skipped: print CSV and nothing else on stdout.")
    ] = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Show the database and the collections in it."""
    from imagesearch.frontends import reports

    con.one_format(as_json, as_csv)
    if as_csv and not skipped:
        raise con.WrongUsageError(
            "--csv goes with --skipped; 'imagesearch collections --csv' lists the collections"
        )
    settings = opt.Flags(config=config, model=model, collection=collection, uri=uri).load()
    with opt.opened(settings) as images:
        ledger = images.skipped()
        if not skipped:
            engine, found = images.engine, images.database.collections()
            outgrown = {name: images.database.outgrown(info) for name, info in found.items() if info is not None}
    if skipped:
        reports.print_ledger(settings.collection_spec.name, ledger, as_json=as_json, as_csv=as_csv)
    else:
        reports.print_info(settings, engine, found, len(ledger), as_json=as_json)
        for name, reason in outgrown.items():
            if reason:
                reports.note_outgrown(name, reason)


def collections(
    *,
    as_json: opt.AsJson = False,
    as_csv: opt.AsCsv = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """List the collections of the database; the one that the settings choose has a star."""
    from imagesearch.frontends import reports

    con.one_format(as_json, as_csv)
    settings = opt.Flags(config=config, model=model, collection=collection, uri=uri).load()
    with opt.opened(settings) as images:
        engine, found = images.engine, images.database.collections()
    chosen = settings.collection_spec.name
    if as_json:
        con.print_json(reports.collections_as_data(chosen, found))
    elif as_csv:
        reports.print_collections_csv(chosen, found)
    elif found:
        reports.print_collections(chosen, found)
    else:
        con.note(f"there is no collection in {engine}: 'imagesearch index DIR' makes one")


def copy(
    *,
    old: Old,
    new: New,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    uri: opt.Uri = None,
) -> None:
    """Copy a collection within the database; an interrupted copy goes on when it is repeated."""
    from imagesearch.frontends import reports

    _refuse_name(new, old)
    with opt.opened(opt.Flags(config=config, uri=uri).load()) as images, con.ProgressDisplay() as progress:
        report = images.database.copy(old, new, progress)
    if as_json:
        con.print_json(report.to_dict())
    else:
        reports.print_transfers([report], "copied")


def rename(
    *,
    old: Old,
    new: New,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    uri: opt.Uri = None,
) -> None:
    """Give a collection another name."""
    _refuse_name(new, old)
    settings = opt.Flags(config=config, uri=uri).load()
    with opt.opened(settings) as images:
        images.database.rename(old, new)
    if as_json:
        con.print_json({"collection": new, "renamed_from": old})
    else:
        con.print_line(con.make_console(sys.stdout), (f"{old} is now {new}", ""))
    if settings.collection_spec.name == old:
        con.note(
            f"the settings still say {old}: choose the collection with --collection {new}, or set"
            " milvus.collection_name"
        )


def drop(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The collection.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    uri: opt.Uri = None,
) -> None:
    """Delete a collection with all its vectors; the pictures themselves are not touched."""
    if not yes and not sys.stdin.isatty():
        raise con.WrongUsageError(f"there is no terminal to ask on: to drop {name} without a question, add --yes")
    with opt.opened(opt.Flags(config=config, uri=uri).load()) as images:
        rows = images.database.describe(name).rows
        vectors = f"the vectors of {counted(rows, 'picture')}"
        if not yes and not _agreed(f"Drop collection {name} with {vectors}? The pictures are not touched."):
            con.note("nothing was dropped")
            raise typer.Exit(con.FAILED)
        images.database.drop(name)
    if as_json:
        con.print_json({"collection": name, "rows": rows})
    else:
        text = f"dropped {name} with {vectors}; the pictures themselves were not touched"
        con.print_line(con.make_console(sys.stdout), (text, ""))


def export_file(
    *,
    file: Annotated[str, typer.Argument(metavar="FILE.parquet", help="The file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Write a collection with its vectors to a Parquet file: a backup, or for other programs."""
    from imagesearch.frontends import reports

    file = os.path.expanduser(file)
    if not file.lower().endswith(_ENDING):
        raise con.WrongUsageError(f"{file!r}: the name must end in {_ENDING}")
    if not force and os.path.lexists(file):
        raise UsageError(f"{file!r} is there already: choose another name, or replace it with --force")
    settings = opt.Flags(config=config, model=model, collection=collection, uri=uri).load()
    with opt.opened(settings) as images, con.ProgressDisplay() as progress:
        report = images.database.export(file, progress=progress)
    if as_json:
        con.print_json(report.to_dict())
    else:
        reports.print_transfers([report], "exported")


def import_file(
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE.parquet", help="What 'imagesearch export' wrote.", show_default=False)
    ],
    collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Collection to put it into. Default: the name in the file."),
    ] = None,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    uri: opt.Uri = None,
) -> None:
    """Read an exported collection into the database; no model is needed, and pictures in it already stay."""
    from imagesearch.frontends import reports

    if collection is not None:
        _refuse_name(collection)
    with opt.opened(opt.Flags(config=config, uri=uri).load()) as images, con.ProgressDisplay() as progress:
        report = images.database.import_file(os.path.expanduser(file), collection, progress)
    if as_json:
        con.print_json(report.to_dict())
    else:
        reports.print_transfers([report], "imported")


def migrate(
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COLLECTION]...", help="Default: all that imagesearch made.", show_default=False),
    ] = None,
    to: Annotated[str, typer.Option(metavar="URI", help="The other database: a file.db, or a Milvus server.")],
    to_token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar=opt.TO_TOKEN,
            help=f"The other server's 'user:password' or API key. Better in ${opt.TO_TOKEN}."
            " Default: milvus.token.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    uri: opt.Uri = None,
) -> None:
    """Copy collections to another database, such as from a file to a server; repeat it to go on."""
    from imagesearch.frontends import reports
    from imagesearch.stores.address import DatabaseAddress

    to = DatabaseAddress.parse(to, "--to").anchored(os.getcwd()).uri
    with opt.opened(opt.Flags(config=config, uri=uri).load()) as images, con.ProgressDisplay() as progress:
        done = images.database.migrate(to, names or (), to_token, progress)
    if as_json:
        con.print_json([report.to_dict() for report in done])
    else:
        reports.print_transfers(done, "copied")


def _refuse_name(new: str, old: str | None = None) -> None:
    """Refuse, before any work, a name that a collection cannot get."""
    from imagesearch.stores.base import check_name

    if new == old:
        raise con.WrongUsageError(f"{old} and {new} are the same name")
    try:
        check_name(new)
    except UsageError as error:
        raise con.WrongUsageError(str(error)) from error


def _agreed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or the end of the input is no agreement
        return False
