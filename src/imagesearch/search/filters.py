"""Which pictures of a collection count: by folder, date, place, size, format, camera, or any expression.

A filter is evaluated here, on the columns that it needs, and the engine then searches among the rows that match;
so it gives the same rows on every engine. What is not known of a picture (its camera, its place) matches nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.records import parse_annotations
from imagesearch.stores.base import Collection, Columns, Ids
from imagesearch.stores.columns import BY_NAME, COLUMNS, ID, Kind

if TYPE_CHECKING:
    from imagesearch.stores.milvus.lite_expressions import ValueKind

Mask = NDArray[np.bool_]
Column = NDArray[Any] | list[Any]

# The mean radius of the Earth in kilometres (IUGG 1980).
_EARTH = 6371.0088
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d([T ]\d\d(:\d\d(:\d\d)?)?)?)?)?")
_SIZES = ("width", "height")
# Endings that name one format.
_SAME_FORMAT = (
    {"jpg", "jpeg", "jpe", "jfif"},
    {"tif", "tiff"},
    {"heic", "heif", "hif"},
    {"jp2", "j2k", "jpf", "jpx"},
)


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all have to hold; those that are left out do.

    Attributes:
        under: folders (or files), of which one must hold the picture.
        after, before: when it was taken, or else when its file was changed last: from ``after`` on, and earlier
            than ``before``; local time, ``YYYY``, ``YYYY-MM``, ``YYYY-MM-DD`` or with ``THH:MM:SS``.
        near: latitude and longitude in degrees, and how many kilometres from there it may have been taken.
        min_width, min_height: pixels.
        formats: endings of file names, of which one must be the picture's; ``jpg`` stands for ``jpeg`` as well.
        camera: part of the camera's name, in any case.
        expression: in Milvus's language, on the fields of :class:`imagesearch.records.ImageRecord` and on columns
            of one's own (:mod:`imagesearch.library.annotations`).

    Raises:
        UsageError: a value makes no sense.
    """

    under: tuple[str, ...] = ()
    after: str | None = None
    before: str | None = None
    near: tuple[float, float, float] | None = None
    min_width: int = 0
    min_height: int = 0
    formats: tuple[str, ...] = ()
    camera: str | None = None
    expression: str | None = None

    def __post_init__(self) -> None:
        for name in ("after", "before"):
            value = getattr(self, name)
            if value is not None and not _DATE.fullmatch(value):
                raise UsageError(f"{name} = {value!r}: must be a date such as 2024-05-31 (or 2024, 2024-05)")
            if value is not None:
                _start_of(value, name)
        if self.near is not None:
            latitude, longitude, kilometres = self.near
            if not (-90 <= latitude <= 90 and -180 <= longitude <= 180 and 0 < kilometres < np.inf):
                raise UsageError(f"near = {self.near}: must be latitude, longitude and a distance in kilometres")

    def __bool__(self) -> bool:
        return self != Filter()

    @property
    def columns(self) -> frozenset[str]:
        """Fields of image records that it looks at."""
        needed = {
            "path": bool(self.under or self.formats),
            "taken": bool(self.after or self.before),
            "mtime_ns": bool(self.after or self.before),
            "latitude": self.near is not None,
            "longitude": self.near is not None,
            "width": self.min_width > 0,
            "height": self.min_height > 0,
            "camera": self.camera is not None,
        }
        return frozenset(name for name, is_needed in needed.items() if is_needed)

    def mask(self, columns: Columns) -> Mask:
        """Which rows match, of the conditions besides the expression."""
        masks: list[Mask] = []
        if self.under:
            masks.append(_each(columns["path"], is_below(self.under)))
        if self.formats:
            endings = _endings(self.formats)
            masks.append(_each(columns["path"], lambda path: os.path.splitext(path)[1][1:].lower() in endings))
        if self.after or self.before:
            masks.append(self._in_time(columns))
        if self.near is not None:
            latitude, longitude, kilometres = self.near
            far = distances(columns["latitude"], columns["longitude"], latitude, longitude)
            masks.append(far <= kilometres)
        for name, least in (("width", self.min_width), ("height", self.min_height)):
            if least > 0:
                masks.append(np.asarray(columns[name]) >= least)
        if self.camera is not None:
            wanted = self.camera.casefold()
            masks.append(_each(columns["camera"], lambda camera: bool(camera) and wanted in camera.casefold()))
        return _all_of(masks)

    def _in_time(self, columns: Columns) -> Mask:
        changed = np.asarray(columns["mtime_ns"])
        masks = []
        for bound, is_after in ((self.after, True), (self.before, False)):
            if bound is None:
                continue
            text, moment = bound.replace(" ", "T"), _start_of(bound, "date") * 1e9
            by_file = changed >= moment if is_after else changed < moment
            masks.append(
                np.array(
                    [
                        ((taken >= text) if is_after else (taken < text)) if taken else file
                        for taken, file in zip(columns["taken"], by_file.tolist(), strict=True)
                    ],
                    bool,
                )
            )
        return _all_of(masks)


