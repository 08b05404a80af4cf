"""The flags that override settings, each declared once, and arguments that several commands take.

Their decorator is :func:`imagesearch.frontends.cli.options.settings_from`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import typer

_SETTINGS = "Settings"
_WHICH_FILES = "Which files"

# The token of the database that 'imagesearch migrate' copies to. It looks like a setting's variable, but is none.
TO_TOKEN = "IMAGESEARCH_TO_TOKEN"


# Of commands that change a collection.
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; only say what would be done.")]

# Of commands that upload what was trained.
PushTo = Annotated[
    str | None,
    typer.Option(
        "--push-to-hub",
        metavar="REPO",
        help="Upload the trained model to the Hugging Face hub, as OWNER/NAME or NAME, private unless --public."
        " Neither pictures nor paths are uploaded, and so not the report.",
    ),
]
Public = Annotated[
    bool,
    typer.Option(
        "--public",
        help="With --push-to-hub: everybody may see the repository. Without, one that everybody sees is refused.",
    ),
]


class Flag(NamedTuple):
    """A flag that overrides a setting.

    Attributes:
        setting: ``"section.key"``; empty for the file that all others come from.
        kind: the type of its value; None, False or an empty list stand for "not given".
        option: what Typer is told of it.
    """

    setting: str
    kind: Any
    option: Any


# In the order in which --help lists them.
FLAGS: dict[str, Flag] = {
    "exclude": Flag(
        "data.exclude",
        list[str] | None,
        typer.Option(
            None,
            metavar="PATTERN",
            help="Leave out files and folders of this name ('*.gif'), or, with a slash, of this path below DIR."
            " Repeatable; adds to data.exclude.",
            rich_help_panel=_WHICH_FILES,
        ),
    ),
    "include_hidden": Flag(
        "data.include_hidden",
        bool,
        typer.Option(
            False,
            "--include-hidden",
            help="Take files and folders whose names begin with a dot too (data.include_hidden).",
            rich_help_panel=_WHICH_FILES,
        ),
    ),
    "max_megapixels": Flag(
        "data.max_megapixels",
        float | None,
        typer.Option(
            None, metavar="N", help="Skip larger pictures (data.max_megapixels).", rich_help_panel=_WHICH_FILES
        ),
    ),
    "config": Flag(
        "",
        str | None,
        typer.Option(
            None,
            "--config",
            metavar="FILE",
            help="Settings file. Default: $IMAGESEARCH_CONFIG, then ./config.yaml.",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "model": Flag(
        "model.name",
        str | None,
        typer.Option(
            None,
            metavar="NAME_OR_FOLDER",
            help="Preset ('imagesearch models'), Hugging Face name, or folder with a checkpoint (model.name).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "classifier": Flag(
        "model.classifier",
        str | None,
        typer.Option(
            None,
            "--model",
            metavar="NAME_OR_FOLDER",
            help="Preset, Hugging Face name, or folder with a checkpoint that has labels (model.classifier).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "collection": Flag(
        "milvus.collection_name",
        str | None,
        typer.Option(
            None,
            metavar="NAME",
            help="Collection in the database (milvus.collection_name).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "uri": Flag(
        "milvus.uri",
        str | None,
        typer.Option(
            None,
            metavar="URI",
            help="Database: a file.db, or a Milvus server (milvus.uri).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "device": Flag(
        "model.device",
        str | None,
        typer.Option(
            None, metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (model.device).", rich_help_panel=_SETTINGS
        ),
    ),
    "precision": Flag(
        "model.precision",
        str | None,
        typer.Option(
            None,
            metavar="PRECISION",
            help="auto, float32, bfloat16, float16 (model.precision).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "rerank": Flag(
        "search.rerank",
        str | None,
        typer.Option(
            None,
            metavar="METHOD",
            help="How results are put in order: none, feedback, feedback+labels, ... (search.rerank).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "views": Flag(
        "search.views",
        str | None,
        typer.Option(
            None,
            metavar="VIEWS",
            help="How the picture asked for is seen: whole, mirrored, crops (search.views).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "allow_url": Flag(
        "search.allow_url",
        bool,
        typer.Option(
            False,
            "--allow-url",
            help="Fetch pictures to look for from http:// and https:// addresses (search.allow_url).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "host": Flag(
        "server.host",
        str | None,
        typer.Option(
            None,
            metavar="ADDRESS",
            help="Where to listen: 127.0.0.1 is this machine only, 0.0.0.0 every network (server.host).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "port": Flag(
        "server.port",
        int | None,
        typer.Option(
            None,
            metavar="N",
            min=0,
            max=65535,
            help="Port; 0: any free one (server.port).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "token_file": Flag(
        "server.token_file",
        str | None,
        typer.Option(
            None,
            metavar="FILE",
            help="A file with the token that everybody needs (server.token_file).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "allow_hosts": Flag(
        "server.allow_hosts",
        list[str] | None,
        typer.Option(
            None,
            "--allow-host",
            metavar="NAME",
            help="A name under which browsers reach it, such as that of a reverse proxy. Repeatable"
            " (server.allow_hosts).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "allow_labels": Flag(
        "server.allow_labels",
        bool,
        typer.Option(
            False,
            "--allow-labels",
            help="Let everybody who may search also label pictures, on the page /label (server.allow_labels).",
            rich_help_panel=_SETTINGS,
        ),
    ),
    "batch_size": Flag(
        "extraction.batch_size",
        int | None,
        typer.Option(
            None,
            metavar="N",
            min=0,
            help="Pictures the model sees at once; 0: as many as suit it (extraction.batch_size).",
            rich_help_panel=_SETTINGS,
        ),
    ),
}

# Flags that go together.
WHICH_FILES = ("exclude", "include_hidden", "max_megapixels")
COLLECTION = ("model", "collection", "uri")
COMPUTING = ("device", "precision")

Folders = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Folders (or single pictures). Default: data.raw_dir, or else all that were indexed before.",
        show_default=False,
    ),
]
