"""Exports, imports and copies: nothing is lost, nothing is written twice, nothing half-written stays."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagesearch.errors import CollectionNotFoundError, ModelMismatchError, StoreError, TransferError
from imagesearch.library import transfer
from imagesearch.library.transfer import copy_collection, export_collection, import_collection, read_export
from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, ConnectionOptions, VectorDatabase, Vectors, find
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

from ..stores.milvus_server import needs_milvus_server

FINGERPRINT = Fingerprint("toy", "1", "cls", (8, 8), 16)

ODD = [
    ImageRecord(
        "/p/plain.jpg", "/p", "ab" * 16, 2**40, 1_700_000_000_123_456_789, 4000, 3000, "2024-05-01T12:00:00"
    ),
    ImageRecord("/p/two\nlines\r.jpg", "/p", camera="Canon", latitude=52.520006599999996, longitude=-0.1),
    ImageRecord("/p/caf\udce9.jpg", "/caf\udce9", latitude=0.0, longitude=-180.0),
    ImageRecord("/p/🏖 Łódź\u2028.jpg", camera="Ångström"),
    ImageRecord("file:/looks like ours "),
]


PHOTOS, COPY = CollectionSpec("photos"), CollectionSpec("copy")


def rows_of(collection: Collection) -> dict[str, tuple[ImageRecord, bytes]]:
    return {
        picture.path: (picture, vector.tobytes())
        for pictures, vectors in collection.scan_vectors()
        for picture, vector in zip(pictures, vectors, strict=True)
    }


def filled(
    database: VectorDatabase | None = None,
    spec: CollectionSpec = PHOTOS,
    rows: int = 40,
    fingerprint: Fingerprint = FINGERPRINT,
) -> Collection:
    """A collection with odd pictures and ordinary ones; default: in a database in memory of its own."""
    collection = (database or MemoryDatabase()).create(spec, fingerprint)
    pictures = [*ODD, *(ImageRecord(f"/p/{number}.jpg", size=number) for number in range(rows - len(ODD)))]
    vectors = 3 * np.random.default_rng(0).normal(size=(rows, fingerprint.dim)).astype(np.float32)
    collection.upsert(pictures, vectors)
    return collection


def lite(path: Path) -> VectorDatabase:
    return DatabaseAddress.parse(str(path)).open()


@contextmanager
def breaking_off(monkeypatch: pytest.MonkeyPatch, upserts: int) -> Iterator[None]:
    """After some upserts they fail, as in a killed process or on a full disk."""
    left = iter(range(upserts))
    upsert = MemoryCollection.upsert

    def fails(self: MemoryCollection, pictures: Sequence[ImageRecord], vectors: Vectors) -> None:
        if next(left, None) is None:
            raise StoreError("the disk is full")
        upsert(self, pictures, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryCollection, "upsert", fails)
        yield


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "ROWS_AT_ONCE", 7)


# --- round trips ---


@pytest.mark.parametrize("metric", list(Metric))
def test_every_field_and_every_bit_comes_back(tmp_path: Path, small_batches: None, metric: Metric) -> None:
    source, target = filled(spec=replace(PHOTOS, metric=metric)), MemoryDatabase()
    report = export_collection(source, tmp_path / "photos.parquet")
    assert (report.collection, report.target, report.rows, report.already_there) == (
        "photos",
        str(tmp_path / "photos.parquet"),
        40,
        0,
    )
    exported = read_export(tmp_path / "photos.parquet")
    assert (exported.name, exported.fingerprint, exported.metric, exported.rows) == (
        "photos",
        FINGERPRINT,
        metric,
        40,
    )
    other = CollectionSpec("other", metric=metric)
    report = import_collection(tmp_path / "photos.parquet", target, other)
    assert (report.collection, report.target, report.rows, report.already_there) == ("other", target.engine, 40, 0)
    imported = target.open(other)
    assert rows_of(imported) == rows_of(source)
    assert imported.index_is_current()
    again = import_collection(tmp_path / "photos.parquet", target, other)
    assert (again.rows, again.already_there) == (0, 40)
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("metric", list(Metric))
def test_lite_to_file_to_lite_gives_the_same_answers(tmp_path: Path, metric: Metric) -> None:
    spec = CollectionSpec("photos", metric=metric, index_type="FLAT")
    with closing(lite(tmp_path / "a.db")) as one, closing(lite(tmp_path / "b.db")) as other:
        source = filled(one, spec, rows=300)
        source.build_index()
        export_collection(source, tmp_path / "photos.parquet")
        import_collection(tmp_path / "photos.parquet", other, spec)
        target = other.open(spec)
        assert rows_of(target) == rows_of(source)
        queries = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
        assert target.search(queries, 10) == source.search(queries, 10)
        again = import_collection(tmp_path / "photos.parquet", other, spec)
        assert (again.rows, again.already_there) == (0, 300)


@needs_milvus_server
def test_lite_to_server_gives_the_same_answers(tmp_path: Path, milvus_server: str) -> None:
    spec = CollectionSpec("migrated", index_type="FLAT")
    server = DatabaseAddress.parse(milvus_server).open(ConnectionOptions(timeout=20))
    with closing(lite(tmp_path / "a.db")) as local, closing(server):
        try:
            source = filled(local, spec, rows=300)
            report = copy_collection(source, server, spec)
            assert (report.rows, report.already_there, report.target) == (300, 0, server.engine)
            target = server.open(spec)
            assert rows_of(target) == rows_of(source)
            queries = np.random.default_rng(1).normal(size=(20, 16)).astype(np.float32)
            for ours, theirs in zip(target.search(queries, 10), source.search(queries, 10), strict=True):
                assert [hit.picture for hit in ours] == [hit.picture for hit in theirs]
                # Engines sum up in different orders: the last of six decimals may differ.
                assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=2e-6)
            assert copy_collection(source, server, spec).rows == 0
        finally:
            server.drop(spec.name)


def test_an_empty_collection(tmp_path: Path) -> None:
    source, target = MemoryDatabase().create(PHOTOS, FINGERPRINT), MemoryDatabase()
    assert export_collection(source, tmp_path / "empty.parquet").rows == 0
    assert read_export(tmp_path / "empty.parquet").rows == 0
    assert import_collection(tmp_path / "empty.parquet", target, COPY).rows == 0
    assert target.open(COPY).fingerprint == FINGERPRINT
    assert copy_collection(source, MemoryDatabase(), COPY).rows == 0


def test_progress_is_told(tmp_path: Path, small_batches: None) -> None:
    seen: list[tuple[str, int, int | None]] = []
    source = filled(rows=15)
    export_collection(source, tmp_path / "a.parquet", lambda *report: seen.append(report))
    assert seen == [("export", done, 15) for done in (0, 7, 14, 15)]
    seen.clear()
    import_collection(tmp_path / "a.parquet", MemoryDatabase(), COPY, lambda *report: seen.append(report))
    assert seen == [*(("import", done, 15) for done in (0, 7, 14, 15)), ("index", 15, 15)]
    seen.clear()
    copy_collection(source, MemoryDatabase(), COPY, lambda *report: seen.append(report))
    assert seen == [*(("copy", done, 15) for done in (0, 7, 14, 15)), ("index", 15, 15)]


def test_other_programs_can_read_it(tmp_path: Path) -> None:
    export_collection(filled(), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("vector").type.list_size == 16
    assert table.schema.field("latitude").type == pa.float64()
    assert table.schema.field("mtime_ns").type == pa.int64()
    first = table.slice(1, 1).to_pylist()[0]
    assert (first["path"], first["taken"], first["latitude"]) == (
        "file:///p/two%0Alines%0D.jpg",
        None,
        52.520006599999996,
    )
    about = json.loads(table.schema.metadata[b"imagesearch"])
    assert (about["format"], about["collection"], about["metric"]) == (1, "photos", "COSINE")
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    packing = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert packing["path"].compression == "ZSTD"
    assert packing["vector.list.element"].compression == "UNCOMPRESSED"
    assert not any("DICTIONARY" in encoding for encoding in packing["vector.list.element"].encodings)


# --- continuing ---


def test_a_copy_that_broke_off_writes_only_the_rest(small_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    source, database = filled(), MemoryDatabase()
    with breaking_off(monkeypatch, 2), pytest.raises(StoreError, match="full"):
        copy_collection(source, database, COPY)
    target = database.open(COPY)
    assert target.count() == 14
    assert not target.index_is_current()
    report = copy_collection(source, database, COPY)
    assert (report.rows, report.already_there) == (26, 14)
    assert rows_of(target) == rows_of(source)
    assert target.index_is_current()


def test_an_import_that_broke_off_writes_only_the_rest(
    tmp_path: Path, small_batches: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, database = filled(), MemoryDatabase()
    export_collection(source, tmp_path / "a.parquet")
    with breaking_off(monkeypatch, 2), pytest.raises(StoreError, match="full"):
        import_collection(tmp_path / "a.parquet", database, COPY)
    report = import_collection(tmp_path / "a.parquet", database, COPY)
    assert (report.rows, report.already_there) == (26, 14)
    assert rows_of(database.open(COPY)) == rows_of(source)


def test_rows_that_changed_are_written_again() -> None:
    source, database = filled(), MemoryDatabase()
    copy_collection(source, database, COPY)
    changed = [
        ImageRecord("/p/1.jpg", size=1, mtime_ns=5),
        ImageRecord("/p/2.jpg", size=2, content_hash="cd" * 16),
    ]
    source.upsert(changed, np.ones((2, 16), np.float32))
    report = copy_collection(source, database, COPY)
    assert (report.rows, report.already_there) == (2, 38)
    assert rows_of(database.open(COPY)) == rows_of(source)


COPIER = """
import sys
from imagesearch.library import parquet, transfer
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
parquet.ROWS_AT_ONCE = transfer.ROWS_AT_ONCE = 50
source, target = (DatabaseAddress.parse(uri).open() for uri in sys.argv[1:3])
spec = CollectionSpec("photos")
def tell(stage, done, total):
    if stage == "copy":
        print(done, flush=True)
