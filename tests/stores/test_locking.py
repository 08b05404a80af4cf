"""Who may use a Milvus Lite database: one process at a time, without a port; and what cannot be written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesearch.errors import StoreError, StoreLockedError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase
from imagesearch.stores.milvus import lite_lock

from .conftest import clustered, fingerprint, pictures, vectors

SPEC = CollectionSpec("kept", index_type="HNSW")

# Opens the database, adds rows, says so, and waits to be killed or told to go on.
CHILD = """
import sys, numpy as np
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
collection = database.create(CollectionSpec("kept", index_type="HNSW"), Fingerprint("toy", "1", "cls", (8, 8), 4))
for first in range(0, 300, 100):
    rows = [ImageRecord(f"/p/{i}") for i in range(first, first + 100)]
    collection.upsert(rows, np.random.default_rng(first).normal(size=(100, 4)).astype("f4"))
if "index" in sys.argv:
    collection.build_index()
    collection.search(np.ones((1, 4), "f4"), 3)
print("ready", flush=True)
sys.stdin.readline()
database.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def opened(uri: str) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open()


def start_child(uri: str, *more: str) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, uri, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


@pytest.fixture
def child(lite_uri: str) -> Iterator[subprocess.Popen[str]]:
    process = start_child(lite_uri, "index")
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("more", [(), ("index",)])
def test_rows_survive_kill_9(lite_uri: str, more: tuple[str, ...]) -> None:
    process = start_child(lite_uri, *more)
    process.kill()
    process.communicate()
    database = opened(lite_uri)
    collection = database.open(SPEC)
    assert collection.count() == 300
    assert len({p.path for batch in collection.scan() for p in batch}) == 300
    assert len(collection.search(vectors([1, 0, 0, 0]), k=300)[0]) == 300
    database.close()


# --- one process at a time ---


def test_a_lock_names_its_holder(lite_uri: str, child: subprocess.Popen[str]) -> None:
    database = opened(lite_uri)
    for use in (database.names, lambda: database.open(SPEC), lambda: database.create(SPEC, fingerprint(4))):
        with pytest.raises(StoreLockedError) as caught:
            use()
        for part in (lite_uri, str(child.pid), Path(sys.executable).name):
            assert part in str(caught.value)
    database.close()


def test_without_proc_the_owner_file_names_the_holder(
    lite_uri: str, child: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lite_lock, "_lock_holder", lambda path: None)
    monkeypatch.setattr(lite_lock, "_command_of", lambda pid: "")
    with pytest.raises(StoreLockedError, match=rf"process {child.pid} \(.*python"):
        opened(lite_uri).names()


