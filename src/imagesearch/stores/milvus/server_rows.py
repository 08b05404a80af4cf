"""How pictures become the rows of a Milvus server, and back; and the fields of a collection there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import ImageRecord
from imagesearch.stores.base import Columns, Vectors
from imagesearch.stores.columns import BY_NAME, COLUMNS, ID, Kind, stored_columns
from imagesearch.stores.milvus.schema import DESCRIPTION, Field, Schema, parse_schema

# As pymilvus gives them: the stored values of one row by the names of its columns.
Row = Mapping[str, Any]


def new_fields(schema: Schema) -> Any:
    """pymilvus's ``CollectionSchema`` of a new collection."""
    from pymilvus import DataType, MilvusClient

    types = {Kind.INTEGER: DataType.INT64, Kind.NUMBER: DataType.DOUBLE}
    fields = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description=DESCRIPTION + schema.record()
    )
    fields.add_field(ID, DataType.INT64, is_primary=True)
    fields.add_field(schema.vector_field, DataType.FLOAT_VECTOR, dim=schema.fingerprint.dim)
    for column in COLUMNS:
        if column.kind is Kind.TEXT:
            fields.add_field(column.name, DataType.VARCHAR, max_length=column.max_bytes)
        else:
            fields.add_field(column.name, types[column.kind])
    return fields


def schema_of(name: str, description: Mapping[str, Any]) -> Schema:
    """What a collection says of itself, from pymilvus's description of it.

    Raises:
        ForeignCollectionError: this program did not make it.
    """
    fields = {
        str(field["name"]): Field(
            str(getattr(field["type"], "name", field["type"])),
            bool(field.get("nullable")),
            field.get("params", {}).get("dim"),
        )
        for field in description["fields"]
    }
    properties = dict(description.get("properties") or {})
    return parse_schema(name, properties, str(description.get("description", "")), fields)


def to_rows(pictures: Sequence[ImageRecord], matrix: Vectors, schema: Schema) -> list[dict[str, Any]]:
    """Rows to be inserted, with the columns that the collection has.

    Raises:
        StoreError: a text is too long.
    """
    columns = {
        ID: [picture.id for picture in pictures],
        **{name: [value] * len(pictures) for name, value in schema.strange.items()},
        **stored_columns(pictures, schema.columns),
        schema.vector_field: list(matrix),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def to_columns(rows: Sequence[Row], names: Sequence[str], schema: Schema) -> Columns:
    """Some columns of the rows; those that the collection lacks have their default."""
    return {name: _values(rows, name, name in (ID, *schema.columns)) for name in names}


def to_matrix(rows: Sequence[Row], schema: Schema) -> Vectors:
    """The rows' vectors, float32, shape (number of rows, dim)."""
    matrix = np.empty((len(rows), schema.fingerprint.dim), np.float32)
    for number, row in enumerate(rows):
        matrix[number] = row[schema.vector_field]
    return matrix


def _values(rows: Sequence[Row], name: str, is_there: bool) -> NDArray[Any] | list[Any]:
    if name == ID:
        return np.array([row[ID] for row in rows], np.int64)
    column = BY_NAME[name]
    values = [column.restored(row[name]) if is_there else column.default for row in rows]
    return np.array(values, np.int64) if column.kind is Kind.INTEGER and not column.nullable else values
