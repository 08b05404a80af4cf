"""The databases that every contract test runs against."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.stores import engines
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, ConnectionOptions, VectorDatabase, Vectors
from imagesearch.stores.memory import MemoryDatabase
from imagesearch.stores.milvus import embedded

from . import toy_engine
from .milvus_server import needs_milvus_server

# Opens the database under test, each time the same one.
Opener = Callable[[], VectorDatabase]

# Makes the settings of one collection, the same each time: ``spec(index_type="HNSW")``.
Specs = Callable[..., CollectionSpec]

METRICS = list(Metric)

TOY = engines.Engine("toy", toy_engine.__name__, ("", "file"), ".sqlite")

_names = (f"t{number}" for number in count())


def fingerprint(dim: int = 2, **changes: Any) -> Fingerprint:
    values: dict[str, Any] = {"model": "toy", "revision": "1", "pooling": "cls", "input_size": (8, 8), "dim": dim}
    return Fingerprint(**(values | changes))


def pictures(*names: str) -> list[ImageRecord]:
    return [ImageRecord(f"/photos/{name}.jpg") for name in names]


def numbered(first: int, beyond: int, size: int = 0) -> list[ImageRecord]:
    return [ImageRecord(f"/photos/{number}.jpg", size=size) for number in range(first, beyond)]


def vectors(*rows: list[float]) -> Vectors:
    return np.array(rows, dtype=np.float32)


def clustered(rows: int, dim: int, seed: int = 0) -> Vectors:
    """Unit vectors in clusters, like embeddings of real pictures (uniform noise has no neighbours)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, dim))
    points = centres[rng.integers(20, size=rows)] + 0.4 * rng.normal(size=(rows, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def operations(collection: Collection) -> list[Callable[[], object]]:
    """Everything that can be done with a collection of two dimensions."""
    return [
        collection.info,
        collection.count,
        lambda: collection.upsert(pictures("a"), vectors([1, 0])),
        lambda: collection.delete([1]),
        lambda: collection.search(vectors([1, 0]), 1),
        lambda: collection.search_vectors(vectors([1, 0]), 1),
        lambda: list(collection.scan()),
        lambda: list(collection.scan_columns(["path"])),
        lambda: list(islice(collection.scan_vectors(), 1)),
        lambda: collection.fetch([1]),
        collection.index_is_current,
        collection.build_index,
    ]


@pytest.fixture
def spec() -> Specs:
    name = next(_names)

    def make(**changes: Any) -> CollectionSpec:
        return CollectionSpec(**({"name": name, "index_type": "FLAT"} | changes))

    return make


@pytest.fixture(params=["memory", "lite", "plain", "toy", pytest.param("server", marks=needs_milvus_server)])
def open_database(
    request: pytest.FixtureRequest, spec: Specs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opener]:
    """See :data:`Opener`; of ``memory`` it is the same object too.

    ``plain`` is Milvus Lite through its own interface, as with a version that was not tested.
    """
    # This one line is all that a new engine needs besides its own module.
    monkeypatch.setattr(engines, "ENGINES", (*engines.ENGINES, TOY))
    opened: list[VectorDatabase] = []
    memory = MemoryDatabase()
    suffix = {"lite": ".db", "plain": ".db", "toy": ".sqlite"}.get(request.param)
    uri = f"{tmp_path / 'pictures'}{suffix}" if suffix else ""
    if request.param == "plain":
        monkeypatch.setattr(embedded, "TESTED", ())
    if request.param == "server":
        uri = request.getfixturevalue("milvus_server")

    def open_it() -> VectorDatabase:
        options = ConnectionOptions(timeout=20)
        opened.append(DatabaseAddress.parse(uri).open(options) if uri else memory)
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()
    if request.param == "server":
        drop_leftovers(uri, spec().name)


@pytest.fixture
def database(open_database: Opener) -> VectorDatabase:
    return open_database()


@pytest.fixture
def is_memory(request: pytest.FixtureRequest) -> bool:
    """Whether the database under test is the one in memory."""
    return "memory" in request.node.callspec.id.split("-")


def drop_leftovers(uri: str, prefix: str) -> None:
    """Drop what a test left on the server, which others use after it."""
    database = DatabaseAddress.parse(uri).open(ConnectionOptions(timeout=20))
    for name in database.names():
        if name.rstrip("abcdefghijklmnopqrsuvwxyz_") == prefix:
            database.drop(name)
    database.close()


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    return str(tmp_path / "pictures.db")
