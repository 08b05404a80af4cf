"""What is wrong with databases: lost, doubled or wrong rows, and whether they can be worked with."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase

from .history import Held, Possible, Rows, digest_of

LOST, DOUBLED, WRONG = "lost", "doubled", "wrong"

# What is wrong, and where and how.
Problem = tuple[str, str]

# Rows by collection and database.
State = dict[str, dict[str, Rows]]


@contextmanager
def opened(path: Path) -> Iterator[VectorDatabase]:
    """The database at a path."""
    with closing(DatabaseAddress.parse(str(path)).open()) as database:
        yield database


def databases(folder: Path) -> list[Path]:
    """The databases in a folder."""
    return sorted(path for path in folder.iterdir() if path.name.endswith(".db"))


def read_all(folder: Path, specs: dict[str, CollectionSpec]) -> tuple[State, list[Problem]]:
    """All rows of all databases in a folder, and what is wrong with any one of the collections by itself.

    Args:
        folder: of the databases.
        specs: how collections are configured, by name.
    """
    state: State = {}
    problems: list[Problem] = []
    for path in databases(folder):
        with opened(path) as database:
            names = database.names()
            state[path.name] = {}
            for name in names:
                collection = database.open(specs[name])
                rows, wrong = _read(collection)
                state[path.name][name] = rows
                problems += [(kind, f"{path.name}/{name}: {text}") for kind, text in wrong]
    return state, problems


def _read(collection: Collection) -> tuple[Rows, list[Problem]]:
    """The rows of a collection; every way of reading it must tell the same."""
    problems: list[Problem] = []
    pictures: list[ImageRecord] = []
    parts = []
    for some, vectors in collection.scan_vectors(7):
        pictures += some
        parts.append(vectors)
    ids = [picture.id for picture in pictures]
    for key, times in Counter(ids).items():
        if times > 1:
            problems.append((DOUBLED, f"row {key} is there {times} times"))
    for what, count in (
        ("count()", collection.count()),
        ("info()", collection.info().rows),
        ("scan()", sum(map(len, collection.scan()))),
        ("scan_columns()", sum(len(batch["id"]) for batch in collection.scan_columns(["id"]))),
    ):
        if count != len(ids):
            problems.append((WRONG, f"{what} finds {count} rows, scan_vectors() {len(ids)}"))
    if not pictures:
        return {}, problems
    matrix = np.concatenate(parts)
    problems += _search(collection, pictures, matrix)
    fetched, vectors = collection.fetch(ids)
    if fetched != pictures or not np.array_equal(vectors, matrix):
        problems.append((WRONG, "fetch() gives other rows than scan_vectors()"))
    rows = {str(picture.id): digest_of(picture, vector) for picture, vector in zip(pictures, matrix, strict=True)}
    return rows, problems


def _search(collection: Collection, pictures: list[ImageRecord], matrix: Any) -> list[Problem]:
    """Every picture must be the closest to its own vector."""
    found = collection.search(matrix, 1)
    return [
        (
            WRONG,
            f"searching with the vector of {os.path.basename(picture.path)} finds {[hit.path for hit in hits]}",
        )
        for picture, hits in zip(pictures, found, strict=True)
        if [hit.path for hit in hits] != [picture.path]
    ]


def compare(state: State, possible: Possible) -> list[Problem]:
    """What is there, and what may be there."""
    problems: list[Problem] = []
    for label in state.keys() | possible.databases.keys():
        there, allowed = state.get(label, {}), possible.databases.get(label, {})
        for name in there.keys() | allowed.keys():
            found = _compare_collection(there.get(name), allowed.get(name, Held()))
            problems += [(kind, f"{label}/{name}: {text}") for kind, text in found]
    for label, name, new in possible.renames:
        both = [known for known in (name, new) if known in state.get(label, {})]
        if len(both) != 1:
            kind = DOUBLED if both else LOST
            problems.append((kind, f"{label}: of {name} (before) and {new} (after renaming) there is {both}"))
    return problems


def _compare_collection(rows: Rows | None, held: Held) -> list[Problem]:
    if (rows is not None) not in held.exists:
        return [(LOST, "the collection is not there")] if rows is None else [(WRONG, "the collection is there")]
    problems: list[Problem] = []
    if rows is None:
        return problems
    for key in rows.keys() | held.rows.keys():
        choice = held.rows.get(key, {None})
        if rows.get(key) in choice:
            continue
        if key not in rows:
            problems.append((LOST, f"row {key} is not there"))
        elif choice == {None}:
            problems.append((WRONG, f"row {key} is there, although it was deleted or never inserted"))
        else:
            problems.append((WRONG, f"row {key} is {rows[key]}, and not {sorted(map(str, choice))}"))
    return problems


def covered(folder: Path, specs: dict[str, CollectionSpec]) -> dict[str, bool]:
    """Which collections have a current index."""
    found = {}
    for path in databases(folder):
        with opened(path) as database:
            for name in database.names():
                found[f"{path.name}/{name}"] = database.open(specs[name]).index_is_current()
    return found


def work_with(folder: Path, fingerprint: Fingerprint) -> None:
    """Do to each database what is done to databases; an exception is what is wrong."""
    vectors = np.eye(3, fingerprint.dim, dtype=np.float32)
    pictures = [ImageRecord(f"/probe/{number}.png") for number in range(3)]
    for path in databases(folder):
        with opened(path) as database:
            before = database.names()
            for attempt in ("first", "second"):
                spec = CollectionSpec(f"probe_{attempt}")
                collection = database.create(spec, fingerprint)
                collection.upsert(pictures, vectors)
                collection.delete([pictures[2].id])
                collection.build_index()
                database.rename(spec.name, "probe")
                collection = database.open(CollectionSpec("probe"))
                hits = collection.search(vectors[:1], 3)[0]
                assert [hit.path for hit in hits] == ["/probe/0.png", "/probe/1.png"], hits
                database.drop("probe")
            assert database.names() == before
