"""The flags that commands share, and the settings they stand for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.frontends.console import quiet_stdout

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.service import ImageSearch

_SETTINGS = "Settings"
_WHICH_FILES = "Which files"

# The token of the database that 'imagesearch migrate' copies to. It looks like a setting's variable, but is none.
TO_TOKEN = "IMAGESEARCH_TO_TOKEN"

ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings file. Default: $IMAGESEARCH_CONFIG, then ./config.yaml.",
        rich_help_panel=_SETTINGS,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="NAME_OR_FOLDER",
        help="Preset ('imagesearch models'), Hugging Face name, or folder with a checkpoint (model.name).",
        rich_help_panel=_SETTINGS,
    ),
]
Classifier = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME_OR_FOLDER",
        help="Preset, Hugging Face name, or folder with a checkpoint that has labels (model.classifier).",
        rich_help_panel=_SETTINGS,
    ),
]
Collection = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Collection in the database (milvus.collection_name).", rich_help_panel=_SETTINGS
    ),
]
Uri = Annotated[
    str | None,
    typer.Option(
        metavar="URI", help="Database: a file.db, or a Milvus server (milvus.uri).", rich_help_panel=_SETTINGS
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (model.device).", rich_help_panel=_SETTINGS),
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="PRECISION",
        help="auto, float32, bfloat16, float16 (model.precision).",
        rich_help_panel=_SETTINGS,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=0,
        help="Pictures the model sees at once; 0: as many as suit it (extraction.batch_size).",
        rich_help_panel=_SETTINGS,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out files and folders of this name ('*.gif'), or, with a slash, of this path below DIR."
        " Repeatable; adds to data.exclude.",
        rich_help_panel=_WHICH_FILES,
    ),
]
IncludeHidden = Annotated[
    bool,
    typer.Option(
        "--include-hidden",
        help="Take files and folders whose names begin with a dot too (data.include_hidden).",
        rich_help_panel=_WHICH_FILES,
    ),
]
MaxMegapixels = Annotated[
    float | None,
    typer.Option(metavar="N", help="Skip larger pictures (data.max_megapixels).", rich_help_panel=_WHICH_FILES),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV and nothing else on stdout.")]
Visualize = Annotated[
    bool, typer.Option("--visualize", help="Show a figure in a window; without a display, save it as a PNG.")
]
Save = Annotated[str | None, typer.Option(metavar="FILE", help="Save the figure (.png, .jpg, .webp, .pdf, .svg).")]


@dataclass(frozen=True, slots=True)
class Flags:
    """The shared flags as given; None stands for "not given"."""

    config: str | None = None
    model: str | None = None
    classifier: str | None = None
    collection: str | None = None
    uri: str | None = None
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    exclude: Sequence[str] | None = None
    include_hidden: bool = False
    max_megapixels: float | None = None

    @property
    def overrides(self) -> dict[str, dict[str, Any]]:
        """The flags as the topmost layer of settings, but for ``exclude``."""
        return {
            "model": {
                "name": self.model,
                "classifier": self.classifier,
                "device": self.device,
                "precision": self.precision,
            },
            "milvus": {"uri": self.uri, "collection_name": self.collection},
            "extraction": {"batch_size": self.batch_size},
            "data": {"include_hidden": self.include_hidden or None, "max_megapixels": self.max_megapixels},
        }

    def load(self) -> Config:
        """The effective settings.

        Raises:
            ConfigError: one of them is wrong.
        """
        from imagesearch.config import load_config

        environ = {name: value for name, value in os.environ.items() if name != TO_TOKEN}
        overrides = self.overrides
        config = load_config(self.config, overrides, environ)
        if not self.exclude:
            return config
        # The flag adds to the patterns of the lower layers, which are known only now.
        overrides["data"]["exclude"] = [*config.data.exclude, *self.exclude]
        return load_config(self.config, overrides, environ)


@contextlib.contextmanager
def opened(config: Config) -> Iterator[ImageSearch]:
    """The Python API with these settings; what libraries print meanwhile goes to stderr."""
    with quiet_stdout():
        from imagesearch.service import ImageSearch

        with ImageSearch(config) as images:
            yield images
