"""``imagesearch classify``: label pictures and folders of them, one after the other."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imagesearch.frontends.cli.flags import COMPUTING
from imagesearch.frontends.cli.labelling_options import (
    Filing,
    FilingRequest,
    WhichLabels,
    chooses_labels,
    files_pictures,
)
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
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.options import Library
    from imagesearch.images.find import Selection
    from imagesearch.images.sources import ImageSource
    from imagesearch.records import Prediction, Progress, Skipped

# Labelling more pictures than this takes longer than loading the network for it.
_FEW = 16

Pictures = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them.", show_default=False),
]
Top = Annotated[
    int, typer.Option("-k", "--top", "--top-k", metavar="N", min=1, help="Number of labels per picture.")
]
Evaluate = Annotated[
    bool,
    typer.Option(
        "--evaluate",
        help="Label folders whose sub-folders are named after classes, and tell how many labels are right, and how"
        " true their scores are.",
    ),
]
Undo = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Take back what an earlier --sort-into did; FILE is the one that it named."),
]


@prints(csv=True)
@draws_figure
@chooses_labels
@files_pictures
@settings_from("classifier", "collection", "uri", *COMPUTING, "batch_size")
def classify(
    *,
    settings: Config,
    output: Format,
    figure: FigureRequest,
    which: WhichLabels,
    filing: FilingRequest,
    pictures: Pictures = None,
    top: Top = 5,
    evaluate: Evaluate = False,
    undo: Undo = None,
) -> None:
    """Tell what is in pictures: the most probable labels of each."""
    from imagesearch.frontends.figures import MAX_DRAWN, default_name, labels_figure

    _require_sense(pictures, figure, which, filing, evaluate=evaluate, undo=undo)
    if output is Format.CSV and (evaluate or undo is not None):
        raise WrongUsageError("--csv lists labels: --evaluate and --undo go with --json only")
    if undo is not None:
        _take_back(undo, output)
        return
    assert pictures
    settings = _of_vectors(settings) if which.nearest else settings
    if evaluate:
        _evaluate(settings, pictures, which, output)
        return
    stdout = sys.stdout
    if not which.changed.keys() & {"labels", "nearest"}:
        note_labels(settings)
    with _labelling(settings, pictures, which, filing) as images, _filing(filing, images) as place:
        keep = MAX_DRAWN if figure.is_wanted else 0
        # Lines on the terminal are progress enough, and would run through a bar.
        labels = Labels(images, pictures, top, which, place, keep=keep, progress=not stdout.isatty())
        columns = ("path", "rank", "label", "score")
        print_results(labels, output, labels.show, columns, rows_of=LabelledPicture.rows, stream=stdout)
    if figure.is_wanted:
        drawn = labels_figure([(found.path, found.result) for found in labels.first], settings.data.max_megapixels)
        figure.deliver(drawn, default_name("classify", pictures[0]))
    if labels.failed or (place is not None and place.failed):
        raise typer.Exit(FAILED)


def _require_sense(
    pictures: Sequence[str] | None,
    figure: FigureRequest,
    which: WhichLabels,
    filing: FilingRequest,
    *,
    evaluate: bool,
    undo: str | None,
) -> None:
    """
    Raises:
        WrongUsageError: flags that do not go together, or nothing to label.
    """
    if undo is not None and (pictures or evaluate or which.changed or filing.is_wanted or figure.is_wanted):
        raise WrongUsageError("--undo FILE stands alone: it takes back what an earlier --sort-into did")
    if undo is None and not pictures:
        raise WrongUsageError("name the pictures, or folders of them, that are to be labelled")
    if evaluate and (filing.is_wanted or figure.is_wanted):
        raise WrongUsageError("--evaluate only measures: leave out --store, --sort-into and figures")
    if filing.store and which.nearest and which.by == "label":
        raise WrongUsageError("--store would write into the column that --by label learns from: name another one")


def _of_vectors(settings: Config) -> Config:
    """With ``--knn``, ``--model`` is the model of the collection's vectors."""
    from imagesearch.evaluating import with_model

    named = settings.model.classifier
    is_flag = settings.source_of("model.classifier").startswith("flag")
    return with_model(settings, named) if named is not None and is_flag else settings


