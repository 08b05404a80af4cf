"""The flags of ``imagesearch classify`` that say which labels there are, and what becomes of the pictures."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from imagesearch.frontends.cli.options import Command, extended, parameter
from imagesearch.frontends.cli.output import note
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from types import TracebackType

    from imagesearch.labelling import Labelling
    from imagesearch.records import Prediction

_WHICH = "Which labels"
_FILING = "What becomes of the pictures"


class WhichLabels(NamedTuple):
    """Which labels pictures may get; fields as in :class:`imagesearch.search.labels.LabelOptions`."""

    labels: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    nearest: bool = False
    by: str = "folder"
    neighbours: int = 40
    threshold: float = 0.0

    @property
    def changed(self) -> dict[str, Any]:
        """The fields that are not as they are by default."""
        defaults = WhichLabels()._asdict()
        return {name: value for name, value in self._asdict().items() if value != defaults[name]}


def chooses_labels(command: Command) -> Command:
    """Add ``--labels``, ``--knn`` and the like; the command gets ``which``, a :class:`WhichLabels`."""

    @functools.wraps(command)
    def run(
        *,
        labels: str | None,
        template: list[str] | None,
        knn: bool,
        by: str | None,
        neighbours: int | None,
        threshold: float,
        **given: Any,
    ) -> None:
        if (by is not None or neighbours is not None) and not knn:
            raise WrongUsageError("--by and --neighbours are for --knn")
        candidates: tuple[str, ...] = ()
        if labels is not None:
            from imagesearch.search.labels import read_candidates

            candidates = read_candidates(labels)
        usual = WhichLabels()
        which = WhichLabels(
            candidates, tuple(template or ()), knn, by or usual.by, neighbours or usual.neighbours, threshold
        )
        command(which=which, **given)

    return extended(run, command, "which", _label_parameters())


def _label_parameters() -> list[Any]:
    def option(default: Any, name: str, text: str, metavar: str | None = None, **more: Any) -> Any:
        more = {"show_default": bool(default), **more}
        return typer.Option(default, name, help=text, metavar=metavar, rich_help_panel=_WHICH, **more)

    labels = (
        "Labels to choose from: 'cat,dog,red car', or a file with one per line. Any words with a model that has a"
        " text tower (--model clip), else words that the model knows ('imagesearch models --words')."
    )
    template = (
        "For --labels with a text tower: a sentence with {} in the label's place. Repeatable: their vectors are"
        " averaged. Default: seven that suit noun phrases."
    )
    nearest = (
        "Take the labels of the nearest annotated pictures of the collection (--collection, --uri; --model is the"
        " model of its vectors)."
    )
    by = (
        "For --knn: where their labels stand, a column of 'imagesearch annotate', or folder: the sub-folder of the"
        " indexed folder. Default: folder."
    )
    number = "For --knn: how many vote. Default: 40."
    least = "Leave out labels less probable than this."
    return [
        parameter("labels", str | None, option(None, "--labels", labels, "LABELS")),
        parameter("template", list[str] | None, option(None, "--template", template, "SENTENCE")),
        parameter("knn", bool, option(False, "--knn", nearest)),
        parameter("by", str | None, option(None, "--by", by, "COLUMN")),
        parameter("neighbours", int | None, option(None, "--neighbours", number, "N", min=1)),
        parameter("threshold", float, option(0.0, "--threshold", least, "P", min=0.0, max=1.0)),
    ]


class FilingRequest(NamedTuple):
    """What is to become of labelled pictures.

    Attributes:
        store: write labels into the collection.
        into: the folder to sort them into, if any.
        how: ``"copy"``, ``"link"`` or ``"move"``.
    """

    store: bool = False
    into: str | None = None
    how: str = "copy"

    @property
    def is_wanted(self) -> bool:
        """Whether anything is."""
        return self.store or self.into is not None


def files_pictures(command: Command) -> Command:
    """Add ``--store``, ``--sort-into`` and the like; the command gets ``filing``, a :class:`FilingRequest`."""

    @functools.wraps(command)
    def run(*, store: bool, sort_into: str | None, link: bool, move: bool, **given: Any) -> None:
        if (link or move) and sort_into is None:
            raise WrongUsageError("--link and --move are for --sort-into DIR")
        if sort_into == "":  # such as an unset variable, and not the working directory
            raise WrongUsageError("--sort-into: the name of the folder is empty")
        if link and move:
            raise WrongUsageError("--link and --move exclude each other")
        command(filing=FilingRequest(store, sort_into, "link" if link else "move" if move else "copy"), **given)

    return extended(run, command, "filing", _filing_parameters())


def _filing_parameters() -> list[Any]:
    def option(default: Any, name: str, text: str, **more: Any) -> Any:
        return typer.Option(default, name, help=text, rich_help_panel=_FILING, **more)

    store = (
        "Write the label of pictures that are indexed into the collection, as label and label_score, so that"
        " search --filter 'label == \"dog\"' finds them. Labels that somebody gave them stay."
    )
    into = (
        "Copy pictures into sub-folders of DIR named after their labels; those without one of --threshold into"
        " 'unsure'. Nothing is overwritten, and --undo takes it back."
    )
    return [
        parameter("store", bool, option(False, "--store", store)),
        parameter("sort_into", str | None, option(None, "--sort-into", into, metavar="DIR")),
        parameter("link", bool, option(False, "--link", "For --sort-into: link them instead.")),
        parameter("move", bool, option(False, "--move", "For --sort-into: move them instead.")),
    ]


_DONE = {"copy": "copied", "link": "linked", "move": "moved"}


class Filing:
    """Stores and sorts pictures as they are labelled, and says on stderr what was done; a context manager.

    Attributes:
        failed: whether a picture could not be filed.
    """

    def __init__(self, request: FilingRequest, labelling: Labelling) -> None:
        """Nothing is written yet.

        Raises:
            ImageSearchError: labels cannot be stored.
        """
        from imagesearch.library.sorting import Sorter

        self._request, self._labelling = request, labelling
        self._store = labelling.store() if request.store else None
        self._sorter = Sorter(request.into, request.how) if request.into is not None else None  # type: ignore[arg-type]
        self._filed = self._there = 0
        self.failed = False

    def take(self, path: str, predictions: list[Prediction]) -> str | None:
        """Store and sort a picture by its first label.

        Returns:
            Where it was put, if anywhere.

        Raises:
            ImageSearchError: the folder or the database cannot be written.
        """
        first = predictions[0] if predictions else None
        if self._store is not None:
            self._store.add(self._labelling.keys_of(path), first)
        if self._sorter is None:
            return None
        filed = self._sorter.file(path, first.label if first else None)
        if filed.target is None:
            self.failed = True
            note(f"{path}: {filed.problem}")
        elif filed.problem:
            self._there += 1
        else:
            self._filed += 1
        return filed.target

    def __enter__(self) -> Filing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sorter is not None:
            self._sorter.__exit__(kind, error, trace)
            into = os.path.abspath(os.path.expanduser(str(self._request.into)))
            if self._there:
                note(f"{counted(self._there, 'picture')} {'is' if self._there == 1 else 'are'} in {into} already")
            if self._sorter.undo_file is not None:
                note(f"{counted(self._filed, 'picture')} {_DONE[self._request.how]} to {into}")
                note(f"to take it back: imagesearch classify --undo {self._sorter.undo_file}")
        if self._store is not None:
            self._store.__exit__(kind, error, trace)
            self._note_stored()

    def _note_stored(self) -> None:
        assert self._store is not None
        report = self._store.report
        note(f"label of {counted(report.stored, 'picture')} stored in collection {report.collection}")
        if report.cleared:
            note(f"{counted(report.cleared, 'picture')} lost an earlier label, as none is sure enough now")
        if report.kept:
            note(f"{counted(report.kept, 'picture')} keep the label that somebody gave them")
        if report.missing:
            note(f"{counted(report.missing, 'picture')} not in the collection: index them to store their labels")
