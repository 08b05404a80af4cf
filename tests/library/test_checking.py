"""Rows, vectors, index and list of skipped files of any database: what is wrong is found, told and repaired."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.library.checking import check_database
from imagesearch.records import ImageRecord
from imagesearch.reports import Finding
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from ..faults.scenarios import ToyEmbedder, draw
from ..stores.milvus_server import needs_milvus_server

SPEC = CollectionSpec("pictures", index_type="FLAT")


def open_images(place: Path, **milvus: str) -> ImageSearch:
    settings = {"uri": str(place / "photos.db"), "collection_name": SPEC.name, **milvus}
    return ImageSearch({"milvus": settings, "extraction": {"batch_size": 8}}, embedder=ToyEmbedder())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two folders of twenty pictures each, one after the other in a database."""
    for number, name in enumerate(("first", "second")):
        draw(tmp_path / name, range(20), seed=number)
        with open_images(tmp_path) as images:
            images.index(tmp_path / name)
    return tmp_path


def rows_of(images: ImageSearch) -> dict[str, tuple[ImageRecord, bytes]]:
    found = {}
    for pictures, vectors in images.collection().scan_vectors():
        found.update({row.path: (row, vectors[number].tobytes()) for number, row in enumerate(pictures)})
    return found


def data_files(place: Path) -> list[Path]:
    return sorted((place / "photos.db/collections/pictures").glob("partitions/*/data/*.parquet"))


# --- an embedded database ---


def test_a_sound_database(place: Path) -> None:
    with open_images(place) as images:
        for repair in (False, True):
            report = images.check(repair)
            assert (report.collections, report.pictures, report.findings) == (1, 40, ())
            assert report.is_sound


@pytest.mark.parametrize("damage", ["emptied", "missing", "truncated"])
def test_lost_rows_are_encoded_again(place: Path, damage: str) -> None:
    """Also those of a folder of which no row is left."""
    with open_images(place) as images:
        before = rows_of(images)
    for file in data_files(place):
        if damage == "missing":
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2 if damage == "truncated" else 0])
    with open_images(place) as images:
        report = images.check()
        assert not report.is_sound
        assert [finding.lost for finding in report.findings] == [20, 20]
        report = images.check(repair=True)
        assert report.is_sound
        assert (report.encoded, report.pictures) == (40, 40)
        assert rows_of(images) == before
        assert images.check().findings == ()


def test_pictures_that_are_not_there_stay_lost(place: Path) -> None:
    data_files(place)[0].write_bytes(b"")
    shutil.move(place / "first", place / "elsewhere")
    with open_images(place) as images:
        report = images.check(repair=True)
        assert not report.is_sound
        (finding,) = report.findings
        assert "run 'imagesearch index FOLDER'" in finding.consequence
        assert str(place / "first") in finding.consequence
        assert images.collection().count() == 20


def test_a_lost_schema(place: Path) -> None:
    """Without the copy, nothing says which model it was: the collection is made again of its pictures."""
    with open_images(place) as images:
        before = rows_of(images)
    folder = place / "photos.db/collections/pictures"
    (folder / "schema.json").unlink()
    (folder / "schema.json.imagesearch").unlink()
    with open_images(place) as images:
        assert not images.check().is_sound
        report = images.check(repair=True)
        assert report.is_sound, report
        assert rows_of(images).keys() == before.keys()
    assert list((place / "photos.db/imagesearch-damaged/pictures").glob("partitions/*/data/*"))


def test_a_lost_schema_of_another_collection(place: Path) -> None:
    """It is not known which model to use for it."""
    folder = place / "photos.db/collections/pictures"
    (folder / "schema.json").unlink()
    (folder / "schema.json.imagesearch").unlink()
    with open_images(place, collection_name="other") as images:
        report = images.check(repair=True)
        assert not report.is_sound
        assert "not known which model" in report.findings[0].consequence
        assert images.database.collections() == {}


def test_a_damaged_index_is_built_again(place: Path) -> None:
    for index_type in ("FLAT", "HNSW"):
        with open_images(place, index_type=index_type) as images:
            images.index()
        (file, *_) = (place / "photos.db/collections/pictures").glob("partitions/*/indexes/*")
        file.write_bytes(file.read_bytes()[:-10])
        with open_images(place) as images:  # whatever is configured now
            assert images.check(repair=True).is_sound
            assert images.describe().index_type == index_type
        with open_images(place, index_type=index_type) as images:
            assert images.check().findings == ()


def test_keys_of_other_paths(place: Path) -> None:
    """As another program may write them."""
    from milvus_lite import MilvusLite

    with MilvusLite(str(place / "photos.db")) as lite:
        table = lite.get_collection("pictures")
        table.load()
        (row,) = table.query("id >= 0", output_fields=["*"], limit=1)
        table.insert([{**row, "id": 4711}])
    with open_images(place) as images:
        assert any("key that is not their path's" in finding.problem for finding in images.check().findings)
        report = images.check(repair=True)
        assert report.is_sound
        assert report.pictures == 40
        assert images.check().findings == ()


