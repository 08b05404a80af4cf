"""A Milvus Lite database whose files are gone, damaged or out of reach: errors say so, and nothing gets worse."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from imagesearch import ImageSearch
from imagesearch.errors import CollectionNotFoundError, DamagedError, ImageSearchError, StoreError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase

from ..faults.scenarios import ToyEmbedder
from .conftest import fingerprint, numbered, operations, pictures, vectors

SPEC = CollectionSpec("kept", index_type="FLAT")


def opened(uri: str) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open()


@contextmanager
def using(uri: str) -> Iterator[Collection]:
    database = opened(uri)
    yield database.open(SPEC)
    database.close()


def paths_in(uri: str) -> set[str]:
    with using(uri) as collection:
        return {picture.path for batch in collection.scan() for picture in batch}


def contents(uri: str) -> dict[str, bytes | None]:
    """Every file with its content, and every folder, of the collections."""
    folder = Path(uri, "collections")
    return {str(entry): entry.read_bytes() if entry.is_file() else None for entry in folder.rglob("*")}


# Thirty rows in a data file, of which some are deleted; the last three rows and the last deletion are in the log.
KILLED = """
import os, sys
from tests.stores.conftest import clustered, fingerprint, numbered
from tests.stores.test_durability import SPEC, opened
collection = opened(sys.argv[1]).create(SPEC, fingerprint(2))
collection.upsert(numbered(0, 30), clustered(30, 2))
collection.delete([picture.id for picture in numbered(0, 2)])
collection.build_index()
collection.delete([picture.id for picture in numbered(2, 5)])
collection.build_index()
collection.upsert(numbered(30, 33), clustered(3, 2, seed=1))
collection.delete([numbered(5, 6)[0].id])
os._exit(0)
"""

ROWS = {picture.path for picture in numbered(6, 33)}


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "pictures.db"
    command = [sys.executable, "-c", KILLED, str(folder)]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, timeout=60)
    return folder


@pytest.fixture
def filled(killed: Path, lite_uri: str) -> str:
    """A database whose process was killed: see :data:`KILLED`."""
    shutil.copytree(killed, lite_uri)
    return lite_uri


# --- a crash between a collection's folder and its schema ---


@pytest.mark.parametrize("left", ["nothing", "log", "empty", "index", "half a schema"])
def test_leftovers_of_a_collection_that_never_was_are_cleared(lite_uri: str, left: str) -> None:
    folder = Path(lite_uri, "collections", "kept")
    folder.mkdir(parents=True)
    if left == "log":
        (folder / "wal").mkdir()
    elif left == "empty":
        (folder / "partitions" / "_default" / "data").mkdir(parents=True)
    elif left == "index":
        (folder / "partitions" / "_default" / "indexes").mkdir(parents=True)
        (folder / "partitions" / "_default" / "indexes" / "data_000001_000002.embedding.flat.idx").touch()
    elif left == "half a schema":
        (folder / "schema.json.tmp").write_text('{"collection_name": "kept", "fie')
    database = opened(lite_uri)
    assert database.names() == []
    with pytest.raises(CollectionNotFoundError):
        database.open(SPEC)
    collection = database.create(SPEC, fingerprint(2))
    assert collection.count() == 0
    collection.upsert(pictures("a"), vectors([1, 0]))
    database.close()
    assert paths_in(lite_uri) == {"/photos/a.jpg"}
    assert not Path(lite_uri, "imagesearch-leftovers").exists()


def test_leftovers_with_rows_in_them_are_set_aside(filled: str) -> None:
    folder = Path(filled, "collections", "kept")
    for schema in folder.glob("schema.json*"):  # Milvus Lite drops file by file, and was killed
        schema.unlink()
    before = sorted(entry.relative_to(folder) for entry in folder.rglob("*"))
    database = opened(filled)
    assert database.names() == []
    assert database.create(SPEC, fingerprint(2)).count() == 0
    database.close()
    (kept,) = Path(filled, "imagesearch-leftovers").iterdir()
    assert sorted(entry.relative_to(kept) for entry in kept.rglob("*")) == before


def test_leftovers_can_be_dropped_and_renamed_over(filled: str) -> None:
    for name in ("dropped", "taken"):
        Path(filled, "collections", name, "wal").mkdir(parents=True)
    database = opened(filled)
    database.drop("dropped")
    assert not Path(filled, "collections", "dropped").exists()
    database.rename("kept", "taken")
    assert database.names() == ["taken"]
    database.close()


@pytest.mark.parametrize("step", ["rename", "replace", "fsync"])
def test_an_error_while_a_collection_is_made_leaves_no_trace(
    lite_uri: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    database = opened(lite_uri)
    database.create(CollectionSpec("other"), fingerprint(2))
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StoreError, match=os.strerror(errno.EIO)):
            database.create(SPEC, fingerprint(2))
    assert database.names() == ["other"]
    assert [folder.name for folder in Path(lite_uri, "collections").iterdir()] == ["other"]
    assert database.create(SPEC, fingerprint(2)).count() == 0
    database.close()


def test_what_a_killed_process_was_preparing_or_deleting_goes(filled: str) -> None:
    staging = Path(filled, ".database-staging")
    (staging / "imagesearch-0123").mkdir(parents=True)
    (staging / "imagesearch-0123" / "schema.json").write_text("{}")
    (staging / "file").touch()
    assert paths_in(filled) == ROWS
    assert list(staging.iterdir()) == []


# --- the folder is deleted while it is used ---


def test_deleting_the_folder_while_rows_are_written_ends_in_an_error(filled: str) -> None:
    database = opened(filled)
    collection = database.open(SPEC)
    collection.upsert(pictures("a"), vectors([1, 0]))
    shutil.rmtree(filled)
    for use in operations(collection):
        with pytest.raises(StoreError):
            use()
    with pytest.raises(StoreError):
        database.create(SPEC, fingerprint(2))
    database.close()
    assert not Path(filled).exists()
    database = opened(filled)  # and it can be begun again
    assert database.create(SPEC, fingerprint(2)).count() == 0
    database.close()


def test_deleting_one_collection_while_rows_are_written_ends_in_an_error(filled: str) -> None:
    database = opened(filled)
    collection = database.open(SPEC)
    other = database.create(CollectionSpec("other"), fingerprint(2))
    collection.upsert(pictures("a"), vectors([1, 0]))
    shutil.rmtree(Path(filled, "collections", "kept"))
    for use in operations(collection):
        with pytest.raises(StoreError):
            use()
    other.upsert(pictures("a"), vectors([1, 0]))
    assert database.create(SPEC, fingerprint(2)).count() == 0
    database.close()


class Saboteur(ToyEmbedder):
    """Deletes a folder while it encodes."""

    def __init__(self, folder: Path, calls: int) -> None:
        self._folder, self._calls = folder, calls

    def encode(self, batch: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self._calls -= 1
        if not self._calls:
            shutil.rmtree(self._folder)
        return super().encode(batch)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_deleting_the_folder_during_indexing_ends_in_an_error(
    lite_uri: str, picture_folder: Path, calls: int
) -> None:
    settings = {"milvus": {"uri": lite_uri}, "extraction": {"batch_size": 2}}
    saboteur = Saboteur(Path(lite_uri), calls)
    with (
        ImageSearch(settings, embedder=saboteur) as images,
        pytest.raises(ImageSearchError, match=r"pictures\.db"),
    ):
        images.index(picture_folder)
    with ImageSearch(settings, embedder=ToyEmbedder()) as images:
        assert images.index(picture_folder).indexed == 6


# --- a log that cannot be opened ---


def test_a_log_that_is_a_folder(filled: str) -> None:
    for log in sorted(Path(filled, "collections", "kept", "wal").glob("*.arrow")):
        aside = log.with_suffix(".aside")
        log.rename(aside)
        log.mkdir()
        before = contents(filled)
        assert_all_is_refused(filled)
        assert contents(filled) == before
        log.rmdir()
        aside.rename(log)
    assert paths_in(filled) == ROWS


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_a_log_that_the_system_does_not_open(filled: str, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    logs = {str(log) for log in Path(filled, "collections", "kept", "wal").glob("*.arrow")}
    assert len(logs) == 2
    original = io.open

    def refusing(file: Any, *more: Any, **options: Any) -> Any:
        if str(file) in logs:
            raise OSError(number, os.strerror(number), str(file))
        return original(file, *more, **options)

    before = contents(filled)
    with monkeypatch.context() as patch:
        for module in (io, builtins):
            patch.setattr(module, "open", refusing)
        assert_all_is_refused(filled)
    assert contents(filled) == before
    assert paths_in(filled) == ROWS


def assert_all_is_refused(uri: str) -> None:
    database = opened(uri)
    collection = database.open(SPEC)
    for use in operations(collection):
        with pytest.raises(StoreError) as caught:
            use()
        assert "\n" not in str(caught.value)
        assert uri in str(caught.value)
    database.close()


TOO_MANY_FILES = """
import os, resource, sys
from imagesearch.errors import StoreError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
collection = database.open(CollectionSpec("kept", index_type="FLAT"))
collection.index_is_current()  # imports what it needs
database.close()
database = DatabaseAddress.parse(sys.argv[1]).open()
collection = database.open(CollectionSpec("kept", index_type="FLAT"))
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))), hard))
scan, delete = lambda: list(collection.scan()), lambda: collection.delete([1])
for use in (collection.count, scan, delete, collection.build_index):
    try:
        print("no error", use())
    except StoreError as error:
        print("refused:", error)
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(collection.count())
database.close()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs to know the open files of a process")
def test_too_many_open_files(filled: str) -> None:
    before = contents(filled)
    command = [sys.executable, "-c", TOO_MANY_FILES, filled]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    *refusals, count = done.stdout.splitlines()
    assert len(refusals) == 4
    assert all(line.startswith("refused:") and os.strerror(errno.EMFILE) in line for line in refusals), refusals
    assert count == str(len(ROWS))
    assert paths_in(filled) == ROWS
    assert {name for name in before if "wal" not in name} <= set(contents(filled))


