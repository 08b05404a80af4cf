"""A column more is one line, and collections that lack it get it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import imagesearch
from imagesearch.errors import StoreError
from imagesearch.records import ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, VectorDatabase
from imagesearch.stores.milvus import lite_schema

from .conftest import clustered, fingerprint, numbered

GONE = ("camera", "latitude", "longitude", "width")
NEW_LINE = "    verdict: str | None = column(None, max_bytes=64)\n    shots: int = column(1)\n"

NEWER = """
import sys, numpy as np
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec

database = DatabaseAddress.parse(sys.argv[1]).open()
spec = CollectionSpec("pictures")
before = database.open(spec)
assert before.info().missing_columns == ("verdict", "shots"), before.info()
rows = {row.path: row for batch in before.scan() for row in batch}
assert len(rows) == 60 and all((row.verdict, row.shots) == (None, 1) for row in rows.values())
collection = database.create(spec, before.fingerprint)
assert collection.info().missing_columns == ()
assert {row.path: row for batch in collection.scan() for row in batch} == rows
collection.upsert([ImageRecord("/photos/new.jpg", verdict="keep", shots=3)], np.full((1, 8), 0.5, np.float32))
collection.build_index()
database.close()
collection = DatabaseAddress.parse(sys.argv[1]).open().open(spec)
[best] = collection.search(np.full((1, 8), 0.5, np.float32), 1)[0]
assert (best.picture.verdict, best.picture.shots) == ("keep", 3), best
assert sorted(collection.fetch([row.id for row in rows.values()])[0], key=str) == sorted(rows.values(), key=str)
"""


def opened(uri: str) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open()


@pytest.fixture
def older(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database as a version without some of the columns makes it: rows in data files, and in the log."""
    write = lite_schema.write_payload

    def without(folder: Path, payload: dict) -> None:
        fields = [field for field in payload["fields"] if field["name"] not in GONE]
        write(folder, {**payload, "fields": fields})

    with monkeypatch.context() as patch:
        patch.setattr(lite_schema, "write_payload", without)
        database = opened(lite_uri)
        collection = database.create(CollectionSpec("pictures"), fingerprint(8))
    matrix = clustered(60, 8)
    collection.upsert(numbered(0, 40, size=7), matrix[:40])
    collection.build_index()
    collection.delete([ImageRecord("/photos/3.jpg").id])
    collection.upsert(numbered(40, 60, size=7), matrix[40:])
    assert collection.info().missing_columns == ("width", "camera", "latitude", "longitude")
    database.close()
    return lite_uri


def expected() -> dict[str, ImageRecord]:
    return {row.path: row for row in numbered(0, 60, size=7) if row.path != "/photos/3.jpg"}


def rows_in(uri: str) -> dict[str, ImageRecord]:
    database = opened(uri)
    found = {row.path: row for batch in database.open(CollectionSpec("pictures")).scan() for row in batch}
    database.close()
    return found


def test_an_older_collection_can_be_used_as_it_is(older: str) -> None:
    assert rows_in(older) == expected()
    database = opened(older)
    collection = database.open(CollectionSpec("pictures"))
    collection.upsert([ImageRecord("/photos/a.jpg", camera="Canon", width=9)], clustered(1, 8, seed=5))
    [best] = collection.search(clustered(1, 8, seed=5), 1)[0]
    assert best.picture == ImageRecord("/photos/a.jpg")  # what has no column is not kept
    database.close()


def test_missing_columns_are_added_and_nothing_else_changes(older: str) -> None:
    database = opened(older)
    collection = database.create(CollectionSpec("pictures"), fingerprint(8))
    assert collection.info().missing_columns == ()
    matrix = clustered(60, 8)
    assert [hits[0].path for hits in collection.search(matrix[:3], 1)] == list(expected())[:3]
    photo = ImageRecord("/photos/a.jpg", camera="Canon", width=9, latitude=0.5, longitude=-1.0)
    collection.upsert([photo], clustered(1, 8, seed=5))
    collection.build_index()
    assert collection.index_is_current()
    database.close()
    assert rows_in(older) == {**expected(), photo.path: photo}


@pytest.mark.parametrize("step", ["write_payload", "with_columns"])
def test_a_crash_while_columns_are_added(older: str, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def fail(*_: object) -> None:
        raise OSError("the plug is pulled")

    database = opened(older)
    with monkeypatch.context() as patch:
        patch.setattr(lite_schema, step, fail)
        with pytest.raises(StoreError, match="the plug is pulled"):
            database.create(CollectionSpec("pictures"), fingerprint(8))
    collection = database.open(CollectionSpec("pictures"))
    assert {row.path: row for batch in collection.scan() for row in batch} == expected()
    database.close()
    assert rows_in(older) == expected()
    database = opened(older)
    assert database.create(CollectionSpec("pictures"), fingerprint(8)).info().missing_columns == ()
    database.close()
    assert rows_in(older) == expected()


def test_milvus_lite_itself_reads_what_was_extended(older: str) -> None:
    database = opened(older)
    database.create(CollectionSpec("pictures"), fingerprint(8)).build_index()
    database.close()
    program = (
        "import sys, milvus_lite\n"
        "with milvus_lite.MilvusLite(sys.argv[1]) as database:\n"
        "    collection = database.get_collection('pictures')\n"
        "    collection.load()\n"
        "    rows = collection.query('size == 7', output_fields=['path', 'width', 'camera'])\n"
        "    print(len(rows), {row['width'] for row in rows}, {row['camera'] for row in rows})\n"
    )
    done = subprocess.run([sys.executable, "-c", program, older], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["59", "{0}", "{''}"]


def test_a_column_more_is_one_line(lite_uri: str, tmp_path: Path) -> None:
    """The package with a line more in the class of rows, on a database that the package as it is has made."""
    database = opened(lite_uri)
    collection = database.create(CollectionSpec("pictures"), fingerprint(8))
    collection.upsert(numbered(0, 60), clustered(60, 8))
    collection.build_index()
    database.close()
    source = Path(imagesearch.__file__).parent
    shutil.copytree(source, tmp_path / "newer" / "imagesearch", ignore=shutil.ignore_patterns("models", "*.pyc"))
    records = tmp_path / "newer" / "imagesearch" / "records.py"
    text = records.read_text(encoding="utf-8")
    last = "    longitude: float | None = column(None)\n"
    assert last in text
    records.write_text(text.replace(last, last + NEW_LINE), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "newer")}
    done = subprocess.run(
        [sys.executable, "-c", NEWER, lite_uri], env=environment, capture_output=True, text=True, check=False
    )
    assert not done.returncode, done.stderr
    database = opened(lite_uri)  # and this version goes on with it, although it does not know the columns
    collection = database.create(CollectionSpec("pictures"), fingerprint(8))
    assert collection.count() == 61
    collection.upsert([ImageRecord("/photos/later.jpg")], clustered(1, 8, seed=9))
    collection.build_index()
    database.close()
    fields = json.loads((Path(lite_uri) / "collections" / "pictures" / "schema.json").read_text())["fields"]
    assert {"verdict", "shots"} <= {field["name"] for field in fields}
    assert np.allclose(
        [
            hit.score
            for hit in opened(lite_uri).open(CollectionSpec("pictures")).search(clustered(1, 8, seed=9), 1)[0]
        ],
        1,
    )
