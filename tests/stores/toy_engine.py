"""A third engine, to show what one needs: this module, and one line in the registry.

Collections are rows of one SQLite file, and compared one by one. Methods are those of ``stores.base``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from imagesearch.errors import StoreError
from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Progress, no_progress
from imagesearch.stores import base, columns, scores
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.gate import Gate
from imagesearch.stores.memory import MemoryDatabase

_TABLES = """
create table if not exists collections (
    number integer primary key autoincrement, name unique, fingerprint, metric, built default '');
create table if not exists rows (collection, id, row, vector, primary key (collection, id));
"""


def open_database(address: DatabaseAddress, options: base.ConnectionOptions) -> ToyDatabase:
    return ToyDatabase(address)


class ToyDatabase:
    def __init__(self, address: DatabaseAddress) -> None:
        self.place, self._file = address.place, address.path
        self.engine = f"SQLite {sqlite3.sqlite_version} at {self.place}"
        self._gate, self._lock = Gate(address.place), threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def run(self, sql: str, *values: Any, many: bool = False) -> list[Any]:
        with self._gate.passing(), self._lock:
            try:
                if self._connection is None:
                    if not sql.startswith("insert") and not self._file.exists():
                        return []  # a question makes no file
                    self._connection = sqlite3.connect(self._file, check_same_thread=False)
                    self._connection.executescript(_TABLES)
                with self._connection as open_one:
                    return (open_one.executemany if many else open_one.execute)(sql, values).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"{self.engine}: {error}") from error

    def names(self) -> list[str]:
        return [name for (name,) in self.run("select name from collections order by name")]

    def open(self, spec: base.CollectionSpec) -> ToyCollection:
        for row in self.run("select number, fingerprint, metric from collections where name = ?", spec.name):
            return ToyCollection(self, replace(spec, metric=Metric(row[2])), row)
        raise base.no_collection(spec.name, self.place)

    def create(self, spec: base.CollectionSpec, fingerprint: Fingerprint) -> ToyCollection:
        sql = "insert or ignore into collections (name, fingerprint, metric) values (?, ?, ?)"
        self.run(sql, spec.name, fingerprint.to_json(), spec.metric.value)
        there = self.open(spec)
        base.require_same_model(spec.name, fingerprint, there.fingerprint)
        base.require_same_metric(spec.name, spec.metric, there.metric)
        return there

    def check(self, spec: base.CollectionSpec) -> None:
        self.run("select 1")  # every index and metric is possible, as search is exact; but not once it is closed

    def rename(self, name: str, new: str) -> None:
        if name not in self.names():
            raise base.no_collection(name, self.place)
        if new in self.names():
            raise base.name_taken(new, self.place)
        self.run("update collections set name = ? where name = ?", new, name)

    def drop(self, name: str) -> None:
        self.run("delete from rows where collection = (select number from collections where name = ?)", name)
        self.run("delete from collections where name = ?", name)

    def close(self) -> None:
        if self._gate.close() and self._connection is not None:
            self._connection.close()


class ToyCollection:
    def __init__(self, database: ToyDatabase, spec: base.CollectionSpec, row: tuple[int, str, str]) -> None:
        self.spec = replace(spec, index_type="FLAT" if spec.index_type == "auto" else spec.index_type)
        self.engine, self.place, self._database = database.engine, database.place, database
        self._number, self.fingerprint, self.metric = row[0], Fingerprint.from_json(row[1]), Metric(row[2])
        self._index = f"{self.spec.index_type} {dict(self.spec.index_params)}"

    def run(self, sql: str, *values: Any, many: bool = False) -> list[Any]:
        if (self._number, self.spec.name) not in self._database.run("select number, name from collections"):
            raise base.no_collection(self.spec.name, self.place)
        return self._database.run(sql, *values, many=many)

    def info(self) -> CollectionInfo:
        [[built]] = self.run("select built from collections where number = ?", self._number)
        return CollectionInfo(self.spec.name, self.count(), self.metric, built.split(" ")[0], self.fingerprint)

    def count(self) -> int:
        return int(self.run("select count(*) from rows where collection = ?", self._number)[0][0])

    def upsert(self, pictures: Sequence[ImageRecord], vectors: base.Vectors) -> None:
        kept, matrix = base.checked_rows(pictures, vectors, self.fingerprint.dim)
        stored = columns.stored_columns(kept, columns.BY_NAME)
        texts = [json.dumps(dict(zip(stored, row, strict=True))) for row in zip(*stored.values(), strict=True)]
        rows = [(self._number, p.id, t, v.tobytes()) for p, t, v in zip(kept, texts, matrix, strict=True)]
        self.run("update collections set built = '' where number = ?", self._number)
        self.run("insert or replace into rows values (?, ?, ?, ?)", *rows, many=True)

    def delete(self, ids: Sequence[int]) -> None:
        self.run(f"delete from rows where collection = ? and id in ({','.join(map(str, ids))})", self._number)

    def search(self, vectors: base.Vectors, k: int, among: base.Ids | None = None) -> list[list[Hit]]:
        exact = MemoryDatabase().create(replace(self.spec, metric=self.metric), self.fingerprint)
        for batch in self.scan_vectors():
            exact.upsert(*batch)
        return exact.search(vectors, k, among)

    def search_vectors(
        self, vectors: base.Vectors, k: int, among: base.Ids | None = None
    ) -> list[tuple[base.Ids, base.Vectors]]:
        return [scores.vectors_of(self, hits) for hits in self.search(vectors, k, among)]

    def scan(self, batch_size: int = 1000) -> Iterator[list[ImageRecord]]:
        return (rows for rows, _ in self.scan_vectors(batch_size))

    def scan_columns(self, names: Sequence[str], batch_size: int = 10_000) -> Iterator[base.Columns]:
        return (base.columns_of(rows, names) for rows in self.scan(batch_size))

    def scan_vectors(self, batch_size: int = 1000) -> Iterator[tuple[list[ImageRecord], base.Vectors]]:
        ids = [key for (key,) in self.run("select id from rows where collection = ?", self._number)]
        for start in range(0, len(ids), batch_size):
            yield self.fetch(ids[start : start + batch_size])

    def fetch(self, ids: Sequence[int]) -> tuple[list[ImageRecord], base.Vectors]:
        sql = f"select id, row, vector from rows where collection = ? and id in ({','.join(map(str, ids))})"
        found = {key: row for key, *row in self.run(sql, self._number)}
        pairs = [found[key] for key in ids if key in found]
        matrix = np.frombuffer(b"".join(vector for _, vector in pairs), np.float32)
        return [columns.to_record(json.loads(row)) for row, _ in pairs], matrix.reshape(-1, self.fingerprint.dim)

    def index_is_current(self) -> bool:
        return self.run("select built from collections where number = ?", self._number) == [(self._index,)]

    def build_index(self, progress: Progress = no_progress) -> None:
        self.run("update collections set built = ? where number = ?", self._index, self._number)
        progress("index", self.count(), self.count())
