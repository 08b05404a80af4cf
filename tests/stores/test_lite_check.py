"""Every kind of file of an embedded collection, damaged in every way: found, repaired, and told what is lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import StoreError
from imagesearch.records import ImageRecord
from imagesearch.reports import Finding
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import lite_index, lite_reader, lite_segment
from imagesearch.stores.milvus.lite import LiteDatabase

from .conftest import clustered, fingerprint

DIM = 32
NAME = "kept"
KINDS = {
    "schema": "schema.json",
    "schema copy": "schema.json.imagesearch",
    "manifest": "manifest.json",
    "manifest copy": "manifest.json.prev",
    "data": "partitions/_default/data/*.parquet",
    "deletions": "partitions/_default/delta/*.parquet",
    "index": "partitions/_default/indexes/*.idx",
    "codes": "partitions/_default/indexes/*.codes",
    "log": "wal/wal_data_*.arrow",
    "log of deletions": "wal/wal_delta_*.arrow",
    "witness": "wal/imagesearch.json",
}
WAYS = ("truncated", "emptied", "missing", *(f"bit {seed}" for seed in range(6)))

Rows = dict[str, tuple[ImageRecord, bytes]]


@dataclass(frozen=True)
class Template:
    """A database as a killed process leaves it: data files, files of deletions, an index, a log."""

    folder: Path
    rows: Rows
    deleted: frozenset[str]


def picture(number: int, size: int = 0) -> ImageRecord:
    return ImageRecord(
        f"/photos/{number % 3}/{number}.jpg", f"/photos/{number % 3}", f"{number:032x}", size, number, 4, 3
    )


def rows_of(database: LiteDatabase, index_type: str = "FLAT") -> Rows:
    collection = database.open(CollectionSpec(NAME, index_type=index_type))
    found: Rows = {}
    for pictures, vectors in collection.scan_vectors():
        found.update({row.path: (row, vectors[place].tobytes()) for place, row in enumerate(pictures)})
    assert len(found) == collection.count()
    return found


def make(folder: Path, index_type: str) -> Template:
    with_log = folder / "made"
    database = LiteDatabase(folder / "first.db")
    spec = CollectionSpec(NAME, index_type=index_type)
    collection = database.create(spec, fingerprint(DIM))
    vectors = clustered(200, DIM)
    for start in range(0, 60, 20):
        collection.upsert([picture(number) for number in range(start, start + 20)], vectors[start : start + 20])
    collection.build_index()
    collection.delete([picture(number).id for number in (3, 40)])
    collection.upsert([picture(number, size=7) for number in range(55, 90)], vectors[55:90])
    collection.build_index()
    for start in range(90, 110, 5):
        collection.upsert([picture(number) for number in range(start, start + 5)], vectors[start : start + 5])
    collection.delete([picture(number).id for number in (7, 91)])
    collection.delete([picture(60).id])
    rows = rows_of(database, index_type)
    shutil.copytree(folder / "first.db", with_log)
    database.close()
    return Template(with_log, rows, frozenset(picture(number).path for number in (3, 40, 7, 91, 60)))


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Codes and several row groups, with few rows."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (lite_index, lite_reader):
            patch.setattr(module, "MIN_CODED", 16)
        patch.setattr(lite_segment, "_ROW_GROUP", 16)
        patch.setattr(lite_index, "LEAST_INDEXED", 1)
        yield


@pytest.fixture(scope="module", params=["FLAT", "HNSW"])
def template(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, small: None) -> Template:
    return make(tmp_path_factory.mktemp("template"), request.param)


@pytest.fixture
def database(template: Template, tmp_path: Path) -> Iterator[LiteDatabase]:
    shutil.copytree(template.folder, tmp_path / "photos.db")
    with closing(LiteDatabase(tmp_path / "photos.db")) as opened:
        yield opened


def damage(file: Path, way: str) -> None:
    data = bytearray(file.read_bytes())
    if way == "missing":
        file.unlink()
        return
    if way.startswith("bit"):
        bit = random.Random(f"{file.name} {way}").randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data[: {"truncated": len(data) * 2 // 3, "emptied": 0}.get(way, len(data))])


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "imagesearch-owner.json"
    }


def check(database: LiteDatabase) -> list[Finding]:
    """Without a change on the disk."""
    before = digests(database.path)
    reading = database.unchanging()
    found = reading.check_files(NAME)
    reading.close()
    assert digests(database.path) == before
    return found


def index_type_of(template: Template) -> str:
    manifest = json.loads((template.folder / "collections" / NAME / "manifest.json").read_text())
    return str(manifest["index_specs"]["embedding"]["index_type"])


def judge(found: list[Finding], rows: Rows, template: Template) -> set[str]:
    """What is there must be as it was, and what is not there must be told of; returns the paths that are lost."""
    lost = template.rows.keys() - rows.keys()
    back = rows.keys() - template.rows.keys()
    deletions_lost = any("that were deleted may be back" in finding.consequence for finding in found)
    unknown = any(finding.lost is None for finding in found)
    some = any(finding.lost for finding in found)
    for path in rows.keys() & template.rows.keys():
        there, before = rows[path], template.rows[path]
        if there != before:  # of a picture whose row is lost, an older one that tells of an older file
            assert there[0].size != before[0].size, path
            assert unknown or some, path
    assert not back or (deletions_lost and back <= template.deleted), back
    named = {path for finding in found for path in finding.paths}
    if not unknown:
        assert len(lost - named) <= sum(finding.lost or 0 for finding in found) - len(named)
    return lost


def files_of(database: LiteDatabase, kind: str) -> list[Path]:
    return sorted((database.path / "collections" / NAME).glob(KINDS[kind]))


def test_a_sound_database_has_no_findings(database: LiteDatabase, template: Template) -> None:
    assert check(database) == []
    assert rows_of(database, index_type_of(template)) == template.rows
    collection = database.open(CollectionSpec(NAME, index_type=index_type_of(template)))
    collection.build_index()
    assert check(database) == []
    assert database.repair_files(NAME) == []
    assert rows_of(database) == template.rows


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_damage(database: LiteDatabase, template: Template, kind: str, way: str) -> None:
    files = files_of(database, kind)
    if not files:
        assert (kind, index_type_of(template)) == ("codes", "HNSW")
        return
    with_one_damaged(database, template, random.Random(way).choice(files), way)


# What is only a second copy, or made by Milvus Lite in other ways too, may be missing.
OPTIONAL = ("schema.json.imagesearch", "imagesearch.json")


def with_one_damaged(database: LiteDatabase, template: Template, file: Path, way: str) -> set[str]:
    damage(file, way)
    found = check(database)
    if way == "missing" and file.name in OPTIONAL:
        assert found == []
    else:
        assert file.relative_to(database.path).as_posix() in {finding.file for finding in found}
    repaired = database.repair_files(NAME)
    assert [finding.file for finding in repaired][:1] == [finding.file for finding in found][:1]
    assert all(finding.is_repaired for finding in repaired)
    rows = rows_of(database, index_type_of(template))
    lost = judge(repaired, rows, template)
    database.open(CollectionSpec(NAME, index_type=index_type_of(template))).build_index()
    assert check(database) == []
    assert rows_of(database) == rows
    return lost


@pytest.mark.parametrize("way", ["emptied", "missing", "bit 1"])
@pytest.mark.parametrize("name", ["manifest.json", "schema.json"])
def test_a_file_and_its_copy(database: LiteDatabase, template: Template, name: str, way: str) -> None:
    folder = database.path / "collections" / NAME
    copies = {"manifest.json": "manifest.json.prev", "schema.json": "schema.json.imagesearch"}
    damage(folder / name, way)
    damage(folder / copies[name], way)
    found = check(database)
    repaired = database.repair_files(NAME)
    assert found[0].file == f"collections/{NAME}/{name}"
    if name == "manifest.json":
        assert rows_of(database, index_type_of(template)) == template.rows
        assert check(database) == []
    else:  # nothing else says which model it was; the pictures are still there, and it is known where
        assert database.names() == []
        assert repaired[0].lost is None
        assert repaired[0].folders == ("/photos/0", "/photos/1", "/photos/2")
        kept = database.path / "imagesearch-damaged" / NAME
        assert list(kept.glob("partitions/_default/data/*.parquet"))


def test_damaged_originals_are_kept(database: LiteDatabase) -> None:
    (file,) = files_of(database, "data")[:1]
    damage(file, "truncated")
    before = file.read_bytes()
    database.repair_files(NAME)
    kept = database.path / "imagesearch-damaged" / NAME / file.relative_to(database.path / "collections" / NAME)
    assert kept.read_bytes() == before


def test_vectors_come_back_from_an_exact_index(database: LiteDatabase, template: Template) -> None:
    """The first data file is 60 rows in 4 groups, and mostly vectors: all that is hit there can be restored."""
    if index_type_of(template) != "FLAT":
        return
    file = files_of(database, "data")[0]
    whole = file.read_bytes()
    vector = np.frombuffer(template.rows["/photos/1/1.jpg"][1], np.uint8).tobytes()
    place = whole.index(vector)
    file.write_bytes(whole[:place] + bytes(len(vector)) + whole[place + len(vector) :])
    assert [finding.lost for finding in check(database)] == [0]
    assert [finding.is_repaired for finding in database.repair_files(NAME)] == [True]
    assert file.read_bytes() == whole
    assert rows_of(database) == template.rows


def test_lost_rows_are_named(database: LiteDatabase, template: Template) -> None:
    """Without an exact index, the vectors of one group of rows are lost; the others are not."""
    if index_type_of(template) == "FLAT":
        return
    file = files_of(database, "data")[0]
    whole = file.read_bytes()
    place = whole.index(template.rows["/photos/1/1.jpg"][1])
    file.write_bytes(whole[:place] + bytes(8) + whole[place + 8 :])
    (finding,) = check(database)
    assert finding.lost == len(finding.paths) == 16
    assert "/photos/1/1.jpg" in finding.paths
    database.repair_files(NAME)
    rows = rows_of(database, "HNSW")
    assert rows == {path: row for path, row in template.rows.items() if path not in finding.paths}


class _Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("kind", ["schema", "manifest", "data", "deletions", "index", "log", "witness"])
def test_an_interrupted_repair_can_be_repeated(
    template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    fsync, calls = os.fsync, 0

    def dies_at(limit: int) -> None:
        nonlocal calls
        calls = 0

        def synchronise(handle: int) -> None:
            nonlocal calls
            calls += 1
            if calls == limit:
                raise _Killed
            fsync(handle)

        monkeypatch.setattr(os, "fsync", synchronise)

    for limit in range(1, 100):
        folder = tmp_path / f"{limit}.db"
        shutil.copytree(template.folder, folder)
        with closing(LiteDatabase(folder)) as database:
            damage(files_of(database, kind)[0], "bit 2")
            found = check(database)
            dies_at(limit)
            try:
                database.repair_files(NAME)
            except _Killed:
                dies_at(0)
                database.repair_files(NAME)
                judge(found, rows_of(database, index_type_of(template)), template)
                assert check(database) == []
                kept = list((folder / "imagesearch-damaged").rglob("*.*"))
                assert kept or kind == "index"
            else:
                assert limit > 1 or kind == "index"
                return
    raise AssertionError("it never ended")


def test_what_milvus_lite_wrote_itself(tmp_path: Path, template: Template) -> None:
    """Without digests: no false alarm, and what cannot be read is found."""
    from milvus_lite import MilvusLite

    shutil.copytree(template.folder, tmp_path / "photos.db")
    vectors = clustered(300, DIM)
    with closing(LiteDatabase(tmp_path / "photos.db")) as database:
        collection = database.open(CollectionSpec(NAME, index_type=index_type_of(template)))
        collection.build_index()
    with MilvusLite(str(tmp_path / "photos.db")) as lite:
        table = lite.get_collection(NAME)
        table.load()
        rows = table.query("id >= 0", output_fields=["*"], limit=5)
        table.insert([{**row, "embedding": vectors[place + 200].tolist()} for place, row in enumerate(rows)])
        table.flush()
    with closing(LiteDatabase(tmp_path / "photos.db")) as database:
        assert check(database) == []
        assert database.repair_files(NAME) == []
        newest = max(files_of(database, "data"), key=lambda file: file.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:-100])
        assert [finding.problem for finding in check(database)] == ["cannot be read"]
        database.repair_files(NAME)
        assert check(database) == []


def test_leftovers_of_a_crash(database: LiteDatabase, template: Template) -> None:
    folder = database.path / "collections" / NAME
    (folder / "manifest.json.tmp").write_text("{")
    shutil.copy(files_of(database, "data")[0], folder / "partitions/_default/data/data_000900_000901.parquet")
    assert {finding.problem for finding in check(database)} == {"is needed by nothing"}
    database.repair_files(NAME)
    assert check(database) == []
    assert rows_of(database, index_type_of(template)) == template.rows


def test_what_can_only_be_read_is_not_repaired(database: LiteDatabase) -> None:
    with closing(database.unchanging()) as reading, pytest.raises(StoreError, match="read-only"):
        reading.repair_files(NAME)
