"""Which rows count: decided with NumPy at once, and by Milvus Lite in its loops, the answer is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagesearch.stores.milvus.lite_recent import RecentRows
from imagesearch.stores.milvus.lite_table import Table
from imagesearch.stores.milvus.visibility import CurrentRows, Mask

# Keys with the sequence numbers of their rows or deletions.
Pairs = list[tuple[int, int]]

# What was written since: rows, or keys that were deleted at one sequence number.
Recent = list[tuple[str, Pairs]]

_keys = st.one_of(st.integers(-4, 12), st.sampled_from([2**63 - 1, -(2**63), 2**62]))
_numbers = st.integers(0, 40)
_rows = st.lists(st.tuples(_keys, _numbers), max_size=12)
_insertions = st.tuples(st.just("insert"), _rows.filter(bool))
_deletions = st.builds(
    lambda keys, number: ("delete", [(key, number) for key in keys]),
    st.lists(_keys, min_size=1, max_size=6),
    _numbers,
)


def without_repetition(files: list[Pairs], recent: Recent) -> tuple[list[Pairs], Recent]:
    """A sequence number is given once, so that no two rows have both key and number in common."""
    seen: set[tuple[int, int]] = set()

    def fresh(pairs: Pairs) -> Pairs:
        kept = [pair for pair in dict.fromkeys(pairs) if pair not in seen]
        seen.update(kept)
        return kept

    kept_files = [fresh(file) for file in files]
    kept_recent = [(kind, fresh(pairs) if kind == "insert" else pairs) for kind, pairs in recent]
    return kept_files, [(kind, pairs) for kind, pairs in kept_recent if pairs]


def columns(pairs: Pairs) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    return np.array([key for key, _ in pairs], np.int64), np.array([number for _, number in pairs], np.uint64)


def batch(kind: str, pairs: Pairs) -> pa.RecordBatch:
    """As it is in the log."""
    keys, numbers = [key for key, _ in pairs], [number for _, number in pairs]
    found: dict[str, Any] = {"id": pa.array(keys, pa.int64()), "_seq": pa.array(numbers, pa.uint64())}
    if kind == "insert":
        vectors = pa.array([[0.0, 0.0]] * len(pairs), pa.list_(pa.float32(), 2))
        found = {"_seq": found["_seq"], "_partition": ["_default"] * len(pairs), "id": found["id"], "v": vectors}
    else:
        found["_partition"] = ["_all"] * len(pairs)
    return pa.RecordBatch.from_pydict(found)


# --- Milvus Lite ---


class _Witness:
    """Stands for a segment's index: notes which rows Milvus Lite lets it see."""

    def __init__(self, rows: int) -> None:
        self.seen = np.zeros(rows, bool)  # it is not even asked if there are none

    def search(self, queries: Any, top_k: int, valid_mask: Any = None, params: Any = None) -> tuple[Any, Any]:
        self.seen = np.ones(len(self.seen), bool) if valid_mask is None else np.array(valid_mask, bool)
        return np.full((len(queries), top_k), -1), np.full((len(queries), top_k), np.inf)


class _Segment:
    """As much of Milvus Lite's ``Segment`` as its search looks at."""

    partition = "_default"

    def __init__(self, pairs: Pairs) -> None:
        keys, self.seqs = columns(pairs)
        self.pks, self.num_rows = keys.tolist(), len(pairs)
        self.indexes = {"v": _Witness(len(pairs))}

    def vector_data(self, field: str) -> tuple[Any, None]:
        return np.zeros((self.num_rows, 2), np.float32), None


