"""What pictures show, as far as somebody has said so: labels from folder names or from a CSV file."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from imagesearch.errors import UsageError
from imagesearch.models.trained import read_report
from imagesearch.records import ImageRecord
from imagesearch.search.vectors import indexed_names


def folder_labels(pictures: Sequence[ImageRecord]) -> list[str | None]:
    """For each picture the name of the folder right below its root that it lies in; None if it lies in the root.

    So ``root/cat/1.jpg`` and ``root/cat/2024/2.jpg`` are both of class ``cat``. Figures of a trained model that
    was written among the pictures are of none.
    """
    places = [(picture.root, os.path.dirname(picture.path)) for picture in pictures]
    found = {place: _folder_label(*place) for place in set(places)}
    return [found[place] for place in places]


def _folder_label(root: str, folder: str) -> str | None:
    if not root:
        return None
    parts = os.path.relpath(folder, root).split(os.sep)
    if parts[0] in (os.curdir, os.pardir):
        return None
    above = (Path(root, *parts[: depth + 1]) for depth in range(len(parts)))
    return None if any(map(read_report, above)) else parts[0]


def file_labels(file: str | os.PathLike[str], pictures: Sequence[ImageRecord]) -> list[str | None]:
    """For each picture its label in a CSV file of path and label; None if the file does not name it.

    Args:
        file: two columns; a header (``path,label``) is optional. Relative paths are relative to the file's folder.
        pictures: of a collection.

    Raises:
        UsageError: the file cannot be read, a line has no label, a picture has several, or it names none of the
            pictures.
    """
    named = _read_labels(file, pictures)
    found = [named.get(picture.path) for picture in pictures]
    if pictures and not any(label is not None for label in found):
        example = next(iter(named), "nothing")
        raise UsageError(
            f"{os.fspath(file)}: names none of the pictures of the collection"
            f" (it names {example!r}, the collection has {pictures[0].path!r})"
        )
    return found


def _read_labels(file: str | os.PathLike[str], pictures: Sequence[ImageRecord]) -> Mapping[str, str]:
    """The labels of a CSV file by path; see :func:`labelled_paths`.

    Raises:
        UsageError: see :func:`file_labels`; or it gives a picture several labels, which can be learnt from only.
    """
    named: dict[str, str] = {}
    for path, label in labelled_paths(file, pictures):
        if named.setdefault(path, label) != label:
            raise UsageError(
                f"{os.fspath(file)}: {path!r} is both {named[path]!r} and {label!r}; what is measured needs one"
                " label for each picture"
            )
    return named


def labelled_paths(file: str | os.PathLike[str], pictures: Sequence[ImageRecord]) -> list[tuple[str, str]]:
    """Absolute path and label of each line of a CSV file; of pictures as these have it, where links lead to them.

    Raises:
        UsageError: see :func:`file_labels`.
    """
    path = Path(file).expanduser()
    base, labelled = os.path.dirname(os.path.abspath(path)), []
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            for number, row in enumerate(csv.reader(lines), start=1):
                if not row or (number == 1 and [cell.strip().lower() for cell in row[:2]] == ["path", "label"]):
                    continue
                if len(row) < 2 or not row[0].strip() or not row[1].strip():
                    raise UsageError(
                        f"{path}, line {number}: expected a path and a label, found {','.join(row)!r}"
                    )
                whole = os.path.normpath(os.path.join(base, os.path.expanduser(row[0].strip())))
                labelled.append((whole, row[1].strip()))
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot read labels from {str(path)!r}: {reason.lower()}") from error
    there = {picture.path for picture in pictures}
    return [(_as_indexed(name, there), label) for name, label in labelled]


def _as_indexed(path: str, there: Collection[str]) -> str:
    return path if path in there else next((name for name in indexed_names(path) if name in there), path)
