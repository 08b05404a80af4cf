"""Random histories of one collection: what is done to it, by which engine, and what it must hold afterwards.

Both engines of an embedded database work on the same files in turn: ours, which reads and writes them directly,
and Milvus Lite itself. Whatever is done by whom, the collection holds what :mod:`imagesearch.stores.memory` holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from imagesearch.records import ImageRecord, Metric, picture_id
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors
from imagesearch.stores.memory import MemoryDatabase
from imagesearch.stores.milvus import embedded, lite, lite_opened
from imagesearch.stores.milvus.lite_compaction import merge

from .conftest import fingerprint

DIM = 4

# Where what is large begins: files, merges, codes, indexes and row groups come after a few rows already.
_SMALL = {"FLUSH_BYTES": 4_000, "MIN_CODED": 16, "LEAST_INDEXED": 1, "_ROW_GROUP": 16, "_MERGED_TOGETHER": 3}

# So that codes decide, and not a comparison with all vectors.
_SMALL |= {"_CANDIDATES": 8, "_CANDIDATES_PER_RESULT": 1, "_EXACT_SHARE": 0.9}
_SMALL_IN_LITE = {"MEMTABLE_MEMORY_LIMIT": 4_000}

INDEX_TYPES = ("FLAT", "FLAT", "IVF_FLAT", "IVF_SQ8", "HNSW", "HNSW_SQ", "AUTOINDEX")

# Scores of these come from rounded vectors.
_ROUNDED = ("IVF_SQ8", "HNSW_SQ")

# As far as float32 goes; what is compared exactly is computed in float64.
_CLOSE = {"rel": 2e-6, "abs": 2e-6}


def scale_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is large begin with a few rows."""
    import milvus_lite.engine.collection  # noqa: F401 - so that its constants are there

    for names, package in ((_SMALL, "imagesearch."), (_SMALL_IN_LITE, "milvus_lite.engine.")):
        for name, value in names.items():
            modules = [
                module
                for path, module in list(sys.modules.items())
                if path.startswith(package) and hasattr(module, name)
            ]
            assert modules, f"nothing in {package} has {name} any more"
            for module in modules:
                monkeypatch.setattr(module, name, value)


# --- what can be done ---

Operation = tuple[Any, ...]

_seeds = st.integers(0, 2**16)
_keys = st.integers(0, 40)

_inserts = st.tuples(st.just("insert"), _keys, st.integers(1, 14), _seeds)
_deletes = st.tuples(st.just("delete"), st.lists(_keys, min_size=1, max_size=12))
_builds = st.tuples(st.just("build"), st.sampled_from(INDEX_TYPES))
_others = st.sampled_from(
    [(name,) for name in ("flush", "merge", "reopen", "crash", "switch", "rename", "copy", "drop")]
)

# Rows come and go more often than collections.
operations: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(_inserts, _inserts, _inserts, _deletes, _builds, _others, _others), min_size=3, max_size=20
)


