"""The files are Milvus Lite's: what pymilvus wrote can be used here, and what is written here opens there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesearch.records import ImageRecord, Metric
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors
from imagesearch.stores.columns import BY_NAME, ID, stored_columns
from imagesearch.stores.memory import MemoryDatabase

from .conftest import clustered, fingerprint

DIM, COUNT = 8, 300

PHOTOS = [
    ImageRecord(
        f"/photos/{number}.jpg", "/photos", f"{number:032x}", number, 10**18 + number, 4000, 3000, "2026-01-01"
    )
    for number in range(COUNT - 1)
] + [ImageRecord("/photos/caf\udce9\n.jpg", camera="Canon", latitude=0.5, longitude=-3.25)]

VECTORS = clustered(COUNT, DIM)
QUERIES = clustered(5, DIM, seed=7)

# Makes a collection as this program does on servers, and inserts rows; or tells what is in one.
CLIENT = """
import json, sys
import numpy as np
from pymilvus import MilvusClient
from imagesearch.records import Metric
from imagesearch.stores.milvus.schema import RECORD_PROPERTY, Schema
from imagesearch.stores.milvus.server_rows import new_fields
from tests.stores.conftest import fingerprint
uri, doing, metric, index_type = sys.argv[1:]
client = MilvusClient(uri)
if doing == "write":
    schema = Schema(fingerprint(8), Metric(metric), "embedding")
    client.create_collection("kept", schema=new_fields(schema), properties={RECORD_PROPERTY: schema.record()})
    index = MilvusClient.prepare_index_params()
    index.add_index("embedding", index_type=index_type, metric_type=metric)
    client.create_index("kept", index)
    rows = json.load(sys.stdin)
    client.insert("kept", rows[:200])
    client.flush("kept")
    client.upsert("kept", rows[150:])
    client.delete("kept", ids=[row["id"] for row in rows[:10]])
else:
    client.load_collection("kept")
    columns = json.load(sys.stdin)
    rows = client.query("kept", filter="id >= 0", output_fields=columns["columns"])
    for row in rows:
        row["embedding"] = [float(value) for value in row["embedding"]]
    found = client.search("kept", columns["queries"], limit=10, search_params={"metric_type": metric})
    print(json.dumps({"rows": rows, "hits": [[hit["id"] for hit in hits] for hits in found]}))
client.close()
"""

# The same through Milvus Lite's own interface.
ENGINE = """
import json, sys
import numpy as np
from milvus_lite import MilvusLite
uri, doing, metric, index_type = sys.argv[1:]
with MilvusLite(uri) as database:
    collection = database.get_collection("kept")
    collection.load()
    columns = json.load(sys.stdin)
    rows = collection.query("id >= 0", output_fields=columns["columns"])
    for row in rows:
        row["embedding"] = [float(value) for value in row["embedding"]]
    found = collection.search(columns["queries"], top_k=10, metric_type=metric)
    print(json.dumps({"rows": rows, "hits": [[hit["id"] for hit in hits] for hits in found]}))
