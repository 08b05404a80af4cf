"""What Milvus Lite leaves behind when it is killed or the disk is full, and that nothing stored gets lost."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imagesearch.records import Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore

from .conftest import clustered, fingerprint, pictures

DIM = 64


def open_store(uri: str, index_type: str = "HNSW", **params: int) -> MilvusStore:
    return MilvusStore(CollectionSpec("kept", index_type=index_type, index_params=params), uri)


def paths_of(store: MilvusStore) -> list[str]:
    return sorted(picture.path for batch in store.scan() for picture in batch)


def index_state(uri: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each index file."""
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in index_files(uri)]


def index_files(uri: str) -> list[Path]:
    return sorted(Path(uri).glob("collections/kept/partitions/*/indexes/*.idx"))


# --- a full disk ---

# A limit on the size of files, which can be lifted again, stands for the full disk: both break off a write in
# the middle. Equal vectors make a small data file (a dictionary) and a large index file.
FULL = """
import resource, sys, numpy as np
from imagesearch.errors import StoreError
from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore
uri, index_type, step = sys.argv[1:4]
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))

def upsert(first, beyond):
    store.upsert([Picture(f"/p/{i}") for i in range(first, beyond)], np.ones((beyond - first, 64), "f4"))

def fails(what):
    try:
        what()
    except StoreError as error:
        print("refused:", error)
    else:
        sys.exit("no error")

def check(rows):
    assert (peer.count(), store.count()) == (rows, rows), store.count()
    paths = [picture.path for batch in store.scan() for picture in batch]
    assert sorted(paths) == sorted(f"/p/{i}" for i in range(rows)), len(paths)
    assert len(store.search(np.ones((1, 64), "f4"), 10)[0]) == 10

store = MilvusStore(CollectionSpec("kept", index_type=index_type), uri)
store.create(Fingerprint("toy", "1", "cls", (8, 8), 64))
peer = store.other("kept")  # shares the engine, which is started anew after a failure
upsert(0, 2000)
assert peer.count() == 2000
if step == "upsert":
    limit(550_000)
    fails(lambda: upsert(2000, 4000))
    check(2000)
elif step == "delete":
    limit(1)
    fails(lambda: store.delete([Picture("/p/0").id]))
    check(2000)
elif step == "flush":
    limit(20_000)
    fails(store.build_index)
    check(2000)
elif step == "index":
    other = MilvusStore(CollectionSpec("kept", index_type="FLAT" if index_type == "HNSW" else "HNSW"), uri)
    other.build_index()
    other.close()
    limit(300_000)
    fails(store.build_index)
    check(2000)
limit(unlimited[0])
upsert(1900, 2500)
check(2500)
store.build_index()
assert store.index_is_current()
check(2500)
if "die" in sys.argv:
    import os
    os.kill(os.getpid(), 9)
peer.close()
store.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("end", ["close", "die"])
@pytest.mark.parametrize(
    ("index_type", "step"),
    [("HNSW", "upsert"), ("HNSW", "delete"), ("HNSW", "flush"), ("HNSW", "index"), ("FLAT", "index")],
)
def test_a_full_disk(lite_uri: str, index_type: str, step: str, end: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, lite_uri, index_type, step, end],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0 if end == "close" else -signal.SIGKILL, "")
    assert done.stdout.startswith(f"refused: cannot write to {lite_uri}: the disk is full")
    assert done.stdout.count("\n") == 1
    store = open_store(lite_uri, index_type)
    assert paths_of(store) == sorted(f"/p/{i}" for i in range(2500))
    assert store.index_is_current()
    store.close()


# --- killed ---

WRITER = """
import sys, numpy as np
from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore
store = MilvusStore(CollectionSpec("kept", index_type="HNSW"), sys.argv[1])
store.create(Fingerprint("toy", "1", "cls", (8, 8), 64))
first = store.count()
while True:
    rows = [Picture(f"/p/{i}", size=i) for i in range(first, first + 32)]
    store.upsert(rows, np.random.default_rng(first).normal(size=(32, 64)).astype("f4"))
    first += 32
    print(first, flush=True)
    if first % 320 == 0:
        store.build_index()
