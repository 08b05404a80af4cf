"""Milvus Lite's own ways: its index types, its folder, and what it would leave unsaid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesearch.errors import ForeignCollectionError, StoreError, UnsupportedIndexError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, ConnectionOptions, VectorDatabase, find

from .conftest import clustered, fingerprint, pictures


def opened(uri: str, **options: Any) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open(ConnectionOptions(**options))


def spec_of(index_type: str = "HNSW", **changes: Any) -> CollectionSpec:
    return CollectionSpec("kept", index_type=index_type, **changes)


def index_files(uri: str) -> list[Path]:
    return sorted(Path(uri).glob("collections/kept/partitions/*/indexes/*.idx"))


def test_everything_is_there_after_reopening(lite_uri: str) -> None:
    matrix = clustered(200, 8)
    database = opened(lite_uri)
    collection = database.create(spec_of(), fingerprint(8))
    collection.upsert(pictures(*map(str, range(200))), matrix)
    collection.build_index()
    database.close()
    again = opened(lite_uri)
    collection = again.open(spec_of())
    info = collection.info()
    assert (info.rows, info.index_type, info.fingerprint) == (200, "HNSW", fingerprint(8))
    assert collection.search(matrix[:1], 1)[0][0].path == "/photos/0.jpg"
    again.close()


# --- indexes ---


def test_ivf_has_no_more_cells_than_rows_can_fill(lite_uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    spec = spec_of("IVF_FLAT", index_params={"nlist": 1024}, search_params={"nprobe": 10})
    database = opened(lite_uri)
    collection = database.create(spec, fingerprint(8))
    for first, beyond in ((0, 400), (400, 450), (450, 1000)):
        matrix = clustered(beyond - first, 8, seed=first)
        collection.upsert(pictures(*map(str, range(first, beyond))), matrix)
        collection.build_index()
        assert collection.index_is_current()
        assert f"/photos/{first}.jpg" in [hit.path for hit in collection.search(matrix[:1], 3)[0]]
        cells = sorted((rows, count) for rows, count in map(_size_and_cells, index_files(lite_uri)))
        assert sum(rows for rows, _ in cells) == beyond
        assert all(count == max(1, rows // 39) for rows, count in cells)
    database.close()
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")  # FAISS would warn of too few training points


def _size_and_cells(file: Path) -> tuple[int, int]:
    import faiss

    index = faiss.read_index(str(file))
    return int(index.ntotal), int(index.nlist)


def test_index_parameters_reach_the_engine(lite_uri: str) -> None:
    import faiss

    database = opened(lite_uri)
    collection = database.create(spec_of(index_params={"M": 8}), fingerprint(8))
    collection.upsert(pictures(*map(str, range(50))), clustered(50, 8))
    collection.build_index()
    database.close()
    manifest = json.loads(Path(lite_uri, "collections", "kept", "manifest.json").read_text())
    assert manifest["index_specs"]["embedding"]["build_params"] == {"M": 8, "efConstruction": 200}
    (file,) = index_files(lite_uri)
    index = faiss.read_index(str(file))  # owns the graph
    graph = faiss.downcast_index(index).hnsw
    assert (graph.nb_neighbors(1), graph.efConstruction) == (8, 200)


@pytest.mark.parametrize("index_type", ["IVF_PQ", "SCANN", "DISKANN", "GPU_CAGRA"])
def test_index_types_that_lite_only_pretends_to_know_are_refused(lite_uri: str, index_type: str) -> None:
    database = opened(lite_uri)
    for use in (database.check, lambda spec: database.create(spec, fingerprint())):
        with pytest.raises(UnsupportedIndexError, match=rf"{index_type}.*Milvus Lite.*IVF_FLAT.*HNSW"):
            use(spec_of(index_type))
    assert database.names() == []
    database.close()


@pytest.mark.parametrize("index_type", ["auto", "FLAT", "AUTOINDEX", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8"])
def test_the_types_that_lite_builds(lite_uri: str, index_type: str) -> None:
    database = opened(lite_uri)
    collection = database.create(spec_of(index_type), fingerprint(8))
    matrix = clustered(200, 8)
    collection.upsert(pictures(*map(str, range(200))), matrix)
    collection.build_index()
    assert collection.index_is_current()
    assert collection.info().index_type == ("FLAT" if index_type == "auto" else index_type)
    assert "/photos/5.jpg" in [hit.path for hit in collection.search(matrix[5:6], 3)[0]]
    database.close()


# --- what others made ---

FOREIGN = """
import sys
from pymilvus import MilvusClient
client = MilvusClient(sys.argv[1])
client.create_collection("kept", dimension=2)
client.close()
"""


def test_a_collection_of_another_program_is_refused(lite_uri: str) -> None:
    subprocess.run([sys.executable, "-c", FOREIGN, lite_uri], check=True, timeout=60, capture_output=True)
    database = opened(lite_uri)
    assert database.names() == ["kept"]
    for use in (database.open, lambda spec: database.create(spec, fingerprint())):
        with pytest.raises(
            ForeignCollectionError, match=r"'kept' was not made by ImageSearch.*milvus\.collection_name"
        ):
            use(spec_of())
    database.close()


def test_a_database_name_that_is_not_there(lite_uri: str) -> None:
    database = opened(lite_uri)
    collection = database.create(spec_of(), fingerprint())
    with pytest.raises(StoreError, match=r"nowhere.*milvus\.db_name"):
        opened(lite_uri, db_name="nowhere").names()
    database.close()
    with pytest.raises(StoreError, match=r"nowhere.*milvus\.db_name"):
        opened(lite_uri, db_name="nowhere").names()
    database = opened(lite_uri)  # and the failure has let go of the database
    assert database.open(collection.spec).count() == 0
    database.close()


# --- the path ---


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    database = opened(str(tmp_path / "new" / "folder" / "p.db"))
    database.create(spec_of(), fingerprint())
    assert (tmp_path / "new" / "folder" / "p.db").is_dir()
    database.close()


def test_a_file_uri_is_a_path(tmp_path: Path) -> None:
    database = opened(f"file://{tmp_path}/my%20pictures.db")
    database.create(spec_of(), fingerprint())
    assert (tmp_path / "my pictures.db").is_dir()
    assert str(tmp_path / "my pictures.db") in database.engine
    database.close()


def test_a_milvus_lite_2_file_is_explained(lite_uri: str) -> None:
    Path(lite_uri).write_bytes(b"SQLite format 3\0")
    database = opened(lite_uri)
    for use in (
        database.names,
        lambda: database.open(spec_of()),
        lambda: database.create(spec_of(), fingerprint()),
    ):
        with pytest.raises(StoreError, match=r"2\.x.*Name a new database"):
            use()
    database.close()


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    database = opened(str(tmp_path / "file" / "p.db"))
    with pytest.raises(StoreError, match=r"cannot open the database .*Not a directory"):
        database.create(spec_of(), fingerprint())
    database.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="permission denied"):
        opened(str(tmp_path / "closed" / "p.db")).create(spec_of(), fingerprint())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write: /proc")
def test_a_folder_nobody_can_write() -> None:
    with pytest.raises(StoreError, match=r"/proc/pictures\.db"):
        opened("/proc/pictures.db").create(spec_of(), fingerprint())


def test_a_name_that_no_folder_can_have_is_none_there(tmp_path: Path) -> None:
    assert "not there yet" in opened(str(tmp_path / f"{'x' * 300}.db")).engine


def test_a_question_does_not_make_a_database(tmp_path: Path) -> None:
    file = tmp_path / "mistyped.db"
    database = opened(str(file))
    assert find(database, CollectionSpec("photos")) is None
    assert database.names() == []
    database.check(CollectionSpec("photos"))
    database.drop("photos")
    assert "not there yet" in database.engine
    database.close()
    assert not file.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="has no permissions of this kind")
def test_a_new_database_is_its_owners_only(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        database = opened(str(tmp_path / "p.db"))
        database.create(spec_of(), fingerprint())
        database.close()
    finally:
        os.umask(umask)
    assert (tmp_path / "p.db").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="has no permissions of this kind")
def test_who_may_read_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "p.db").mkdir(mode=0o755)
    (tmp_path / "p.db").chmod(0o755)
    database = opened(str(tmp_path / "p.db"))
    database.create(spec_of(), fingerprint())
    database.close()
    assert (tmp_path / "p.db").stat().st_mode & 0o777 == 0o755