transfer.copy_collection(source.open(spec), target, spec, tell)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_copy_killed_for_real_goes_on(tmp_path: Path) -> None:
    files = tmp_path / "a.db", tmp_path / "b.db"
    with closing(lite(files[0])) as database:
        filled(database, rows=3000)
    copier = subprocess.Popen([sys.executable, "-c", COPIER, *map(str, files)], stdout=subprocess.PIPE, text=True)
    assert copier.stdout is not None
    done = 0
    while done < 500:
        done = int(copier.stdout.readline())
    copier.send_signal(signal.SIGKILL)
    copier.communicate()
    assert copier.returncode == -signal.SIGKILL
    with closing(lite(files[0])) as one, closing(lite(files[1])) as other:
        source, target = one.open(PHOTOS), other.open(PHOTOS)
        there = target.count()
        assert done <= there < 3000
        report = copy_collection(source, other, PHOTOS)
        assert (report.already_there, report.rows) == (there, 3000 - there)
        assert rows_of(target) == rows_of(source)
        assert target.index_is_current()


# --- refusing ---


def test_what_does_not_fit_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    source = filled()
    export_collection(source, tmp_path / "a.parquet")
    other_model, other_metric = MemoryDatabase(), MemoryDatabase()
    other_model.create(COPY, Fingerprint("vit", "2", "cls", (8, 8), 16))
    by_distance = replace(COPY, metric=Metric.L2)
    for bring in (
        lambda database, spec: import_collection(tmp_path / "a.parquet", database, spec),
        lambda database, spec: copy_collection(source, database, spec),
    ):
        with pytest.raises(ModelMismatchError, match=r"vit.*toy"):
            bring(other_model, COPY)
        assert other_model.open(COPY).count() == 0
        with pytest.raises(StoreError, match=r"COSINE.*L2"):
            bring(other_metric, by_distance)
        assert find(other_metric, by_distance) is None


