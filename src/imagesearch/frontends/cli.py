"""The ``imagesearch`` command: parse, call the Python API, print, exit code.

Exit codes: 0 fine, 1 failed (a line on stderr says what), 2 wrong usage or settings, 130 interrupted.

Nothing heavy is imported before a command runs, so that ``--help`` and shell completion answer at once.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from imagesearch.frontends import console as con
from imagesearch.frontends import options as opt

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.records import CollectionInfo

_KEPT = {
    "index": "; what was indexed so far is kept: run the same command again to go on",
    "build": "; what was inserted so far is kept: run the same command again to go on",
    "extract": "; features files of an earlier run are as they were",
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

Folders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...", help="Folders (or single pictures). Default: data.raw_dir.", show_default=False
    ),
]


def main() -> None:
    """Run the command line of this process."""
    app()


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


@app.command()
def index(
    *,
    folders: Folders = None,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Make the pictures in folders searchable.

    Only what is new or changed is read, and every batch is kept, so the command can be interrupted and repeated.
    """
    from imagesearch.frontends import reports

    settings = opt.Flags(
        config=config,
        model=model,
        collection=collection,
        uri=uri,
        device=device,
        precision=precision,
        batch_size=batch_size,
    ).load()
    roots = _need_folders(folders, settings)
    with opt.opened(settings) as images:
        if settings.model.name == "starter" and images.store.describe() is None:
            con.note(con.STARTER_NOTE)
        with con.ProgressDisplay() as progress:
            report = images.index(*roots, progress=progress)
        database = images.store.engine
    reports.print_indexed(report, database, as_json=as_json)
    if not report.indexed and not report.unchanged:
        con.note("imagesearch: error: none of the pictures could be indexed")
        raise typer.Exit(con.FAILED)


@app.command()
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

    _one_format(as_json, as_csv)
    _check_save(save)
    settings = opt.Flags(
        config=config, model=model, collection=collection, uri=uri, device=device, precision=precision
    ).load()
    wanted = top_k or settings.search.top_k
    with opt.opened(settings) as images:
        hits = images.search(image, wanted)
        info = images.describe()
    if len(hits) < wanted:
        con.note(f"asked for {wanted}, but the collection holds only {counted(info.rows, 'picture')}")
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


@app.command()
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
    from imagesearch.frontends import reports
    from imagesearch.frontends.labelling import label_pictures

    _one_format(as_json, as_csv)
    _check_save(save)
    flags = opt.Flags(config=config, classifier=model, device=device, precision=precision, batch_size=batch_size)
    settings = flags.load()
    stream = None if as_json or as_csv else con.make_console(sys.stdout)
    with opt.opened(settings) as images:
        results = label_pictures(images, pictures, top, stream)
    if as_json:
        reports.print_labels_json(results)
    elif as_csv:
        reports.print_labels_csv(results)
    if visualize or save:
        from imagesearch.frontends import render

        figure = render.labels_figure(results, settings.data.max_megapixels)
        render.deliver(figure, render.default_name("classify", pictures[0]), save, visualize)
    if any(not isinstance(result, list) for _, result in results):
        raise typer.Exit(con.FAILED)


@app.command()
def extract(
    *,
    folders: Folders = None,
    output: Annotated[
        str | None,
        typer.Option(
            *("-o", "--output"),
            metavar="PREFIX",
            help="Writes PREFIX_features.npy and PREFIX_paths.txt. Default: the folder's and the model's name in"
            " data.processed_dir.",
        ),
    ] = None,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    device: opt.Device = None,
    precision: opt.Precision = None,
    batch_size: opt.BatchSize = None,
) -> None:
    """Write the vectors of pictures to files, for 'imagesearch build' or other programs."""
    from imagesearch.frontends import reports

    settings = opt.Flags(
        config=config, model=model, device=device, precision=precision, batch_size=batch_size
    ).load()
    roots = _need_folders(folders, settings)
    prefix = output or _default_prefix(settings, roots[0])
    with opt.opened(settings) as images, con.ProgressDisplay() as progress:
        report = images.extract(roots, prefix, progress)
    reports.print_extracted(report, as_json=as_json)


