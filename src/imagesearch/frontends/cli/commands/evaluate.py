"""``imagesearch evaluate``: how well models, rankings and indexes find what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING, WHICH_FILES
from imagesearch.frontends.cli.options import FigureRequest, draws_figure, prints, settings_from
from imagesearch.frontends.cli.output import Format, note, print_line, print_result, print_table, quiet_stdout
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.evaluating import Evaluation

Folder = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Folders to evaluate with, indexed into a temporary database. Default: the configured collection.",
        show_default=False,
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="CSV file of path and label. Default: the names of sub-folders are labels."),
]
Rerank = Annotated[
    list[str] | None,
    typer.Option(
        metavar="METHOD",
        help="Ranking method to compare with 'none' (search.rerank lists them), or 'all', which"
        " leaves out 'patches', as that one reads pictures for every query. Repeatable. Default: search.rerank.",
        show_default=False,
    ),
]
Views = Annotated[
    list[str] | None,
    typer.Option(
        metavar="VIEWS",
        help="How pictures asked for are seen, besides as a whole: mirrored, crops, or 'all'. Repeatable.",
        show_default=False,
    ),
]
Compare = Annotated[
    str | None,
    typer.Option(metavar="A,B", help="Models to compare, presets, names or folders; each is indexed if need be."),
]
Copies = Annotated[
    bool | None,
    typer.Option(
        "--copies/--no-copies",
        help="Look for pictures from distorted copies of them. Default: if there are no labels.",
        show_default=False,
    ),
]
Index = Annotated[bool, typer.Option("--index", help="Measure recall and latency of the index by its parameters.")]
Words = Annotated[bool, typer.Option("--words", help="Ask for each label by its name, as by 'search WORDS'.")]
Confidence = Annotated[
    bool, typer.Option("--confidence", help="Measure how far confidence holds, with half of the labels absent.")
]
Tune = Annotated[
    bool,
    typer.Option(
        "--tune",
        help="Try all ranking methods, and write the best as search.rerank into the settings file if its gain on"
        " queries that it was not chosen by is sure (the 95 % interval excludes zero).",
    ),
]
At = Annotated[
    int, typer.Option("-k", "--top-k", "--top", metavar="N", min=1, help="Results that measures look at.")
]
Queries = Annotated[
    int, typer.Option(metavar="N", min=1, help="Ask for at most so many pictures, a random sample.")
]
Originals = Annotated[int, typer.Option(metavar="N", min=1, help="Make copies of at most so many pictures.")]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Of samples, distortions and intervals.")]
Page = Annotated[
    str | None,
    typer.Option("--html", metavar="FILE", help="Write one page with tables, figures and the worst queries."),
]


@prints()
@draws_figure
@settings_from(*COLLECTION, *COMPUTING, *WHICH_FILES)
def evaluate(
    *,
    settings: Config,
    output: Format,
    figure: FigureRequest,
    folders: Folder = None,
    labels: Labels = None,
    rerank: Rerank = None,
    views: Views = None,
    compare: Compare = None,
    copies: Copies = None,
    index: Index = False,
    words: Words = False,
    confidence: Confidence = False,
    tune: Tune = False,
    top_k: At = 10,
    queries: Queries = 1000,
    originals: Originals = 100,
    seed: Seed = 0,
    html: Page = None,
) -> None:
    """Measure how well pictures of a class, or originals of copies, are found.

    With labels each picture is asked for the others of its class, as if it were not in the collection itself:
    precision, recall, R-precision, mAP (over the whole collection), nDCG and kNN accuracy, with 95 % intervals.
    Without labels, distorted copies are made, and must find their originals.
    """
    if tune and (rerank or views or compare):
        raise WrongUsageError(
            "--tune tries all ranking methods for one model: leave out --rerank, --views and --compare"
        )
    if not folders and not compare and _flags_choose_files(settings):
        raise WrongUsageError("--exclude and --include-hidden are for folders to evaluate with: name them")
    with quiet_stdout():
        from imagesearch import evaluating
        from imagesearch.frontends.pages import page_path
        from imagesearch.search.image_encoding import VIEWS
        from imagesearch.search.ranking import QUICK_METHODS

        if html is not None:  # before any work is done
            page_path(html)
        request = evaluating.Request(
            folders=tuple(folders or ()),
            labels=labels,
            models=tuple(name.strip() for name in (compare or "").split(",") if name.strip()),
            methods=_all_of(QUICK_METHODS, rerank or [settings.search.rerank]),
            views=_all_of(VIEWS, views or ()),
            copies=copies,
            index=index,
            words=words,
            confidence=confidence,
            k=top_k,
            queries=queries,
            originals=originals,
            seed=seed,
        )
        run = evaluating.tune if tune else evaluating.evaluate
        with ProgressDisplay() as progress:
            found = run(settings, request, progress)
    print_result(found, output, partial(_show, found))
    _deliver(found, figure, html, settings)
    if tune:
        _note_choice(found, settings)


def _flags_choose_files(settings: Config) -> bool:
    return any(settings.source_of(f"data.{key}").startswith("flag") for key in ("exclude", "include_hidden"))


def _all_of(every: Sequence[str], named: Sequence[str]) -> tuple[str, ...]:
    """Those that were named, with every one in place of ``all``."""
    if "all" not in named:
        return tuple(named)
    return tuple(dict.fromkeys([*every, *(name for name in named if name != "all")]))


def _show(found: Evaluation, out: Console) -> None:
    from imagesearch.frontends.evaluation_tables import tables

    for table in tables(found):
        print_line(out, (table.title, "bold"))
        print_table(out, table.columns, table.rows)
        if table.note:
            print_line(out, (table.note, "dim"))
            print_line(out, ("", ""))


def _deliver(found: Evaluation, figure: FigureRequest, html: str | None, settings: Config) -> None:
    """Figure and page, where wanted."""
    if figure.is_wanted:
        from imagesearch.frontends.evaluation_figures import evaluation_figure

        figure.deliver(evaluation_figure(found), "imagesearch-evaluate.png")
    if html is not None:
        from imagesearch.frontends.evaluation_page import write_page

        note(f"page written to {write_page(found, html, settings.data.max_megapixels)}")


def _note_choice(found: Evaluation, settings: Config) -> None:
    """What was tuned, and where it was written."""
    choice = found.choice
    if choice is None or choice.gain is None:
        note(
            f"no ranking method beats 'none' on half of the queries: search.rerank stays {settings.search.rerank}"
        )
        return
    gain = choice.gain
    text = (
        f"{choice.method}: {gain.relative:+.1%} on the other half of the queries (95 % interval"
        f" {gain.relative_low:+.1%} to {gain.relative_high:+.1%})"
    )
    if found.written is None:
        note(f"{text}; not sure enough: search.rerank stays {settings.search.rerank}")
        return
    note(f"{text}; search.rerank: {choice.method} written to {found.written}")
    if (source := settings.source_of("search.rerank")).startswith(("environment", "flag")):
        note(f"search.rerank is set by {source}, which wins over the file")
