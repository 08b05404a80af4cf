"""``imagesearch search``: find the indexed pictures that are like a picture, or what words say."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
import typer.core

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.delivery_options import Delivery, delivers
from imagesearch.frontends.cli.filter_options import filters
from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING
from imagesearch.frontends.cli.options import (
    FigureRequest,
    draws_figure,
    opened_or_served,
    prints,
    settings_from,
    timed,
)
from imagesearch.frontends.cli.output import Format, note, print_line, print_results
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import Stopwatch
from imagesearch.frontends.cli.queries import QueryReader, protected
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import METRIC_CAPTIONS, counted

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.options import Library
    from imagesearch.records import CollectionInfo
    from imagesearch.search.answers import Answer
    from imagesearch.search.filters import Filter
    from imagesearch.search.query import Query, SearchOptions

# What CSV shows of each hit.
COLUMNS = ("rank", "score", "path")

# Queries of a file or folder that are answered together: answers come as it goes on, and memory is bounded.
_TOGETHER = 256

What = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PICTURE|WORDS]...",
        help="What to look for: a picture's file, or words. '+b.jpg' and '-c.jpg' after it: also like b, and not"
        " like c; '+0.5:b.jpg': half as much. 'id:123': a picture in the collection.",
        show_default=False,
    ),
]
QueriesFrom = Annotated[
    str | None,
    typer.Option(
        "--queries",
        metavar="FILE|DIR",
        help="Look for each line of a text file ('-': of stdin), or each picture of a folder.",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,W,H",
        help="Look only at this part of the picture, in pixels or percent ('10%,0%,50%,50%').",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option("-k", "--top-k", "--top", metavar="N", min=1, help="Number of results. Default: search.top_k."),
]
Offset = Annotated[int, typer.Option(metavar="N", min=0, help="Leave out the N closest: those of earlier pages.")]
Threshold = Annotated[float | None, typer.Option(metavar="SCORE", help="Leave out what is less similar.")]
OnlyConfident = Annotated[
    bool,
    typer.Option("--only-confident", help="Leave out what may well be unrelated; perhaps nothing is left."),
]
Sort = Annotated[
    str, typer.Option(metavar="ORDER", help="score: closest first; date: of these results, the newest first.")
]
Grouped = Annotated[
    bool,
    typer.Option("--group", help="Put near-identical results behind the best of them: they count as one."),
]
Diverse = Annotated[bool, typer.Option("--diverse", help="Choose results that are unlike each other.")]


class SearchCommand(typer.core.TyperCommand):
    """A command whose arguments may begin with a minus."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See :func:`queries.protected`."""
        named = [(name, param) for param in self.params for name in param.opts if name.startswith("-")]
        options = [name for name, _ in named]
        valued = [name for name, param in named if not getattr(param, "is_flag", False)]
        return super().parse_args(ctx, protected(args, [*options, *self.get_help_option_names(ctx)], valued))


@timed
@prints(csv=True, lines=True)
@draws_figure
@delivers
@filters
@settings_from(*COLLECTION, *COMPUTING, "rerank", "views", "allow_url")
def search(
    *,
    settings: Config,
    output: Format,
    figure: FigureRequest,
    watch: Stopwatch,
    delivery: Delivery,
    where: Filter | None,
    what: What = None,
    queries: QueriesFrom = None,
    crop: Crop = None,
    top_k: TopK = None,
    offset: Offset = 0,
    threshold: Threshold = None,
    only_confident: OnlyConfident = False,
    sort: Sort = "score",
    group: Grouped = False,
    diverse: Diverse = False,
) -> None:
    """Find the indexed pictures that are like a picture, or what words say."""
    from imagesearch.search.query import Region, SearchOptions

    options = SearchOptions(
        top_k or settings.search.top_k,
        offset=offset,
        threshold=threshold,
        only_confident=only_confident,
        sort=sort,
        where=where,
        group=group,
        diverse=diverse,
    )
    try:
        options.check()
        region = None if crop is None else Region.parse(crop)
    except UsageError as error:  # all of it was said by flags
        raise WrongUsageError(str(error)) from error
    delivery.check(output is not Format.TEXT)
    reader = QueryReader(region, fetcher(settings))
    if queries is not None:
        if what or figure.is_wanted or delivery.is_wanted:
            raise WrongUsageError("--queries takes the place of what to look for; answers are text, JSON or CSV")
        show = partial(_print_answers, output, sys.stdout)  # what libraries print goes elsewhere later on
        _answer_many(settings, read_queries(reader, queries), options, watch, show)
        return
    asked = list(reader.read(what or ()))
    if not asked:
        raise WrongUsageError("name a picture to look for, or words")
    if crop is not None and not any(part.region for query in asked for part in query.parts):
        raise WrongUsageError("--crop takes a part of a picture: name its file to look for it")
    if figure.is_wanted and len(asked) > 1:
        raise WrongUsageError("a figure shows one search: name one thing to look for with --visualize or --save")
    answers, info = _answer_few(settings, asked, options, watch)
    if delivery.hides_text:
        _note_errors(answers)
    else:
        _print_few(answers, info, output)
    delivered = delivery.deliver(answers, info, settings.data.max_megapixels)
    if figure.is_wanted:
        _draw(answers[0], info, figure, settings.data.max_megapixels)
    _fail_for(sum(found.error is not None for found in answers))
    if not delivered:
        raise typer.Exit(FAILED)


