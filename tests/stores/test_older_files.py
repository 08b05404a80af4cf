"""A database that version 0.1.0 made through pymilvus, before files were read directly, opens unchanged.

``fixtures/before.db.tar.gz`` has four collections of eight dimensions. Of 200 pictures with an index, twenty were
inserted again and ten deleted; then the database was closed, or, with ``flat``, killed after two more pictures, so
that the last changes are in its log.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from imagesearch.records import ImageRecord, Metric
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, VectorDatabase, Vectors
from imagesearch.stores.memory import MemoryDatabase

from .conftest import fingerprint

COLLECTIONS = {
    "auto": (Metric.COSINE, "IVF_FLAT"),
    "hnsw": (Metric.L2, "HNSW"),
    "sq": (Metric.IP, "IVF_SQ8"),
    "flat": (Metric.COSINE, "FLAT"),
}


def rows(first: int, beyond: int, camera: str | None = None) -> list[ImageRecord]:
    return [
        ImageRecord(
            f"/photos/{number}.jpg",
            root="/photos",
            content_hash=f"{number:032x}",
            size=number,
            mtime_ns=10**18 + number,
            width=4000,
            height=3000,
            taken="2026-01-01T12:00:00",
            camera=camera,
        )
        for number in range(first, beyond)
    ]


def drawn(first: int, beyond: int) -> Vectors:
    each = [np.random.default_rng(number).standard_normal(8) for number in range(first, beyond)]
    return np.stack(each).astype(np.float32)


def expected(name: str, spec: CollectionSpec) -> tuple[dict[str, tuple[ImageRecord, bytes]], VectorDatabase]:
    """What the older version was told, told to a database in memory."""
    memory = MemoryDatabase()
    collection = memory.create(spec, fingerprint(8))
    collection.upsert(rows(0, 200), drawn(0, 200))
    collection.upsert(rows(100, 120, "Canon"), drawn(1100, 1120))
    collection.delete([row.id for row in rows(0, 10)])
    if name == "flat":
        odd = [
            ImageRecord("/photos/caf\udce9.jpg", latitude=0.5, longitude=-3.25),
            ImageRecord("/photos/two\nlines.jpg"),
        ]
        collection.upsert(odd, drawn(2000, 2002))
    return everything(memory, spec), memory


def everything(database: VectorDatabase, spec: CollectionSpec) -> dict[str, tuple[ImageRecord, bytes]]:
    return {
        picture.path: (picture, vector.tobytes())
        for batch, matrix in database.open(spec).scan_vectors()
        for picture, vector in zip(batch, matrix, strict=True)
    }


@pytest.fixture
def older(tmp_path: Path) -> str:
    with tarfile.open(Path(__file__).parent / "fixtures" / "before.db.tar.gz") as archive:
        archive.extractall(tmp_path)  # ours, so without the filter that Python 3.10 and 3.11 lack at first
    return str(tmp_path / "before.db")


@pytest.mark.parametrize("name", COLLECTIONS)
def test_everything_is_there_and_can_be_gone_on_with(older: str, name: str) -> None:
    metric, kind = COLLECTIONS[name]
    spec = CollectionSpec(name, metric=metric, index_type=kind)
    wanted, memory = expected(name, spec)
    database = DatabaseAddress.parse(older).open()
    collection = database.open(spec)
    info = collection.info()
    assert (info.rows, info.metric, info.index_type, info.missing_columns) == (
        *(len(wanted), metric, kind),
        ("annotations",),
    )
    assert everything(database, spec) == wanted
    queries = drawn(5000, 5010)
    for ours, theirs in zip(collection.search(queries, 10), memory.open(spec).search(queries, 10), strict=True):
        if name != "sq":  # which is not exact by design
            assert [hit.path for hit in ours] == [hit.path for hit in theirs]
    collection.upsert(rows(300, 310), drawn(300, 310))
    collection.build_index()
    database.close()
    database = DatabaseAddress.parse(older).open()
    again = {
        row.path: (row, vector.tobytes()) for row, vector in zip(rows(300, 310), drawn(300, 310), strict=True)
    }
    assert everything(database, spec) == {**wanted, **again}
    database.close()


def test_the_default_index_takes_the_place_of_the_former_one(older: str) -> None:
    spec = CollectionSpec("auto")
    wanted, memory = expected("auto", spec)
    database = DatabaseAddress.parse(older).open()
    collection = database.open(spec)
    assert not collection.index_is_current()
    before = collection.search(drawn(5000, 5010), 50)  # with the index that is there
    collection.build_index()
    assert collection.info().index_type == collection.spec.index_type == "FLAT"
    found = collection.search(drawn(5000, 5010), 50)
    assert found == memory.open(spec).search(drawn(5000, 5010), 50)
    assert [[hit.path for hit in hits] for hits in before] == [[hit.path for hit in hits] for hits in found]
    assert everything(database, spec) == wanted
    database.close()
