"""What a killed process and a full disk leave behind, and that nothing gets lost; columns of other versions."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesearch.records import ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase
from imagesearch.stores.milvus import lite_schema

from .conftest import clustered, fingerprint, pictures

DIM = 64


def opened(uri: str) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open()


def spec_of(index_type: str = "HNSW", **params: int) -> CollectionSpec:
    return CollectionSpec("kept", index_type=index_type, index_params=params)


def paths_of(collection: Collection) -> list[str]:
    return sorted(picture.path for batch in collection.scan() for picture in batch)


def index_state(uri: str) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each index file."""
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in index_files(uri)]


def index_files(uri: str) -> list[Path]:
    return sorted(Path(uri).glob("collections/kept/partitions/*/indexes/*.idx"))


# --- a full disk ---

# A limit on the size of files, which can be lifted again, stands for the full disk: both break off a write in
# the middle.
FULL = """
import os, resource, sys, numpy as np
from imagesearch.errors import StoreError
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
uri, index_type, step = sys.argv[1:4]
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
spec = CollectionSpec("kept", index_type=index_type)

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, unlimited[1]))

def upsert(first, beyond):
    rows.upsert([ImageRecord(f"/p/{i}") for i in range(first, beyond)], np.ones((beyond - first, 64), "f4"))

def fails(what):
    try:
        what()
    except StoreError as error:
        print("refused:", error)
    else:
        sys.exit("no error")

def check(count):
    assert (peer.count(), rows.count()) == (count, count), rows.count()
    paths = [picture.path for batch in rows.scan() for picture in batch]
    assert sorted(paths) == sorted(f"/p/{i}" for i in range(count)), len(paths)
    assert len(rows.search(np.ones((1, 64), "f4"), 10)[0]) == 10

database, beside = DatabaseAddress.parse(uri).open(), DatabaseAddress.parse(uri).open()
rows = database.create(spec, Fingerprint("toy", "1", "cls", (8, 8), 64))
peer = beside.open(spec)  # shares what is open, which is opened again after a failure
upsert(0, 2000)
assert peer.count() == 2000
if step == "upsert":
    limit(550_000)
    fails(lambda: upsert(2000, 4000))
    check(2000)
elif step == "delete":
    limit(1)
    fails(lambda: rows.delete([ImageRecord("/p/0").id]))
    check(2000)
elif step == "flush":
    limit(20_000)
    fails(rows.build_index)
    check(2000)
elif step == "index":
    other = "FLAT" if index_type == "HNSW" else "HNSW"
    beside.open(CollectionSpec("kept", index_type=other)).build_index()
    limit(300_000)
    fails(rows.build_index)
    check(2000)
limit(unlimited[0])
upsert(1900, 2500)
check(2500)
rows.build_index()
assert rows.index_is_current()
check(2500)
if "die" in sys.argv:
    os.kill(os.getpid(), 9)
beside.close()
database.close()
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
    database = opened(lite_uri)
    collection = database.open(spec_of(index_type))
    assert paths_of(collection) == sorted(f"/p/{i}" for i in range(2500))
    assert collection.index_is_current()
    database.close()


FULL_AT_ONCE = """
import resource, sys, numpy as np
from imagesearch.errors import StoreError
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
collection = database.create(CollectionSpec("kept"), Fingerprint("toy", "1", "cls", (8, 8), 256))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    collection.upsert([ImageRecord(str(i)) for i in range(2000)], np.ones((2000, 256), "f4"))
except StoreError as error:
    print(error)
database.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_one_clear_line(lite_uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL_AT_ONCE, lite_uri], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "disk is full" in done.stdout
    assert lite_uri in done.stdout
    assert done.stdout.count("\n") == 1
    database = opened(lite_uri)  # and it is still whole
    collection = database.open(CollectionSpec("kept"))
    assert collection.count() == 0
    collection.upsert([*pictures("a")], clustered(1, 256))
    assert collection.count() == 1
    database.close()


# --- killed ---

WRITER = """
import sys, numpy as np
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
collection = database.create(
    CollectionSpec("kept", index_type="HNSW"), Fingerprint("toy", "1", "cls", (8, 8), 64)
)
first = collection.count()
while True:
    rows = [ImageRecord(f"/p/{i}", size=i) for i in range(first, first + 32)]
    collection.upsert(rows, np.random.default_rng(first).normal(size=(32, 64)).astype("f4"))
    first += 32
    print(first, flush=True)
    if first % 320 == 0:
        collection.build_index()
"""


