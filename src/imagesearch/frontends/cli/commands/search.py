"""``imagesearch search``: find the indexed pictures that look most like one picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.options import (
    COLLECTION,
    COMPUTING,
    FigureRequest,
    draws_figure,
    opened,
    prints,
    settings_from,
    timed,
)
from imagesearch.frontends.cli.output import Format, note, print_line, print_results
from imagesearch.frontends.cli.progress import Stopwatch
from imagesearch.frontends.text import METRIC_CAPTIONS, counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.records import CollectionInfo, Hit
    from imagesearch.service import ImageSearch

Query = Annotated[str, typer.Argument(metavar="IMAGE", help="The picture to look for.", show_default=False)]
TopK = Annotated[
    int | None,
    typer.Option("-k", "--top-k", metavar="N", min=1, help="Number of results. Default: search.top_k."),
]


@timed
@prints(csv=True)
@draws_figure
@settings_from(*COLLECTION, *COMPUTING)
def search(
    *,
    settings: Config,
    output: Format,
    figure: FigureRequest,
    watch: Stopwatch,
    image: Query,
    top_k: TopK = None,
) -> None:
    """Find the indexed pictures that look most like one picture."""
    wanted = top_k or settings.search.top_k
    with opened(settings) as images:
        watch.lap("settings")
        if watch.is_wanted:
            _open_by_stages(images, watch)
        hits, info = images.search(image, wanted), images.describe()
        watch.lap("search")
        watch.report()
        _note_differences(images, info, wanted - len(hits), wanted)
    print_results(hits, output, partial(_show, image, hits, info), ("rank", "score", "path"))
    if figure.is_wanted:
        from imagesearch.frontends.figures import default_name, results_figure

        drawn = results_figure(image, hits, info.metric, settings.data.max_megapixels)
        figure.deliver(drawn, default_name("search", image))


def _open_by_stages(images: ImageSearch, watch: Stopwatch) -> None:
    """Open database and model, which otherwise the search itself does once it has looked at the picture."""
    images.find_collection()
    watch.lap("database")
    images.embedder  # noqa: B018 - loads it
    watch.lap("model")


def _note_differences(images: ImageSearch, info: CollectionInfo, missing: int, wanted: int) -> None:
    """Say where a search was not quite what was asked for."""
    if missing > 0:
        note(f"asked for {wanted}, but the collection holds only {counted(info.rows, 'picture')}")
    if other_index := images.index_mismatch():
        built, configured = other_index
        note(f"the index is {built}, but milvus.index_type is {configured}: run 'imagesearch index' to rebuild it")


def _show(query: str, hits: Sequence[Hit], info: CollectionInfo, out: Console) -> None:
    heading = f"{counted(len(hits), 'picture')} of collection {info.name} most like {query}"
    print_line(out, (heading, "bold"))
    print_line(out, (f"rank   score  path    ({METRIC_CAPTIONS[info.metric.value]})", "dim"))
    for hit in hits:
        print_line(out, (f"{hit.rank:4}  {hit.score:6.3f}  ", "cyan"), (hit.path, ""))
