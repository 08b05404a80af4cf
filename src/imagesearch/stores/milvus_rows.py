"""How pictures become Milvus rows, and how a collection remembers which model filled it.

Milvus before 2.5 knows no null, so what is unknown is stored as a value that cannot be: empty text, a
latitude of 1,000 degrees. A collection has the columns of the version that made it; older ones lack some that
are known here, and newer ones may have more. Reading and writing make do with what is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagesearch.errors import ForeignCollectionError, StoreError
from imagesearch.images.paths import decode_path, encode_path
from imagesearch.records import Fingerprint, Metric, Picture

# Our record of the model, kept in the collection itself: as a property (Milvus Lite drops descriptions)
# and in the description (shown by Milvus's own tools).
RECORD_PROPERTY = "imagesearch.record"
_DESCRIPTION = "ImageSearch "

# Milvus's limit for one string, in bytes of UTF-8.
_MAX_TEXT = 65_535

# What stands for a coordinate that is not known: out of range, so that no filter by place finds it.
NO_DEGREES = 1000.0

# Column -> longest text in bytes.
_TEXT_COLUMNS = {"path": _MAX_TEXT, "root": _MAX_TEXT, "content_hash": 128, "taken": 64, "camera": 1024}
_NUMBER_COLUMNS = ("size", "mtime_ns", "width", "height")
_DEGREE_COLUMNS = ("latitude", "longitude")
PICTURE_COLUMNS = (*_TEXT_COLUMNS, *_NUMBER_COLUMNS, *_DEGREE_COLUMNS)

# What is written into a column that only a newer version knows, by Milvus's name of the type.
_UNKNOWN_BY_TYPE: dict[str, Any] = {
    "VARCHAR": "",
    "BOOL": False,
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), 0),
    **dict.fromkeys(("FLOAT", "DOUBLE"), NO_DEGREES),
}


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection says of itself.

    Attributes:
        fingerprint, metric: as they were when it was made.
        vector_field: the column of the vectors.
        columns: those of :data:`PICTURE_COLUMNS` that it has.
        strange: columns that this version does not know, with what is written into them.
    """

    fingerprint: Fingerprint
    metric: Metric
    vector_field: str
    columns: tuple[str, ...] = PICTURE_COLUMNS
    strange: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> str:
        """What is written into the collection, and read back by :func:`parse_schema`."""
        return json.dumps({"fingerprint": self.fingerprint.to_json(), "metric": self.metric.value})


def to_row(picture: Picture, schema: Schema) -> dict[str, Any]:
    """The row of a picture, without its vector, in the columns that the collection has.

    Raises:
        StoreError: a text is too long for Milvus.
    """
    values = {
        "path": encode_path(picture.path),
        "root": encode_path(picture.root) if picture.root else "",
        "content_hash": picture.content_hash,
        "taken": picture.taken or "",
        "camera": picture.camera or "",
        **{name: getattr(picture, name) for name in _NUMBER_COLUMNS},
        "latitude": NO_DEGREES if picture.latitude is None else picture.latitude,
        "longitude": NO_DEGREES if picture.longitude is None else picture.longitude,
    }
    for name, limit in _TEXT_COLUMNS.items():
        if len(values[name].encode()) > limit:
            raise StoreError(
                f"{picture.path[:80]!r}...: its {name} is longer than the {limit} bytes Milvus stores"
            )
    return {"id": picture.id, **schema.strange, **{name: values[name] for name in schema.columns}}


def to_picture(row: Mapping[str, Any]) -> Picture:
    """The inverse of :func:`to_row`; what has no column is unknown."""
    root = row.get("root")
    return Picture(
        path=decode_path(row["path"]),
        root=decode_path(root) if root else "",
        content_hash=row.get("content_hash", ""),
        taken=row.get("taken") or None,
        camera=row.get("camera") or None,
        latitude=_degrees(row.get("latitude", NO_DEGREES)),
        longitude=_degrees(row.get("longitude", NO_DEGREES)),
        **{name: int(row.get(name, 0)) for name in _NUMBER_COLUMNS},
    )


def _degrees(value: float) -> float | None:
    return None if value == NO_DEGREES else float(value)


def new_schema(client: Any, schema: Schema) -> Any:
    """pymilvus's schema of a new collection."""
    from pymilvus import DataType

    fields = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description=_DESCRIPTION + schema.record()
    )
    fields.add_field("id", DataType.INT64, is_primary=True)
    fields.add_field(schema.vector_field, DataType.FLOAT_VECTOR, dim=schema.fingerprint.dim)
    for name, limit in _TEXT_COLUMNS.items():
        fields.add_field(name, DataType.VARCHAR, max_length=limit)
    for name in _NUMBER_COLUMNS:
        fields.add_field(name, DataType.INT64)
    for name in _DEGREE_COLUMNS:
        fields.add_field(name, DataType.DOUBLE)
    return fields


def parse_schema(name: str, description: Mapping[str, Any]) -> Schema:
    """Read our record of the model from what Milvus says of a collection.

    Raises:
        ForeignCollectionError: there is none, so the collection was not made by this program.
    """
    text = dict(description.get("properties") or {}).get(RECORD_PROPERTY, "")
    if not text and str(description.get("description", "")).startswith(_DESCRIPTION):
        text = str(description["description"]).removeprefix(_DESCRIPTION)
    fields = {field["name"]: field for field in description["fields"]}
    vectors = [column for column, kind in fields.items() if "dim" in kind.get("params", {})]
    try:
        record = json.loads(text)
        return Schema(
            Fingerprint.from_json(record["fingerprint"]),
            Metric(record["metric"]),
            vectors[0],
            tuple(column for column in PICTURE_COLUMNS if column in fields),
            {
                column: _unknown(kind)
                for column, kind in fields.items()
                if column not in ("id", *vectors, *PICTURE_COLUMNS)
            },
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ForeignCollectionError(
            f"collection {name!r} was not made by ImageSearch (it does not say which model its vectors come "
            f"from): choose another milvus.collection_name and index the pictures into it"
        ) from error


def _unknown(kind: Mapping[str, Any]) -> Any:
    """What to write into a column of a newer version: null where it may be, or else what stands for it."""
    type_name = str(getattr(kind["type"], "name", kind["type"]))
    return None if kind.get("nullable") else _UNKNOWN_BY_TYPE.get(type_name)
