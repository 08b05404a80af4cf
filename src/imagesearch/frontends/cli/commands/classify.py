"""``imagesearch classify``: label pictures and folders of them, one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.frontends.cli.flags import COMPUTING
from imagesearch.frontends.cli.options import (
    FigureRequest,
    draws_figure,
    opened,
    opened_or_served,
    prints,
    settings_from,
)
from imagesearch.frontends.cli.output import Format, note, print_line, print_results
from imagesearch.frontends.cli.process import FAILED
from imagesearch.frontends.cli.progress import ProgressDisplay

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.options import Library
    from imagesearch.images.find import Selection
    from imagesearch.records import Prediction, Skipped

# Labelling more pictures than this takes longer than loading the network for it.
_FEW = 16

Pictures = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.", show_default=False)
]
Top = Annotated[
    int, typer.Option("-k", "--top", "--top-k", metavar="N", min=1, help="Number of labels per picture.")
]


@prints(csv=True)
@draws_figure
@settings_from("classifier", *COMPUTING, "batch_size")
def classify(*, settings: Config, output: Format, figure: FigureRequest, pictures: Pictures, top: Top = 5) -> None:
    """Tell what is in pictures: the most probable labels of each."""
    from imagesearch.frontends.figures import MAX_DRAWN, default_name, labels_figure

    stdout = sys.stdout
    note_labels(settings)
    with _labelling(settings, pictures) as images:
        keep = MAX_DRAWN if figure.is_wanted else 0
        # Lines on the terminal are progress enough, and would run through a bar.
        labels = Labels(images, pictures, top, keep=keep, progress=not stdout.isatty())
        columns = ("path", "rank", "label", "score")
        print_results(labels, output, labels.show, columns, rows_of=LabelledPicture.rows, stream=stdout)
    if figure.is_wanted:
        drawn = labels_figure([(found.path, found.result) for found in labels.first], settings.data.max_megapixels)
        figure.deliver(drawn, default_name("classify", pictures[0]))
    if labels.failed:
        raise typer.Exit(FAILED)


def _labelling(settings: Config, pictures: Sequence[str]) -> contextlib.AbstractContextManager[Library]:
    """A running server where there are few pictures; more are labelled here as quickly, without sending them."""
    from imagesearch.serving_file import LABELLING

    are_few = len(pictures) <= _FEW and not any(os.path.isdir(os.path.expanduser(path)) for path in pictures)
    return opened_or_served(settings, LABELLING) if are_few else opened(settings)


def note_labels(settings: Config) -> None:
    """Say that the bundled model knows few labels, where it is what classifies."""
    from imagesearch.models.catalogue import labels_checkpoint

    if labels_checkpoint(settings.model.name, settings.model.classifier) == labels_checkpoint("starter", None):
        note("starter, the bundled model, knows 200 labels; --model vit (346 MB, downloaded once) knows 1,000")


class LabelledPicture:
    """A picture's labels, most probable first, or why there are none."""

    def __init__(self, path: str, result: list[Prediction] | Skipped) -> None:
        self.path = path
        self.result = result

    @property
    def predictions(self) -> list[Prediction]:
        """The labels; none of a picture that could not be read."""
        return self.result if isinstance(self.result, list) else []

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``predictions``, or ``error`` in their place."""
        if isinstance(self.result, list):
            return {"path": self.path, "predictions": [prediction.to_dict() for prediction in self.result]}
        return {"path": self.path, "error": self.result.reason}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per label."""
        for rank, prediction in enumerate(self.predictions, start=1):
            yield {"path": self.path, "rank": rank, **prediction.to_dict()}


class Labels:
    """The labels of pictures, in order, made while they are iterated over, so that memory does not grow with them.

    What cannot be read is reported on stderr.

    Attributes:
        first: the first ones.
        failed: whether any of them could not be read.
    """

    def __init__(self, images: Library, arguments: Sequence[str], top: int, *, keep: int, progress: bool) -> None:
        """Nothing happens yet.

        Args:
            arguments: pictures, or folders of them.
            top: number of labels per picture.
            keep: how many results to remember.
            progress: whether a bar on stderr shows it.
        """
        self._images, self._arguments, self._top = images, arguments, top
        self._keep, self._shows_progress = keep, progress
        self.first: list[LabelledPicture] = []
        self.failed = False

    def __iter__(self) -> Iterator[LabelledPicture]:
        """See the class.

        Raises:
            ImageSearchError: the model cannot be used.
        """
        for path, result in self._label():
            found = LabelledPicture(path, result)
            if len(self.first) < self._keep:
                self.first.append(found)
            if not isinstance(result, list):
                self.failed = True
                note(f"imagesearch: error: {path}: {result.reason}")
            yield found

    def show(self, out: Console) -> None:
        """Print a block of lines for each picture that could be read."""
        for found in self:
            if found.predictions:
                print_line(out, (found.path, "bold"))
            for prediction in found.predictions:
                print_line(out, (f"  {prediction.score:6.1%}  ", "cyan"), (prediction.label, ""))

    def _label(self) -> Iterator[tuple[str, list[Prediction] | Skipped]]:
        from imagesearch.records import Skipped, no_progress

        files: list[str] = []
        for argument in self._arguments:
            found = _pictures_in(argument, self._images.config.selection)
            files += found
            if not found:
                yield argument, Skipped(argument, "no pictures in this folder")
        with ProgressDisplay() if self._shows_progress else contextlib.nullcontext(no_progress) as progress:
            self._images.networks.optimize_for(len(files), "labels", progress)
            for done, (source, result) in enumerate(self._images.classify_all(files, self._top), start=1):
                assert isinstance(source, (str, os.PathLike))
                yield os.fspath(source), result
                progress("classify", done, len(files))


def _pictures_in(path: str, selection: Selection) -> list[str]:
    """A picture itself, or the pictures of a folder."""
    from imagesearch.images.find import find_pictures

    path = os.path.expanduser(path)
    return list(find_pictures(path, selection)) if os.path.isdir(path) else [path]
