"""Threads that do everything at once with one database, and compare each answer with the serial one.

What must not change lies still (the *kept* pictures); what the threads write beside it (the *passing* ones) comes
and goes. So answers about the kept ones are the same at any moment, however calls interleave. ``test_threads``
runs it for some seconds; :func:`run_mix` takes any number of them.
"""

from __future__ import annotations

import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.errors import ImageSearchError
from imagesearch.records import Hit, ImageRecord
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors

from .conftest import clustered, fingerprint

# Does something and compares the answer: raises AssertionError if it is another one.
Action = Callable[[random.Random], None]

# Seconds without any progress after which the threads count as stuck; the longest call takes a hundredth.
STUCK_AFTER = 90.0

# How often each thread goes on trying after the database was closed.
_TRIES_AFTER_CLOSING = 20

KEPT, PASSING, DIM = 400, 60, 16


@dataclass
class Outcome:
    """What the threads did.

    Attributes:
        calls: how often each action gave the right answer.
        refused: errors that said that the database (or this object) is closed, by action.
        problems: wrong answers and all other errors, with what raised them.
        stuck: the stacks of all threads, if they were stuck; else empty.
    """

    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    stuck: str = ""
    done: int = 0


def run_mix(
    actions: Mapping[str, Action],
    close: Callable[[], None],
    *,
    threads: int = 8,
    rounds: int = 0,
    seconds: float = 0.0,
    seed: int = 0,
) -> Outcome:
    """Let threads choose among the actions by chance, and close what they use in the midst of it.

    Args:
        actions: by name.
        close: closes what they use; called by another thread while all go on.
        threads: how many.
        rounds: close after so many actions of all threads together.
        seconds: close not before so many seconds have passed.
        seed: of the choices.
    """
    outcome, closed, lock = Outcome(), threading.Event(), threading.Lock()

    def work(number: int) -> None:
        chance, left = random.Random(f"{seed} {number}"), _TRIES_AFTER_CLOSING
        while left:
            left -= closed.is_set()
            name = chance.choice(list(actions))
            try:
                actions[name](chance)
            except ImageSearchError as error:
                kind = outcome.refused if "closed" in str(error) else None
                problem = f"{name}: {type(error).__name__}: {error}"
            except BaseException:  # noqa: BLE001 - told by the main thread
                kind, problem = None, f"{name}: {traceback.format_exc()}"
            else:
                kind, problem = outcome.calls, ""
            with lock:
                outcome.done += 1
                if kind is None:
                    outcome.problems.append(problem)
                else:
                    kind[name] += 1

    def finish() -> None:
        try:
            close()
        except BaseException:  # noqa: BLE001 - told by the main thread
            outcome.problems.append(f"close: {traceback.format_exc()}")
        closed.set()

    workers = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(threads)]
    for worker in workers:
        worker.start()
    until = time.monotonic() + seconds
    if _wait(outcome, lambda: outcome.done >= rounds and time.monotonic() >= until):
        closing = threading.Thread(target=finish, daemon=True)
        closing.start()
        _wait(outcome, lambda: not any(thread.is_alive() for thread in (*workers, closing)))
    return outcome


def _wait(outcome: Outcome, is_over: Callable[[], bool]) -> bool:
    """Wait until it is over; notes the stacks and gives False if the threads make no progress meanwhile."""
    done, since = outcome.done, time.monotonic()
    while not is_over():
        time.sleep(0.02)
        if outcome.done != done:
            done, since = outcome.done, time.monotonic()
        if time.monotonic() - since > STUCK_AFTER:
            outcome.stuck = _stacks()
            return False
    return True


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    stacks = {names.get(key): traceback.format_stack(frame) for key, frame in sys._current_frames().items()}
    return "\n".join(f"{name}:\n{''.join(stack)}" for name, stack in stacks.items())


# --- a bare database ---