def test_acknowledged_rows_survive_kill_9_at_any_point(lite_uri: str) -> None:
    chance = random.Random(7)
    for _ in range(5):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, lite_uri], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        acknowledged = 0
        for _ in range(chance.randint(1, 25)):
            acknowledged = int(writer.stdout.readline())
        # Somewhere within the next upsert or index build.
        with pytest.raises(subprocess.TimeoutExpired):
            writer.wait(timeout=chance.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
        acknowledged = int(rest[-1]) if rest else acknowledged
        database = opened(lite_uri)
        collection = database.open(spec_of())
        found = paths_of(collection)
        assert set(found) >= {f"/p/{i}" for i in range(acknowledged)}
        assert len(found) == len(set(found)) == collection.count()
        collection.build_index()
        assert collection.index_is_current()
        assert len(collection.search(np.ones((1, DIM), np.float32), k=10)[0]) == 10
        database.close()


# --- the index is built when it has to be, and only then ---


@pytest.mark.parametrize("index_type", ["HNSW", "FLAT", "IVF_SQ8"])
@pytest.mark.parametrize("left", [None, 0, 100, 5000])
def test_half_an_index_file_is_no_obstacle(lite_uri: str, index_type: str, left: int | None) -> None:
    matrix = clustered(300, DIM)
    database = opened(lite_uri)
    collection = database.create(spec_of(index_type), fingerprint(DIM))
    collection.upsert(pictures(*map(str, range(300))), matrix)
    collection.build_index()
    database.close()
    (file,) = index_files(lite_uri)
    if left is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:left])
    database = opened(lite_uri)
    collection = database.open(spec_of(index_type))
    assert collection.search(matrix[5:6], k=1)[0][0].path == "/photos/5.jpg"
    assert collection.count() == 300
    assert not collection.index_is_current()
    collection.build_index()
    assert collection.index_is_current()
    assert collection.search(matrix[5:6], k=1)[0][0].path == "/photos/5.jpg"
    database.close()


def test_an_index_that_is_current_is_not_built_again(lite_uri: str) -> None:
    database = opened(lite_uri)
    collection = database.create(spec_of(), fingerprint(DIM))
    collection.upsert(pictures(*map(str, range(300))), clustered(300, DIM))
    collection.build_index()
    built = index_state(lite_uri)
    assert built
    database.close()
    database = opened(lite_uri)
    collection = database.open(spec_of())
    assert collection.index_is_current()
    collection.build_index()
    assert index_state(lite_uri) == built
    other = database.open(spec_of(M=32))
    assert not other.index_is_current()
    other.build_index()
    assert other.index_is_current()
    assert index_state(lite_uri) != built
    database.close()


# --- other versions' columns ---

FULL_ROW = ImageRecord("/p/a.jpg", "/p", "ab" * 16, 5, 6, 7, 8, "2024-05-01T12:00:00", "Canon", 1.5, -2.5)
ONE = np.ones((1, 2), np.float32)


def made_by_another_version(uri: str, without: set[str], strange: dict[str, str]) -> None:
    """Make an empty collection that lacks some columns and has others, with Milvus Lite's names of their types."""
    database = opened(uri)
    database.create(spec_of("FLAT"), fingerprint(2))
    database.close()
    folder = Path(uri, "collections", "kept")
    payload = lite_schema.read_payload(folder)
    camera = next(field for field in payload["fields"] if field["name"] == "camera")
    payload["fields"] = [field for field in payload["fields"] if field["name"] not in without]
    for name, kind in strange.items():
        payload["fields"].append({**camera, "name": name, "dtype": kind})
    (folder / lite_schema.NAME).write_text(json.dumps(payload))


def test_a_collection_of_a_newer_version(lite_uri: str) -> None:
    made_by_another_version(
        lite_uri, set(), {"lens": "varchar", "faces": "int64", "altitude": "double", "favourite": "bool"}
    )
    database = opened(lite_uri)
    collection = database.open(spec_of("FLAT"))
    collection.upsert([FULL_ROW], ONE)
    collection.build_index()
    database.close()
    database = opened(lite_uri)
    collection = database.open(spec_of("FLAT"))
    assert [picture for batch in collection.scan() for picture in batch] == [FULL_ROW]
    assert collection.fetch([FULL_ROW.id])[0] == [FULL_ROW]
    assert collection.search(ONE, k=1)[0][0].picture == FULL_ROW
    database.close()
    values = row_of(lite_uri)
    assert {name: values[name] for name in ("lens", "faces", "altitude", "favourite")} == {
        "lens": "",
        "faces": 0,
        "altitude": 1000.0,
        "favourite": False,
    }


def row_of(uri: str) -> dict[str, Any]:
    """The only row as it is in its file."""
    import pyarrow.parquet as pq

    (file,) = Path(uri).glob("collections/kept/partitions/*/data/*.parquet")
    (row,) = pq.read_table(file).to_pylist()
    return dict(row)


def test_a_collection_of_an_older_version(lite_uri: str) -> None:
    made_by_another_version(lite_uri, {"camera", "latitude", "longitude", "taken"}, {})
    database = opened(lite_uri)
    collection = database.open(spec_of("FLAT"))
    assert set(collection.info().missing_columns) == {"camera", "latitude", "longitude", "taken"}
    collection.upsert([FULL_ROW], ONE)
    known = ImageRecord("/p/a.jpg", "/p", "ab" * 16, 5, 6, 7, 8)
    assert [picture for batch in collection.scan() for picture in batch] == [known]
    assert collection.fetch([FULL_ROW.id])[0] == [known]
    assert collection.search(ONE, k=1)[0][0].picture == known
    database.close()
