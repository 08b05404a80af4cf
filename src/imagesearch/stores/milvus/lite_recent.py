"""Rows and deletions that are in the log, but in no data file yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imagesearch.records import ImageRecord
from imagesearch.stores.base import Vectors
from imagesearch.stores.columns import ID, to_records
from imagesearch.stores.milvus.arrow import row_numbers
from imagesearch.stores.milvus.lite_segment import SEQUENCE, as_matrix

PARTITION_COLUMN = "_partition"


class RecentRows:
    """What was written since the last data file; the largest sequence number of a key counts.

    Attributes:
        inserted: key -> sequence number of its newest row, if it was not deleted since.
        deleted: key -> sequence number of its deletion, if it was not inserted since.
        last_sequence: the largest number seen, -1 if there is none.
        size: bytes.
        changes: goes up with every write.
    """

    def __init__(self) -> None:
        self.inserted: dict[int, int] = {}
        self.deleted: dict[int, int] = {}
        self.last_sequence = -1
        self.size = 0
        self.changes = 0
        self._batches: list[pa.RecordBatch] = []
        self._places: dict[int, int] = {}  # key -> row number over all batches
        self._rows = 0
        self._table: pa.Table | None = None

    def __len__(self) -> int:
        return len(self.inserted) + len(self.deleted)

    def insert(self, batch: pa.RecordBatch) -> None:
        """Add rows, which may be older than what is here."""
        keys = batch.column(ID).to_pylist()
        sequences = batch.column(SEQUENCE).to_pylist()
        for place, (key, sequence) in enumerate(zip(keys, sequences, strict=True), start=self._rows):
            if self.deleted.get(key, -1) >= sequence or self.inserted.get(key, -1) >= sequence:
                continue
            self.deleted.pop(key, None)
            self.inserted[key] = sequence
            self._places[key] = place
        self._batches.append(batch)
        self._rows += batch.num_rows
        self.size += batch.nbytes
        self._note(sequences)

    def delete(self, batch: pa.RecordBatch) -> None:
        """Add deletions."""
        keys, sequences = batch.column(ID).to_pylist(), batch.column(SEQUENCE).to_pylist()
        for key, sequence in zip(keys, sequences, strict=True):
            if self.inserted.get(key, -1) >= sequence:
                continue
            if self.inserted.pop(key, None) is not None:
                del self._places[key]
            self.deleted[key] = max(sequence, self.deleted.get(key, -1))
        self.size += batch.nbytes
        self._note(sequences)

    def _note(self, sequences: Sequence[int]) -> None:
        self.last_sequence = max(self.last_sequence, *sequences)
        self.changes += 1
        self._table = None

    def table(self) -> pa.Table | None:
        """The current rows, or None if there are none."""
        if not self.inserted:
            return None
        if self._table is None:
            whole = pa.Table.from_batches(self._batches)
            if len(self._places) < whole.num_rows:
                whole = whole.take(row_numbers(np.fromiter(self._places.values(), np.int64, len(self._places))))
            self._table = whole.combine_chunks()
        return self._table

    def keys(self) -> NDArray[np.int64]:
        """The keys of :meth:`table`'s rows, in their order."""
        return np.fromiter(self._places, np.int64, len(self._places))

    def current_table(self) -> pa.Table:
        """:meth:`table`, where it is known that there are rows."""
        table = self.table()
        assert table is not None
        return table

    def vectors(self, column: str) -> Vectors:
        """The vectors of :meth:`table`'s rows."""
        return as_matrix(self.current_table().column(column))

    def pictures(self, rows: NDArray[np.int64], names: Sequence[str]) -> list[ImageRecord]:
        """Some of :meth:`table`'s rows."""
        picked = self.current_table().select(names).take(row_numbers(rows))
        return to_records(names, [column.to_pylist() for column in picked.columns])

    def deletions(self, schema: pa.Schema) -> pa.Table | None:
        """Keys and sequence numbers of the deletions, or None if there are none."""
        if not self.deleted:
            return None
        columns: dict[str, Any] = {ID: list(self.deleted), SEQUENCE: list(self.deleted.values())}
        return pa.table(columns, schema=schema)
