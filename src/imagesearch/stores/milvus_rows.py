"""How pictures become Milvus rows, and how a collection remembers which model filled it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
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

_TEXT_FIELDS = {"path": _MAX_TEXT, "root": _MAX_TEXT, "content_hash": 128, "taken": 64}
_NUMBER_FIELDS = ("size", "mtime_ns", "width", "height")
PICTURE_FIELDS = [*_TEXT_FIELDS, *_NUMBER_FIELDS]


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection says of itself."""

    fingerprint: Fingerprint
    metric: Metric
    vector_field: str

    def record(self) -> str:
        """What is written into the collection, and read back by :func:`parse_schema`."""
        return json.dumps({"fingerprint": self.fingerprint.to_json(), "metric": self.metric.value})


def to_row(picture: Picture) -> dict[str, Any]:
    """The row of a picture, without its vector.

    Raises:
        StoreError: a path is too long for Milvus.
    """
    row = {
        "id": picture.id,
        "path": encode_path(picture.path),
        "root": encode_path(picture.root) if picture.root else "",
        "content_hash": picture.content_hash,
        "taken": picture.taken or "",  # servers before 2.5 know no null
        **{name: getattr(picture, name) for name in _NUMBER_FIELDS},
    }
    for name, limit in _TEXT_FIELDS.items():
        if len(str(row[name]).encode()) > limit:
            raise StoreError(
                f"{picture.path[:80]!r}...: its {name} is longer than the {limit} bytes Milvus stores"
            )
    return row


def to_picture(row: Mapping[str, Any]) -> Picture:
    """The inverse of :func:`to_row`."""
    return Picture(
        path=decode_path(row["path"]),
        root=decode_path(row["root"]) if row["root"] else "",
        content_hash=row["content_hash"],
        taken=row["taken"] or None,
        **{name: int(row[name]) for name in _NUMBER_FIELDS},
    )


def new_schema(client: Any, schema: Schema) -> Any:
    """pymilvus's schema of a new collection."""
    from pymilvus import DataType

    fields = client.create_schema(
        auto_id=False, enable_dynamic_field=False, description=_DESCRIPTION + schema.record()
    )
    fields.add_field("id", DataType.INT64, is_primary=True)
    fields.add_field(schema.vector_field, DataType.FLOAT_VECTOR, dim=schema.fingerprint.dim)
    for name, limit in _TEXT_FIELDS.items():
        fields.add_field(name, DataType.VARCHAR, max_length=limit)
    for name in _NUMBER_FIELDS:
        fields.add_field(name, DataType.INT64)
    return fields


def parse_schema(name: str, description: Mapping[str, Any]) -> Schema:
    """Read our record of the model from what Milvus says of a collection.

    Raises:
        ForeignCollectionError: there is none, so the collection was not made by this program.
    """
    text = dict(description.get("properties") or {}).get(RECORD_PROPERTY, "")
    if not text and str(description.get("description", "")).startswith(_DESCRIPTION):
        text = str(description["description"]).removeprefix(_DESCRIPTION)
    vectors = [field["name"] for field in description["fields"] if "dim" in field.get("params", {})]
    try:
        record = json.loads(text)
        return Schema(Fingerprint.from_json(record["fingerprint"]), Metric(record["metric"]), vectors[0])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ForeignCollectionError(
            f"collection {name!r} was not made by ImageSearch (it does not say which model its vectors come "
            f"from): choose another milvus.collection_name and index the pictures into it"
        ) from error
