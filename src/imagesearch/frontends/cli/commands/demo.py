"""``imagesearch demo``: the whole path on sample photographs, in one folder that can be deleted afterwards."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.commands.index import STARTER_NOTE
from imagesearch.frontends.cli.flags import FLAGS
from imagesearch.frontends.cli.options import opened
from imagesearch.frontends.cli.output import make_console, print_facts
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.text import counted, printable

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.service import ImageSearch

# Of the samples this is the one whose subject comes closest to the 200 labels that the bundled model knows.
QUERY = "rocket.jpg"
RESULTS = 10

Folder = Annotated[str, typer.Option(metavar="DIR", help="Where pictures, database and figures go.")]


def demo(
    *,
    folder: Folder = "demo",
    model: str | None = FLAGS["model"].option,
    device: str | None = FLAGS["device"].option,
) -> None:
    """See it work: index sample photographs, search, classify, and draw the results."""
    from imagesearch.frontends.cli.samples import make_samples

    place = Path(os.path.abspath(os.path.expanduser(folder)))
    typer.echo(f"Sample photographs and variants of them go to {printable(str(place / 'pictures'))}")
    make_samples(place / "pictures")
    with opened(_settings(place, model, device)) as images:
        indexed = _index(images, place / "pictures")
        closest, search_figure = _search(images, place)
        labels, labels_figure = _classify(images, place)
    for line in (indexed, closest, *([STARTER_NOTE] if model is None else []), labels):
        typer.echo(line)
    serve = f"imagesearch serve --open --uri {shlex.quote(str(place / 'imagesearch.db'))}"
    facts = {"look at": str(search_figure), "and": str(labels_figure), "as a web page": serve}
    print_facts(make_console(sys.stdout), facts)


def _settings(place: Path, model: str | None, device: str | None) -> Config:
    """The defaults whatever ``config.yaml`` says, so that the demo shows the same everywhere."""
    from imagesearch.config import config_of

    return config_of(
        {
            "model": {"name": model or "starter", "device": device or "auto"},
            "milvus": {"uri": str(place / "imagesearch.db")},
        }
    )


def _index(images: ImageSearch, pictures: Path) -> str:
    """Index the samples; returns a line about it."""
    from imagesearch.errors import ModelMismatchError

    with ProgressDisplay() as progress:
        try:
            report = images.index(pictures, progress=progress)
        except ModelMismatchError:  # an earlier version's model made the demo's database
            images.database.drop(images.spec.name)
            report = images.index(pictures, progress=progress)
    known = counted(report.indexed, "picture") + f" indexed, {report.unchanged} unchanged"
    return f"{known}, in {report.seconds:.1f} s, with model {images.embedder.fingerprint.model}"


def _search(images: ImageSearch, place: Path) -> tuple[str, Path]:
    """Search with one of the samples; returns a line and a figure."""
    from imagesearch.frontends.figures import results_figure, save_figure

    query = str(place / "pictures" / QUERY)
    hits = images.search(query, RESULTS)
    figure = save_figure(results_figure(query, hits, images.describe().metric), place / "search.png")
    closest = ", ".join(f"{Path(hit.path).name} ({hit.score:.3f})" for hit in hits[:4])
    return f"Most similar to {QUERY}: {closest}, ...", figure


def _classify(images: ImageSearch, place: Path) -> tuple[str, Path]:
    """Label the same sample; returns a line and a figure."""
    from imagesearch.frontends.figures import labels_figure, save_figure

    query = str(place / "pictures" / QUERY)
    labels = images.classify(query)
    figure = save_figure(labels_figure([(query, labels)]), place / "classification.png")
    return "Labels of it: " + ", ".join(f"{label.label} ({label.score:.0%})" for label in labels[:3]), figure
