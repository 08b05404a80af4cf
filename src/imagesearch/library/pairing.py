"""Which of several equal pictures a file was, before all of them were moved or renamed."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence

from imagesearch.records import ImageRecord

# Rows of files that are gone, by content and id.
Moved = dict[str, dict[int, ImageRecord]]


def by_content(files: Iterable[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """The files in their order, those of one content together."""
    groups: dict[str, list[ImageRecord]] = defaultdict(list)
    for file in files:
        groups[file.content_hash].append(file)
    return groups


def paired(files: Iterable[ImageRecord], rows: Moved) -> dict[tuple[int, str], ImageRecord]:
    """For each file a row of its own, as long as there are any: one whose path ends in most of the same names.

    Args:
        files: with content that was found.
        rows: those that are chosen are taken out.

    Returns:
        The chosen rows by the files' ids and contents.
    """
    chosen: dict[tuple[int, str], ImageRecord] = {}
    for content, group in by_content(files).items():
        if content in rows:
            chosen |= {(file.id, content): row for file, row in _pairs(group, rows[content])}
    return chosen


def _pairs(files: Sequence[ImageRecord], rows: dict[int, ImageRecord]) -> list[tuple[ImageRecord, ImageRecord]]:
    found: list[tuple[ImageRecord, ImageRecord]] = []
    rest = list(files)
    if len(rows) > 1:
        names = {record.path: record.path.split(os.sep) for record in (*files, *rows.values())}
        for count in range(max(map(len, names.values())), 0, -1):
            ends = {tuple(names[row.path][-count:]): key for key, row in rows.items()}
            left = []
            for file in rest:
                key = ends.pop(tuple(names[file.path][-count:]), None)
                if key is None:
                    left.append(file)
                else:
                    found.append((file, rows.pop(key)))
            rest = left
    return found + [(file, rows.pop(key)) for file, key in zip(rest, list(rows), strict=False)]
