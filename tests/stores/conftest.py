"""The three stores that every contract test runs against."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesearch.records import Fingerprint, Metric, Picture
from imagesearch.stores.base import CollectionSpec, Vectors, VectorStore
from imagesearch.stores.memory import MemoryDatabase, MemoryStore
from imagesearch.stores.milvus import MilvusStore

from .milvus_server import needs_milvus_server

Opener = Callable[..., VectorStore]
_names = (f"t{number}" for number in itertools.count())


def fingerprint(dim: int = 2, **changes: Any) -> Fingerprint:
    values: dict[str, Any] = {"model": "toy", "revision": "1", "pooling": "cls", "input_size": (8, 8), "dim": dim}
    return Fingerprint(**(values | changes))


def pictures(*names: str) -> list[Picture]:
    return [Picture(f"/photos/{name}.jpg") for name in names]


def vectors(*rows: list[float]) -> Vectors:
    return np.array(rows, dtype=np.float32)


def clustered(rows: int, dim: int, seed: int = 0) -> Vectors:
    """Unit vectors in clusters, like embeddings of real pictures (uniform noise has no neighbours)."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(20, dim))
    points = centres[rng.integers(20, size=rows)] + 0.4 * rng.normal(size=(rows, dim))
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=["memory", "lite", pytest.param("server", marks=needs_milvus_server)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens stores on one database: ``open_store(index_type="FLAT")``; the same collection each time."""
    kind, name, stores = request.param, next(_names), []
    memory = MemoryDatabase()
    uri = str(tmp_path / "pictures.db")
    if kind == "server":
        uri = request.getfixturevalue("milvus_server")

    def opener(**spec: Any) -> VectorStore:
        full = CollectionSpec(**({"name": name, "index_type": "FLAT"} | spec))
        store: VectorStore = MemoryStore(full, memory) if kind == "memory" else MilvusStore(full, uri, timeout=20)
        stores.append(store)
        return store

    yield opener
    for store in stores:
        store.close()
    if kind == "server":
        leftovers = MilvusStore(CollectionSpec(name), uri, timeout=20)
        leftovers.drop()
        leftovers.close()


@pytest.fixture
def lite_uri(tmp_path: Path) -> str:
    return str(tmp_path / "pictures.db")


METRICS = list(Metric)