def test_the_list_of_skipped_files(place: Path) -> None:
    (place / "first/broken.png").write_bytes(b"no picture")
    with open_images(place) as images:
        images.index()
        file = images.database.ledger_file("pictures")
        assert file is not None
        with open(file, "ab") as stream:
            stream.write(b'{"path": "/half/of/a')
        (finding,) = images.check().findings
        assert finding.problem == "has 1 line that cannot be understood"
        assert images.check(repair=True).is_sound
        assert images.check().findings == ()
        assert [Path(skip.path).name for skip in images.skipped()] == ["broken.png"]


def test_a_list_of_skipped_files_that_cannot_be_read(place: Path) -> None:
    with open_images(place) as images:
        images.index()
        file = images.database.ledger_file("pictures")
        assert file is not None
        file.mkdir(parents=True)
        (finding,) = images.check().findings
        assert (finding.file, finding.problem) == (str(file), "cannot be read: is a directory")


# --- any database ---


class Broken(MemoryDatabase):
    """Lets rows be written that no program writes."""

    def put(self, key: int, picture: ImageRecord, vector: list[float]) -> None:
        self.table(SPEC.name).rows[key] = (picture, np.array(vector, np.float32))


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    database = Broken()
    embedder = ToyEmbedder()
    embedder.fingerprint = replace(embedder.fingerprint, dim=2)
    collection = database.create(SPEC, embedder.fingerprint)
    angles = np.linspace(0, 3, 30)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    collection.upsert([ImageRecord(f"/p/{number}.jpg") for number in range(30)], vectors)
    collection.build_index()
    yield database
    database.close()


def found_in(database: MemoryDatabase) -> list[Finding]:
    return list(check_database(database, SPEC, lambda _: None).findings)


def test_a_sound_one_in_memory(broken: Broken) -> None:
    assert found_in(broken) == []


@pytest.mark.parametrize("vector", [[np.nan, 0.0], [np.inf, 0.0], [0.5, 0.5], [0.0, 0.0]])
def test_impossible_vectors(broken: Broken, vector: list[float]) -> None:
    picture = ImageRecord("/p/7.jpg")
    broken.put(picture.id, picture, vector)
    finding = found_in(broken)[0]
    assert (finding.lost, finding.paths, finding.is_repaired) == (1, ("/p/7.jpg",), False)


def test_an_index_that_does_not_cover_all(broken: Broken) -> None:
    broken.open(SPEC).upsert([ImageRecord("/p/new.jpg")], np.array([[1, 0]], np.float32))
    (finding,) = found_in(broken)
    assert finding.problem == "has rows that the index does not cover"


def test_rows_that_a_search_does_not_find(broken: Broken, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with an index of other vectors."""
    from imagesearch.stores import memory

    scores = memory._scores

    def shuffled(queries: NDArray[np.float32], rows: NDArray[np.float32], metric: object) -> NDArray[np.float64]:
        return scores(-queries, rows, metric) if len(queries) > 1 else scores(queries, rows, metric)  # type: ignore[arg-type]

    monkeypatch.setattr(memory, "_scores", shuffled)
    (finding,) = found_in(broken)
    assert "are not found by their own vector" in finding.problem
    assert not finding.can_be_repaired


def test_impossible_rows_are_taken_out_and_encoded_again(tmp_path: Path) -> None:
    draw(tmp_path / "p", range(6))
    database = Broken()
    settings = {"milvus": {"collection_name": SPEC.name, "index_type": "FLAT"}}
    with ImageSearch(settings, database=database, embedder=ToyEmbedder()) as images:
        images.index(tmp_path / "p")
        before = rows_of(images)
        row = next(iter(before.values()))[0]
        database.put(row.id, row, [9.0] * 48)
        report = images.check(repair=True)
        assert report.is_sound
        assert report.encoded == 1
        assert rows_of(images) == before
        assert images.check().findings == ()


def test_pictures_of_one_colour_do_not_look_lost(tmp_path: Path) -> None:
    """Equal vectors: another picture may be found first, and is as close."""
    for number in range(30):
        Image.new("RGB", (8, 8), (200, number % 2, 30)).save(tmp_path / f"{number}.png")
    with open_images(tmp_path) as images:
        images.index(tmp_path)
        assert images.check().findings == ()


@needs_milvus_server
def test_a_server(milvus_server: str, tmp_path: Path) -> None:
    draw(tmp_path / "p", range(20))
    name = f"checked_{uuid.uuid4().hex[:8]}"
    settings = {"milvus": {"uri": milvus_server, "collection_name": name, "index_type": "HNSW"}}
    with ImageSearch(settings, embedder=ToyEmbedder()) as images:
        images.index(tmp_path / "p")
        try:
            for repair in (False, True):
                report = images.check(repair)
                assert [finding for finding in report.findings if finding.collection == name] == []
                assert report.pictures >= 20
        finally:
            images.database.drop(name)
