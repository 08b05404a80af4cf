"""What every store promises of its rows: scanning, fetching, renaming, and whether the index covers them."""

from __future__ import annotations

import threading
import time
from itertools import islice

import numpy as np
import pytest

from imagesearch.errors import CollectionNotFoundError, StoreError
from imagesearch.records import Metric, Picture, picture_id
from imagesearch.stores import milvus_reader
from imagesearch.stores.base import Vectors, VectorStore

from .conftest import METRICS, Opener, clustered, fingerprint, pictures, vectors


def numbered(first: int, beyond: int, size: int = 0) -> list[Picture]:
    return [Picture(f"/photos/{number}.jpg", size=size) for number in range(first, beyond)]


def everything(store: VectorStore) -> dict[str, tuple[Picture, bytes]]:
    """Path -> row and the bits of its vector; fails if a row comes twice."""
    rows = [
        (picture, vector.tobytes())
        for batch, matrix in store.scan_vectors(batch_size=1000)
        for picture, vector in zip(batch, matrix, strict=True)
    ]
    found = {picture.path: (picture, bits) for picture, bits in rows}
    assert len(found) == len(rows)
    return found


def as_inserted(rows: list[Picture], matrix: Vectors) -> dict[str, tuple[Picture, bytes]]:
    return {row.path: (row, vector.tobytes()) for row, vector in zip(rows, matrix, strict=True)}


