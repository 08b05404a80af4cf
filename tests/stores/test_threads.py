"""Threads, forks and closing: what ``stores.base`` promises, kept by databases and by the whole program."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesearch import ImageSearch
from imagesearch.errors import ImageSearchError, StoreError
from imagesearch.records import ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, VectorDatabase
from imagesearch.stores.memory import MemoryDatabase

from ..faults.scenarios import ToyEmbedder
from .conftest import clustered, numbered
from .thread_mix import KEPT, Outcome, database_actions, fill, kept_rows, run_mix, service_actions

SPEC = CollectionSpec("kept", index_type="FLAT")

# Seconds after which a call hangs.
HANGS = 60

ENGINES = ["memory", "lite"]


def new_database(engine: str, uri: str) -> VectorDatabase:
    return MemoryDatabase() if engine == "memory" else DatabaseAddress.parse(uri).open()


def assert_right(outcome: Outcome, actions: object) -> None:
    assert not outcome.stuck, outcome.stuck
    assert not outcome.problems, "\n".join(outcome.problems[:5])
    assert set(outcome.calls) == set(actions)  # type: ignore[call-overload]


# --- threads ---


@pytest.mark.parametrize("index_type", ["FLAT", "HNSW"])
@pytest.mark.parametrize("engine", ENGINES)
def test_eight_threads_and_a_database(engine: str, index_type: str, lite_uri: str) -> None:
    spec = CollectionSpec("kept", index_type=index_type)
    database = new_database(engine, lite_uri)
    fill(database, spec)
    actions = database_actions(database, spec)
    outcome = run_mix(actions, database.close, rounds=400)
    assert_right(outcome, actions)
    assert sum(outcome.refused.values()) > 0
    for use in (database.names, lambda: database.open(spec)):
        with pytest.raises(StoreError, match="closed"):
            use()
    if engine == "lite":  # and what they wrote is whole
        database = new_database(engine, lite_uri)
        rows = [row for batch in database.open(spec).scan() for row in batch]
        assert len(rows) == len({row.id for row in rows})
        assert {row for row in rows if row.path.startswith("/kept")} == set(kept_rows())
        database.close()


def test_eight_threads_and_the_whole_program(lite_uri: str, tmp_path: Path) -> None:
    images = ImageSearch({"milvus": {"uri": lite_uri}}, embedder=ToyEmbedder())
    actions = service_actions(images, tmp_path / "pictures")
    outcome = run_mix(actions, images.close, rounds=250)
    assert_right(outcome, actions)
    assert sum(outcome.refused.values()) > 0
    with pytest.raises(ImageSearchError, match="closed"):
        images.search(tmp_path / "pictures" / "kept" / "1.png")


def test_eight_threads_and_the_whole_program_in_memory(tmp_path: Path) -> None:
    images = ImageSearch({}, database=MemoryDatabase(), embedder=ToyEmbedder())
    actions = service_actions(images, tmp_path / "pictures")
    assert_right(run_mix(actions, images.close, rounds=250), actions)


def test_eight_threads_and_the_bundled_model(lite_uri: str, tmp_path: Path) -> None:
    images = ImageSearch({"milvus": {"uri": lite_uri}, "model": {"device": "cpu", "precision": "float32"}})
    actions = service_actions(images, tmp_path / "pictures", releasing=False, is_exact=False)
    assert_right(run_mix(actions, images.close, rounds=40), actions)


def test_several_objects_share_one_folder(lite_uri: str) -> None:
    databases = [new_database("lite", lite_uri) for _ in range(4)]
    fill(databases[0], SPEC)
    actions = {
        f"{name} {number}": action
        for number, database in enumerate(databases)
        for name, action in database_actions(database, SPEC).items()
    }

    def close() -> None:
        for database in databases:
            database.close()

    assert_right(run_mix(actions, close, rounds=600), actions)


# --- closing ---


@pytest.mark.parametrize("engine", ENGINES)
def test_closing_while_another_thread_scans(engine: str, lite_uri: str) -> None:
    database = new_database(engine, lite_uri)
    collection = fill(database, SPEC)
    scanning, closed = collection.scan(10), threading.Event()
    read = len(next(scanning))

    def close() -> None:
        database.close()
        closed.set()

    thread = threading.Thread(target=close, daemon=True)
    thread.start()
    assert closed.wait(HANGS)  # a scan that stands still keeps nobody out
    rest = rest_of(scanning)
    assert rest is None or read + rest == KEPT
    with pytest.raises(StoreError, match="closed"):
        next(collection.scan())
    thread.join(HANGS)


def rest_of(scanning: Iterator[list[ImageRecord]]) -> int | None:
    """How many rows are left; None if the database was closed before the last of them."""
    try:
        return sum(map(len, scanning))
    except StoreError as error:
        return None if "closed" in str(error) else -1


def test_closing_waits_for_a_call_that_is_running(lite_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from imagesearch.stores.milvus.lite_table import Table

    database = new_database("lite", lite_uri)
    collection = fill(database, SPEC)
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    insert = Table.insert

    def slow(self: Table, *arguments: object) -> None:
        begun.set()
        assert go_on.wait(HANGS)
        insert(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Table, "insert", slow)
    problems: list[BaseException] = []

    def write() -> None:
        try:
            collection.upsert(numbered(0, 3), clustered(3, 16))
        except BaseException as error:  # noqa: BLE001 - looked at by the main thread
            problems.append(error)

    def close() -> None:
        database.close()
        closed.set()

    writing, closing = (threading.Thread(target=call, daemon=True) for call in (write, close))
    writing.start()
    assert begun.wait(HANGS)
    closing.start()
    assert not closed.wait(0.2)
    go_on.set()
    assert closed.wait(HANGS)
    writing.join(HANGS)
    assert problems == []
    database = new_database("lite", lite_uri)
    assert database.open(SPEC).count() == KEPT + 3
    database.close()


# --- fork ---

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FORKS = """
import os, random, signal, sys, threading
from pathlib import Path
from imagesearch import ImageSearch
from imagesearch.errors import StoreError
from tests.faults.scenarios import ToyEmbedder
from tests.stores.conftest import clustered, numbered
from tests.stores.test_threads import HANGS, SPEC, new_database
from tests.stores.thread_mix import KEPT, database_actions, draw, fill, kept_rows