# --- damaged files ---


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink], ids=["truncated", "emptied", "missing"])
@pytest.mark.parametrize("checksums", [True, False], ids=["ours", "without checksums"])
@pytest.mark.parametrize("kind", ["data", "delta"])
def test_a_damaged_data_file_is_named_and_nothing_is_changed(
    filled: str, kind: str, checksums: bool, damage: Callable[[Path], None]
) -> None:
    folder = Path(filled, "collections", "kept")
    if not checksums:  # as if Milvus Lite itself had written it last
        for manifest in folder.glob("manifest.json*"):
            payload = json.loads(manifest.read_text())
            del payload["imagesearch"]
            manifest.write_text(json.dumps(payload))
        assert paths_in(filled) == ROWS
    for file in sorted(folder.glob(f"partitions/_default/{kind}/*.parquet")):
        original = file.read_bytes()
        damage(file)
        assert_it_is_named(filled, file)
        file.write_bytes(original)
    assert paths_in(filled) == ROWS


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink], ids=["truncated", "emptied", "missing"])
@pytest.mark.parametrize("name", ["manifest.json", "wal/wal_data_*.arrow", "wal/wal_delta_*.arrow"])
def test_a_damaged_manifest_or_log_is_named_and_nothing_is_changed(
    filled: str, name: str, damage: Callable[[Path], None]
) -> None:
    (file,) = Path(filled, "collections", "kept").glob(name)
    original = file.read_bytes()
    damage(file)
    assert_it_is_named(filled, file)
    file.write_bytes(original)
    assert paths_in(filled) == ROWS


def assert_it_is_named(uri: str, file: Path) -> None:
    before = contents(uri)
    database = opened(uri)
    assert database.names() == ["kept"]
    for use in operations(database.open(SPEC)):
        with pytest.raises(DamagedError) as caught:
            use()
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert contents(uri) == before
    database.close()
    assert contents(uri) == before


@pytest.mark.parametrize("damage", [truncate, empty], ids=["truncated", "emptied"])
def test_a_damaged_schema_is_named_and_nothing_is_changed(filled: str, damage: Callable[[Path], None]) -> None:
    file = Path(filled, "collections", "kept", "schema.json")
    original = file.read_bytes()
    damage(file)
    before = contents(filled)
    database = opened(filled)
    for use in (lambda: database.open(SPEC), lambda: database.create(SPEC, fingerprint(2))):
        with pytest.raises(DamagedError, match=r"schema\.json"):
            use()
    database.close()
    assert contents(filled) == before
    file.write_bytes(original)
    assert paths_in(filled) == ROWS
