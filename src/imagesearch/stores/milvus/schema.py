"""What a collection in Milvus says of itself: its columns, and which model filled it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from imagesearch.errors import ForeignCollectionError
from imagesearch.records import Fingerprint, Metric
from imagesearch.stores.columns import COLUMNS, ID, UNKNOWN_NUMBER

# Our record of the model, kept in the collection itself: as a property (Milvus Lite drops descriptions)
# and in the description (shown by Milvus's own tools).
RECORD_PROPERTY = "imagesearch.record"
DESCRIPTION = "ImageSearch "

COLUMN_NAMES = tuple(column.name for column in COLUMNS)

# What is written into a column that only a newer version knows, by Milvus's name of the type.
_UNKNOWN_BY_TYPE: dict[str, Any] = {
    "VARCHAR": "",
    "BOOL": False,
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), 0),
    **dict.fromkeys(("FLOAT", "DOUBLE"), UNKNOWN_NUMBER),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One field as Milvus describes it: Milvus's name of its type, and the dimension of a vector."""

    type_name: str
    nullable: bool = False
    dim: int | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection says of itself.

    Attributes:
        fingerprint, metric: as they were when it was made.
        vector_field: the column of the vectors.
        columns: names of those of :data:`COLUMN_NAMES` that it has.
        strange: columns that this version does not know, with what is written into them.
    """

    fingerprint: Fingerprint
    metric: Metric
    vector_field: str
    columns: tuple[str, ...] = COLUMN_NAMES
    strange: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Columns of this version that it lacks."""
        return tuple(name for name in COLUMN_NAMES if name not in self.columns)

    def record(self) -> str:
        """What is written into the collection, and read back by :func:`parse_schema`."""
        return json.dumps({"fingerprint": self.fingerprint.to_json(), "metric": self.metric.value})


def parse_schema(
    name: str, properties: Mapping[str, Any], description: str, fields: Mapping[str, Field]
) -> Schema:
    """Read our record of the model from what Milvus says of a collection.

    Raises:
        ForeignCollectionError: there is none, so the collection was not made by this program.
    """
    text = str(properties.get(RECORD_PROPERTY, ""))
    if not text and description.startswith(DESCRIPTION):
        text = description.removeprefix(DESCRIPTION)
    vectors = [column for column, kind in fields.items() if kind.dim is not None]
    known = (ID, *vectors, *COLUMN_NAMES)
    try:
        record = json.loads(text)
        return Schema(
            Fingerprint.from_json(record["fingerprint"]),
            Metric(record["metric"]),
            vectors[0],
            tuple(column for column in COLUMN_NAMES if column in fields),
            {column: _unknown(kind) for column, kind in fields.items() if column not in known},
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ForeignCollectionError(
            f"collection {name!r} was not made by ImageSearch (it does not say which model its vectors come "
            f"from): choose another milvus.collection_name and index the pictures into it"
        ) from error


def _unknown(kind: Field) -> Any:
    """What to write into a column of a newer version: null where it may be, or else what stands for it."""
    return None if kind.nullable else _UNKNOWN_BY_TYPE.get(kind.type_name)