"""


def run(script: str, uri: str, doing: str, spec: CollectionSpec, given: object) -> Any:
    command = [sys.executable, "-c", script, uri, doing, spec.metric.value, spec.index_type]
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        input=json.dumps(given),
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout else None


def rows_for_the_client() -> list[dict[str, Any]]:
    stored = stored_columns(PHOTOS, BY_NAME)
    columns = {ID: [photo.id for photo in PHOTOS], **stored, "embedding": VECTORS.tolist()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def opened(uri: str) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open()


def everything(collection: Collection) -> dict[int, tuple[ImageRecord, bytes]]:
    return {
        photo.id: (photo, vector.tobytes())
        for batch, matrix in collection.scan_vectors()
        for photo, vector in zip(batch, matrix, strict=True)
    }


def exact(photos: list[ImageRecord], matrix: Vectors, metric: Metric) -> Collection:
    collection = MemoryDatabase().create(CollectionSpec("kept", metric=metric), fingerprint(DIM))
    collection.upsert(photos, matrix)
    return collection


@pytest.mark.parametrize(
    ("metric", "index_type"), [(Metric.COSINE, "FLAT"), (Metric.L2, "HNSW"), (Metric.IP, "IVF_FLAT")]
)
def test_what_pymilvus_wrote(lite_uri: str, metric: Metric, index_type: str) -> None:
    spec = CollectionSpec("kept", metric=metric, index_type=index_type)
    run(CLIENT, lite_uri, "write", spec, rows_for_the_client())
    reference = exact(PHOTOS[10:], VECTORS[10:], metric)
    database = opened(lite_uri)
    collection = database.open(spec)
    assert (collection.fingerprint, collection.info().metric) == (fingerprint(DIM), metric)
    assert (collection.count(), everything(collection)) == (COUNT - 10, everything(reference))
    assert_found(collection, reference)
    collection.upsert(PHOTOS[5:20], VECTORS[5:20])
    collection.build_index()
    database.close()
    database = opened(lite_uri)
    collection, reference = database.open(spec), exact(PHOTOS[5:], VECTORS[5:], metric)
    assert collection.index_is_current()
    assert everything(collection) == everything(reference)
    assert_found(collection, reference)
    database.close()


def assert_found(collection: Collection, reference: Collection) -> None:
    for ours, theirs in zip(collection.search(QUERIES, 10), reference.search(QUERIES, 10), strict=True):
        assert [hit.path for hit in ours] == [hit.path for hit in theirs]


@pytest.mark.parametrize(
    ("client", "metric", "index_type", "end"),
    [
        ("pymilvus", Metric.COSINE, "FLAT", "closed"),
        ("pymilvus", Metric.L2, "HNSW", "killed"),
        ("milvus_lite", Metric.COSINE, "FLAT", "killed"),
        ("milvus_lite", Metric.IP, "IVF_SQ8", "closed"),
    ],
)
def test_what_was_written_here(lite_uri: str, client: str, metric: Metric, index_type: str, end: str) -> None:
    spec = CollectionSpec("kept", metric=metric, index_type=index_type)
    run(OURS, lite_uri, end, spec, None)
    expected = exact(PHOTOS[10:], VECTORS[10:], metric)
    asked = {"columns": [*BY_NAME, "embedding"], "queries": QUERIES.tolist()}
    found = run(CLIENT if client == "pymilvus" else ENGINE, lite_uri, "read", spec, asked)
    by_id = {row[ID]: row for row in rows_for_the_client()[10:]}
    assert {row[ID]: {name: row[name] for name in by_id[row[ID]]} for row in found["rows"]} == by_id
    assert len(found["rows"]) == COUNT - 10
    if index_type != "IVF_SQ8":  # which is not exact by design
        hits = expected.search(QUERIES, 10)
        assert [set(ids) for ids in found["hits"]] == [{hit.picture.id for hit in row} for row in hits]
    database = opened(lite_uri)  # and what they may have written meanwhile is no obstacle
    assert everything(database.open(spec)) == everything(expected)
    database.close()


OURS = """
import json, os, sys
import numpy as np
from imagesearch.records import Metric
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
from tests.stores.conftest import fingerprint
from tests.stores.test_interchange import PHOTOS, VECTORS
uri, end, metric, index_type = sys.argv[1:]
database = DatabaseAddress.parse(uri).open()
spec = CollectionSpec("kept", metric=Metric(metric), index_type=index_type)
collection = database.create(spec, fingerprint(8))
collection.upsert(PHOTOS[:200], VECTORS[:200])
collection.build_index()
collection.upsert(PHOTOS[150:], VECTORS[150:])
collection.delete([photo.id for photo in PHOTOS[:10]])
if end == "killed":
    os._exit(0)
collection.build_index()
database.close()
"""