def decided_by_lite(files: list[Pairs], tombstones: Pairs, recent: Recent) -> tuple[Mask, Mask, set[int]]:
    """What its search and its queries say of the files' rows, and the keys that count of those in its memory."""
    from milvus_lite.schema.types import CollectionSchema, DataType, FieldSchema
    from milvus_lite.search.bitmap import build_valid_mask
    from milvus_lite.search.executor_indexed import execute_search_with_index
    from milvus_lite.storage.delta_index import DeltaIndex
    from milvus_lite.storage.memtable import MemTable

    fields = [FieldSchema("id", DataType.INT64, is_primary=True), FieldSchema("v", DataType.FLOAT_VECTOR, dim=2)]
    memory, deleted = MemTable(CollectionSchema(fields)), DeltaIndex("id")
    deleted.add_batch(batch("delete", tombstones))
    for kind, pairs in recent:
        (memory.apply_insert if kind == "insert" else memory.apply_delete)(batch(kind, pairs))
    segments: list[Any] = [_Segment(pairs) for pairs in files]
    execute_search_with_index(np.zeros((1, 2), np.float32), segments, memory, deleted, 1, "L2", "id", "v")
    searched = np.concatenate([np.zeros(0, bool), *(segment.indexes["v"].seen for segment in segments)])
    keys, numbers, _, _ = memory.to_search_arrays(vector_field="v")
    ids, sequences = columns([pair for pairs in files for pair in pairs])
    every = np.concatenate([sequences, np.asarray(numbers, np.uint64)])
    mask = build_valid_mask([*ids.tolist(), *keys], every, deleted, memtable=memory)
    return searched, mask[: len(ids)], {key for key, counts in zip(keys, mask[len(ids) :], strict=True) if counts}


# --- ours ---


def decided_by_us(files: list[Pairs], tombstones: Pairs, recent: Recent) -> tuple[Table, Mask, set[int]]:
    """A table without files of its own, what it says of the files' rows, and the recent keys that count."""
    table = Table.__new__(Table)
    table.recent = RecentRows()
    for kind, pairs in recent:
        (table.recent.insert if kind == "insert" else table.recent.delete)(batch(kind, pairs))
    table._tombstones = {}
    for key, number in tombstones:
        table._tombstones[key] = max(number, table._tombstones.get(key, -1))
    parts = [columns(pairs) for pairs in files]
    table._current = CurrentRows([ids for ids, _ in parts], [numbers for _, numbers in parts], table._tombstones)
    table._overlay = None
    mask, fresh = table.visible()
    return table, mask, set(table.recent.keys()[fresh].tolist())


@settings(max_examples=600, deadline=None)
@given(st.lists(_rows, max_size=5), _rows, st.lists(st.one_of(_insertions, _deletions), max_size=5))
@example([[(1, 5)], [(1, 3)]], [], [])  # files need not follow each other in time
@example([[(1, 5)]], [(1, 5)], [])  # a deletion of the same number deletes nothing
@example([[(1, 5)]], [], [("insert", [(1, 4)])])  # what is left in a log may be older than a file
@example([[(1, 5)]], [(1, 9)], [("insert", [(1, 7)])])
def test_it_is_milvus_lites_own_decision(files: list[Pairs], tombstones: Pairs, recent: Recent) -> None:
    files, recent = without_repetition(files, recent)
    table, mask, fresh = decided_by_us(files, tombstones, recent)
    searched, queried, in_memory = decided_by_lite(files, tombstones, recent)
    assert mask.tolist() == searched.tolist() == queried.tolist()
    assert fresh == in_memory
    current = table.current()
    keys = np.array(sorted({key for pairs in files for key, _ in pairs} | {77}), np.int64)
    rows = {int(current.ids[row]): int(row) for row in np.flatnonzero(mask)}
    assert current.find(keys, mask).tolist() == [rows.get(int(key), -1) for key in keys]
    assert table.count() == len(rows) + len(fresh)
    assert len(rows) + len(fresh) == len(set(rows) | fresh)  # each key once


def test_rows_that_are_in_a_file_and_still_in_the_log_count_once() -> None:
    """A crash came after the file and before the deletion of the log; Milvus Lite counts such rows twice."""
    _, mask, fresh = decided_by_us([[(1, 5), (2, 6)]], [], [("insert", [(1, 5), (2, 6), (3, 7)])])
    assert (mask.tolist(), fresh) == ([True, True], {3})
