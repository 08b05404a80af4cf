"""What every database promises of its rows: scanning, fetching, renaming, and whether the index covers them."""

from __future__ import annotations

import threading
import time
from dataclasses import fields

import numpy as np
import pytest

from imagesearch.errors import CollectionNotFoundError, StoreError
from imagesearch.records import ImageRecord, Metric, picture_id
from imagesearch.stores.base import (
    Collection,
    VectorDatabase,
    Vectors,
    columns_of,
    find,
    is_same_collection,
)
from imagesearch.stores.milvus import server_collection

from .conftest import METRICS, Opener, Specs, clustered, fingerprint, numbered, operations, pictures, vectors


def everything(collection: Collection) -> dict[str, tuple[ImageRecord, bytes]]:
    """Path -> row and the bits of its vector; fails if a row comes twice."""
    rows = [
        (picture, vector.tobytes())
        for batch, matrix in collection.scan_vectors(batch_size=1000)
        for picture, vector in zip(batch, matrix, strict=True)
    ]
    found = {picture.path: (picture, bits) for picture, bits in rows}
    assert len(found) == len(rows)
    return found


def as_inserted(rows: list[ImageRecord], matrix: Vectors) -> dict[str, tuple[ImageRecord, bytes]]:
    return {row.path: (row, vector.tobytes()) for row, vector in zip(rows, matrix, strict=True)}


