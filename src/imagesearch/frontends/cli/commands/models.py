"""``imagesearch models``: models known by a short name, the words that one knows, and preparing one beforehand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.errors import ModelError
from imagesearch.frontends.cli.commands.index import STARTER_NOTE
from imagesearch.frontends.cli.flags import Public, PushTo
from imagesearch.frontends.cli.options import load_settings, opened, prints
from imagesearch.frontends.cli.output import (
    Format,
    note,
    print_line,
    print_result,
    print_results,
    print_table,
    quiet_stdout,
)
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.models.trained import TrainedModel, trained_models

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.models.catalogue import ModelSpec
    from imagesearch.service import ImageSearch

_ANY_OTHER = (
    "Any other Hugging Face vision checkpoint works by its name or folder:"
    " --model facebook/deit-small-patch16-224, --model path/to/checkpoint"
)

ToOptimize = Annotated[
    str | None,
    typer.Option(
        "--optimize",
        metavar="NAME_OR_FOLDER",
        help="Instead, prepare this model for this machine, so that later runs are faster: convert it for the"
        " runtimes that are installed (extras openvino, onnx), and keep what is faster than PyTorch.",
    ),
]

ListWords = Annotated[
    bool,
    typer.Option(
        "--words", help="Instead, list the words by which the configured model, or --model, finds pictures."
    ),
]
OfModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME_OR_FOLDER",
        help="With --words: of this model, not the configured one. With --push-to-hub: the folder to upload.",
    ),
]


Trained = Annotated[
    bool,
    typer.Option(
        "--trained",
        help="Only what 'imagesearch train' wrote, wherever it is, and what lies in the working directory; also as"
        " --json or --csv.",
    ),
]


@prints(csv=True)
def models(
    *,
    output: Format,
    trained: Trained = False,
    optimize: ToOptimize = None,
    words: ListWords = False,
    model: OfModel = None,
    push_to_hub: PushTo = None,
    public: Public = False,
) -> None:
    """List the models known by a short name, and those that were trained here."""
    if public and push_to_hub is None:
        raise WrongUsageError("--public goes with --push-to-hub")
    if push_to_hub is not None:
        if trained or words or optimize is not None or output is Format.CSV or model is None:
            raise WrongUsageError("--push-to-hub goes with --model FOLDER, --public and --json only")
        _push(model, push_to_hub, public, output)
        return
    if trained and (words or optimize is not None or model is not None):
        raise WrongUsageError("--trained lists models: leave out --words, --optimize and --model")
    if trained:
        _list_trained(output)
        return
    if model is not None and not words:
        raise WrongUsageError(
            "--model goes with --words or --push-to-hub; without them, 'imagesearch models' lists all presets"
        )
    if words:
        if output is Format.CSV or optimize is not None:
            raise WrongUsageError("--words goes with --model and --json only")
        _list_words(model, output)
        return
    if optimize is not None:
        if output is Format.CSV:
            raise WrongUsageError("--csv lists the models; --optimize goes with --json only")
        _optimize(optimize, output)
        return
    from imagesearch.models.catalogue import PRESETS
    from imagesearch.models.hub import is_here

    presets = [Preset(spec, is_here(spec.features)) for spec in PRESETS.values()]
    print_results(presets, output, partial(_show, presets), tuple(presets[0].to_dict()))


class Preset:
    """A model known by a short name, and whether its checkpoint is on this machine."""

    def __init__(self, spec: ModelSpec, here: bool) -> None:
        self.spec = spec
        self.here = here

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV."""
        from dataclasses import asdict

        return {**asdict(self.spec), "here": self.here}


class KnownWords:
    """What a model can be asked for; ``words`` is None for one that understands free text."""

    def __init__(self, model: str, words: Sequence[str] | None) -> None:
        self.model = model
        self.words = words

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        words = None if self.words is None else list(self.words)
        return {"model": self.model, "free_text": words is None, "words": words}


class Optimized:
    """For what there is something faster than PyTorch now; ``labels`` is None for a model that has none."""

    def __init__(self, model: str, features: bool, labels: bool | None) -> None:
        self.model = model
        self.features = features
        self.labels = labels

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"model": self.model, "features": self.features, "labels": self.labels}


