"""The ``imagesearch`` command: parse, call the Python API, print, exit code.

Exit codes: 0 fine, 1 failed (a line on stderr says what), 2 wrong usage or settings, 130 interrupted.

Nothing heavy is imported before a command runs, so that ``--help`` and shell completion answer at once.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from imagesearch.frontends import checking, database, indexing
from imagesearch.frontends import console as con
from imagesearch.frontends import options as opt

# A full disk, a full quota, a file of the largest allowed size.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG)

# New objects between two searches for garbage. Nearly all that a start makes stays (modules, classes), and with
# Python's own 700 a search among pictures takes 7 % longer.
_NEW_OBJECTS = 10_000

_COPIED = "; what was copied so far is kept: run the same command again to go on"

# What to say of an interrupted command's work.
_KEPT = {
    "index": "; what was indexed so far is kept: run the same command again to go on",
    "watch": "; what was indexed so far is kept: run the same command again to go on",
    "build": "; what was inserted so far is kept: run the same command again to go on",
    "extract": "; features files of an earlier run are as they were",
    "copy": _COPIED,
    "import": _COPIED,
    "migrate": _COPIED,
    "export": "; a file of an earlier run is as it was",
    "check": "; what was repaired so far is repaired: run the same command again to go on",
}


class _Commands(typer.core.TyperGroup):
    """The commands, with the library's errors turned into exit codes around all of them."""

    def invoke(self, ctx: Any) -> Any:
        con.tolerant_streams()
        with con.errors_as_exit_codes(lambda: _KEPT.get(ctx.invoked_subcommand, "")):
            return super().invoke(ctx)


