"""``imagesearch search``: find the indexed pictures that look most like a picture."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.errors import UsageError
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
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import METRIC_CAPTIONS, counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.records import CollectionInfo, Hit
    from imagesearch.service import ImageSearch

Queries = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE...", help="The picture to look for; several are answered together.", show_default=False
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("-k", "--top-k", "--top", metavar="N", min=1, help="Number of results. Default: search.top_k."),
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
    images: Queries,
    top_k: TopK = None,
) -> None:
    """Find the indexed pictures that look most like a picture."""
    if figure.is_wanted and len(images) > 1:
        raise WrongUsageError("a figure shows one search: name one picture with --visualize or --save")
    _refuse_words(images)
    wanted = top_k or settings.search.top_k
    with opened(settings) as library:
        watch.lap("settings")
        if watch.is_wanted:
            _open_by_stages(library, watch)
        found, info = library.search_all(images, wanted), library.describe()
        watch.lap("search")
        watch.report()
        _note_differences(library, info, wanted - len(found[0]), wanted)
    if len(images) == 1:
        print_results(found[0], output, partial(_show, images[0], found[0], info), ("rank", "score", "path"))
    else:
        answers = [Answer(image, hits) for image, hits in zip(images, found, strict=True)]
        columns = ("query", "rank", "score", "path")
        print_results(answers, output, partial(_show_all, answers, info), columns, rows_of=Answer.rows)
    if figure.is_wanted:
        from imagesearch.frontends.figures import default_name, results_figure

        drawn = results_figure(images[0], found[0], info.metric, settings.data.max_megapixels)
        figure.deliver(drawn, default_name("search", images[0]))


class Answer:
    """What was found for one of several pictures."""

    def __init__(self, query: str, hits: Sequence[Hit]) -> None:
        self.query, self.hits = query, hits

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"query": self.query, "hits": [hit.to_dict() for hit in self.hits]}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per hit."""
        for hit in self.hits:
            yield {"query": self.query, **hit.to_dict()}


def _refuse_words(images: Sequence[str]) -> None:
    """Say what is not possible where somebody looks for words, instead of that there is no such file."""
    for image in images:
        if " " in image and not os.path.splitext(image)[1] and not os.path.lexists(image):
            raise UsageError(f"there is no picture {image!r}; words cannot be searched for, only pictures")


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


def _show_all(answers: Sequence[Answer], info: CollectionInfo, out: Console) -> None:
    for number, answer in enumerate(answers):
        if number:
            print_line(out, ("", ""))
        _show(answer.query, answer.hits, info, out)


def _show(query: str, hits: Sequence[Hit], info: CollectionInfo, out: Console) -> None:
    heading = f"{counted(len(hits), 'picture')} of collection {info.name} most like {query}"
    print_line(out, (heading, "bold"))
    print_line(out, (f"rank   score  path    ({METRIC_CAPTIONS[info.metric.value]})", "dim"))
    for hit in hits:
        print_line(out, (f"{hit.rank:4}  {hit.score:6.3f}  ", "cyan"), (hit.path, ""))
