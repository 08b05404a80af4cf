"""Exports and manifests from strangers: one line, in little time and memory, whatever is in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagesearch.errors import FeaturesError, TransferError
from imagesearch.library.features import FeaturesFiles, read_features
from imagesearch.library.transfer import import_collection, read_export
from imagesearch.records import Fingerprint
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

pytestmark = pytest.mark.timeout(30)

DIM = 4
ABOUT = {
    "format": 1,
    "collection": "images",
    "fingerprint": json.loads(Fingerprint("m", "r", "cls", (8, 8), DIM).to_json()),
    "metric": "COSINE",
}


def export(file: Path, *, about: Any = ABOUT, rows: int = 3, compression: str = "zstd", **columns: Any) -> Path:
    """An export of which some columns, or what it says of itself, are another's work."""
    flat = pa.array(np.ones(rows * DIM, np.float32))
    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), DIM)
    given = {
        "path": pa.array([f"/p/{number}.jpg" for number in range(rows)]),
        "vector": pa.FixedSizeListArray.from_arrays(flat, type=kind),
        **columns,
    }
    text = about if isinstance(about, str) else json.dumps(about)
    table = pa.table(given).replace_schema_metadata({b"imagesearch": text.encode()})
    pq.write_table(table, file, compression=compression)
    return file


def refused(file: Path) -> str:
    with pytest.raises(TransferError) as raised:
        import_collection(file, MemoryDatabase(), CollectionSpec("images"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    return str(raised.value)


def test_a_plain_one_is_read(tmp_path: Path) -> None:
    report = import_collection(export(tmp_path / "a.parquet"), MemoryDatabase(), CollectionSpec("images"))
    assert report.rows == 3


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": {**ABOUT["fingerprint"], "input_size": value}}
        for value in (5, [], [1], [1, 2, 3], ["a", "b"], [1e999, 1], [-1, 4], {}, None, [10**9, 4])
    ]
    + [{"fingerprint": {**ABOUT["fingerprint"], "dim": value}} for value in ("4", 4.0, -4, 10**9, None, [4], True)]
    + [{"fingerprint": value} for value in (None, [], "x", {}, {**ABOUT["fingerprint"], "extra": 1})]
    + [{"fingerprint": {**ABOUT["fingerprint"], "earlier_revisions": ["r2"]}}]
    + [{"fingerprint": {**ABOUT["fingerprint"], "normalized": 1}}]
    + [{"format": value} for value in (99, "x", None, 1e999, [])]
    + [{"metric": value} for value in ("", "HAMMING", None, 3)],
)
def test_what_it_says_of_itself(tmp_path: Path, change: dict[str, Any]) -> None:
    file = export(tmp_path / "a.parquet", about={**ABOUT, **change})
    refused(file)
    with pytest.raises(TransferError):
        read_export(file)


@pytest.mark.parametrize("about", ["", "[", "null", "[]", "[" * 100_000, "x" * 2**21])
def test_what_is_no_json_or_too_much(tmp_path: Path, about: str) -> None:
    refused(export(tmp_path / "a.parquet", about=about))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("path", pa.array([1, 2, 3])),
        ("path", pa.array(["", "/b", "/c"])),
        ("path", pa.array([None, "/b", "/c"], pa.string())),
        ("path", pa.array(["/a\0b", "/b", "/c"])),
        ("path", pa.array(["/" + "x" * 70_000, "/b", "/c"])),
        ("path", pa.array([b"\xff", b"b", b"c"])),
        ("content_hash", pa.array([[1], [2], [3]])),
        ("content_hash", pa.array(["x" * 200, "b", "c"])),
        ("size", pa.array(["1", "2", "3"])),
        ("size", pa.array([2**64 - 1, 2, 3], pa.uint64())),
        ("latitude", pa.array([float("inf"), 1, 2])),
        ("longitude", pa.array([float("nan"), 1, 2])),
        ("taken", pa.array([1.5, 2.5, 3.5])),
    ],
)
def test_columns_that_no_image_record_has(tmp_path: Path, name: str, values: pa.Array) -> None:
    refused(export(tmp_path / "a.parquet", **{name: values}))


PROGRAM = """
import sys
from imagesearch.errors import TransferError
from imagesearch.library.transfer import import_collection
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase
try:
    import_collection(sys.argv[1], MemoryDatabase(), CollectionSpec("images"))
except TransferError as error:
    print(error)
with open("/proc/self/status") as status:  # getrusage() would tell the peak of the tests, which made this process
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
assert peak < 700_000, f"{peak} kB"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak")
@pytest.mark.parametrize("kind", ["one long text", "many equal texts", "compressed zeros"])
def test_small_files_that_would_take_gigabytes(tmp_path: Path, kind: str) -> None:
    rows = 200_000
    long = "/" + "x" * 1_000_000
    paths = pa.array([f"/{number}" for number in range(rows)])
    if kind == "one long text":
        columns = {"path": pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([long]))}
    elif kind == "many equal texts":
        texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["y" * 100_000]))
        columns = {"path": paths, "camera": texts}
    else:
        columns = {"path": pa.array(["/" + "a" * 60_000] * 4_000)}
        rows = 4_000
    file = export(tmp_path / "a.parquet", rows=rows, **columns)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr[-1500:]) == (0, "")
    assert kind == "compressed zeros" or "a.parquet" in done.stdout


@pytest.mark.parametrize(
    "manifest",
    [
        "[" * 100_000,
        json.dumps({"fingerprint": {**ABOUT["fingerprint"], "input_size": 7}}),
        json.dumps({"fingerprint": ABOUT["fingerprint"], "started_ns": 1e999}),
        json.dumps({"fingerprint": ABOUT["fingerprint"], "started_ns": "soon"}),
        json.dumps([]),
    ],
)
def test_manifests_of_features(tmp_path: Path, manifest: str) -> None:
    files = FeaturesFiles.of_prefix(tmp_path / "a")
    np.save(files.features, np.ones((2, DIM), np.float32))
    files.paths.write_text("/a\n/b\n")
    files.manifest.write_text(manifest)
    with pytest.raises(FeaturesError, match="damaged") as raised:
        read_features(files)
    assert "\n" not in str(raised.value)
