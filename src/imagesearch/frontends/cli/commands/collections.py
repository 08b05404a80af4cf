"""The collections of the database: ``imagesearch collections``, ``copy``, ``rename`` and ``drop``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened, opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import (
    Format,
    note,
    print_line,
    print_result,
    print_results,
    print_table,
)
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.records import CollectionInfo
    from imagesearch.reports import TransferReport

FOREIGN = "not made by imagesearch"

_COLUMNS = ("name", "configured", "rows", "model", "dimension", "metric", "index")

Old = Annotated[str, typer.Argument(metavar="OLD", help="The collection as it is called now.", show_default=False)]
New = Annotated[str, typer.Argument(metavar="NEW", help="The other name.", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The collection.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@prints(csv=True)
@settings_from(*COLLECTION)
def collections(*, settings: Config, output: Format) -> None:
    """List the collections of the database; the one that the settings choose has a star."""
    from imagesearch.serving_file import LOOKING

    with opened_or_served(settings, LOOKING) as images:
        engine, found = images.engine, listed(settings, images.database.collections())
    if output is Format.TEXT and not found:
        note(f"there is no collection in {engine}: 'imagesearch index DIR' makes one")
    else:
        print_results(found, output, partial(_show, found), _COLUMNS)


@prints()
@settings_from("uri")
def copy(*, settings: Config, output: Format, old: Old, new: New) -> None:
    """Copy a collection within the database; an interrupted copy goes on when it is repeated."""
    check_new_name(new, old)
    with opened(settings) as images, ProgressDisplay() as progress:
        report = images.database.copy(old, new, progress)
    print_result(report, output, partial(show_transfers, [report], "copied"))


@prints()
@settings_from("uri")
def rename(*, settings: Config, output: Format, old: Old, new: New) -> None:
    """Give a collection another name."""
    check_new_name(new, old)
    with opened(settings) as images:
        images.database.rename(old, new)
    print_result(Renamed(old, new), output, lambda out: print_line(out, (f"{old} is now {new}", "")))
    if settings.collection_spec.name == old:
        note(
            f"the settings still say {old}: choose the collection with --collection {new}, or set"
            " milvus.collection_name"
        )


@prints()
@settings_from("uri")
def drop(*, settings: Config, output: Format, name: Name, yes: Yes = False) -> None:
    """Delete a collection with all its vectors; the pictures themselves are not touched."""
    if not yes and not sys.stdin.isatty():
        raise WrongUsageError(f"there is no terminal to ask on: to drop {name} without a question, add --yes")
    with opened(settings) as images:
        dropped = Dropped(name, images.database.describe(name).rows)
        question = f"Drop collection {name} with {dropped.vectors}? The pictures are not touched."
        if not yes and not _agreed(question):
            note("nothing was dropped")
            raise typer.Exit(FAILED)
        images.database.drop(name)
    text = f"dropped {name} with {dropped.vectors}; the pictures themselves were not touched"
    print_result(dropped, output, lambda out: print_line(out, (text, "")))


class ListedCollection:
    """A collection of the database; ``info`` is None for one that another program made."""

    def __init__(self, name: str, is_configured: bool, info: CollectionInfo | None) -> None:
        self.name = name
        self.is_configured = is_configured
        self.info = info

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV; of another program's only these two."""
        known = self.info.to_dict() if self.info else {}
        return {"name": self.name, "configured": self.is_configured, **known}


class Renamed:
    """What ``rename`` did."""

    def __init__(self, old: str, new: str) -> None:
        self.old = old
        self.new = new

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"collection": self.new, "renamed_from": self.old}


class Dropped:
    """What ``drop`` deleted."""

    def __init__(self, name: str, rows: int) -> None:
        self.name = name
        self.rows = rows

    @property
    def vectors(self) -> str:
        """In words."""
        return f"the vectors of {counted(self.rows, 'picture')}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"collection": self.name, "rows": self.rows}


def listed(settings: Config, found: Mapping[str, CollectionInfo | None]) -> list[ListedCollection]:
    """The collections of a database, each with whether the settings choose it."""
    chosen = settings.collection_spec.name
    return [ListedCollection(name, name == chosen, info) for name, info in found.items()]


def _show(found: Sequence[ListedCollection], out: Console) -> None:
    columns = {"": "left", "collection": "left", "pictures": "right", "model": "fold", "dimension": "right"}
    print_table(out, columns | {"metric": "left", "index": "left"}, map(_row, found))


def _row(listed: ListedCollection) -> tuple[str, ...]:
    star, info = "*" if listed.is_configured else "", listed.info
    if info is None:
        return star, listed.name, "", FOREIGN
    mark = info.fingerprint
    described = (f"{info.rows:,}", mark.model, str(mark.dim), info.metric.value, info.index_type or "none")
    return (star, listed.name, *described)


def show_transfers(reports: Sequence[TransferReport], done: str, out: Console) -> None:
    """What copying, exporting or importing did, one line per collection.

    Args:
        done: what happened to the rows, such as ``"copied"``.
    """
    for report in reports:
        there = f", {report.already_there:,} were there already" if report.already_there else ""
        text = f"{counted(report.rows, 'picture')} {done}{there}, in {report.seconds:.1f} s: {report.target}"
        print_line(out, (f"{report.collection}: ", "bold"), (text, ""))


def check_new_name(new: str, old: str | None = None) -> None:
    """Refuse, before any work, a name that a collection cannot get.

    Raises:
        WrongUsageError: it is the old name, or Milvus does not take it.
    """
    from imagesearch.stores.base import check_name

    if new == old:
        raise WrongUsageError(f"{old} and {new} are the same name")
    try:
        check_name(new)
    except UsageError as error:
        raise WrongUsageError(str(error)) from error


def _agreed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # Ctrl-C or the end of the input is no agreement
        return False
