"""Columns of one's own, joined to the pictures of a collection from a table: labels, ratings, people, anything.

They are kept with the rows, as one text column of JSON: every engine can hold it, whatever columns somebody has.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from imagesearch.errors import UsageError
from imagesearch.images.find import reason_of
from imagesearch.library.exclusive import changing
from imagesearch.records import ImageRecord, Progress, no_progress, parse_annotations
from imagesearch.reports import AnnotateReport
from imagesearch.stores.base import Collection
from imagesearch.stores.columns import BY_NAME, ID

Value = str | int | float | bool
Row = dict[str, Value]

# How rows of a table find their pictures.
JOINS = ("path", "name", "content_hash")
# A picture's columns together, in bytes of JSON: what Milvus takes.
MOST_BYTES = BY_NAME["annotations"].max_bytes
_MOST_COLUMNS = 200
_ROWS_PER_WRITE = 500
_INTEGER = re.compile(r"[+-]?\d+")
# What expressions take for something else than a column.
_WORDS = frozenset({"and", "or", "not", "in", "like", "is", "null", "exists", "iso", "interval", "true", "false"})
# Integers that filters can compare are between these. Longer ones, such as perceptual hashes, are kept as text:
# floating point would lose their last digits.
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_MOST_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Annotations:
    """A table that was read.

    Attributes:
        file: where it came from, absolute.
        rows: what identifies a picture -> its values, without those that are empty.
        columns: names of the columns.
    """

    file: str
    rows: Mapping[str, Row]
    columns: tuple[str, ...]


def annotate(
    collection: Collection, table: Annotations, on: str = "path", progress: Progress = no_progress
) -> AnnotateReport:
    """Join a table to the pictures of a collection; values that pictures have in other columns stay.

    Args:
        on: ``"path"``: the table has paths, absolute, or relative to the table's folder or to an indexed folder;
            ``"name"``: names of files, of which all pictures of that name get the values; ``"content_hash"``.

    Raises:
        UsageError: the collection cannot hold annotations, or a picture would have too many.
        StoreError: the database fails; what was written stays.
    """
    require_annotations(collection)
    keys = _KEYS[on](table.file)
    linked = _without_links(table.rows) if on == "path" else {}
    used: set[str] = set()
    found: list[tuple[int, Row]] = []
    for records in collection.scan():
        for record in records:
            key = next((key for key in keys(record) if key in table.rows), linked.get(record.path))
            if key is not None:
                used.add(key)
                found.append((record.id, table.rows[key]))
    _write(collection, found, progress)
    return AnnotateReport(
        collection.spec.name, len(found), tuple(key for key in table.rows if key not in used), table.columns
    )


def require_annotations(collection: Collection) -> None:
    """Make sure that a collection can hold annotations.

    Raises:
        UsageError: it cannot.
    """
    if "annotations" in collection.info().missing_columns:
        name = collection.spec.name
        raise UsageError(
            f"collection {name!r} was made by an earlier version and cannot hold annotations: 'imagesearch copy"
            f" {name} NEW' makes one that can"
        )


def _write(collection: Collection, found: Sequence[tuple[int, Row]], progress: Progress) -> None:
    values, done = dict(found), 0
    ids = iter(values)
    while part := list(islice(ids, _ROWS_PER_WRITE)):
        with changing(collection):
            records, vectors = collection.fetch(part)
            collection.upsert([with_annotations(record, values[record.id]) for record in records], vectors)
        done += len(part)
        progress("annotate", done, len(values))
    if not collection.index_is_current():
        collection.build_index(progress)


def with_annotations(record: ImageRecord, values: Mapping[str, Any], without: Sequence[str] = ()) -> ImageRecord:
    """The record with these values besides those that it has.

    Args:
        without: names of values that it loses.

    Raises:
        UsageError: together they are too long.
    """
    there = {name: value for name, value in parse_annotations(record.annotations).items() if name not in without}
    text = json.dumps({**there, **values}, ensure_ascii=False, sort_keys=True)
    if len(text.encode()) > MOST_BYTES:
        raise UsageError(f"{record.path}: its annotations would have more than {MOST_BYTES:,} bytes")
    return replace(record, annotations=text)


# --- which row belongs to which picture ---


def _by_path(file: str) -> Callable[[ImageRecord], Iterator[str]]:
    folder = os.path.dirname(file)

    def keys(record: ImageRecord) -> Iterator[str]:
        yield record.path
        for base in (folder, record.root):
            if base and record.path.startswith(base.rstrip(os.sep) + os.sep):
                yield os.path.relpath(record.path, base)

    return keys


def _without_links(rows: Iterable[str]) -> dict[str, str]:
    """Absolute paths that lead through links: as indexing knows them -> as they stand in the table."""
    real = lru_cache(maxsize=None)(os.path.realpath)
    named: dict[str, str] = {}
    for path in rows:
        folder, name = os.path.split(path)
        if os.path.isabs(path) and "\0" not in path and real(folder) != folder:
            named[os.path.join(real(folder), name)] = path
    return named


def _by_name(_: str) -> Callable[[ImageRecord], Iterator[str]]:
    return lambda record: iter((os.path.basename(record.path),))


def _by_content(_: str) -> Callable[[ImageRecord], Iterator[str]]:
    return lambda record: iter((record.content_hash,))


_KEYS = {"path": _by_path, "name": _by_name, "content_hash": _by_content}


# --- reading tables ---


def read_annotations(file: str | os.PathLike[str] | Annotations, on: str = "path") -> Annotations:
    """Read a CSV file with a header, or a Parquet file.

    Args:
        file: which one; or one that was read already, which comes back.
        on: the column that identifies pictures; see :func:`annotate`.

    Raises:
        UsageError: it cannot be read, lacks that column, or its columns cannot be kept.
    """
    if on not in JOINS:
        raise UsageError(f"on = {on!r}: must be {', '.join(JOINS)}")
    if isinstance(file, Annotations):
        return file
    file = os.fsdecode(file)
    place = os.path.realpath(os.path.expanduser(file))
    columns = _read_parquet(place) if place.lower().endswith(".parquet") else _read_csv(place)
    if on not in columns:
        raise UsageError(f"{file}: has no column {on!r} (columns: {', '.join(columns) or 'none'})")
    keys = columns.pop(on)
    names = {name: _column_name(file, name) for name in columns}
    if twice := next((name for name, count in Counter(names.values()).items() if count > 1), None):
        raise UsageError(f"{file}: more than one column would be called {twice!r}; rename all but one")
    if len(names) > _MOST_COLUMNS:
        raise UsageError(f"{file}: has {len(names)} columns; at most {_MOST_COLUMNS} can be kept")
    rows: dict[str, Row] = {}
    for number, key in enumerate(keys):
        values = {names[name]: value for name in columns if (value := columns[name][number]) is not None}
        if key is not None and values:
            rows[_path_of(str(key), place) if on == "path" else str(key)] = values
    if not rows:
        raise UsageError(f"{file}: has no values to join")
    return Annotations(place, rows, tuple(names.values()))


def _path_of(key: str, table: str) -> str:
    """A path in a table; one that leads out of the table's folder is made absolute."""
    path = os.path.normpath(key)
    outside = path == os.pardir or path.startswith(os.pardir + os.sep)
    return os.path.normpath(os.path.join(os.path.dirname(table), path)) if outside else path


