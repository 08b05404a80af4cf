"""The ``imagesearch`` command: its commands, each in a module of ``commands/``, and what is common to all.

A command parses its flags, calls the Python API, prints the result, and chooses the exit code: 0 fine, 1 failed (a
line on stderr says what), 2 wrong usage or settings, 130 interrupted.

Nothing heavy is imported before a command runs, so that ``--help`` and shell completion answer at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from imagesearch.frontends.cli import process
from imagesearch.frontends.cli.commands import (
    annotate,
    build,
    check,
    classify,
    collections,
    config,
    demo,
    evaluate,
    extract,
    forget,
    index,
    info,
    label,
    mcp,
    models,
    search,
    serve,
    train,
    transfer,
    watch,
)
from imagesearch.frontends.cli.output import tolerant_streams

# In the order in which --help lists them.
COMMANDS: dict[str, dict[str, Callable[..., None]]] = {
    "Pictures": {
        "index": index.index,
        "search": search.search,
        "classify": classify.classify,
        "watch": watch.watch,
        "annotate": annotate.annotate,
        "forget": forget.forget,
    },
    "Quality": {
        "evaluate": evaluate.evaluate,
    },
    "Learning": {
        "label": label.label,
        "train": train.train,
    },
    "Vectors in files": {
        "extract": extract.extract,
        "build": build.build,
    },
    "Database": {
        "info": info.info,
        "collections": collections.collections,
        "copy": collections.copy,
        "rename": collections.rename,
        "drop": collections.drop,
        "export": transfer.export_file,
        "import": transfer.import_file,
        "migrate": transfer.migrate,
        "check": check.check,
    },
    "Servers": {
        "serve": serve.serve,
        "mcp": mcp.mcp,
    },
    "Program": {
        "models": models.models,
        "config": config.config,
        "demo": demo.demo,
    },
}

_INDEXED = "; what was indexed so far is kept: run the same command again to go on"
_COPIED = "; what was copied so far is kept: run the same command again to go on"

# What to say of an interrupted command's work.
KEPT = {
    "index": _INDEXED,
    "watch": _INDEXED,
    "build": "; what was inserted so far is kept: run the same command again to go on",
    "label": "; labels given so far are kept: run the same command again to go on",
    "train": "; the vectors of the pictures seen so far are kept: run the same command again to go on",
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
        tolerant_streams()
        with process.errors_as_exit_codes(lambda: KEPT.get(ctx.invoked_subcommand, "")):
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
    process.run(app)


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


for _panel, _commands in COMMANDS.items():
    for _name, _command in _commands.items():
        _kind = search.SearchCommand if _name == "search" else None
        app.command(_name, cls=_kind, rich_help_panel=_panel)(_command)
