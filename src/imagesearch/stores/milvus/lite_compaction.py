"""Rewriting the data files of a collection: small ones are merged, outdated rows dropped, columns added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from imagesearch.stores.columns import Column
from imagesearch.stores.milvus import lite_schema
from imagesearch.stores.milvus.arrow import filtered
from imagesearch.stores.milvus.lite_segment import Segment
from imagesearch.stores.milvus.lite_table import MAX_ROWS, Table
from imagesearch.stores.milvus.nearest import Mask

# Data files are merged when there are this many of one size, or when this share of one's rows is out of date.
_MERGED_TOGETHER = 4
_SIZES = (1_000, 10_000, 50_000)
_STALE_SHARE = 0.2


def merge(table: Table) -> bool:
    """Merge small data files, or clean one of outdated rows; False if there was nothing to do."""
    masks = dict(_counted(table))
    chosen = _to_merge(masks)
    if not chosen:
        return False
    names = table.schema.rows.names
    kept = [filtered(segment.all_columns().select(names), masks[segment]) for segment in chosen]
    table.replace(chosen, pa.concat_tables(kept))
    return True


def add_columns(table: Table, columns: Sequence[Column]) -> None:
    """Add columns to a collection that was made by a version without them; its rows get what stands for unknown.

    Data files are rewritten one by one, and the schema names the columns at the end: Milvus Lite cannot read files
    that lack one. After a crash in between, files with more columns than the schema names are read all the same.
    The table must be opened again afterwards.
    """
    table.flush()  # the log has the old columns
    schema = lite_schema.extended(table.folder, columns)
    for segment, mask in list(_counted(table)):
        if not all(segment.has_column(column.name) for column in columns):
            rows = filtered(segment.all_columns(), mask)
            table.replace([segment], lite_schema.with_columns(rows, columns))
    table.failed = True  # it knows the old columns only
    lite_schema.write_payload(table.folder, schema)


def _counted(table: Table) -> Iterator[tuple[Segment, Mask]]:
    """Each data file, and which of its rows count."""
    mask, _ = table.visible()
    for segment, start in zip(table.segments, table.current().starts.tolist(), strict=False):
        yield segment, mask[start : start + len(segment)]


def _to_merge(masks: dict[Segment, Mask]) -> list[Segment]:
    sizes: dict[int, list[Segment]] = {}
    for segment, mask in masks.items():
        current = int(np.count_nonzero(mask))
        if len(segment) - current > _STALE_SHARE * len(segment):
            return [segment]
        size = sum(current >= bound for bound in _SIZES)
        if size < len(_SIZES):
            sizes.setdefault(size, []).append(segment)
    for size in sorted(sizes):
        if len(sizes[size]) >= _MERGED_TOGETHER:
            return _within(sizes[size], MAX_ROWS)
    return []


def _within(segments: Sequence[Segment], rows: int) -> list[Segment]:
    """The first of them that together have no more than that many rows."""
    chosen: list[Segment] = []
    for segment in segments:
        if len(chosen) > 1 and sum(map(len, chosen)) + len(segment) > rows:
            break
        chosen.append(segment)
    return chosen