def test_camera_and_place_come_back_exactly(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    rows = [
        Picture("/p/a.jpg", camera="Canon EOS 5D", latitude=52.520006599999996, longitude=-0.1),
        Picture("/p/b.jpg", camera="Ångström 📷", latitude=-90.0, longitude=180.0),
        Picture("/p/c.jpg", latitude=0.0, longitude=5e-324),
        Picture("/p/d.jpg"),
    ]
    store.upsert(rows, vectors(*([i + 1, 1] for i in range(4))))
    assert {p for batch in store.scan() for p in batch} == set(rows)
    assert store.fetch([row.id for row in rows])[0] == rows
    assert {hit.picture for hit in store.search(vectors([1, 1]), k=4)[0]} == set(rows)


@pytest.mark.parametrize("metric", METRICS)
def test_vectors_come_back_bit_by_bit(open_store: Opener, metric: Metric) -> None:
    store = open_store(metric=metric, index_type="HNSW")
    store.create(fingerprint(8))
    rows = numbered(0, 1200)  # enough for a server to build an index, from which it then reads
    matrix = 7 * clustered(1200, 8)  # not of unit length
    matrix[3] = np.array([1e-30, -0.0, 3.4e15, 1e-40, 1 / 3, 0, 0, 0], np.float32)
    store.upsert(rows, matrix)
    store.build_index()
    assert everything(store) == as_inserted(rows, matrix)
    found, fetched = store.fetch([row.id for row in rows])
    assert (found, fetched.tobytes(), fetched.dtype) == (rows, matrix.tobytes(), np.float32)


def test_fetch_keeps_the_order_and_leaves_out_what_is_not_there(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    rows, matrix = numbered(0, 3000), np.arange(6000, dtype=np.float32).reshape(3000, 2) + 1
    store.upsert(rows, matrix)
    order = np.random.default_rng(0).permutation(3000)
    asked = [key for number in order for key in (rows[number].id, picture_id(f"/gone/{number}"))]
    found, fetched = store.fetch(asked)
    assert found == [rows[number] for number in order]
    assert np.array_equal(fetched, matrix[order])
    assert store.fetch([rows[1].id, rows[0].id, rows[1].id])[0] == [rows[1], rows[0], rows[1]]
    for nothing in ([], [picture_id("/gone")]):
        found, fetched = store.fetch(nothing)
        assert (found, fetched.shape, fetched.dtype) == ([], (0, 2), np.float32)


@pytest.mark.parametrize("page", [3000, 50_000])
def test_every_row_is_scanned_once_beyond_the_largest_page(
    open_store: Opener, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows than a Milvus query gives (16,384), some of them replaced, some removed, some still in a log."""
    for name in ("_LITE_PAGE", "_SERVER_PAGE"):
        monkeypatch.setattr(milvus_reader, name, page)
    store = open_store()
    store.create(fingerprint())
    total, kept = 20_000, slice(500, None)
    rows, matrix = numbered(0, total), np.arange(2 * total, dtype=np.float32).reshape(total, 2) + 1
    store.upsert(rows, matrix)
    store.build_index()
    again = numbered(4000, 6000, size=9)
    store.upsert(again, -matrix[4000:6000])
    rows[4000:6000], matrix[4000:6000] = again, -matrix[4000:6000]
    store.delete([row.id for row in rows[:500]])
    assert everything(store) == as_inserted(rows[kept], matrix[kept])
    scanned = [picture for batch in store.scan(batch_size=3000) for picture in batch]
    assert sorted(scanned, key=lambda p: p.path) == sorted(rows[kept], key=lambda p: p.path)
    assert store.count() == total - 500


def test_scanning_while_another_store_writes(open_store: Opener) -> None:
    reader, writer = open_store(), open_store()
    reader.create(fingerprint(64))
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


def test_another_collection_of_the_database(open_store: Opener) -> None:
    store = open_store(index_type="HNSW")
    store.create(fingerprint())
    other = store.other(store.spec.name + "b")
    try:
        assert (other.spec.index_type, other.describe(), other.engine) == ("HNSW", None, store.engine)
        other.create(fingerprint(3))
        assert {store.spec.name, other.spec.name} <= set(store.collections())
        assert not store.is_same(other)
        assert store.is_same(open_store())
        other.drop()
    finally:
        other.close()
    assert store.count() == 0


def test_rename(open_store: Opener) -> None:
    store = open_store()
    old, new = store.spec.name, store.spec.name + "n"
    with pytest.raises(CollectionNotFoundError, match=old):
        store.rename(new)
    store.create(fingerprint())
    store.upsert(pictures("a", "b"), vectors([1, 0], [0, 3]))
    store.build_index()
    store.rename(new)
    assert store.spec.name == new
    assert new in store.collections()
    assert old not in store.collections()
    info = store.describe()
    assert info is not None
    assert (info.name, info.rows, info.fingerprint) == (new, 2, fingerprint())
    assert store.search(vectors([0, 1]), k=1)[0][0].path == "/photos/b.jpg"
    assert everything(store) == as_inserted(pictures("a", "b"), vectors([1, 0], [0, 3]))
    store.upsert(pictures("c"), vectors([1, 1]))
    assert store.count() == 3
    second = open_store()  # the old name is free, for vectors of another length too
    second.create(fingerprint(3))
    second.upsert(pictures("d"), vectors([1, 0, 0]))
    with pytest.raises(StoreError, match=rf"{old}.*already"):
        store.rename(old)
    assert store.count() == 3
    store.drop()
    second.rename(new)
    second.upsert(pictures("e"), vectors([0, 0, 1]))
    assert second.count() == 2
    second.drop()


def test_whether_the_index_is_current(open_store: Opener) -> None:
    with pytest.raises(CollectionNotFoundError):
        open_store().index_is_current()
    store = open_store(index_type="HNSW", index_params={"M": 8})
    store.create(fingerprint(8))
    store.upsert(numbered(0, 300), clustered(300, 8))
    assert not store.index_is_current()
    store.build_index()
    assert store.index_is_current()
    another = open_store(index_type="HNSW", index_params={"M": 8})
    for _ in range(300):  # a server takes some seconds to swap a segment for its indexed form
        if another.index_is_current():
            break
        time.sleep(0.1)
    assert another.index_is_current()
    store.upsert(numbered(250, 320), clustered(70, 8))
    assert not store.index_is_current()
    assert not open_store(index_type="HNSW", index_params={"M": 8}).index_is_current()
    store.build_index()
    assert store.index_is_current()
    store.delete([row.id for row in numbered(0, 10)])
    assert store.index_is_current()  # the rows that are left are covered


def test_other_build_parameters_make_it_outdated(open_store: Opener) -> None:
    first = open_store(index_type="HNSW", index_params={"M": 8})
    first.create(fingerprint(8))
    matrix = clustered(200, 8)
    first.upsert(numbered(0, 200), matrix)
    first.build_index()
    second = open_store(index_type="HNSW", index_params={"M": 24})
    assert not second.index_is_current()
    second.build_index()
    assert second.index_is_current()
    assert not open_store(index_type="HNSW", index_params={"M": 8}).index_is_current()
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"


def test_rows_that_no_index_covers_are_found(open_store: Opener) -> None:
    store = open_store(index_type="HNSW")
    store.create(fingerprint(8))
    matrix = clustered(400, 8)
    for first in range(0, 400, 100):
        store.upsert(numbered(first, first + 100), matrix[first : first + 100])
        if first == 100:
            store.build_index()
    for searcher in (store, open_store(index_type="HNSW")):
        found = searcher.search(matrix[::50], k=1)
        assert [hits[0].path for hits in found] == [f"/photos/{number}.jpg" for number in range(0, 400, 50)]


def test_reading_without_a_collection(open_store: Opener) -> None:
    store = open_store()
    for read in (
        lambda: list(islice(store.scan_vectors(), 1)),
        lambda: store.fetch([1]),
        store.index_is_current,
    ):
        with pytest.raises(CollectionNotFoundError, match=store.spec.name):
            read()