engine, uri = sys.argv[1:]

def in_a_child(do):
    # The child says what came of it; hanging is an end like any other.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(HANGS // 2)
        try:
            answer = f"right {do()}"
        except StoreError as error:
            answer = f"StoreError {error}"
        except BaseException as error:
            answer = f"{type(error).__name__} {error}"
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        answer = stream.read().decode()
    os.waitpid(child, 0)
    return answer or "it hung or died"
"""

USED_BY_BOTH = """
database = new_database(engine, uri)
collection = fill(database, SPEC)
uses = [
    collection.count, database.names, lambda: database.open(SPEC), collection.build_index,
    lambda: len(collection.search(clustered(1, 16), 5)[0]), lambda: sum(map(len, collection.scan())),
    lambda: collection.upsert(numbered(0, 1), clustered(1, 16)), database.close,
]
for use in uses:
    print(in_a_child(use))
assert collection.count() == KEPT
collection.upsert(numbered(0, 1), clustered(1, 16))
collection.build_index()
assert len(collection.search(clustered(1, 16), KEPT + 1)[0]) == KEPT + 1
database.close()
"""

USED_BY_THREADS = """
database = new_database(engine, uri)
collection = fill(database, SPEC)
actions = database_actions(database, SPEC)
workers = [threading.Thread(target=lambda n=n: work(n), daemon=True) for n in range(4)]
errors, ended = [], threading.Event()
def work(number):
    chance = random.Random(number)
    while not ended.is_set():
        try:
            actions[chance.choice(["search", "scan", "fetch", "upsert", "describe"])](chance)
        except BaseException as error:
            errors.append(error)