@app.command()
def build(
    *,
    features: Annotated[
        str, typer.Option("-f", "--features", metavar="FILE", help="PREFIX_features.npy of 'extract'.")
    ],
    paths: Annotated[str, typer.Option("-p", "--paths", metavar="FILE", help="PREFIX_paths.txt of 'extract'.")],
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Make extracted vectors searchable: insert them into the collection and build its index."""
    from imagesearch.frontends import reports

    with opt.opened(opt.Flags(config=config, model=model, collection=collection, uri=uri).load()) as images:
        with con.ProgressDisplay() as progress:
            report = images.build(features, paths, progress)
        database = images.store.engine
    reports.print_indexed(report, database, as_json=as_json)


@app.command()
def info(
    *,
    as_json: opt.AsJson = False,
    config: opt.ConfigFile = None,
    model: opt.Model = None,
    collection: opt.Collection = None,
    uri: opt.Uri = None,
) -> None:
    """Show the database and the collections in it."""
    from imagesearch.frontends import reports

    settings = opt.Flags(config=config, model=model, collection=collection, uri=uri).load()
    with opt.opened(settings) as images:
        engine, names = images.store.engine, images.store.collections()
    found = {name: _describe(settings, name) for name in names}
    reports.print_info(settings, engine, found, as_json=as_json)


def _describe(settings: Config, collection: str) -> CollectionInfo | None:
    """A collection of the configured database, None if it is not ours."""
    from imagesearch.errors import ForeignCollectionError

    milvus = settings.milvus.model_copy(update={"collection_name": collection})
    try:
        with opt.opened(settings.model_copy(update={"milvus": milvus})) as images:
            return images.store.describe()
    except ForeignCollectionError:
        return None


@app.command()
def models(*, as_json: opt.AsJson = False, as_csv: opt.AsCsv = False) -> None:
    """List the models known by a short name."""
    from imagesearch.frontends import reports
    from imagesearch.models.catalogue import PRESETS
    from imagesearch.models.hub import is_here

    _one_format(as_json, as_csv)
    specs = [(spec, is_here(spec.features)) for spec in PRESETS.values()]
    reports.print_models(specs, as_json=as_json, as_csv=as_csv)


@app.command("config")
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


@app.command()
def demo(
    *,
    folder: Annotated[str, typer.Option(metavar="DIR", help="Where pictures, database and figures go.")] = "demo",
    model: opt.Model = None,
    device: opt.Device = None,
) -> None:
    """See it work: index sample photographs, search, classify, and draw the results."""
    from imagesearch.frontends.demo import run_demo

    run_demo(folder, model, device)


def _need_folders(folders: list[str] | None, settings: Config) -> list[str]:
    if folders:
        return folders
    if settings.data.raw_dir is None:
        raise con.WrongUsageError("name a folder of pictures, or set data.raw_dir in config.yaml")
    return [os.fspath(settings.data.raw_dir)]


def _default_prefix(settings: Config, folder: str) -> str:
    from imagesearch.models.catalogue import slug

    if settings.data.processed_dir is None:
        raise con.WrongUsageError("say where to write (-o PREFIX), or set data.processed_dir in config.yaml")
    name = os.path.basename(os.path.abspath(os.path.expanduser(folder)))
    return os.path.join(settings.data.processed_dir, f"{name}_{slug(settings.model.name)}")


def _one_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise con.WrongUsageError("--json and --csv exclude each other")


def _check_save(save: str | None) -> None:
    """Refuse a kind of file that cannot be written before any work is done."""
    if save is not None:
        from imagesearch.frontends.render import figure_format

        figure_format(save)