def _show(presets: Sequence[Preset], out: Console) -> None:
    columns = {"preset": "left", "labels": "left", "here": "left", "parameters": "right", "download": "right"}
    print_table(out, columns | {"dim": "right", "licence": "fold", "good for": "fold"}, map(_row, presets))
    typer.echo(STARTER_NOTE)
    typer.echo(_ANY_OTHER)
    if own := trained_models():
        typer.echo()
        _show_trained(own, out)


class Uploaded:
    """A model that was uploaded, and where to."""

    def __init__(self, folder: str, address: str) -> None:
        self.folder = folder
        self.address = address

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"folder": self.folder, "address": self.address}


def _push(folder: str, repository: str, public: bool, output: Format) -> None:
    from imagesearch.models.publishing import publish

    note(f"uploading {folder}")
    with quiet_stdout():
        done = Uploaded(folder, publish(folder, repository, public=public))
    print_result(done, output, lambda out: print_line(out, ("uploaded to ", ""), (done.address, "bold")))


def _list_trained(output: Format) -> None:
    own = trained_models()
    if not own:
        note("nothing was trained yet: imagesearch train FOLDER")
    columns = tuple(field.name for field in fields(TrainedModel))
    print_results(own, output, partial(_show_trained, own), columns)


def _show_trained(own: Sequence[TrainedModel], out: Console) -> None:
    if not own:
        return
    columns = {"trained here": "fold", "from": "fold", "method": "left", "classes": "right", "pictures": "right"}
    rows = (
        (
            _as_typed(one.folder),
            _as_typed(one.base),
            one.method,
            f"{one.classes:,}",
            f"{one.pictures:,}",
            f"{one.accuracy:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
        )
        for one in own
    )
    print_table(out, columns | {"accuracy": "right", "95 %": "right"}, rows)


def _as_typed(folder: str) -> str:
    """What to type for it: below the working directory the rest of its path."""
    here = os.path.join(os.getcwd(), "")
    return f".{os.sep}{folder[len(here) :]}" if folder.startswith(here) else folder


def _row(preset: Preset) -> tuple[str, ...]:
    spec = preset.spec
    size = f"{spec.download_mb:,} MB" if spec.download_mb else "bundled"
    known = (spec.preset, "yes" if spec.labels else "no", "yes" if preset.here else "no")
    return (*known, f"{spec.parameters:g} M", size, str(spec.dim), spec.licence, spec.good_for)


def _list_words(model: str | None, output: Format) -> None:
    settings = load_settings(model=model)
    with opened(settings) as images:
        known = KnownWords(settings.model.name, images.networks.known_words())
    print_result(known, output, partial(_show_words, known))


def _show_words(known: KnownWords, out: Console) -> None:
    if known.words is None:
        print_line(out, (known.model, "bold"), (" understands free text: it can be asked for anything", ""))
        return
    for label in known.words:
        print_line(out, (label, ""))
    note(f"{known.model} knows {len(known.words):,} labels; commas separate names for one thing")


def _optimize(name: str, output: Format) -> None:
    settings = load_settings(model=name, classifier=name)
    with opened(settings) as images, ProgressDisplay() as progress:
        features = images.optimize(progress=progress)
        done = Optimized(name, features, _optimize_labels(images, name, progress))
    print_result(done, output, partial(_show_optimized, done))


def _optimize_labels(images: ImageSearch, name: str, progress: ProgressDisplay) -> bool | None:
    from imagesearch.models.catalogue import PRESETS

    if name in PRESETS and PRESETS[name].labels is None:
        return None
    try:
        return images.optimize(labels=True, progress=progress)
    except ModelError as error:
        if name in PRESETS:
            raise
        note(f"only its vectors are prepared: {error}")  # most checkpoints have no labels
        return None


def _show_optimized(done: Optimized, out: Console) -> None:
    for what, faster in (("vectors", done.features), ("labels", done.labels)):
        if faster is not None:
            text = "prepared for this machine" if faster else "PyTorch stays, as nothing installed here is faster"
            print_line(out, (f"{done.model}, {what}: ", "bold"), (text, ""))