def kept_rows() -> list[ImageRecord]:
    """Those that lie still."""
    return [ImageRecord(f"/kept/{number}.jpg", size=number) for number in range(KEPT)]


def fill(database: VectorDatabase, spec: CollectionSpec) -> Collection:
    """Insert what lies still, and index it."""
    collection = database.create(spec, fingerprint(DIM))
    collection.upsert(kept_rows(), clustered(KEPT, DIM))
    collection.build_index()
    return collection


def database_actions(database: VectorDatabase, spec: CollectionSpec) -> dict[str, Action]:
    """What is done with a database that :func:`fill` has filled."""
    rows, matrix = kept_rows(), clustered(KEPT, DIM)
    by_id = {row.id: (row, vector.tobytes()) for row, vector in zip(rows, matrix, strict=True)}
    shared = database.open(spec)
    queries = clustered(20, DIM, seed=5)
    serial = [_kept(hits) for hits in shared.search(queries, KEPT + PASSING)]
    is_exact = shared.spec.index_type == "FLAT"

    def collection(chance: random.Random) -> Collection:
        return shared if chance.random() < 0.7 else database.open(spec)

    def search(chance: random.Random) -> None:
        number = chance.randrange(len(queries))
        found = collection(chance).search(queries[number : number + 1], KEPT + PASSING)[0]
        if is_exact:
            assert _kept(found) == serial[number]
        else:
            _assert_nearly(dict(_kept(found)), dict(serial[number]))

    def fetch(chance: random.Random) -> None:
        chosen = chance.sample(range(KEPT), 20)
        found, vectors = collection(chance).fetch([rows[number].id for number in chosen])
        assert found == [rows[number] for number in chosen]
        assert np.array_equal(vectors, matrix[chosen])

    def scan(chance: random.Random) -> None:
        found = Counter(row for batch in collection(chance).scan(50) for row in batch if row.id in by_id)
        assert found == Counter(rows)

    def scan_columns(chance: random.Random) -> None:
        batches = collection(chance).scan_columns(["id", "size"], 70)
        found = [(int(key), int(size)) for batch in batches for key, size in zip(*batch.values(), strict=True)]
        assert sorted(pair for pair in found if pair[0] in by_id) == sorted((row.id, row.size) for row in rows)

    def scan_vectors(chance: random.Random) -> None:
        found = [
            (row, vector.tobytes())
            for batch, vectors in collection(chance).scan_vectors(90)
            for row, vector in zip(batch, vectors, strict=True)
            if row.id in by_id
        ]
        assert len(found) == KEPT
        assert all(by_id[row.id] == (row, vector) for row, vector in found)

    def upsert(chance: random.Random) -> None:
        numbers = chance.sample(range(PASSING), 10)
        vectors = clustered(10, DIM, seed=chance.randrange(1000))
        collection(chance).upsert([ImageRecord(f"/passing/{number}.jpg") for number in numbers], vectors)

    def delete(chance: random.Random) -> None:
        numbers = chance.sample(range(PASSING), 10)
        collection(chance).delete([ImageRecord(f"/passing/{number}.jpg").id for number in numbers])

    def describe(chance: random.Random) -> None:
        info = collection(chance).info()
        assert KEPT <= info.rows <= KEPT + PASSING
        assert KEPT <= collection(chance).count() <= KEPT + PASSING
        assert spec.name in database.names()

    def build_index(chance: random.Random) -> None:
        collection(chance).build_index()
        collection(chance).index_is_current()

    def other_collection(chance: random.Random) -> None:
        name = f"own_{threading.get_ident()}"
        own = database.create(CollectionSpec(name, index_type="FLAT"), fingerprint(DIM))
        own.upsert(rows[:5], matrix[:5])
        database.rename(name, f"{name}_renamed")
        assert database.open(CollectionSpec(f"{name}_renamed", index_type="FLAT")).count() == 5
        database.drop(f"{name}_renamed")

    reading = (search, fetch, scan, scan_columns, scan_vectors, describe)
    named = (*reading, upsert, delete, build_index, other_collection)
    return {action.__name__: action for action in named}


