"""Labels that a person gave to pictures of a collection, kept by content: files with equal bytes share one.

They are in the column ``label`` of the pictures' annotations. One with a ``label_score`` is a model's, and is none
here.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesearch.errors import StoreLockedError, UsageError
from imagesearch.library.annotations import with_annotations
from imagesearch.library.exclusive import changing
from imagesearch.library.stored_labels import LABEL, SCORE
from imagesearch.records import ImageRecord, parse_annotations
from imagesearch.stores.base import Collection
from imagesearch.stores.columns import ID

_LONGEST_LABEL = 200
# How long another process may hold the database, in seconds.
_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Content:
    """A content that one or several files have.

    Attributes:
        ids: of the files, in the collection.
        path: of the first of them.
        label: that a person gave; None if nobody did.
    """

    ids: tuple[int, ...]
    path: str
    label: str | None


def read_contents(collection: Collection, is_wanted: Callable[[str], bool]) -> dict[int, Content]:
    """The contents of a collection, by the id of the first file that is wanted; those without one are left out.

    Args:
        is_wanted: told the path of a file.

    Raises:
        StoreError: the database fails.
    """
    files: dict[object, list[tuple[str, int, str | None]]] = {}
    for columns in collection.scan_columns([ID, "path", "content_hash", "annotations"]):
        rows = zip(*(columns[name] for name in (ID, "path", "content_hash", "annotations")), strict=True)
        for key, path, digest, text in rows:
            label = given_label(parse_annotations(text)) if text else None
            files.setdefault(digest or int(key), []).append((path, int(key), label))
    found: dict[int, Content] = {}
    for own in map(sorted, files.values()):
        inside = [(path, key) for path, key, _ in own if is_wanted(path)]
        if inside:
            label = next((label for _, _, label in own if label is not None), None)
            found[inside[0][1]] = Content(tuple(key for _, key, _ in own), inside[0][0], label)
    return found


def change(
    collection: Collection, keys: Sequence[int], changed: Callable[[ImageRecord], ImageRecord]
) -> dict[int, dict[str, Any]]:
    """Change rows as they are now; returns their annotations before.

    Raises:
        UsageError: none of them is there any more.
        StoreError: the database fails.
    """
    with changing(collection):
        records, vectors = collection.fetch(list(keys))
        if not records:
            raise UsageError("this picture is not in the collection any more")
        collection.upsert([changed(record) for record in records], vectors)
    return {record.id: parse_annotations(record.annotations) for record in records}


def tidy_label(label: str) -> str:
    """A label without superfluous blanks, and with its accents within the letters (Unicode's NFC).

    Raises:
        UsageError: it is empty, too long, or has control characters.
    """
    tidy = _composed(" ".join(label.split()))
    if not tidy or len(tidy) > _LONGEST_LABEL or not tidy.isprintable():
        raise UsageError(f"{label[:80]!r} cannot be a label: it has 1 to {_LONGEST_LABEL} printable characters")
    return tidy


def given_label(annotations: Mapping[str, Any]) -> str | None:
    """The label that a person gave; None if there is none, or only one of a model."""
    label = annotations.get(LABEL)
    return None if label is None or SCORE in annotations or not str(label).strip() else _composed(str(label))


def _composed(label: str) -> str:
    return unicodedata.normalize("NFC", label)


def labelled(record: ImageRecord, label: str) -> ImageRecord:
    """The record with a label of a person, in place of any other."""
    return with_annotations(record, {LABEL: label}, without=(SCORE,))


def restored(record: ImageRecord, label: str, former: Mapping[str, Any]) -> ImageRecord:
    """The record with the label that it had, if it still has the one that was given since.

    Args:
        label: that one.
        former: its annotations before.
    """
    if given_label(parse_annotations(record.annotations)) != label:
        return record
    before = {name: former[name] for name in (LABEL, SCORE) if name in former}
    return with_annotations(record, before, without=(LABEL, SCORE))


def patiently(open_collection: Callable[[], Collection]) -> Collection:
    """Wait while another process holds the database for a moment.

    Raises:
        StoreLockedError: it does not let go.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return open_collection()
        except StoreLockedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