def test_closing_lets_another_process_in_at_once(lite_uri: str, child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "closed\n"
    database = opened(lite_uri)
    assert database.open(SPEC).count() == 300
    database.close()


def test_a_database_that_was_in_use_can_be_used_once_it_is_free(
    lite_uri: str, child: subprocess.Popen[str]
) -> None:
    database = opened(lite_uri)
    with pytest.raises(StoreLockedError):
        database.names()
    child.kill()
    child.wait()
    assert database.open(SPEC).count() == 300
    database.close()


def test_a_stale_owner_file_does_not_lock(lite_uri: str) -> None:
    Path(lite_uri).mkdir()
    owner = Path(lite_uri, "imagesearch-owner.json")
    owner.write_text(json.dumps({"pid": os.getppid(), "command": "gone"}))
    database = opened(lite_uri)
    assert database.names() == []
    assert json.loads(owner.read_text())["pid"] == os.getpid()
    database.close()
    assert not owner.exists()


def test_two_databases_of_one_process_share_a_folder(lite_uri: str) -> None:
    one, two = opened(lite_uri), opened(lite_uri)
    one.create(CollectionSpec("one"), fingerprint())
    rows = two.create(CollectionSpec("two"), fingerprint(3))
    assert one.names() == two.names() == ["one", "two"]
    one.close()
    rows.upsert(pictures("a"), vectors([1, 0, 0]))
    assert rows.count() == 1
    two.close()
    two.close()  # twice is once
    with pytest.raises(StoreError, match="closed"):
        rows.count()


# --- no port ---


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads what Linux tells of a process")
def test_no_port_is_open_while_a_file_is_used(child: subprocess.Popen[str]) -> None:
    entries = list(Path(f"/proc/{child.pid}/fd").iterdir())
    assert any(os.readlink(entry).endswith("LOCK") for entry in entries)  # it has the database
    assert [link for entry in entries if (link := os.readlink(entry)).startswith("socket:")] == []


# --- what cannot be written ---


def prepare(uri: str) -> None:
    """A database with rows in a data file with an index, and others in its log."""
    database = opened(uri)
    collection = database.create(SPEC, fingerprint(2))
    collection.upsert(pictures(*map(str, range(20))), clustered(20, 2))
    collection.build_index()
    collection.upsert(pictures("last"), vectors([1, 0]))
    database.close()


def writes(database: VectorDatabase, collection: Collection) -> list[Any]:
    other = CollectionSpec("kept", index_type="FLAT")
    return [
        lambda: collection.upsert(pictures("new"), vectors([0, 1])),
        lambda: collection.delete([pictures("1")[0].id]),
        lambda: database.open(other).build_index(),
        lambda: database.create(CollectionSpec("another"), fingerprint(2)),
        lambda: database.rename("kept", "other"),
        lambda: database.drop("kept"),
    ]


def assert_it_can_be_read_only(uri: str) -> None:
    """All reading works, and each write is refused in one line; the database is closed afterwards."""
    database = opened(uri)
    assert database.names() == ["kept"]
    collection = database.open(SPEC)
    assert (collection.count(), collection.info().index_type) == (21, "HNSW")
    assert collection.search(vectors([1, 0]), 1)[0][0].path == "/photos/last.jpg"
    assert len(collection.search(vectors([1, 0]), 30)[0]) == 21
    assert sum(len(batch) for batch in collection.scan()) == 21
    assert sum(len(columns["path"]) for columns in collection.scan_columns(["path"])) == 21
    assert sum(len(matrix) for _, matrix in collection.scan_vectors()) == 21
    assert len(collection.fetch([pictures("3")[0].id])[0]) == 1
    collection.index_is_current()
    for write in writes(database, collection):
        with pytest.raises(StoreError) as caught:
            write()
        text = str(caught.value)
        assert uri in text
        assert "read-only" in text
        assert "\n" not in text
        assert collection.count() == 21
    database.close()


def everything_in(folder: str) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def test_a_folder_that_the_system_will_not_let_us_write(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(lite_uri)
    before = everything_in(lite_uri)
    original = os.open

    def refusing(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if str(path).startswith(lite_uri) and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return original(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", refusing)
    assert_it_can_be_read_only(lite_uri)
    monkeypatch.undo()
    assert everything_in(lite_uri) == before


def _can_mount() -> bool:
    """Whether this system lets us mount something for ourselves alone."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "--bind", "/tmp", "/tmp"]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0


ON_A_READ_ONLY_DISK = """
import os, sys
sys.path.insert(0, os.getcwd())
from tests.stores.test_locking import assert_it_can_be_read_only
assert_it_can_be_read_only(sys.argv[1])
"""


@pytest.mark.skipif(not _can_mount(), reason="may not mount anything here")
def test_a_read_only_disk(lite_uri: str) -> None:
    prepare(lite_uri)
    before = everything_in(lite_uri)
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", lite_uri, sys.executable, ON_A_READ_ONLY_DISK]
    repository = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=repository, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert everything_in(lite_uri) == before
    database = opened(lite_uri)  # and where it can be written, it goes on
    database.open(SPEC).upsert(pictures("new"), vectors([0, 1]))
    assert database.open(SPEC).count() == 22
    database.close()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_database_that_may_be_read_only(lite_uri: str) -> None:
    prepare(lite_uri)
    before = everything_in(lite_uri)
    entries = [Path(lite_uri), *Path(lite_uri).rglob("*")]
    for entry in entries:
        entry.chmod(0o500 if entry.is_dir() else 0o400)
    try:
        assert_it_can_be_read_only(lite_uri)
        assert everything_in(lite_uri) == before
    finally:
        for entry in entries:
            entry.chmod(0o700)