def _kept(hits: Iterable[Hit]) -> list[tuple[str, float]]:
    """Paths and scores of the kept pictures among them, in their order."""
    return [(hit.path, hit.score) for hit in hits if Path(hit.path).parent.name == "kept"]


def _assert_nearly(found: Mapping[str, float], serial: Mapping[str, float]) -> None:
    """Compare what an index found that is not exact: it may miss a hundredth, and its scores are float32."""
    assert len(found) >= 0.99 * len(serial)
    assert all(abs(score - serial[path]) < 1e-5 for path, score in found.items())


# --- the whole program ---


def draw(folder: Path, numbers: Iterable[int], seed: int = 0) -> None:
    """Small pictures that all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        colours = np.random.default_rng([seed, number]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((16, 16), Image.Resampling.NEAREST).save(folder / f"{number}.png")


def service_actions(
    images: ImageSearch, folder: Path, *, releasing: bool = True, is_exact: bool = True
) -> dict[str, Action]:
    """What is done with the program; draws and indexes the kept pictures first.

    Args:
        images: with the default collection.
        folder: where pictures may be drawn.
        releasing: whether the database is let go of now and then: calls of others may then be cut short.
        is_exact: whether the network gives the same vectors in batches of any size.
    """
    draw(folder / "kept", range(24))
    images.index(folder / "kept")
    pictures = sorted(str(path) for path in (folder / "kept").iterdir())
    vectors = images.embed(pictures)
    serial = {path: _kept(images.search(path, 1000, rerank="none")) for path in pictures}
    labels = {path: images.classify(path, 3) for path in pictures[:4]}
    rows = {row.path: row for batch in images.collection().scan() for row in batch}

    def search(chance: random.Random) -> None:
        path = chance.choice(pictures)
        found = _kept(images.search(path, 1000, rerank="none"))
        assert len(found) == len(serial[path])
        assert not is_exact or found == serial[path]
        _assert_nearly(dict(found), dict(serial[path]))

    def embed(chance: random.Random) -> None:
        number = chance.randrange(len(pictures) - 3)
        _assert_close(images.embed(pictures[number : number + 3]), vectors[number : number + 3])

    def classify(chance: random.Random) -> None:
        path = chance.choice(list(labels))
        found = images.classify(path, 3)
        assert [prediction.label for prediction in found] == [prediction.label for prediction in labels[path]]

    def index(chance: random.Random) -> None:
        passing = folder / f"passing {threading.get_ident()}"
        draw(passing, chance.sample(range(20), 4), seed=chance.randrange(1000))
        images.index(passing)
        for path in chance.sample(sorted(passing.iterdir()), 2):
            path.unlink()
        images.index(folder / "kept", passing)

    def fetch(chance: random.Random) -> None:
        chosen = chance.sample(range(len(pictures)), 5)
        found, there = images.collection().fetch([rows[pictures[number]].id for number in chosen])
        assert found == [rows[pictures[number]] for number in chosen]
        _assert_close(there, vectors[chosen])

    def scan(_: random.Random) -> None:
        found = {row.path: row for batch in images.collection().scan(10) for row in batch if row.path in rows}
        assert found == rows

    def build_index(_: random.Random) -> None:
        images.collection().build_index()

    def describe(_: random.Random) -> None:
        assert images.describe().rows >= len(pictures)
        assert images.spec.name in images.database.collections()

    def release(chance: random.Random) -> None:
        if chance.random() < 0.1:  # or no call of some length would ever come to its end
            images.release()

    named = [search, embed, classify, index, fetch, scan, build_index, describe, *[release] * releasing]
    return {action.__name__: action for action in named}


def _assert_close(found: Vectors, wanted: Vectors) -> None:
    assert np.allclose(found, wanted, atol=1e-5)
