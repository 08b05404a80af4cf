"""Pictures with all their labels, to learn from: one each from class folders, one or several from a CSV file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.labels import folder_labels, labelled_paths
from imagesearch.records import ImageRecord
from imagesearch.stores.base import Vectors

# bool, shape (pictures, classes): which labels each picture has.
Membership: TypeAlias = "NDArray[np.bool_]"


@dataclass(frozen=True, eq=False, slots=True)
class LabelledPictures:
    """Pictures that have labels, each at least one.

    Attributes:
        pictures: n of them.
        vectors: theirs, float32, shape (n, dim).
        names: of the classes, sorted.
        members: which labels each has, bool, shape (n, classes).
        unlabelled: how many pictures were left out because nobody says what they show.
        missing: paths that a file of labels names, but no picture that could be read has.
    """

    pictures: list[ImageRecord]
    vectors: Vectors
    names: list[str]
    members: Membership
    unlabelled: int = 0
    missing: tuple[str, ...] = ()

    @property
    def is_multi_label(self) -> bool:
        """Whether some picture has several labels."""
        return bool((self.members.sum(axis=1) > 1).any())

    @property
    def codes(self) -> NDArray[np.int64]:
        """The number of each picture's class (of several the first), shape (n,)."""
        return np.asarray(self.members.argmax(axis=1), np.int64)


def label_pictures(
    pictures: Sequence[ImageRecord], vectors: Vectors, file: str | os.PathLike[str] | None = None
) -> LabelledPictures:
    """Bring pictures together with their labels.

    Args:
        pictures: all that there are.
        vectors: theirs, float32, shape (number of pictures, dim).
        file: a CSV file of path and label, where a picture with several labels has several lines; default: the
            names of class folders.

    Raises:
        UsageError: there are fewer than two classes, or none of them has two pictures; or the file cannot be read,
            or names none of the pictures.
    """
    sets: list[tuple[str, ...]]
    missing: tuple[str, ...] = ()
    if file is None:
        sets = [() if label is None else (label,) for label in folder_labels(pictures)]
    else:
        sets, missing = _sets_of_file(pictures, file)
    names = sorted({label for labels in sets for label in labels})
    numbers = {name: number for number, name in enumerate(names)}
    known = [place for place, labels in enumerate(sets) if labels]
    members = np.zeros((len(known), len(names)), bool)
    for row, place in enumerate(known):
        members[row, [numbers[label] for label in sets[place]]] = True
    _require_classes(names, members, file)
    left_out = len(pictures) - len(known)
    return LabelledPictures(
        [pictures[place] for place in known], vectors[known], names, members, left_out, missing
    )


def _sets_of_file(
    pictures: Sequence[ImageRecord], file: str | os.PathLike[str]
) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of each picture, and paths of the file that are none of them."""
    named: dict[str, dict[str, None]] = {}
    for path, label in labelled_paths(file, pictures):
        named.setdefault(path, {})[label] = None
    paths = {picture.path for picture in pictures}
    missing = tuple(path for path in named if path not in paths)
    if len(missing) == len(named):
        example = f"it names {missing[0]!r}" if missing else "it is empty"
        raise UsageError(f"{os.fspath(file)}: names none of the pictures that were found ({example})")
    return [tuple(named.get(picture.path, ())) for picture in pictures], missing


def _require_classes(names: Sequence[str], members: Membership, file: str | os.PathLike[str] | None) -> None:
    source = "the names of sub-folders" if file is None else os.fspath(file)
    if len(names) < 2:
        found = f"only {names[0]!r}" if names else "none"
        raise UsageError(
            f"labels from {source}: {found}, and at least two are needed; give a folder of class folders, or"
            " --labels FILE.csv"
        )
    if members.sum(axis=0).max() < 2:
        raise UsageError(f"labels from {source}: every class has a single picture; at least one needs two or more")