app = typer.Typer(
    name="imagesearch",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line of this process."""
    gc.set_threshold(_NEW_OBJECTS)
    try:
        try:
            app()
        except SystemExit as leaving:
            _leave(leaving)
    except OSError as error:
        if error.errno in _FULL:
            con.note(f"imagesearch: error: cannot write: {error.strerror}")
        elif error.errno != errno.EPIPE:  # who reads our output has had enough
            raise
        with open(os.devnull, "w") as nowhere:  # or Python would try again to write it, when it ends
            os.dup2(nowhere.fileno(), 1)
        sys.exit(con.FAILED)


def _leave(leaving: SystemExit) -> NoReturn:
    """End the process with that exit code, without freeing every object of every library one by one.

    That is a fifth of the time of a search. What Python promises to do at its end is done: streams are flushed,
    and exit functions run (by a private function; there is no public one). Where that is not all (threads to wait
    for, a message as exit code, a profiler or a debugger that goes on), Python ends as usual.
    """
    _flush()
    waiting = [thread for thread in threading.enumerate() if not thread.daemon]
    watched = sys.getprofile() or sys.gettrace() or sys.flags.inspect
    if waiting != [threading.main_thread()] or watched or not isinstance(leaving.code, int | None):
        raise leaving
    atexit._run_exitfuncs()
    _flush()
    os._exit(leaving.code or 0)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the shell
            stream.flush()


def _print_version(wanted: bool) -> None:
    if wanted:
        from imagesearch import __version__

        typer.echo(f"imagesearch {__version__}")
        raise typer.Exit


@app.callback()
def _imagesearch(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Find similar pictures, label them, and keep them searchable."""


def search(
    *,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture to look for.", show_default=False)],
    top_k: Annotated[
        int | None,
        typer.Option("-k", "--top-k", metavar="N", min=1, help="Number of results. Default: search.top_k."),
    ] = None,
    visualize: opt.Visualize = False,
    save: opt.Save = None,
    as_json: opt.AsJson = False,
    as_csv: opt.AsCsv = False,
    timings: Annotated[bool, typer.Option("--timings", help="Tell on stderr how long each stage took.")] = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
) -> None:
    """Find the indexed pictures that look most like one picture."""
    from imagesearch.frontends import reports
    from imagesearch.frontends.text import counted

    con.one_format(as_json, as_csv)
    _check_save(save)
    watch = con.Stopwatch()
    with watch.stage("settings"):
        settings = opt.Flags(
            config=config, model=model, collection=collection, uri=uri, device=device, precision=precision
        ).load()
    wanted = top_k or settings.search.top_k
    with opt.opened(settings) as images:
        if timings:  # otherwise opened by the search itself, which looks at the picture first
            with watch.stage("database"):
                images.find_collection()
            with watch.stage("model"):
                images.embedder  # noqa: B018 - loads it
        with watch.stage("search"):
            hits = images.search(image, wanted)
            info = images.describe()
        other_index = images.index_mismatch()
    if timings:
        watch.report()
    if len(hits) < wanted:
        con.note(f"asked for {wanted}, but the collection holds only {counted(info.rows, 'picture')}")
    if other_index:
        reports.note_other_index(*other_index)
    if as_json:
        reports.print_hits_json(hits)
    elif as_csv:
        reports.print_hits_csv(hits)
    else:
        reports.print_hits(image, hits, info)
    if visualize or save:
        from imagesearch.frontends import render

        figure = render.results_figure(image, hits, info.metric, settings.data.max_megapixels)
        render.deliver(figure, render.default_name("search", image), save, visualize)


def classify(
    *,
    pictures: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.", show_default=False)
    ],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Labels a picture.")] = 5,
    visualize: opt.Visualize = False,
    save: opt.Save = None,
    as_json: opt.AsJson = False,
    as_csv: opt.AsCsv = False,
    config: opt.ConfigFile = None,
    model: opt.Classifier = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Tell what is in pictures: the most probable labels of each."""
    from imagesearch.frontends import render, reports
    from imagesearch.frontends.labelling import Labels

    con.one_format(as_json, as_csv)
    _check_save(save)
    flags = opt.Flags(config=config, classifier=model, device=device, precision=precision, batch_size=batch_size)
    settings = flags.load()
    stdout = sys.stdout
    with opt.opened(settings) as images:
        keep = render.MAX_DRAWN if visualize or save else 0
        # Lines on the terminal are progress enough, and would run through a bar.
        labels = Labels(images, pictures, top, keep=keep, progress=not stdout.isatty())
        reports.print_labels(labels, stdout, as_json=as_json, as_csv=as_csv)
    if visualize or save:
        figure = render.labels_figure(labels.first, settings.data.max_megapixels)
        render.deliver(figure, render.default_name("classify", pictures[0]), save, visualize)
    if labels.failed:
        raise typer.Exit(con.FAILED)


def models(*, as_json: opt.AsJson = False, as_csv: opt.AsCsv = False) -> None:
    """List the models known by a short name."""
    from imagesearch.frontends import reports
    from imagesearch.models.catalogue import PRESETS
    from imagesearch.models.hub import is_here

    con.one_format(as_json, as_csv)
    specs = [(spec, is_here(spec.features)) for spec in PRESETS.values()]
    reports.print_models(specs, as_json=as_json, as_csv=as_csv)


def show_config(
    *,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Show the settings in force and where each one came from."""
    from imagesearch.frontends import reports

    flags = opt.Flags(
        config=config,
        model=model,
        collection=collection,
        uri=uri,
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    reports.print_config(flags.load(), as_json=as_json)


def demo(
    *,
    folder: Annotated[str, typer.Option(metavar="DIR", help="Where pictures, database and figures go.")] = "demo",
    model: opt.Model = None,
    device: opt.Device = None,
) -> None:
    """See it work: index sample photographs, search, classify, and draw the results."""
    from imagesearch.frontends.demo import run_demo

    run_demo(folder, model, device)


def _check_save(save: str | None) -> None:
    """Refuse a kind of file that cannot be written before any work is done."""
    if save is not None:
        from imagesearch.frontends.render import figure_format

        figure_format(save)


# In the order in which --help lists them.
_PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "Pictures": {
        "index": indexing.index,
        "search": search,
        "classify": classify,
        "watch": indexing.watch,
    },
    "Vectors in files": {
        "extract": indexing.extract,
        "build": indexing.build,
    },
    "Database": {
        "info": database.info,
        "collections": database.collections,
        "copy": database.copy,
        "rename": database.rename,
        "drop": database.drop,
        "export": database.export_file,
        "import": database.import_file,
        "migrate": database.migrate,
        "check": checking.check,
    },
    "Program": {
        "models": models,
        "config": show_config,
        "demo": demo,
    },
}
for _panel, _commands in _PANELS.items():
    for _name, _command in _commands.items():
        app.command(_name, rich_help_panel=_panel)(_command)
