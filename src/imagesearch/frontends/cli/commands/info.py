"""``imagesearch info``: the database, its collections, and the files that could not be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.frontends.cli.commands.collections import FOREIGN, ListedCollection, listed
from imagesearch.frontends.cli.commands.index import note_outgrown
from imagesearch.frontends.cli.flags import COLLECTION
from imagesearch.frontends.cli.options import opened_or_served, prints, settings_from
from imagesearch.frontends.cli.output import (
    Format,
    note,
    print_facts,
    print_line,
    print_result,
    print_results,
)
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.options import Library
    from imagesearch.records import CollectionInfo, Skipped

_RETRIED = "tried again at every run"

# Sizes and the like in a reason, which would make every file a kind of its own.
_NUMBERS = re.compile(r"\d+(?:[.,x]\d+)*")

# What a report of a problem should name.
_PACKAGES = (
    *("torch", "transformers", "openvino", "onnxruntime", "milvus-lite", "pymilvus", "faiss-cpu", "pillow"),
)

ListSkipped = Annotated[
    bool, typer.Option("--skipped", help="List the files that indexing could not read, and why, instead.")
]


@prints(csv="With --skipped: print CSV and nothing else on stdout.")
@settings_from(*COLLECTION)
def info(*, settings: Config, output: Format, skipped: ListSkipped = False) -> None:
    """Show the database and the collections in it."""
    if skipped:
        _print_skipped_files(settings, output)
        return
    if output is Format.CSV:
        raise WrongUsageError("--csv goes with --skipped; 'imagesearch collections --csv' lists the collections")
    from imagesearch.serving_file import LOOKING

    with opened_or_served(settings, LOOKING) as images:
        database = DatabaseInfo(images)
        outgrown = _outgrown(images, database.collections)
    print_result(database, output, partial(_show, database))
    for name, reason in outgrown.items():
        note_outgrown(name, reason)


class DatabaseInfo:
    """A database, its collections, and how many files indexing into the chosen one could not read."""

    def __init__(self, images: Library) -> None:
        """Ask the configured database."""
        self.engine = images.engine
        self.chosen = images.config.collection_spec.name
        self.skipped = len(images.skipped())
        self.collections = listed(images.config, images.database.collections())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with what a report of a problem needs: versions and system."""
        return {
            "database": self.engine,
            "collection": self.chosen,
            "skipped": self.skipped,
            "collections": [collection.to_dict() for collection in self.collections],
            "versions": _versions(),
            "system": _system(),
        }


def _versions() -> dict[str, str]:
    import importlib.metadata
    import platform

    from imagesearch import __version__

    versions = {"imagesearch": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _system() -> dict[str, Any]:
    import os
    import platform

    return {"platform": platform.platform(), "machine": platform.machine(), "cpus": os.cpu_count()}


def _outgrown(images: Library, found: Sequence[ListedCollection]) -> Mapping[str, str]:
    """Why collections should move to a server, for those that should."""
    reasons = {one.name: images.database.outgrown(one.info) for one in found if one.info is not None}
    return {name: reason for name, reason in reasons.items() if reason}


def _show(database: DatabaseInfo, out: Console) -> None:
    facts = {"database": database.engine, "collection": database.chosen}
    if database.skipped:
        facts["skipped"] = f"{counted(database.skipped, 'file')} ('imagesearch info --skipped' lists all)"
    print_facts(out, facts)
    if not any(collection.is_configured for collection in database.collections):
        note(f"there is no collection {database.chosen} yet: 'imagesearch index DIR' makes it")
    for collection in database.collections:
        print_line(out, ("", ""))
        mark = "  (the configured one)" if collection.is_configured else ""
        print_line(out, (collection.name, "bold"), (mark, "dim"))
        if collection.info is None:
            print_line(out, (f"  {FOREIGN}", ""))
        else:
            _show_collection(collection.info, out)


def _show_collection(info: CollectionInfo, out: Console) -> None:
    shown = info.to_dict() | {"rows": f"{info.rows:,}"}
    del shown["name"]
    print_facts(out, {f"  {key}": str(value) for key, value in shown.items()})
    if info.missing_columns:
        note(
            f"an earlier version made {info.name}: it has no column for {', '.join(info.missing_columns)}."
            f" 'imagesearch index' adds them to a local database; on a server, 'imagesearch copy {info.name} NEW'"
            " makes a collection that has all"
        )


def _print_skipped_files(settings: Config, output: Format) -> None:
    from imagesearch.serving_file import LOOKING

    with opened_or_served(settings, LOOKING) as images:
        skipped = images.skipped()
    name = settings.collection_spec.name
    print_results(skipped, output, partial(show_skipped, name, skipped), ("path", "reason", "retryable"))


def show_skipped(collection: str, skipped: Sequence[Skipped], out: Console) -> None:
    """The files that indexing could not read, why, and how many there are of each kind."""
    if not skipped:
        note(f"no file was skipped when collection {collection} was made")
        return
    for skip in skipped:
        retried = f"  ({_RETRIED})" if skip.retryable else ""
        print_line(out, (f"{skip.path}: {skip.reason}", ""), (retried, "dim"))
    print_line(out, ("", ""))
    print_line(out, (f"{counted(len(skipped), 'file')} skipped for collection {collection}:", "bold"))
    for reason, number in _kinds(skipped).items():
        print_line(out, (f"{number:7,}  {reason}", ""))
    if not all(skip.retryable for skip in skipped):
        others = " others" if any(skip.retryable for skip in skipped) else "y"
        text = f"The{others} are tried again once they change, or with 'imagesearch index --retry-skipped'"
        print_line(out, (text, "dim"))


def _kinds(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many files there are of each reason, most frequent first; reasons that differ in numbers are one."""
    kinds: dict[str, list[str]] = {}
    for skip in skipped:
        kinds.setdefault(_NUMBERS.sub("…", skip.reason), []).append(skip.reason)
    counts = Counter(
        {reasons[0] if len(set(reasons)) == 1 else kind: len(reasons) for kind, reasons in kinds.items()}
    )
    return dict(counts.most_common())