def matching(collection: Collection, where: Filter) -> Ids:
    """Ids of the rows that match, in no particular order.

    Raises:
        UsageError: the expression is none, or names a column that is not there.
        StoreError: the database fails.
    """
    from imagesearch.stores.milvus.lite_expressions import Expression

    expression = None if where.expression is None else Expression(where.expression)
    kinds = _kinds()
    own = expression.columns - kinds.keys() if expression else frozenset()
    needed = where.columns | (expression.columns - own if expression else frozenset())
    said = _Annotations(collection, own)
    kinds |= said.kinds
    if expression:  # so that a mistake is told even if the collection is empty
        expression.mask({name: [] for name in expression.columns}, kinds)
    found: list[Ids] = []
    for columns in collection.scan_columns(sorted({ID, *needed})):
        ids = np.asarray(columns[ID], np.int64)
        mask = where.mask(columns) if where.columns else np.ones(len(ids), bool)
        if expression:
            values = {name: _comparable(name, columns[name]) for name in expression.columns - own}
            mask &= expression.mask({**values, **said.values_of(ids)}, kinds)
        found.append(ids[mask])
    return np.concatenate(found) if found else np.empty(0, np.int64)


class _Annotations:
    """What was said of the pictures of a collection, in columns.

    Args:
        wanted: names that an expression refers to; none: nothing is read.

    Attributes:
        kinds: all names, and what their values are.
    """

    def __init__(self, collection: Collection, wanted: frozenset[str]) -> None:
        self._wanted = wanted
        self._said: dict[int, dict[str, Any]] = {}
        values: dict[str, set[type]] = {}
        for columns in collection.scan_columns([ID, "annotations"]) if wanted else ():
            for key, text in zip(columns[ID], columns["annotations"], strict=True):
                said = parse_annotations(text)
                if said:
                    self._said[int(key)] = said
                for name, value in said.items():
                    values.setdefault(name, set()).add(type(value))
        self.kinds = {name: _kind_of(types) for name, types in values.items()}

    def values_of(self, ids: Ids) -> dict[str, list[Any]]:
        rows = [self._said.get(key, {}) for key in ids.tolist()]
        return {name: [self._as_kind(name, row.get(name)) for row in rows] for name in self._wanted}

    def _as_kind(self, name: str, value: Any) -> Any:
        from imagesearch.stores.milvus.lite_expressions import ValueKind

        return str(value) if value is not None and self.kinds[name] is ValueKind.TEXT else value


def _kind_of(types: set[type]) -> ValueKind:
    """One kind for all values of a column; where they are mixed, text."""
    from imagesearch.stores.milvus.lite_expressions import ValueKind

    if types == {bool}:
        return ValueKind.BOOLEAN
    if types == {int}:
        return ValueKind.INTEGER
    return ValueKind.NUMBER if types <= {int, float} else ValueKind.TEXT


def distances(latitudes: Column, longitudes: Column, latitude: float, longitude: float) -> NDArray[np.float64]:
    """Great-circle distances in kilometres, by the haversine formula (Sinnott 1984); NaN where not known."""
    there = np.radians(np.array([list(latitudes), list(longitudes)], np.float64))
    here = np.radians(np.array([latitude, longitude]))
    across, along = there[0] - here[0], there[1] - here[1]
    share = np.sin(across / 2) ** 2 + np.cos(there[0]) * np.cos(here[0]) * np.sin(along / 2) ** 2
    return np.asarray(2 * _EARTH * np.arcsin(np.sqrt(np.clip(share, 0, 1))))


def _kinds() -> dict[str, ValueKind]:
    from imagesearch.stores.milvus.lite_expressions import ValueKind

    kinds = {Kind.TEXT: ValueKind.TEXT, Kind.INTEGER: ValueKind.INTEGER, Kind.NUMBER: ValueKind.NUMBER}
    return {ID: ValueKind.INTEGER, **{column.name: kinds[column.kind] for column in COLUMNS}}


def _comparable(name: str, values: Column) -> Any:
    """Values for an expression: paths as databases store them, and no sizes of 0."""
    column = BY_NAME.get(name)
    if name in _SIZES:  # 0 stands for unknown
        return np.ma.masked_equal(np.asarray(values), 0)
    if column is None or not column.is_path:
        return values
    return [column.stored(value) for value in values]


def _all_of(masks: Sequence[Mask]) -> Mask:
    whole: Mask = np.logical_and.reduce(masks)
    return whole


def _each(values: Any, holds: Any) -> Mask:
    return np.fromiter(map(holds, values), bool, len(values))


def is_below(folders: Sequence[str]) -> Callable[[str], bool]:
    """Whether a path is one of these folders, or lies below one of them, whatever links lead there."""
    places = {os.path.abspath(os.path.expanduser(folder)) for folder in folders}
    places |= {os.path.realpath(place) for place in places}  # folders are indexed without links
    starts = tuple(place.rstrip(os.sep) + os.sep for place in places)
    return lambda path: path.startswith(starts) or path in places


def _endings(formats: Sequence[str]) -> set[str]:
    wanted = {name.lower().removeprefix(".") for name in formats}
    return wanted.union(*(group for group in _SAME_FORMAT if group & wanted))


def _start_of(date: str, name: str) -> float:
    """The first moment of a year, month, day, hour, minute or second, in seconds since 1970."""
    filled = date.replace(" ", "T") + "0000-01-01T00:00:00"[len(date) :]
    try:
        return datetime.fromisoformat(filled).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(f"{name} = {date!r}: there is no such date") from error