def test_a_collection_is_not_copied_onto_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = MemoryDatabase()
    with pytest.raises(TransferError, match="onto itself"):
        copy_collection(filled(memory), memory, PHOTOS)
    monkeypatch.chdir(tmp_path)
    with closing(lite(Path("a.db"))) as one, closing(lite(tmp_path / "a.db")) as same:
        source = filled(one)
        with pytest.raises(TransferError, match="onto itself"):
            copy_collection(source, same, PHOTOS)
        assert source.count() == 40


def test_a_collection_that_was_dropped(tmp_path: Path) -> None:
    database = MemoryDatabase()
    source = filled(database)
    database.drop("photos")
    with pytest.raises(CollectionNotFoundError, match="photos"):
        export_collection(source, tmp_path / "a.parquet")
    with pytest.raises(CollectionNotFoundError, match="photos"):
        copy_collection(source, MemoryDatabase(), COPY)
    assert not (tmp_path / "a.parquet").exists()


def test_files_that_are_no_exports(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    with pytest.raises(TransferError, match=r"cannot read .*a\.parquet.*no such file"):
        read_export(file)
    with pytest.raises(TransferError, match="cannot read"):
        read_export(tmp_path)
    for content in (b"", b"PAR1", b"not parquet at all" * 10):
        file.write_bytes(content)
        with pytest.raises(TransferError, match=r"a\.parquet' is not a Parquet file"):
            read_export(file)
    pq.write_table(pa.table({"a": [1]}), file)
    with pytest.raises(TransferError, match="not exported by imagesearch"):
        read_export(file)


def rewritten(file: Path, change: Any) -> None:
    """Change what an export says of itself."""
    table = pq.read_table(file)
    about = json.loads(table.schema.metadata[b"imagesearch"])
    pq.write_table(table.replace_schema_metadata({b"imagesearch": json.dumps(change(about))}), file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99, "program": "9.9"}, r"newer imagesearch, 9\.9 .*update"),
        ({"format": "x"}, "cannot be understood"),
        ({"fingerprint": {"model": "toy"}}, "cannot be understood"),
        ({"metric": "HAMMING"}, "cannot be understood"),
    ],
)
def test_what_it_says_of_itself(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    export_collection(filled(), tmp_path / "a.parquet")
    rewritten(tmp_path / "a.parquet", lambda about: about | change)
    with pytest.raises(TransferError, match=message):
        read_export(tmp_path / "a.parquet")


def test_vectors_of_another_length_than_the_models(tmp_path: Path) -> None:
    export_collection(filled(), tmp_path / "a.parquet")
    rewritten(tmp_path / "a.parquet", lambda about: about | {"fingerprint": about["fingerprint"] | {"dim": 17}})
    with pytest.raises(TransferError, match="17"):
        read_export(tmp_path / "a.parquet")


@pytest.mark.parametrize("value", [None, [1.0] * 15 + [None], [math.nan] * 16, [math.inf] * 16])
def test_what_is_no_vector(tmp_path: Path, value: list[float | None] | None) -> None:
    file, database = tmp_path / "a.parquet", MemoryDatabase()
    export_collection(filled(), file)
    table = pq.read_table(file)
    vectors = [*table["vector"].to_pylist()[:-1], value]
    changed = pa.array(vectors, pa.list_(pa.float32(), 16))
    pq.write_table(table.set_column(table.schema.get_field_index("vector"), "vector", changed), file)
    # The last is pyarrow's own, of versions that have no such rows.
    reasons = "a row has no vector|a vector is not finite|Expected all lists to be of size"
    with pytest.raises(TransferError, match=rf"a\.parquet' is damaged: ({reasons})"):
        import_collection(file, database, COPY)
    assert database.names() == []  # no empty collection


def test_an_export_of_an_older_version_lacks_columns(tmp_path: Path) -> None:
    source, database = filled(), MemoryDatabase()
    export_collection(source, tmp_path / "a.parquet")
    pq.write_table(pq.read_table(tmp_path / "a.parquet").drop_columns(["camera", "root"]), tmp_path / "a.parquet")
    import_collection(tmp_path / "a.parquet", database, COPY)
    target = database.open(COPY)
    assert {p.path for batch in target.scan() for p in batch} == set(rows_of(source))
    assert {p.camera for batch in target.scan() for p in batch} == {None}


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    export_collection(filled(rows=2000), file)
    content = bytearray(file.read_bytes())
    content[4:20_000] = b"\xff" * (20_000 - 4)
    file.write_bytes(content)
    database = MemoryDatabase()
    with pytest.raises(TransferError, match=r"a\.parquet' is damaged"):
        import_collection(file, database, COPY)
    assert database.names() == []  # no empty collection
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(TransferError, match="end of it is missing"):
        read_export(file)


def test_one_flipped_bit_is_found(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    export_collection(filled(rows=2000), file)
    content = file.read_bytes()
    for position in (len(content) // 3, len(content) // 2, 2 * len(content) // 3):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(TransferError, match=r"a\.parquet' is damaged"):
            import_collection(file, MemoryDatabase(), COPY)


# --- a full disk ---

FULL_DISK = """
import resource, sys, numpy as np
from imagesearch.errors import TransferError
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.library.transfer import export_collection
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase
photos = MemoryDatabase().create(CollectionSpec("photos"), Fingerprint("toy", "1", "cls", (8, 8), 256))
photos.upsert([ImageRecord(str(i)) for i in range(20_000)], np.random.default_rng(0).normal(size=(20_000, 256)))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), 10**9))
try:
    export_collection(photos, sys.argv[1])
except TransferError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("size", [1, 1_000_000, 20_500_000])
def test_a_full_disk_leaves_the_older_export_alone(tmp_path: Path, size: int) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    file = folder / "a.parquet"
    export_collection(filled(), file)
    before = file.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file), str(size)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"cannot write {str(file)!r}: file too large; nothing was changed there\n"
    assert file.read_bytes() == before
    assert os.listdir(folder) == ["a.parquet"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TransferError, match=r"cannot write .*no such file or directory"):
        export_collection(filled(), tmp_path / "nowhere" / "a.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(TransferError, match="cannot write"):
        export_collection(filled(), tmp_path / "folder")
    assert not list(tmp_path.glob("*.tmp"))


def test_an_export_interrupted_leaves_nothing(tmp_path: Path, small_batches: None) -> None:
    def interrupt(stage: str, done: int, total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_collection(filled(), tmp_path / "a.parquet", interrupt)
    assert not list(tmp_path.glob("a.parquet*"))
