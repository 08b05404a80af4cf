"""The columns of a Milvus Lite collection: ``schema.json``, and the Arrow schemas of its files."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from imagesearch.errors import DamagedError, ForeignCollectionError
from imagesearch.stores.columns import COLUMNS, ID, Column, Kind
from imagesearch.stores.milvus.lite_files import digest_of_json, write_atomically
from imagesearch.stores.milvus.lite_manifest import require_format
from imagesearch.stores.milvus.lite_recent import PARTITION_COLUMN
from imagesearch.stores.milvus.lite_segment import SEQUENCE
from imagesearch.stores.milvus.schema import RECORD_PROPERTY, Field, Schema, parse_schema

FORMAT = 2
NAME = "schema.json"
COPY = "schema.json.imagesearch"  # nothing else knows which model the vectors are of

_TYPES = {Kind.TEXT: "varchar", Kind.INTEGER: "int64", Kind.NUMBER: "double"}
_ARROW = {
    "bool": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "varchar": pa.string(),
    "json": pa.string(),
    "geometry": pa.string(),
    "timestamptz": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True, slots=True)
class LiteSchema:
    """What ``schema.json`` says.

    Attributes:
        ours: what is known of it.
        rows: Arrow schema of a data file: sequence number and all columns.
    """

    ours: Schema
    rows: pa.Schema

    @property
    def deletions(self) -> pa.Schema:
        """Arrow schema of a file of deletions."""
        return pa.schema([self.rows.field(ID), self.rows.field(SEQUENCE)])

    @property
    def logged_rows(self) -> pa.Schema:
        """Arrow schema of rows in the log."""
        return self.rows.insert(1, pa.field(PARTITION_COLUMN, pa.string(), nullable=False))

    @property
    def logged_deletions(self) -> pa.Schema:
        """Arrow schema of deletions in the log."""
        return self.deletions.append(pa.field(PARTITION_COLUMN, pa.string(), nullable=False))


def read_schema(name: str, folder: Path) -> LiteSchema:
    """What a collection's folder says.

    Raises:
        DamagedError: the file is missing or not readable.
        ForeignCollectionError: this program did not make the collection, or it has columns that only Milvus Lite
            itself can write (computed or partition keys).
    """
    return parse_payload(name, read_payload(folder), folder / NAME)


def parse_payload(name: str, payload: Mapping[str, Any], file: Path) -> LiteSchema:
    """What the content of a ``schema.json`` says; errors are those of :func:`read_schema`."""
    try:
        fields = {str(field["name"]): field for field in payload["fields"]}
        kinds = {
            column: Field(str(field["dtype"]).upper(), bool(field.get("nullable")), field.get("dim"))
            for column, field in fields.items()
        }
        ours = parse_schema(name, dict(payload.get("properties") or {}), "", kinds)
        require_format(file, int(payload["schema_format_version"]), FORMAT)
        is_plain = (
            not payload.get("functions")
            and not payload.get("enable_dynamic_field")
            and all(field["dtype"] in _ARROW or field.get("dim") for field in fields.values())
            and not any(field.get("auto_id") or field.get("is_partition_key") for field in fields.values())
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise DamagedError(file, "is not as it was written") from None
    if not is_plain:
        raise foreign(name)
    columns = [pa.field(SEQUENCE, pa.uint64(), nullable=False)]
    for column, field in fields.items():
        kind = pa.list_(pa.float32(), int(field["dim"])) if field.get("dim") else _ARROW[field["dtype"]]
        columns.append(pa.field(column, kind, nullable=bool(field.get("nullable"))))
    return LiteSchema(ours, pa.schema(columns))


def foreign(name: str) -> ForeignCollectionError:
    """The error for a collection with columns that we could not fill."""
    return ForeignCollectionError(
        f"collection {name!r} has columns that ImageSearch never makes (computed, dynamic or partition keys):"
        f" choose another milvus.collection_name and index the pictures into it"
    )


def read_payload(folder: Path) -> dict[str, Any]:
    """The content of ``schema.json``.

    Raises:
        DamagedError: it is missing or not readable.
    """
    file = folder / NAME
    try:
        payload = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedError(file, "is missing") from None
    except (ValueError, RecursionError):
        raise DamagedError(file, "is not as it was written") from None
    if not isinstance(payload, dict):
        raise DamagedError(file, "is not as it was written")
    return payload


def write_schema(name: str, folder: Path, schema: Schema) -> None:
    """Write ``schema.json`` for a new collection with all columns."""
    fields = [
        _field(ID, "int64", is_primary=True),
        _field(schema.vector_field, "float_vector", dim=schema.fingerprint.dim),
        *map(_column_field, COLUMNS),
    ]
    payload: dict[str, Any] = {
        "collection_name": name,
        "schema_format_version": FORMAT,
        "version": 1,
        "enable_dynamic_field": False,
        "properties": {RECORD_PROPERTY: schema.record()},
        "fields": fields,
    }
    write_payload(folder, payload)


def write_name(name: str, folder: Path) -> None:
    """Write another name into ``schema.json``; what counts is the folder's."""
    write_payload(folder, {**read_payload(folder), "collection_name": name})


