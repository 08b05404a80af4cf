"""Milvus Lite's own ways: the folder, its lock, durability, and what it would leave unsaid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesearch.errors import ConfigError, StoreError, StoreLockedError, UnsupportedIndexError
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore

from .conftest import clustered, fingerprint, pictures, vectors

# Opens the database, adds rows, says so, and waits to be killed or told to go on.
CHILD = """
import sys, numpy as np
from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore
store = MilvusStore(CollectionSpec("kept", index_type="HNSW"), sys.argv[1])
store.create(Fingerprint("toy", "1", "cls", (8, 8), 4))
for first in range(0, 300, 100):
    rows = [Picture(f"/p/{i}") for i in range(first, first + 100)]
    store.upsert(rows, np.random.default_rng(first).normal(size=(100, 4)).astype("f4"))
if "index" in sys.argv:
    store.build_index()
print("ready", flush=True)
sys.stdin.readline()
store.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def start_child(uri: str, *more: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, uri, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture
def child(lite_uri: str) -> Iterator[subprocess.Popen[str]]:
    process = start_child(lite_uri)
    yield process
    process.kill()
    process.communicate()


def open_lite(uri: str, name: str = "kept", index_type: str = "HNSW") -> MilvusStore:
    return MilvusStore(CollectionSpec(name, index_type=index_type), uri)


@pytest.mark.parametrize("more", [(), ("index",)])
def test_rows_survive_kill_9(lite_uri: str, more: tuple[str, ...]) -> None:
    process = start_child(lite_uri, *more)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = open_lite(lite_uri)
    assert store.count() == 300
    assert len({p.path for batch in store.scan() for p in batch}) == 300
    assert len(store.search(vectors([1, 0, 0, 0]), k=300)[0]) == 300
    store.close()


def test_a_lock_names_its_holder_within_two_seconds(lite_uri: str, child: subprocess.Popen[str]) -> None:
    store = open_lite(lite_uri)
    start = time.monotonic()
    with pytest.raises(StoreLockedError) as caught:
        store.count()
    assert time.monotonic() - start < 2
    for part in (lite_uri, str(child.pid), Path(sys.executable).name):
        assert part in str(caught.value)


def test_without_proc_the_owner_file_names_the_holder(
    lite_uri: str, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagesearch.stores.milvus_lite._lock_holder", lambda path: None)
    monkeypatch.setattr("imagesearch.stores.milvus_lite._command_of", lambda pid: "")
    with pytest.raises(StoreLockedError, match=rf"process {child.pid} \(.*python"):
        open_lite(lite_uri).count()


def test_closing_lets_another_process_in_at_once(lite_uri: str, child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "closed\n"
    store = open_lite(lite_uri)
    assert store.count() == 300
    store.close()


def test_a_stale_owner_file_does_not_lock(lite_uri: str) -> None:
    Path(lite_uri).mkdir()
    owner = Path(lite_uri, "imagesearch-owner.json")
    owner.write_text(json.dumps({"pid": os.getppid(), "command": "gone"}))
    store = open_lite(lite_uri)
    assert store.count() == 0
    assert json.loads(owner.read_text())["pid"] == os.getpid()
    store.close()
    assert not owner.exists()


def test_two_stores_of_one_process_share_a_database(lite_uri: str) -> None:
    one, two = open_lite(lite_uri, "one"), open_lite(lite_uri, "two")
    one.create(fingerprint())
    two.create(fingerprint(3))
    assert one.collections() == two.collections() == ["one", "two"]
    one.close()
    two.upsert(pictures("a"), vectors([1, 0, 0]))
    assert two.count() == 1
    two.close()
    two.close()  # twice is once
    with pytest.raises(StoreError, match="closed"):
        two.count()


def test_everything_is_there_after_reopening(lite_uri: str) -> None:
    matrix = clustered(200, 8)
    store = open_lite(lite_uri)
    store.create(fingerprint(8))
    store.upsert(pictures(*map(str, range(200))), matrix)
    store.build_index()
    store.close()
    again = open_lite(lite_uri)
    info = again.describe()
    assert info is not None
    assert (info.rows, info.index_type, info.fingerprint) == (200, "HNSW", fingerprint(8))
    assert again.search(matrix[:1], 1)[0][0].path == "/photos/0.jpg"
    again.close()


def test_ivf_has_no_more_cells_than_rows_can_fill(lite_uri: str, capfd: pytest.CaptureFixture[str]) -> None:
    spec = CollectionSpec(
        "kept", index_type="IVF_FLAT", index_params={"nlist": 1024}, search_params={"nprobe": 10}
    )
    store = MilvusStore(spec, lite_uri)
    store.create(fingerprint(8))
    matrix = clustered(400, 8)
    store.upsert(pictures(*map(str, range(400))), matrix)
    store.build_index()
    assert _nlist(store) == 400 // 39
    store.upsert(pictures(*map(str, range(400, 450))), clustered(50, 8, seed=3))
    store.build_index()
    assert _nlist(store) == 400 // 39  # not worth building anew
    store.upsert(pictures(*map(str, range(450, 1000))), clustered(550, 8, seed=4))
    store.build_index()
    assert _nlist(store) == 1000 // 39
    store.close()
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")  # FAISS would warn of too few training points


def built_with(store: MilvusStore) -> dict[str, Any]:
    """The parameters of the index that the engine has."""
    collection = store._collection
    index = collection.index.describe(collection.schema())
    assert index is not None
    return dict(index["params"])


def _nlist(store: MilvusStore) -> int:
    return int(built_with(store)["nlist"])


def test_index_parameters_reach_the_engine(lite_uri: str) -> None:
    store = MilvusStore(CollectionSpec("kept", index_params={"M": 8}), lite_uri)
    store.create(fingerprint(8))
    store.upsert(pictures(*map(str, range(50))), clustered(50, 8))
    store.build_index()
    assert built_with(store) == {"M": 8, "efConstruction": 200}
    store.close()


@pytest.mark.parametrize("index_type", ["IVF_PQ", "SCANN", "DISKANN", "GPU_CAGRA"])
def test_index_types_that_lite_only_pretends_to_know_are_refused(lite_uri: str, index_type: str) -> None:
    store = open_lite(lite_uri, index_type=index_type)
    with pytest.raises(UnsupportedIndexError, match=rf"{index_type}.*Milvus Lite.*IVF_FLAT.*HNSW"):
        store.create(fingerprint())
    assert store.collections() == []
    store.close()


@pytest.mark.parametrize("index_type", ["FLAT", "AUTOINDEX", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8"])
def test_the_types_that_lite_builds(lite_uri: str, index_type: str) -> None:
    store = open_lite(lite_uri, index_type=index_type)
    store.create(fingerprint(8))
    matrix = clustered(200, 8)
    store.upsert(pictures(*map(str, range(200))), matrix)
    store.build_index()
    assert "/photos/5.jpg" in [hit.path for hit in store.search(matrix[5:6], 3)[0]]
    store.close()


def test_a_failing_call_after_the_index_was_built_is_no_failure(
    lite_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymilvus import MilvusClient, MilvusException

    build = MilvusClient.create_index

    def twice(self: MilvusClient, *args: object, **kwargs: object) -> None:
        build(self, *args, **kwargs)
        raise MilvusException(35, "index already exists for field 'embedding'; call drop_index first")

    monkeypatch.setattr(MilvusClient, "create_index", twice)
    store = open_lite(lite_uri)
    store.create(fingerprint())
    store.build_index()
    monkeypatch.setattr(MilvusClient, "create_index", _refuse)
    with pytest.raises(StoreError, match="no can do"):
        MilvusStore(CollectionSpec("kept", index_params={"M": 32}), lite_uri).build_index()
    store.close()


def _refuse(self: object, *args: object, **kwargs: object) -> None:
    from pymilvus import MilvusException

    raise MilvusException(1, "no can do")


def test_a_collection_of_another_program_is_refused(lite_uri: str) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(lite_uri)
    client.create_collection("kept", dimension=2)
    store = open_lite(lite_uri)  # pymilvus itself has the database open in this process: no lock
    with pytest.raises(StoreError, match=r"'kept' was not made by ImageSearch.*milvus\.collection_name"):
        store.create(fingerprint())
    store.close()
    client.close()


def test_a_database_name_that_is_not_there(lite_uri: str) -> None:
    with pytest.raises(StoreError, match=r"nowhere.*milvus\.db_name"):
        MilvusStore(CollectionSpec("kept"), lite_uri, db_name="nowhere").check()
    store = open_lite(lite_uri)  # and the failure has let go of the database
    assert store.count() == 0
    store.close()


# --- the path ---


def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    store = open_lite(str(tmp_path / "new" / "folder" / "p.db"))
    store.check()
    assert (tmp_path / "new" / "folder" / "p.db").is_dir()
    store.close()


def test_a_file_uri_is_a_path(tmp_path: Path) -> None:
    store = open_lite(f"file://{tmp_path}/my%20pictures.db")
    store.check()
    assert str(tmp_path / "my pictures.db") in store.engine
    store.close()


def test_a_milvus_lite_2_file_is_explained(lite_uri: str) -> None:
    Path(lite_uri).write_bytes(b"SQLite format 3\0")
    with pytest.raises(StoreError, match=r"2\.x.*milvus\.uri"):
        open_lite(lite_uri).count()


def test_a_file_where_a_folder_belongs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Not a directory.*milvus\.uri"):
        open_lite(str(tmp_path / "file" / "p.db")).check()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="permission denied"):
        open_lite(str(tmp_path / "closed" / "p.db")).check()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that even root cannot write: /proc")
def test_a_folder_nobody_can_write() -> None:
    with pytest.raises(StoreError, match=r"/proc/pictures\.db"):
        open_lite("/proc/pictures.db").check()


@pytest.mark.parametrize("uri", ["pictures", "pictures.sqlite", ".db", "ftp://host:1", "http://", "http://h:port"])
def test_uris_that_are_neither_path_nor_server(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"milvus\.uri = .*\.db.*http"):
        open_lite(uri)


FULL_DISK = """
import resource, sys, numpy as np
from imagesearch.errors import StoreError
from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore
store = MilvusStore(CollectionSpec("kept"), sys.argv[1])
store.create(Fingerprint("toy", "1", "cls", (8, 8), 256))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    store.upsert([Picture(str(i)) for i in range(2000)], np.ones((2000, 256), "f4"))
except StoreError as error:
    print(error)
store.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_one_clear_line(lite_uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, lite_uri], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "disk is full" in done.stdout
    assert lite_uri in done.stdout
    store = open_lite(lite_uri)  # and the database is still whole
    assert store.count() == 0
    store.upsert([*pictures("a")], clustered(1, 256))
    assert store.count() == 1
    store.close()


def test_a_question_does_not_make_a_database(tmp_path: Path) -> None:
    database = tmp_path / "mistyped.db"
    store = MilvusStore(CollectionSpec("photos"), str(database))
    assert store.describe() is None
    assert store.collections() == []
    assert store.count() == 0
    assert "not there yet" in store.engine
    store.close()
    assert not database.exists()