def test_camera_and_place_come_back_exactly(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    rows = [
        ImageRecord("/p/a.jpg", camera="Canon EOS 5D", latitude=52.520006599999996, longitude=-0.1),
        ImageRecord("/p/b.jpg", camera="Ångström 📷", latitude=-90.0, longitude=180.0),
        ImageRecord("/p/c.jpg", latitude=0.0, longitude=5e-324),
        ImageRecord("/p/d.jpg"),
    ]
    collection.upsert(rows, vectors(*([i + 1, 1] for i in range(4))))
    assert {p for batch in collection.scan() for p in batch} == set(rows)
    assert collection.fetch([row.id for row in rows])[0] == rows
    assert {hit.picture for hit in collection.search(vectors([1, 1]), k=4)[0]} == set(rows)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_come_back_bit_by_bit(database: VectorDatabase, spec: Specs, metric: Metric) -> None:
    collection = database.create(spec(metric=metric, index_type="HNSW"), fingerprint(8))
    rows = numbered(0, 1200)  # enough for a server to build an index, from which it then reads
    matrix = 7 * clustered(1200, 8)  # not of unit length
    matrix[3] = np.array([1e-30, -0.0, 3.4e15, 1e-40, 1 / 3, 0, 0, 0], np.float32)
    collection.upsert(rows, matrix)
    collection.build_index()
    assert everything(collection) == as_inserted(rows, matrix)
    found, fetched = collection.fetch([row.id for row in rows])
    assert (found, fetched.tobytes(), fetched.dtype) == (rows, matrix.tobytes(), np.float32)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("is_built", [True, False])
def test_vectors_are_those_of_the_hits(
    database: VectorDatabase, spec: Specs, metric: Metric, is_built: bool
) -> None:
    collection = database.create(spec(metric=metric, index_type="FLAT"), fingerprint(8))
    rows, matrix = numbered(0, 300), np.repeat(5 * clustered(100, 8), 3, axis=0)  # each is there three times
    order = np.random.default_rng(0).permutation(300)
    collection.upsert([rows[place] for place in order], matrix[order])
    if is_built:
        collection.build_index()
    collection.delete([rows[0].id])
    queries, stored = 3 * clustered(4, 8, seed=1), dict(zip((row.id for row in rows), matrix, strict=True))
    some = np.array([row.id for row in rows[::2]], np.int64)
    for k, among in ((1, None), (7, None), (500, None), (7, some), (7, some[:0])):
        found = collection.search_vectors(queries, k, among)
        for hits, (ids, bare) in zip(collection.search(queries, k, among), found, strict=True):
            assert ids.tolist() == [hit.picture.id for hit in hits]
            assert (ids.dtype, bare.dtype, bare.shape) == (np.int64, np.float32, (len(hits), 8))
            assert all(np.array_equal(row, stored[key]) for key, row in zip(ids.tolist(), bare, strict=True))


def test_fetch_keeps_the_order_and_leaves_out_what_is_not_there(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    rows, matrix = numbered(0, 3000), np.arange(6000, dtype=np.float32).reshape(3000, 2) + 1
    collection.upsert(rows, matrix)
    order = np.random.default_rng(0).permutation(3000)
    asked = [key for number in order for key in (rows[number].id, picture_id(f"/gone/{number}"))]
    found, fetched = collection.fetch(asked)
    assert found == [rows[number] for number in order]
    assert np.array_equal(fetched, matrix[order])
    assert collection.fetch([rows[1].id, rows[0].id, rows[1].id])[0] == [rows[1], rows[0], rows[1]]
    for nothing in ([], [picture_id("/gone")]):
        found, fetched = collection.fetch(nothing)
        assert (found, fetched.shape, fetched.dtype) == ([], (0, 2), np.float32)


ODD_ROWS = [
    ImageRecord("/photos/caf\udce9.jpg", root="/photos/\udcff", size=2**40, mtime_ns=1_700_000_000_123_456_789),
    ImageRecord("/photos/two\nlines\r.jpg", root="/photos\n", content_hash="ab" * 16, width=4000, height=3000),
    ImageRecord(
        "/photos/🏖 Łódź.jpg", taken="2024-05-01T12:00:00", camera="Ångström 📷", latitude=-90.0, longitude=0.1
    ),
    ImageRecord("file:/looks like ours"),
]


@pytest.mark.parametrize("batch_size", [3, 10_000])
def test_columns_are_those_of_a_scan(database: VectorDatabase, spec: Specs, batch_size: int) -> None:
    collection = database.create(spec(), fingerprint())
    rows = [*ODD_ROWS, *numbered(0, 20, size=7)]
    collection.upsert(rows, np.ones((len(rows), 2), np.float32))
    names = ["id", *(field.name for field in fields(ImageRecord))]
    expected = {row.id: row for row in rows}
    seen: list[int] = []
    for batch in collection.scan_columns(names, batch_size):
        assert list(batch) == names
        ids = np.asarray(batch["id"]).tolist()
        assert 0 < len(ids) <= batch_size
        seen += ids
        wanted = columns_of([expected[key] for key in ids], names)
        for name in names:
            assert type(batch[name]) is type(wanted[name]), name
            assert getattr(batch[name], "dtype", None) == getattr(wanted[name], "dtype", None), name
            assert list(batch[name]) == list(wanted[name]), name
    assert sorted(seen) == sorted(expected)


@pytest.mark.parametrize("names", [["path"], ["size", "path"], ["id"], ["mtime_ns"], ["taken", "latitude"]])
def test_only_the_columns_that_are_asked_for(database: VectorDatabase, spec: Specs, names: list[str]) -> None:
    collection = database.create(spec(), fingerprint())
    assert list(collection.scan_columns(names)) == []
    collection.upsert(ODD_ROWS, np.ones((len(ODD_ROWS), 2), np.float32))
    [batch] = collection.scan_columns(names)
    assert list(batch) == names
    found = list(zip(*(batch[name] for name in names), strict=True))
    assert set(found) == {tuple(getattr(row, name) for name in names) for row in ODD_ROWS}


def test_every_row_is_scanned_once_beyond_the_largest_page(
    database: VectorDatabase, spec: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than a Milvus query gives (16,384), some of them replaced, some removed, some still in a log."""
    collection = database.create(spec(), fingerprint())
    total, kept = 20_000, slice(500, None)
    rows, matrix = numbered(0, total), np.arange(2 * total, dtype=np.float32).reshape(total, 2) + 1
    collection.upsert(rows, matrix)
    collection.build_index()
    again = numbered(4000, 6000, size=9)
    collection.upsert(again, -matrix[4000:6000])
    rows[4000:6000], matrix[4000:6000] = again, -matrix[4000:6000]
    collection.delete([row.id for row in rows[:500]])
    for page in (3000, 50_000):  # of a server; others read as they do
        monkeypatch.setattr(server_collection, "ROWS_PER_PAGE", page)
        assert everything(collection) == as_inserted(rows[kept], matrix[kept])
        columns = list(collection.scan_columns(["size"], batch_size=3000))
        assert sum(int(np.asarray(batch["size"]).sum()) for batch in columns) == 9 * 2000
        assert sum(len(batch["size"]) for batch in columns) == total - 500
        scanned = [picture for batch in collection.scan(batch_size=3000) for picture in batch]
        assert sorted(scanned, key=lambda p: p.path) == sorted(rows[kept], key=lambda p: p.path)
    assert collection.count() == total - 500


def test_scanning_while_another_database_writes(
    database: VectorDatabase, open_database: Opener, spec: Specs
) -> None:
    reader = database.create(spec(), fingerprint(64))
    writer = open_database().open(spec())
    reader.upsert(numbered(0, 2000), clustered(2000, 64))
    failures: list[BaseException] = []
    stop = threading.Event()

    def write() -> None:
        try:
            for first in range(2000, 20_000, 100):
                if stop.is_set():
                    return
                writer.upsert(numbered(first, first + 100), clustered(100, 64))
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(4):
            paths = [picture.path for batch in reader.scan(batch_size=100) for picture in batch]
            assert len(paths) == len(set(paths))
            assert {row.path for row in numbered(0, 2000)} <= set(paths)
    finally:
        stop.set()
        thread.join()
    assert not failures


def test_another_collection_of_the_database(database: VectorDatabase, open_database: Opener, spec: Specs) -> None:
    collection = database.create(spec(index_type="HNSW"), fingerprint())
    settings = spec(index_type="HNSW", name=spec().name + "b")
    assert find(database, settings) is None
    other = database.create(settings, fingerprint(3))
    assert (other.spec.index_type, other.engine, other.place) == ("HNSW", database.engine, database.place)
    assert {collection.spec.name, other.spec.name} <= set(database.names())
    assert database.names() == sorted(database.names())
    assert not is_same_collection(collection, other)
    assert is_same_collection(collection, open_database().open(spec()))
    database.drop(other.spec.name)
    assert collection.count() == 0


def test_rename(database: VectorDatabase, spec: Specs) -> None:
    old, new = spec().name, spec().name + "n"
    with pytest.raises(CollectionNotFoundError, match=old):
        database.rename(old, new)
    before = database.create(spec(), fingerprint())
    before.upsert(pictures("a", "b"), vectors([1, 0], [0, 3]))
    before.build_index()
    database.rename(old, new)
    assert new in database.names()
    assert old not in database.names()
    for operation in operations(before):
        with pytest.raises(CollectionNotFoundError, match=old):
            operation()
    collection = database.open(spec(name=new))
    assert collection.spec.name == new
    info = collection.info()
    assert (info.name, info.rows, info.fingerprint) == (new, 2, fingerprint())
    assert collection.search(vectors([0, 1]), k=1)[0][0].path == "/photos/b.jpg"
    assert everything(collection) == as_inserted(pictures("a", "b"), vectors([1, 0], [0, 3]))
    collection.upsert(pictures("c"), vectors([1, 1]))
    assert collection.count() == 3
    second = database.create(spec(), fingerprint(3))  # the old name is free, for vectors of another length too
    second.upsert(pictures("d"), vectors([1, 0, 0]))
    with pytest.raises(StoreError, match=rf"{old}.*already"):
        database.rename(new, old)
    assert collection.count() == 3
    database.drop(new)
    database.rename(old, new)
    second = database.open(spec(name=new))
    second.upsert(pictures("e"), vectors([0, 0, 1]))
    assert second.count() == 2


def test_whether_the_index_is_current(database: VectorDatabase, open_database: Opener, spec: Specs) -> None:
    settings = spec(index_type="HNSW", index_params={"M": 8})
    collection = database.create(settings, fingerprint(8))
    collection.upsert(numbered(0, 300), clustered(300, 8))
    assert not collection.index_is_current()
    collection.build_index()
    assert collection.index_is_current()
    assert database.open(settings).index_is_current()
    another = open_database().open(settings)
    for _ in range(300):  # a server takes some seconds to swap a segment for its indexed form
        if another.index_is_current():
            break
        time.sleep(0.1)
    assert another.index_is_current()
    collection.upsert(numbered(250, 320), clustered(70, 8))
    assert not collection.index_is_current()
    assert not database.open(settings).index_is_current()
    assert not open_database().open(settings).index_is_current()
    collection.build_index()
    assert collection.index_is_current()
    collection.delete([row.id for row in numbered(0, 10)])
    assert collection.index_is_current()  # the rows that are left are covered


def test_other_build_parameters_make_it_outdated(database: VectorDatabase, spec: Specs) -> None:
    first = database.create(spec(index_type="HNSW", index_params={"M": 8}), fingerprint(8))
    matrix = clustered(200, 8)
    first.upsert(numbered(0, 200), matrix)
    first.build_index()
    second = database.open(spec(index_type="HNSW", index_params={"M": 24}))
    assert not second.index_is_current()
    second.build_index()
    assert second.index_is_current()
    assert not database.open(spec(index_type="HNSW", index_params={"M": 8})).index_is_current()
    assert not first.index_is_current()
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"


def test_rows_that_no_index_covers_are_found(database: VectorDatabase, open_database: Opener, spec: Specs) -> None:
    collection = database.create(spec(index_type="HNSW"), fingerprint(8))
    matrix = clustered(400, 8)
    for first in range(0, 400, 100):
        collection.upsert(numbered(first, first + 100), matrix[first : first + 100])
        if first == 100:
            collection.build_index()
    for searcher in (collection, open_database().open(spec(index_type="HNSW"))):
        found = searcher.search(matrix[::50], k=1)
        assert [hits[0].path for hits in found] == [f"/photos/{number}.jpg" for number in range(0, 400, 50)]