def rows_of(first: int, count: int, seed: int) -> tuple[list[ImageRecord], Vectors]:
    """Pictures with keys from ``first`` on; whole numbers, so that scores are exact, and some vectors equal."""
    rng = np.random.default_rng(seed)
    pictures = [
        ImageRecord(
            f"/photos/{number}.jpg",
            size=int(rng.integers(2**40)),
            taken="2024-05-01T12:00:00" if rng.integers(2) else None,
            latitude=float(rng.normal()) if rng.integers(2) else None,
        )
        for number in range(first, first + count)
    ]
    vectors = rng.integers(-9, 10, (count, DIM)).astype(np.float32)
    vectors[rng.integers(count, size=count // 3)] = vectors[0]
    return pictures, vectors


@dataclass
class History:
    """A collection in a database on disk, and beside it what it must hold.

    Attributes:
        path: the database's.
        metric: the collection's.
        plain: whether Milvus Lite itself has the database open.
        index: the index type that was built last.
        current: what ``index_is_current`` must say; None if either is right.
    """

    path: Path
    metric: Metric
    plain: bool = False
    index: str = ""
    current: bool | None = None
    name: str = "c0"
    made: int = 0
    steps: list[Operation] = field(default_factory=list)
    _lost: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._memory = MemoryDatabase()
        self._database = self._opened()
        self.expected = self._memory.create(self._spec(), fingerprint(DIM))
        self.collection: Collection = self._database.create(self._spec(), fingerprint(DIM))

    def do(self, operation: Operation) -> None:
        """Do it to both."""
        self.steps.append(operation)
        getattr(self, f"_do_{operation[0]}")(*operation[1:])

    def close(self) -> None:
        """The end."""
        self._database.close()
        self._lost.clear()

    def _spec(self, index_type: str = "FLAT") -> CollectionSpec:
        return CollectionSpec(self.name, self.metric, index_type)

    def _opened(self) -> VectorDatabase:
        return (embedded.PlainDatabase if self.plain else lite.LiteDatabase)(self.path)

    # --- rows ---

    def _do_insert(self, first: int, count: int, seed: int) -> None:
        pictures, vectors = rows_of(first, count, seed)
        for each in (self.expected, self.collection):
            each.upsert(pictures, vectors)
        self.current = False

    def _do_delete(self, keys: list[int]) -> None:
        for each in (self.expected, self.collection):
            each.delete([picture_id(f"/photos/{key}.jpg") for key in keys])
        self.current = self.current or None

    # --- files ---

    def _do_flush(self) -> None:
        if isinstance(self._database, embedded.PlainDatabase):
            with self._database.using_lite("flush", self.name, writing=True) as opened:
                opened.lite.flush()
        else:
            self._with_table(lambda table: table.flush())

    def _do_merge(self) -> None:
        if not self.plain:
            self._with_table(lambda table: (table.flush(), merge(table)))
        self.current = None

    def _with_table(self, call: Callable[[Any], Any]) -> None:
        assert isinstance(self._database, lite.LiteDatabase)
        with self._database.using("work", self.name, writing=True) as (table, _):
            call(table)

    def _do_build(self, index_type: str) -> None:
        self.collection = self._database.open(self._spec(index_type))
        self.collection.build_index()
        self.index = index_type
        self.current = True

    # --- the database ---

    def _do_reopen(self) -> None:
        self._database.close()
        self._database = self._opened()
        self.collection = self._database.open(self._spec(self.index or "FLAT"))
        if self.plain:
            self.current = self.current or None

    def _do_crash(self) -> None:
        """The process is gone; files are as they are. Nothing may be written any more by what is left of it."""
        mine = lite_opened._folders.pop(self.path)
        milvus = mine.plain._lite
        if milvus is not None:
            for collection in milvus._collections.values():
                collection._wait_for_bg()
            milvus._release_lock()
        for folder, _ in list(mine._tables):
            mine.forget(folder) if milvus is None else None
        mine.lock.lend()
        self._lost.append((self._database, milvus))
        self.current = None
        self._database = self._opened()
        self.collection = self._database.open(self._spec(self.index or "FLAT"))

    def _do_switch(self) -> None:
        self.plain = not self.plain
        self._do_reopen()
        self.current = None

    # --- collections ---

    def _next_name(self) -> str:
        self.made += 1
        return f"c{self.made}"

    def _do_rename(self) -> None:
        old, self.name = self.name, self._next_name()
        for each in (self._memory, self._database):
            each.rename(old, self.name)
        self.expected = self._memory.open(self._spec())
        self.collection = self._database.open(self._spec(self.index or "FLAT"))
        if self.plain:
            self.current = self.current or None

    def _do_copy(self) -> None:
        source, old, self.name = self.collection, self.name, self._next_name()
        self.collection = self._database.create(self._spec(), fingerprint(DIM))
        for pictures, vectors in source.scan_vectors(batch_size=7):
            self.collection.upsert(pictures, vectors)
        self._database.drop(old)
        self._memory.rename(old, self.name)
        self.expected = self._memory.open(self._spec())
        self.index, self.current = "", None

    def _do_drop(self) -> None:
        for each in (self._memory, self._database):
            each.drop(self.name)
        self.expected = self._memory.create(self._spec(), fingerprint(DIM))
        self.collection = self._database.create(self._spec(), fingerprint(DIM))
        self.index, self.current = "", None

    # --- what must hold ---

    def check(self, seed: int = 0) -> None:
        """Everything that can be read is as in memory."""
        rng = np.random.default_rng([seed, len(self.steps)])
        rows = {picture.id: picture for batch in self.expected.scan() for picture in batch}
        assert self.collection.count() == len(rows) == self.collection.info().rows
        scanned = [picture for batch in self.collection.scan(batch_size=11) for picture in batch]
        assert sorted(scanned, key=lambda picture: picture.id) == [rows[key] for key in sorted(rows)]
        self._check_columns(rows)
        self._check_fetching(rows, rng)
        self._check_search(rows, rng)
        if self.current is not None and rows:
            assert self.collection.index_is_current() is self.current

    def _check_columns(self, rows: dict[int, ImageRecord]) -> None:
        names = ["id", "path", "size", "taken", "latitude"]
        found = [
            row
            for batch in self.collection.scan_columns(names, batch_size=11)
            for row in zip(*(list(batch[name]) for name in names), strict=True)
        ]
        assert sorted(found) == sorted(tuple(getattr(row, name) for name in names) for row in rows.values())

    def _check_fetching(self, rows: dict[int, ImageRecord], rng: np.random.Generator) -> None:
        asked = [int(key) for key in rng.permutation([*rows, picture_id("/gone"), picture_id("/never")])]
        found, matrix = self.collection.fetch(asked)
        expected, vectors = self.expected.fetch(asked)
        assert found == expected
        assert matrix.tobytes() == vectors.tobytes()

    def _check_search(self, rows: dict[int, ImageRecord], rng: np.random.Generator) -> None:
        queries = rng.integers(-9, 10, (3, DIM)).astype(np.float32)
        queries[:, 0] += 0.5  # never zero
        for k in (1, 3, 10, len(rows) + 5):
            expected = self.expected.search(queries, k)
            for found, right, everything in zip(
                self.collection.search(queries, k), expected, self.expected.search(queries, 10_000), strict=True
            ):
                self._check_hits(found, right, {hit.path: hit.score for hit in everything}, rows)
            if self.index in ("", "FLAT"):
                bare = self.collection.search_vectors(queries, k)
                for hits, (ids, vectors) in zip(self.collection.search(queries, k), bare, strict=True):
                    assert ids.tolist() == [hit.picture.id for hit in hits]
                    assert vectors.tobytes() == self.expected.fetch(ids.tolist())[1].tobytes()

    def _check_hits(
        self, found: list[Any], right: list[Any], scores: dict[str, float], rows: dict[int, ImageRecord]
    ) -> None:
        paths = [hit.path for hit in found]
        assert len(set(paths)) == len(paths)
        assert all(rows[hit.picture.id] == hit.picture for hit in found)
        true, best = [scores[path] for path in paths], [hit.score for hit in right]
        if self.index not in _ROUNDED:
            assert [hit.score for hit in found] == pytest.approx(true, **_CLOSE)
        if self.index in ("", "FLAT"):
            assert true == pytest.approx(best, **_CLOSE)
            # Milvus Lite's scores are float32, so that of nearly equal ones either may be first.
            if not self.plain:
                assert [(hit.path, hit.score) for hit in found] == [(hit.path, hit.score) for hit in right]
