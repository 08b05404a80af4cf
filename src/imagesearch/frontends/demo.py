"""``imagesearch demo``: the whole path on sample photographs, in one folder that can be deleted afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from imagesearch.frontends import render
from imagesearch.frontends.console import (
    STARTER_NOTE,
    ProgressDisplay,
    make_console,
    print_facts,
    tolerant_streams,
)
from imagesearch.frontends.options import opened
from imagesearch.frontends.samples import make_samples
from imagesearch.frontends.text import counted, printable

# Of the samples this is the one whose subject comes closest to the 200 labels that the bundled model knows.
QUERY = "rocket.jpg"
RESULTS = 10


def run_demo(folder: str, model: str | None = None, device: str | None = None) -> None:
    """Index the sample photographs and their variants, search with one of them, label it, and draw both.

    The settings are the defaults whatever ``config.yaml`` says, so that the demo shows the same everywhere.

    Args:
        folder: for pictures, database and figures; made if it is missing.
        model, device: as the flags of the same name.

    Raises:
        ImageSearchError: scikit-image is not installed, or something cannot be written or read.
    """
    import sys

    from imagesearch.config import config_of
    from imagesearch.errors import ModelMismatchError

    tolerant_streams()
    place = Path(os.path.abspath(os.path.expanduser(folder)))
    typer.echo(f"Sample photographs and variants of them go to {printable(str(place / 'pictures'))}")
    make_samples(place / "pictures")
    config = config_of(
        {
            "model": {"name": model or "starter", "device": device or "auto"},
            "milvus": {"uri": str(place / "imagesearch.db")},
        }
    )
    query = str(place / "pictures" / QUERY)
    with opened(config) as images:
        with ProgressDisplay() as progress:
            try:
                report = images.index(place / "pictures", progress=progress)
            except ModelMismatchError:  # an earlier version's model made the demo's database
                images.database.drop(images.spec.name)
                report = images.index(place / "pictures", progress=progress)
        hits = images.search(query, RESULTS)
        metric = images.describe().metric
        labels = images.classify(query)
    known = counted(report.indexed, "picture") + f" indexed, {report.unchanged} unchanged"
    typer.echo(f"{known}, in {report.seconds:.1f} s, with model {images.embedder.fingerprint.model}")
    search = render.save_figure(render.results_figure(query, hits, metric), place / "search.png")
    classification = render.save_figure(render.labels_figure([(query, labels)]), place / "classification.png")
    closest = ", ".join(f"{Path(hit.path).name} ({hit.score:.3f})" for hit in hits[:4])
    typer.echo(f"Most similar to {QUERY}: {closest}, ...")
    if model is None:
        typer.echo(STARTER_NOTE)
    typer.echo("Labels of it: " + ", ".join(f"{label.label} ({label.score:.0%})" for label in labels[:3]))
    print_facts(make_console(sys.stdout), {"look at": str(search), "and": str(classification)})