def _take_back(file: str, output: Format) -> None:
    from imagesearch.frontends.cli.label_reports import print_undone
    from imagesearch.library.undo_file import undo

    report = undo(file)
    print_undone(report, output)
    if report.kept:
        raise typer.Exit(FAILED)


def _evaluate(settings: Config, folders: Sequence[str], which: WhichLabels, output: Format) -> None:
    from imagesearch.frontends.cli.label_reports import print_quality
    from imagesearch.search.labels import LabelOptions

    with opened(settings) as images, ProgressDisplay() as progress:
        found = images.labelling.evaluate(folders, LabelOptions(**which.changed), progress)
    print_quality(found, output)


@contextlib.contextmanager
def _filing(request: FilingRequest, images: Library) -> Iterator[Filing | None]:
    """What stores and sorts pictures; None if nothing is to become of them."""
    if not request.is_wanted:
        yield None
        return
    from imagesearch.service import ImageSearch

    assert isinstance(images, ImageSearch)  # see _labelling
    with Filing(request, images.labelling) as place:
        yield place


def _labelling(
    settings: Config, pictures: Sequence[str], which: WhichLabels, filing: FilingRequest
) -> contextlib.AbstractContextManager[Library]:
    """A running server where there are few pictures; more are labelled here as quickly, without sending them."""
    from imagesearch.serving_file import LABELLING

    if which.changed or filing.is_wanted:  # of which servers know nothing
        return opened(settings)
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
        self.filed: str | None = None

    @property
    def predictions(self) -> list[Prediction]:
        """The labels; none of a picture that could not be read."""
        return self.result if isinstance(self.result, list) else []

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: ``predictions``, or ``error`` in their place."""
        if isinstance(self.result, list):
            found = {"path": self.path, "predictions": [prediction.to_dict() for prediction in self.result]}
            return found if self.filed is None else {**found, "filed": self.filed}
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

    def __init__(
        self,
        images: Library,
        arguments: Sequence[str],
        top: int,
        which: WhichLabels,
        place: Filing | None,
        *,
        keep: int,
        progress: bool,
    ) -> None:
        """Nothing happens yet.

        Args:
            arguments: pictures, or folders of them.
            top: number of labels per picture.
            which: which ones they may be.
            place: what stores and sorts them, if anything.
            keep: how many results to remember.
            progress: whether a bar on stderr shows it.
        """
        self._images, self._arguments, self._top = images, arguments, top
        self._which, self._place = which, place
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
            elif self._place is not None:
                found.filed = self._place.take(path, result)
            yield found

    def show(self, out: Console) -> None:
        """Print a block of lines for each picture that could be read."""
        for found in self:
            if isinstance(found.result, list):
                print_line(out, (found.path, "bold"))
                if not found.result:
                    print_line(out, (f"  no label of at least {self._which.threshold:.0%}", "dim"))
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
            for done, (source, result) in enumerate(self._results(files, progress), start=1):
                assert isinstance(source, (str, os.PathLike))
                yield os.fspath(source), result
                progress("classify", done, len(files))

    def _results(
        self, files: Sequence[str], progress: Progress
    ) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
        from imagesearch.search.labels import LabelOptions
        from imagesearch.service import ImageSearch

        if self._which.changed:
            assert isinstance(self._images, ImageSearch)  # see _labelling
            options = LabelOptions(**self._which.changed)
            self._images.labelling.prepare(len(files), options, progress)
            return self._images.labelling.label(files, self._top, options)
        self._images.networks.optimize_for(len(files), "labels", progress)
        return self._images.classify_all(files, self._top)


def _pictures_in(path: str, selection: Selection) -> list[str]:
    """A picture itself, or the pictures of a folder."""
    from imagesearch.images.find import find_pictures

    path = os.path.expanduser(path)
    return list(find_pictures(path, selection)) if os.path.isdir(path) else [path]