def _column_name(file: str, name: str) -> str:
    """A name that expressions can refer to.

    Raises:
        UsageError: nothing is left of it, or it is that of a column of our own, or a word of the expressions.
    """
    tidy = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    if not tidy or tidy[0].isdigit() or tidy in _WORDS or tidy in BY_NAME or tidy == ID:
        raise UsageError(f"{file}: a column cannot be called {name!r}; rename it")
    return tidy


def _read_csv(file: str) -> dict[str, list[Value | None]]:
    try:
        # Names of files may be of any bytes; what else is no text is refused below.
        with open(file, encoding="utf-8-sig", errors="surrogateescape", newline="") as opened:
            head = opened.read(4096)
            opened.seek(0)
            reader = csv.reader(opened, delimiter=max(",;\t", key=head.partition("\n")[0].count))
            header = next(reader, [])
            lines = [line for line in reader if line]
    except (OSError, ValueError, csv.Error) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read {file!r}: {reason}") from error
    if twice := next((name for name, count in Counter(header).items() if count > 1 and name), None):
        raise UsageError(f"{file}: more than one column is called {twice!r}; rename all but one")
    cells = {
        name: [line[place] if place < len(line) else "" for line in lines] for place, name in enumerate(header)
    }
    if not all(map(_is_text, (*header, *(cell for name in cells if name not in JOINS for cell in cells[name])))):
        raise UsageError(f"cannot read {file!r}: it is not UTF-8 text; save it as such")
    return {name: _typed(values) if name not in JOINS else list(values) for name, values in cells.items()}


def _is_text(cell: str) -> bool:
    """Whether all of its bytes were UTF-8."""
    return cell.isascii() or not any("\udc80" <= char <= "\udcff" for char in cell)


def _typed(cells: Sequence[str]) -> list[Value | None]:
    """Numbers where a whole column is of numbers; empty cells are None."""
    filled = [cell.strip() for cell in cells]
    some = [cell for cell in filled if cell]
    if some and all(_INTEGER.fullmatch(cell) for cell in some):
        numbers_fit = all(
            len(cell.lstrip("+-0")) <= _MOST_DIGITS and _LEAST <= int(cell) <= _MOST for cell in some
        )
        return [(int(cell) if numbers_fit else cell) if cell else None for cell in filled]
    try:
        numbers = [float(cell) if cell else None for cell in filled]
    except ValueError:
        return [cell or None for cell in filled]
    finite = all(number is None or math.isfinite(number) for number in numbers)
    return list(numbers) if finite else [cell or None for cell in filled]


def _read_parquet(file: str) -> dict[str, list[Value | None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"cannot read {file!r}: {str(error).splitlines()[0]}") from error
    found: dict[str, list[Value | None]] = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        simple = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)
        if not (simple or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise UsageError(f"{file}: column {name!r} is of type {kind}; text, numbers and booleans can be kept")
        values = table.column(name).to_pylist()
        if pa.types.is_integer(kind) and any(value is not None and value > _MOST for value in values):
            values = [None if value is None else str(value) for value in values]
        found[name] = [
            None if isinstance(value, float) and not math.isfinite(value) else value for value in values
        ]
    return found
