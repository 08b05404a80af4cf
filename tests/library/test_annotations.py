"""Columns of one's own: joined, kept, filtered by."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.errors import UsageError
from imagesearch.library import plan
from imagesearch.library.annotations import MOST_BYTES, annotate, read_annotations, with_annotations
from imagesearch.records import ImageRecord, parse_annotations
from imagesearch.search.filters import Filter, matching
from imagesearch.stores.base import Collection, VectorDatabase

from ..stores.conftest import Specs, clustered, database, fingerprint, is_memory, lite_uri, open_database, spec

__all__ = ["database", "is_memory", "lite_uri", "open_database", "spec"]

ROWS = [ImageRecord(f"/p/{number % 3}/{number}.jpg", root="/p", content_hash=f"h{number}") for number in range(30)]


@pytest.fixture
def collection(database: VectorDatabase, spec: Specs) -> Collection:
    made = database.create(spec(), fingerprint(8))
    made.upsert(ROWS, clustered(30, 8))
    return made


def write(place: Path, text: str) -> str:
    place.write_text(text, encoding="utf-8")
    return str(place)


def matched(collection: Collection, expression: str) -> set[str]:
    paths = {row.id: row.path for row in ROWS}
    return {paths[key] for key in matching(collection, Filter(expression=expression)).tolist()}


def bits(collection: Collection) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for rows, vectors in collection.scan_vectors():
        found |= {row.id: vector.tobytes() for row, vector in zip(rows, vectors, strict=True)}
    return found


def test_filters_refer_to_them(collection: Collection, tmp_path: Path) -> None:
    file = write(
        tmp_path / "labels.csv",
        "path,Species name,stars,weight\n/p/1/1.jpg,owl,5,1.5\n"
        '2/2.jpg,"barn, owl",3,\n0/3.jpg,,1,2\n/no,owl,1,1\n',
    )
    before = bits(collection)
    report = annotate(collection, read_annotations(file))
    assert (report.pictures, report.unmatched) == (3, ("/no",))
    assert report.columns == ("species_name", "stars", "weight")
    assert matched(collection, 'species_name == "owl"') == {"/p/1/1.jpg"}
    assert matched(collection, "stars >= 3") == {"/p/1/1.jpg", "/p/2/2.jpg"}
    assert matched(collection, 'weight > 1.6 or species_name like "barn%"') == {"/p/0/3.jpg", "/p/2/2.jpg"}
    assert matched(collection, 'stars < 3 and path like "/p/0/%"') == {"/p/0/3.jpg"}
    assert len(matched(collection, "stars is null")) == 27
    assert bits(collection) == before
    with pytest.raises(UsageError, match="did you mean 'stars'"):
        matched(collection, "starss > 3")
    (hits,) = collection.search(clustered(1, 8), 30)
    (owl,) = (hit for hit in hits if hit.path == "/p/1/1.jpg")
    assert owl.to_dict()["annotations"] == {"species_name": "owl", "stars": 5, "weight": 1.5}


def test_later_tables_add_and_replace(collection: Collection, tmp_path: Path) -> None:
    annotate(
        collection, read_annotations(write(tmp_path / "a.csv", "name,a,b\n4.jpg,1,x\n5.jpg,2,y\n"), "name"), "name"
    )
    later = write(tmp_path / "b.csv", "content_hash;b;c\nh4;z;1,5\n")
    annotate(collection, read_annotations(later, "content_hash"), "content_hash")
    (row,), _ = collection.fetch([ROWS[4].id])
    assert parse_annotations(row.annotations) == {"a": 1, "b": "z", "c": "1,5"}
    assert matched(collection, "a == 2") == {ROWS[5].path}


def test_paths_that_lead_out_of_the_folder_of_the_table(
    database: VectorDatabase, spec: Specs, tmp_path: Path
) -> None:
    pictures, labels = tmp_path / "pictures", tmp_path / "labels"
    collection = database.create(spec(), fingerprint(8))
    collection.upsert([ImageRecord(str(pictures / "1.jpg"), root=str(pictures))], clustered(1, 8))
    labels.mkdir()
    file = write(labels / "labels.csv", "path,stars\n../pictures/1.jpg,5\n../1.jpg,5\n")
    report = annotate(collection, read_annotations(file))
    assert (report.pictures, report.unmatched) == (1, (str(tmp_path / "1.jpg"),))


def test_paths_through_a_link(database: VectorDatabase, spec: Specs, tmp_path: Path) -> None:
    disk, link = tmp_path / "disk", tmp_path / "pictures"
    disk.mkdir()
    link.symlink_to(disk)
    collection = database.create(spec(), fingerprint(8))
    collection.upsert([ImageRecord(str(disk / f"{n}.jpg"), root=str(disk)) for n in range(2)], clustered(2, 8))
    file = write(
        tmp_path / "labels.csv", f"path,stars\n{link}/0.jpg,5\n{disk}/1.jpg,4\n{link}/1.jpg,3\n{link}/2.jpg,2\n"
    )
    report = annotate(collection, read_annotations(file))
    assert (report.pictures, report.unmatched) == (2, (f"{link}/1.jpg", f"{link}/2.jpg"))
    assert [len(matching(collection, Filter(expression=f"stars == {n}"))) for n in (5, 4, 3)] == [1, 1, 0]


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are valid text there")
def test_names_that_are_no_valid_text(database: VectorDatabase, spec: Specs, tmp_path: Path) -> None:
    record = ImageRecord(os.fsdecode(b"/p/caf\xe9.jpg"), root="/p", content_hash="h")
    collection = database.create(spec(), fingerprint(8))
    collection.upsert([record], clustered(1, 8))
    (tmp_path / "t.csv").write_bytes(b"path,kind\n/p/caf\xe9.jpg,caf\xc3\xa9\n")
    report = annotate(collection, read_annotations(str(tmp_path / "t.csv")))
    assert (report.pictures, report.unmatched) == (1, ())
    assert parse_annotations(collection.fetch([record.id])[0][0].annotations) == {"kind": "café"}


def test_parquet_keeps_types(collection: Collection, tmp_path: Path) -> None:
    table = pa.table(
        {"path": [row.path for row in ROWS[:3]], "good": [True, False, None], "score": [1, 2.5, float("nan")]}
    )
    pq.write_table(table, tmp_path / "t.parquet")
    annotate(collection, read_annotations(str(tmp_path / "t.parquet")))
    assert matched(collection, "good == true") == {ROWS[0].path}
    assert matched(collection, "score > 0") == {ROWS[0].path, ROWS[1].path}


def test_long_numbers_keep_their_digits(collection: Collection, tmp_path: Path) -> None:
    first, second = 1_585_841_080_431_321_088, 1_585_841_080_431_321_089  # the same in floating point
    file = write(
        tmp_path / "t.csv", f"path,post,hash\n/p/0/0.jpg,{first},1{first}\n/p/1/1.jpg,{second},1{second}\n"
    )
    annotate(collection, read_annotations(file))
    assert matched(collection, f"post == {second}") == {"/p/1/1.jpg"}
    assert matched(collection, f'hash == "1{second}"') == {"/p/1/1.jpg"}
    table = pa.table({"path": ["/p/0/0.jpg", "/p/1/1.jpg"], "bits": pa.array([2**64 - 1, 5], pa.uint64())})
    pq.write_table(table, tmp_path / "t.parquet")
    annotate(collection, read_annotations(str(tmp_path / "t.parquet")))
    assert matched(collection, f'bits == "{2**64 - 1}"') == {"/p/0/0.jpg"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'path'"),
        ("file,a\nx,1\n", "has no column 'path' "),
        ("path,width\nx,1\n", "cannot be called 'width'"),
        ("path,1st\nx,1\n", "cannot be called '1st'"),
        ("path,Like\nx,1\n", "cannot be called 'Like'"),
        ("path,a\nx,\n", "no values"),
        ("path,a,a\nx,1,2\n", "more than one column is called 'a'"),
        ("path,My label,my-label\nx,1,2\n", "more than one column would be called 'my_label'"),
    ],
)
def test_tables_that_cannot_be_joined(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_annotations(write(tmp_path / "t.csv", text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    latin1, utf16 = "path,a\nx,café".encode("latin-1"), "path,a\nx,1".encode("utf-16")
    files = {"gone.csv": None, "1.csv": latin1, "16.csv": utf16, "bad.parquet": b"PAR1"}
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="cannot read"):
            read_annotations(str(tmp_path / name))
    with pytest.raises(UsageError, match="must be path, name, content_hash"):
        read_annotations("x.csv", "id")


def test_no_more_than_a_row_can_hold() -> None:
    with pytest.raises(UsageError, match=f"more than {MOST_BYTES:,} bytes"):
        with_annotations(ROWS[0], {"text": "ä" * (MOST_BYTES // 2)})


def test_what_is_no_object_of_plain_values() -> None:
    for text in (None, "", "[1]", "nonsense", '"a"', "[" * 100_000):
        assert parse_annotations(text) == {}
    assert parse_annotations('{"a": 1, "b": [1], "c": null}') == {"a": 1}


def test_they_survive_changes_moves_and_transfers(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 20), (number * 80, 10, 200)).save(folder / f"{number}.png")
    with ImageSearch({"milvus": {"uri": str(tmp_path / "p.db")}}) as images:
        images.index(folder)
        images.annotate(write(tmp_path / "t.csv", "name,kind\n0.png,a\n1.png,b\n2.png,c\n"), "name")
        shutil.move(folder / "0.png", folder / "moved.png")
        Image.new("RGB", (30, 30), (1, 2, 3)).save(folder / "1.png")  # changed
        os.utime(folder / "2.png")  # touched
        images.index(folder)

        def kinds() -> dict[str, object]:
            records = [record for batch in images.collection().scan() for record in batch]
            return {os.path.basename(r.path): parse_annotations(r.annotations).get("kind") for r in records}

        assert kinds() == {"moved.png": "a", "1.png": "b", "2.png": "c"}
        images.database.export(tmp_path / "e.parquet")
        images.database.drop("images_starter")
        images.database.import_file(tmp_path / "e.parquet")
        assert kinds() == {"moved.png": "a", "1.png": "b", "2.png": "c"}
        assert images.search(folder / "2.png", k=1, where=Filter(expression='kind == "a"'))[0].path.endswith(
            "moved.png"
        )


def test_each_of_equal_pictures_keeps_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one.png", "two.png", "three.png"):
        Image.new("RGB", (20, 20), (9, 99, 199)).save(folder / name)
    table = write(tmp_path / "t.csv", "name,kind\none.png,a\ntwo.png,b\nthree.png,c\n")
    with ImageSearch({"milvus": {"uri": str(tmp_path / "p.db")}}) as images:
        images.index(folder)
        images.annotate(table, "name")
        os.utime(folder / "one.png")
        os.utime(folder / "two.png")
        images.index(folder)
        records = [row for rows in images.collection().scan() for row in rows]
        said = {os.path.basename(row.path): parse_annotations(row.annotations)["kind"] for row in records}
        assert said == {"one.png": "a", "two.png": "b", "three.png": "c"}
        for name in ("one", "two"):
            shutil.move(folder / f"{name}.png", folder / f"moved {name}.png")
        images.index(folder)
        records = [row for rows in images.collection().scan() for row in rows]
        assert sorted(str(parse_annotations(row.annotations)["kind"]) for row in records) == ["a", "b", "c"]


@pytest.mark.parametrize("at_once", [500, 3])
def test_equal_pictures_in_a_renamed_folder_keep_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(plan, "_FETCHED_TOGETHER", at_once)
    lines = []
    for number in range(16):
        name = f"{number // 8}/{number % 8}.png"
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (9, 99, 199 + number % 2)).save(tmp_path / "pictures" / name)
        lines.append(f"pictures/{name},{name}\n")
    table = write(tmp_path / "t.csv", "path,kind\n" + "".join(lines))
    with ImageSearch({"milvus": {"uri": str(tmp_path / "p.db")}}) as images:
        images.index(tmp_path / "pictures")
        images.annotate(table)
        (tmp_path / "pictures").rename(tmp_path / "renamed")
        assert images.index(tmp_path / "renamed").reused == 16
        for rows in images.collection().scan():
            for row in rows:
                assert row.path.endswith(f"renamed/{parse_annotations(row.annotations)['kind']}")


def test_an_import_brings_back_what_was_said_when_it_was_exported(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("1.png", "2.png"):
        Image.new("RGB", (20, 20), (9, 99, int(name[0]))).save(tmp_path / "p" / name)
    with ImageSearch({"milvus": {"uri": str(tmp_path / "p.db")}}) as images:
        images.index(tmp_path / "p" / "1.png")
        images.database.export(tmp_path / "e.parquet")
        images.index(tmp_path / "p")
        images.annotate(write(tmp_path / "t.csv", "name,kind\n1.png,a\n2.png,b\n"), "name")
        images.database.import_file(tmp_path / "e.parquet")
        said = {os.path.basename(row.path): row.annotations for rows in images.collection().scan() for row in rows}
    assert parse_annotations(said["1.png"]) == {}
    assert parse_annotations(said["2.png"]) == {"kind": "b"}