def write_payload(folder: Path, payload: Mapping[str, Any]) -> None:
    """Write the content of ``schema.json``, durably and in one step, and its copy."""
    write_atomically(folder / NAME, json.dumps(payload, indent=2, sort_keys=True))
    try:
        write_copy(folder, payload)
    except OSError as error:  # what counts is written
        logging.getLogger(__name__).debug("cannot write %s: %s", COPY, error)


def write_copy(folder: Path, payload: Mapping[str, Any]) -> None:
    """Write a copy of the content of ``schema.json``, with its digest."""
    text = json.dumps({"digest": digest_of_json(payload), "schema": payload}, indent=2, sort_keys=True)
    write_atomically(folder / COPY, text)


def keep_copy(folder: Path) -> None:
    """Write a copy if there is none, because an earlier version or another program made the collection."""
    if not (folder / COPY).exists():
        write_copy(folder, read_payload(folder))


def read_copy(folder: Path) -> dict[str, Any] | None:
    """The copy of the content of ``schema.json``; None if an earlier version made the collection.

    Raises:
        DamagedError: it is not as it was written.
        OSError: it cannot be read.
    """
    try:
        found = json.loads((folder / COPY).read_bytes())
        payload = found["schema"]
        if found["digest"] != digest_of_json(payload) or not isinstance(payload, dict):
            raise ValueError("its digest differs")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DamagedError(folder / COPY, "is not as it was written") from None
    return dict(payload)


def exists(folder: Path) -> bool:
    """Whether a folder is a collection's, even one whose ``schema.json`` is lost."""
    return os.path.exists(f"{folder}/{NAME}") or (folder / COPY).exists()  # quicker: asked before each search


def extended(folder: Path, columns: Sequence[Column]) -> dict[str, Any]:
    """The content of ``schema.json`` with more columns; nothing is written."""
    payload = read_payload(folder)
    return {**payload, "fields": [*payload["fields"], *map(_column_field, columns)]}


def with_columns(rows: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Rows with those of the columns that they lack, filled with what stands for unknown."""
    for column in columns:
        if column.name not in rows.column_names:
            kind = _ARROW[_TYPES[column.kind]]
            unknown = column.stored(column.default)
            rows = rows.append_column(
                pa.field(column.name, kind, nullable=False), pa.array([unknown] * len(rows), kind)
            )
    return rows


def _column_field(column: Column) -> dict[str, Any]:
    return _field(column.name, _TYPES[column.kind], max_length=column.max_bytes or None)


def _field(name: str, dtype: str, **more: Any) -> dict[str, Any]:
    """A field as Milvus Lite writes it."""
    unset = dict.fromkeys(("dim", "max_length", "element_type", "max_capacity"))
    flags = dict.fromkeys(("is_primary", "auto_id", "nullable"), False)
    return {"name": name, "dtype": dtype, "default_value": None, **unset, **flags, **more}