"""


def test_acknowledged_rows_survive_kill_9_at_any_point(lite_uri: str) -> None:
    chance = random.Random(7)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, lite_uri], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(chance.randint(1, 25)):
            acknowledged = int(writer.stdout.readline())
        # Somewhere within the next upsert (about 10 ms) or index build.
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=chance.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        store = open_store(lite_uri)
        found = paths_of(store)
        assert set(found) >= {f"/p/{i}" for i in range(acknowledged)}
        assert len(found) == len(set(found)) == store.count()
        store.build_index()
        assert store.index_is_current()
        assert len(store.search(np.ones((1, DIM), np.float32), k=10)[0]) == 10
        store.close()


@pytest.mark.parametrize("index_type", ["HNSW", "FLAT", "IVF_SQ8"])
@pytest.mark.parametrize("left", [0, 100, 5000])
def test_half_an_index_file_is_no_obstacle(lite_uri: str, index_type: str, left: int) -> None:
    matrix = clustered(300, DIM)
    store = open_store(lite_uri, index_type)
    store.create(fingerprint(DIM))
    store.upsert(pictures(*map(str, range(300))), matrix)
    store.build_index()
    store.close()
    (file,) = index_files(lite_uri)
    file.write_bytes(file.read_bytes()[:left])
    store = open_store(lite_uri, index_type)
    assert store.search(matrix[5:6], k=1)[0][0].path == "/photos/5.jpg"
    assert store.count() == 300
    assert not store.index_is_current()
    store.build_index()
    assert store.index_is_current()
    assert store.search(matrix[5:6], k=1)[0][0].path == "/photos/5.jpg"
    store.close()


# --- the index is built when it has to be, and only then ---


def test_an_index_that_is_current_is_not_built_again(lite_uri: str) -> None:
    store = open_store(lite_uri)
    store.create(fingerprint(DIM))
    store.upsert(pictures(*map(str, range(300))), clustered(300, DIM))
    store.build_index()
    built = index_state(lite_uri)
    assert built
    store.close()
    again = open_store(lite_uri)
    assert again.index_is_current()
    again.build_index()
    assert index_state(lite_uri) == built
    again.close()
    other = open_store(lite_uri, M=32)
    assert not other.index_is_current()
    other.build_index()
    assert other.index_is_current()
    assert index_state(lite_uri) != built
    other.close()


# --- other versions' columns ---


def made_by_another_version(
    uri: str, monkeypatch: pytest.MonkeyPatch, without: set[str], strange: dict[str, str]
) -> None:
    """Make an empty collection that lacks some columns and has others, with names of Milvus's types."""
    from pymilvus import DataType, MilvusClient

    make = MilvusClient.create_collection

    def create(self: MilvusClient, name: str, schema: object, **options: object) -> None:
        fields = self.create_schema(auto_id=False, enable_dynamic_field=False)
        for field in schema.fields:  # type: ignore[attr-defined]
            if field.name not in without:
                fields.add_field(field.name, field.dtype, is_primary=field.is_primary, **field.params)
        for column, kind in strange.items():
            more = {"max_length": 100} if kind == "VARCHAR" else {}
            fields.add_field(column, getattr(DataType, kind), **more)
        make(self, name, schema=fields, **options)

    monkeypatch.setattr(MilvusClient, "create_collection", create)
    store = open_store(uri, "FLAT")
    store.create(fingerprint(2))
    store.close()
    monkeypatch.undo()


FULL_ROW = Picture("/p/a.jpg", "/p", "ab" * 16, 5, 6, 7, 8, "2024-05-01T12:00:00", "Canon", 1.5, -2.5)


def test_a_collection_of_an_older_version(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made_by_another_version(lite_uri, monkeypatch, {"camera", "latitude", "longitude", "taken"}, {})
    store = open_store(lite_uri, "FLAT")
    store.upsert([FULL_ROW], np.ones((1, 2), np.float32))
    known = Picture("/p/a.jpg", "/p", "ab" * 16, 5, 6, 7, 8)
    assert [picture for batch in store.scan() for picture in batch] == [known]
    assert store.fetch([FULL_ROW.id])[0] == [known]
    assert store.search(np.ones((1, 2), np.float32), k=1)[0][0].picture == known
    store.close()


def test_a_collection_of_a_newer_version(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"lens": "VARCHAR", "faces": "INT64", "altitude": "DOUBLE", "favourite": "BOOL"}
    made_by_another_version(lite_uri, monkeypatch, set(), kinds)
    store = open_store(lite_uri, "FLAT")
    store.upsert([FULL_ROW], np.ones((1, 2), np.float32))
    assert [picture for batch in store.scan() for picture in batch] == [FULL_ROW]
    assert store.fetch([FULL_ROW.id])[0] == [FULL_ROW]
    row = store._session.connect().client.get("kept", ids=[FULL_ROW.id], output_fields=list(kinds))[0]
    assert {name: row[name] for name in kinds} == {"lens": "", "faces": 0, "altitude": 1000.0, "favourite": False}
    store.close()
