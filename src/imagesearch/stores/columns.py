"""The columns of a collection, as databases store them; declared by the fields of :class:`ImageRecord`.

Adding a column is one line there. Milvus before 2.5 knows no null, so what is unknown is stored as a value that
cannot be: empty text, a latitude of 1,000 degrees. A collection has the columns of the version that made it: older
ones lack some that are known here, newer ones may have more. Reading and writing make do with what is there;
``VectorDatabase.create`` adds what is missing, where the engine can.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from imagesearch.errors import StoreError
from imagesearch.images.paths import decode_path, encode_path
from imagesearch.records import ImageRecord

# The primary key's column.
ID = "id"

# What stands for a number that is not known: out of range, so that no filter by place finds it.
UNKNOWN_NUMBER = 1000.0
UNKNOWN_INTEGER = -(2**63)


class Kind(Enum):
    """The types that columns have."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"


_KINDS = {"str": Kind.TEXT, "int": Kind.INTEGER, "float": Kind.NUMBER}
_UNKNOWN: dict[Kind, Any] = {Kind.TEXT: "", Kind.INTEGER: UNKNOWN_INTEGER, Kind.NUMBER: UNKNOWN_NUMBER}


@dataclass(frozen=True, slots=True)
class Column:
    """One column besides the key and the vector.

    Attributes:
        name: of the field of :class:`ImageRecord`, and in the database.
        kind: text, 64-bit integer, or 64-bit float.
        nullable: whether the value may be None.
        max_bytes: the longest text, in bytes of UTF-8.
        is_path: whether it is a path, which may hold bytes that are no text.
        default: what a row has where its collection lacks the column.
        unknown: what stands for None.
    """

    name: str
    kind: Kind
    nullable: bool
    max_bytes: int
    is_path: bool
    default: Any
    unknown: Any

    def stored(self, value: Any) -> Any:
        """The value as databases store it.

        Raises:
            StoreError: a text is too long.
        """
        if value is None:
            return self.unknown
        if self.kind is not Kind.TEXT:
            return value
        text = encode_path(value) if self.is_path and value else value
        # One character is at most four bytes, so most texts need not be encoded to be measured.
        if 4 * len(text) > self.max_bytes and len(text.encode()) > self.max_bytes:
            raise StoreError(f"{value[:80]!r}...: a {self.name} may have {self.max_bytes} bytes, not more")
        return text

    def restored(self, value: Any) -> Any:
        """The inverse of :meth:`stored`."""
        if self.nullable and value == self.unknown:
            return None
        return decode_path(value) if self.is_path and value else value

    def restored_all(self, values: list[Any]) -> list[Any]:
        """:meth:`restored` of a whole column."""
        if self.is_path:
            return [decode_path(value) if value else value for value in values]
        unknown = self.unknown
        return [None if value == unknown else value for value in values] if self.nullable else values


def _column(field: dataclasses.Field[Any]) -> Column:
    kind, _, rest = str(field.type).partition(" | ")
    default = "" if field.default is dataclasses.MISSING else field.default
    return Column(
        field.name,
        _KINDS[kind],
        nullable=rest == "None",
        max_bytes=field.metadata.get("max_bytes", 0),
        is_path=field.metadata.get("is_path", False),
        default=default,
        unknown=_UNKNOWN[_KINDS[kind]],
    )


COLUMNS: tuple[Column, ...] = tuple(_column(field) for field in dataclasses.fields(ImageRecord))
BY_NAME: Mapping[str, Column] = {column.name: column for column in COLUMNS}


def stored_columns(pictures: Sequence[ImageRecord], names: Iterable[str]) -> dict[str, list[Any]]:
    """The stored values of these columns, one list per column, in the order of the pictures.

    Raises:
        StoreError: a text is too long.
    """
    return {name: [BY_NAME[name].stored(getattr(picture, name)) for picture in pictures] for name in names}


def to_record(row: Mapping[str, Any]) -> ImageRecord:
    """The picture of a stored row; what has no column gets its default."""
    return ImageRecord(
        **{column.name: column.restored(row[column.name]) for column in COLUMNS if column.name in row}
    )


def to_records(names: Sequence[str], columns: Sequence[list[Any]]) -> list[ImageRecord]:
    """The pictures of stored columns, one list per name; what has no column gets its default."""
    given = dict(zip(names, columns, strict=True))
    rows = len(columns[0]) if columns else 0
    restored = [
        column.restored_all(given[column.name]) if column.name in given else [column.default] * rows
        for column in COLUMNS
    ]
    return [ImageRecord(*values) for values in zip(*restored, strict=True)]