def _answer_few(
    settings: Config, asked: Sequence[Query], options: SearchOptions, watch: Stopwatch
) -> tuple[list[Answer], CollectionInfo]:
    """The answers to what was typed; of a single query, one that fails ends the command."""
    with _opened(settings, watch) as library:
        answers, info = library.answer(asked, options), library.describe()
        watch.lap("search")
        watch.report()
        if len(answers) == 1:
            answers[0].require()
        _note_differences(library, info, [found for found in answers if found.error is None], options)
    return answers, info


@contextlib.contextmanager
def _opened(settings: Config, watch: Stopwatch) -> Iterator[Library]:
    from imagesearch.serving_file import SEARCHING

    with opened_or_served(settings, SEARCHING) as library:
        watch.lap("settings")
        if watch.is_wanted:
            _open_by_stages(library, watch)
        yield library


def _draw(found: Answer, info: CollectionInfo, figure: FigureRequest, max_megapixels: float) -> None:
    from imagesearch.frontends.figures import default_name, results_figure

    drawn = results_figure(found.query, found.hits, info.metric, max_megapixels)
    figure.deliver(drawn, default_name("search", str(found.query)))


def _print_few(answers: Sequence[Answer], info: CollectionInfo, output: Format) -> None:
    """The answers to what was typed: of a single query, only its hits."""
    if len(answers) == 1:
        print_results(answers[0].results, output, partial(_show, answers[0], info), COLUMNS)
    else:
        _print_answers(output, sys.stdout, answers, info)


def _answer_many(
    settings: Config,
    asked: Iterator[Query],
    options: SearchOptions,
    watch: Stopwatch,
    show: Callable[[Iterable[Answer], CollectionInfo], None],
) -> None:
    """Show answers as they come, some hundred queries at a time."""
    failed = 0

    def answers(library: Library) -> Iterator[Answer]:
        nonlocal failed
        while some := list(islice(asked, _TOGETHER)):
            found = library.answer(some, options)
            failed += sum(answer.error is not None for answer in found)
            yield from found

    with _opened(settings, watch) as library:
        show(answers(library), library.describe())
        watch.lap("search")
        watch.report()
    _fail_for(failed)


def _print_answers(output: Format, stream: TextIO, answers: Iterable[Answer], info: CollectionInfo) -> None:
    show = partial(_show_all, answers, info)
    print_results(answers, output, show, ("query", *COLUMNS), rows_of=_rows, stream=stream)


def _rows(answer: Answer) -> Iterator[dict[str, Any]]:
    """One row of CSV per hit; a query without an answer is said on stderr."""
    _note_errors([answer])
    for hit in answer.results:
        yield {"query": str(answer.query), **hit.to_dict()}


def _note_errors(answers: Iterable[Answer]) -> None:
    for found in answers:
        if found.error is not None:
            note(f"imagesearch: error: {found.error}")


def _fail_for(failed: int) -> None:
    if failed:
        note(f"imagesearch: {failed} of the queries could not be answered")
        raise typer.Exit(FAILED)