for worker in workers:
    worker.start()
for number in range(12):
    use = [collection.count, database.names, database.close][number % 3]
    print(in_a_child(use))
ended.set()
for worker in workers:
    worker.join()
assert not errors, errors
assert {row for batch in collection.scan() for row in batch} >= set(kept_rows())
database.close()
"""

AT_A_BAD_MOMENT = """
database = new_database(engine, uri)
collection = fill(database, SPEC)
held, forked = threading.Event(), threading.Event()
def hold():
    with database._lock:
        held.set()
        forked.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
print(in_a_child(collection.count))
print(in_a_child(database.names))
print(in_a_child(database.close))
forked.set()
assert collection.count() == KEPT
"""

OPENED_IN_THE_CHILD = """
def use():
    database = new_database(engine, uri)
    collection = fill(database, SPEC)
    found = len(collection.search(clustered(1, 16), 5)[0])
    database.close()
    return found
never_used = new_database(engine, uri)
print(in_a_child(use))
print(in_a_child(lambda: len(never_used.names()) if engine == "lite" else 1))
never_used.close()
print("right", use())
"""

ANOTHER_IN_THE_CHILD = """
database = new_database(engine, uri)
collection = fill(database, SPEC)
def use():
    other = new_database(engine, uri.replace("pictures.db", "other.db"))
    return len(fill(other, SPEC).search(clustered(1, 16), 5)[0])
print(in_a_child(use))
assert collection.count() == KEPT
database.close()
"""

THE_WHOLE_PROGRAM = """
images = ImageSearch({"milvus": {"uri": uri}}, embedder=ToyEmbedder())
folder = Path(uri).parent / "pictures"
draw(folder, range(5))
images.index(folder)
print(in_a_child(lambda: len(images.search(folder / "1.png", 3))))
print(in_a_child(lambda: images.index(folder).found))
print(in_a_child(images.close))
assert len(images.search(folder / "1.png", 3)) == 3
images.close()
"""


def forked(script: str, engine: str, uri: str) -> list[str]:
    """What the children said, in a process of its own: forks would take the test's threads and locks with them."""
    command = [sys.executable, "-c", FORKS + script, engine, uri]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}  # with one, FAISS has no threads that a child could lack
    done = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=4 * HANGS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def is_right_or_one_clear_error(answer: str) -> bool:
    return answer.startswith("right ") or (answer.startswith("StoreError ") and "fork" in answer)


@needs_fork
@pytest.mark.parametrize("script", [USED_BY_BOTH, USED_BY_THREADS], ids=["one thread", "several threads"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_gets_an_answer_or_one_clear_error(engine: str, script: str, lite_uri: str) -> None:
    answers = forked(script, engine, lite_uri)
    assert len(answers) >= 8
    assert [answer for answer in answers if not is_right_or_one_clear_error(answer)] == []


@needs_fork
def test_a_child_is_not_kept_out_by_a_thread_that_it_does_not_have() -> None:
    assert forked(AT_A_BAD_MOMENT, "memory", "") == [f"right {KEPT}", "right ['kept']", "right None"]


@needs_fork
@pytest.mark.parametrize("engine", ENGINES)
def test_a_child_opens_what_its_parent_never_opened(engine: str, lite_uri: str) -> None:
    assert forked(OPENED_IN_THE_CHILD, engine, lite_uri) == ["right 5", "right 1", "right 5"]


@needs_fork
def test_a_child_opens_another_database_than_its_parent(lite_uri: str) -> None:
    # FAISS would wait for ever for threads that the child does not have, if the parent has used any.
    (answer,) = forked(ANOTHER_IN_THE_CHILD, "lite", lite_uri)
    assert is_right_or_one_clear_error(answer)


@needs_fork
def test_a_child_of_the_whole_program(lite_uri: str) -> None:
    answers = forked(THE_WHOLE_PROGRAM, "lite", lite_uri)
    assert len(answers) == 3
    assert [answer for answer in answers if not is_right_or_one_clear_error(answer)] == []