def read_queries(reader: QueryReader, place: str) -> Iterator[Query]:
    """The queries in a text file, one per line, or the pictures of a folder.

    Raises:
        UsageError: it cannot be read.
    """
    from imagesearch.images.find import find_pictures, reason_of

    if os.path.isdir(os.path.expanduser(place)):
        yield from map(reader.picture, find_pictures(os.path.expanduser(place)))
        return
    with contextlib.ExitStack() as stack:
        if place == "-":
            lines: Iterable[str] = sys.stdin
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")
        else:
            try:  # names of files need not be valid text
                file = os.path.expanduser(place)
                lines = stack.enter_context(open(file, encoding="utf-8-sig", errors="surrogateescape"))
            except OSError as error:
                raise UsageError(f"cannot read {place!r}: {reason_of(error)}") from error
        for line in filter(None, map(str.strip, lines)):
            yield from reader.read([line] if os.path.lexists(os.path.expanduser(line)) else _split(line))


def _split(line: str) -> list[str]:
    """The arguments in a line; one whose quotes do not close (``children's toys``) is a single one."""
    try:
        return shlex.split(line)
    except ValueError:
        return [line]


def fetcher(settings: Config) -> Callable[[str], bytes] | None:
    """What gets pictures from URLs, if that is allowed."""
    if not settings.search.allow_url:
        return None
    from imagesearch.images.urls import FetchLimits, fetch

    return partial(fetch, limits=FetchLimits(max_megapixels=settings.data.max_megapixels))


def _open_by_stages(images: Library, watch: Stopwatch) -> None:
    """Open database and model, which otherwise the search itself does once it has looked at the picture."""
    from imagesearch.client import Client

    images.find_collection()
    if isinstance(images, Client):
        watch.lap(f"server at {images.url}")
        return
    watch.lap("database")
    images.embedder  # noqa: B018 - loads it
    watch.lap("model")


def _note_differences(
    images: Library, info: CollectionInfo, answers: Sequence[Answer], options: SearchOptions
) -> None:
    """Say where searches were not quite what was asked for."""
    if options.where and answers and all(found.best is None for found in answers):
        note("no picture matches the filter")
    elif options.k > info.rows and options.threshold is None:
        note(f"asked for {options.k}, but the collection holds only {counted(info.rows, 'picture')}")
    unknown = [found for found in answers if found.best is not None and found.best.expected is None]
    if options.only_confident and unknown:
        why = (
            "of words"
            if all(found.query.has_words for found in unknown)
            else "in this collection; 'imagesearch index' learns it, from 40 on"
        )
        note(f"--only-confident: nothing is known of scores by chance {why}")
    for meaning in dict.fromkeys(meaning for found in answers for meaning in found.meanings):
        note(meaning)
    if other_index := images.index_mismatch():
        built, configured = other_index
        note(f"the index is {built}, but milvus.index_type is {configured}: run 'imagesearch index' to rebuild it")


def _show_all(answers: Iterable[Answer], info: CollectionInfo, out: Console) -> None:
    for number, found in enumerate(answers):
        if number:
            print_line(out, ("", ""))
        if found.error is not None:
            note(f"imagesearch: error: {found.error}")
        else:
            _show(found, info, out)


def _show(found: Answer, info: CollectionInfo, out: Console) -> None:
    query, hits = found.query, found.hits
    if not hits and found.best is not None:
        best, where = found.best, f"collection {info.name}"
        print_line(out, (f"nothing in {where} is similar enough to {query}", "bold"))
        chance = "" if best.expected is None else f" (by chance, {best.expected:.2g} pictures have as much)"
        print_line(out, (f"the closest has {best.score:.3f}{chance}:  ", "dim"), (best.path, ""))
        return
    heading = f"{counted(len(hits), 'picture')} of collection {info.name} most like {query}"
    print_line(out, (heading, "bold"))
    is_known = any(hit.confidence is not None for hit in hits)
    sure = "  sure" if is_known else ""
    print_line(out, (f"rank   score{sure}  path    ({METRIC_CAPTIONS[info.metric.value]})", "dim"))
    for hit in hits:
        more = f"  and {counted(len(others), 'picture')} nearly the same" if (others := found.others(hit)) else ""
        sure = f"{hit.confidence:5.0%} " if hit.confidence is not None else ""
        print_line(out, (f"{hit.rank:4}  {hit.score:6.3f} {sure} ", "cyan"), (hit.path, ""), (more, "dim"))
