"""Answers are complete, whatever the history of a collection, its vectors, index type and number of results.

Recall counts scores, not paths: of vectors that are equally close either may be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesearch.records import ImageRecord, Metric
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors
from imagesearch.stores.milvus.embedded import PlainDatabase
from imagesearch.stores.milvus.index_types import AUTO, INDEX_TYPES
from imagesearch.stores.milvus.lite import LiteDatabase

from .conftest import METRICS, clustered, fingerprint

DIM = 32
RESULTS = (1, 5, 26, 100, 400, 1000)
EXACT = (AUTO, "FLAT")
APPROXIMATE = tuple(name for name, kind in INDEX_TYPES.items() if kind.lite and name not in EXACT)

# What these lose of a score by keeping vectors in bytes.
ROUNDED = {"IVF_SQ8": 0.005, "HNSW_SQ": 0.005}

# FAISS's graph falls apart where hundreds of vectors are the same, whatever ``ef`` is.
LEAST_RECALL = {"HNSW": 0.8, "AUTOINDEX": 0.8, "HNSW_SQ": 0.9}

FIRST_OF_GROUPS = 100_000

# Sizes of the groups of nearly, and of exactly, identical vectors.
NEARLY, EXACTLY = (400, 80, 12), (400, 30)


@dataclass
class Library:
    """What is in a collection, as the truth for its answers.

    Attributes:
        rows: key -> vector.
        groups: keys of planted vectors that are (nearly) identical, group by group.
    """

    collection: Collection
    rows: dict[int, Vectors] = field(default_factory=dict)
    groups: list[range] = field(default_factory=list)

    def put(self, first: int, matrix: Vectors) -> None:
        """Insert, or replace, rows with keys from ``first`` on."""
        self.collection.upsert([ImageRecord(f"/p/{first + number}.jpg") for number in range(len(matrix))], matrix)
        self.rows.update((first + number, vector) for number, vector in enumerate(matrix))

    def remove(self, keys: range) -> None:
        """Delete rows."""
        self.collection.delete([ImageRecord(f"/p/{key}.jpg").id for key in keys])
        for key in keys:
            del self.rows[key]

    def index(self) -> None:
        """As ``imagesearch index`` does after an addition."""
        self.collection.build_index()


def ordinary(count: int, seed: int) -> Vectors:
    """Half of them in clusters, half uniform, in this order; not of unit length."""
    rng = np.random.default_rng([seed, 1])
    mixed = np.concatenate(
        [clustered(count // 2, DIM, seed), rng.normal(size=(count - count // 2, DIM)) / DIM**0.5]
    )
    return (mixed * rng.uniform(0.9, 1.1, (count, 1))).astype(np.float32)


def group(count: int, seed: int, spread: float) -> Vectors:
    """Vectors that differ by noise only."""
    rng = np.random.default_rng([seed, 2])
    centre = clustered(1, DIM, seed)
    return np.asarray(centre + spread * rng.normal(size=(count, DIM)), np.float32)


def add_groups(library: Library, index_each: bool = False) -> None:
    first = FIRST_OF_GROUPS
    sizes = [(size, 1e-3) for size in NEARLY] + [(size, 0.0) for size in EXACTLY]
    for number, (size, spread) in enumerate(sizes):
        library.put(first, group(size, 50 + number, spread))
        library.groups.append(range(first, first + size))
        first += size
        if index_each:
            library.index()


# --- histories ---


def one_big_addition(library: Library) -> None:
    add_groups(library)
    library.put(0, ordinary(11_000, 0))
    library.index()


def many_small_additions(library: Library) -> None:
    for number in range(12):
        library.put(number * 250, ordinary(250, number))
        library.index()
    add_groups(library, index_each=True)


def an_import_then_additions(library: Library) -> None:
    library.put(0, ordinary(5_000, 0))
    library.index()
    library.put(5_000, ordinary(300, 1))
    library.index()
    add_groups(library)  # not indexed


def updates_and_deletions(library: Library) -> None:
    library.put(0, ordinary(4_000, 0))
    library.index()
    add_groups(library, index_each=True)
    library.put(1_000, ordinary(1_500, 1))
    library.remove(range(3_000, 3_700))
    for keys in library.groups:
        library.put(keys[0], np.stack([library.rows[keys[0]]]))
    library.index()
    library.remove(range(500))  # after the last index


HISTORIES = (one_big_addition, many_small_additions, an_import_then_additions, updates_and_deletions)


# --- the truth ---


def queries_of(library: Library) -> Vectors:
    """Some rows, some that are near to one, some to none."""
    rng = np.random.default_rng(5)
    rows = np.stack([vector for key, vector in library.rows.items() if key < FIRST_OF_GROUPS])
    picked = rows[rng.choice(len(rows), 16, replace=False)]
    picked[8:] += 0.05 * rng.normal(size=(8, DIM)) / DIM**0.5
    return np.concatenate([picked, ordinary(8, 77)]).astype(np.float32)


def true_scores(library: Library, queries: Vectors) -> np.ndarray:
    """Higher is closer; shape (queries, rows), columns in the order of ``library.rows``."""
    rows, asked = np.stack(list(library.rows.values())).astype(np.float64), queries.astype(np.float64)
    if library.collection.info().metric is Metric.L2:
        return np.stack([-((rows - query) ** 2).sum(axis=1) for query in asked])
    if library.collection.info().metric is Metric.COSINE:
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        asked = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    return np.asarray(asked @ rows.T)


def recall(library: Library, searched: Collection, queries: Vectors, k: int, tolerance: float = 1e-6) -> float:
    """The mean share of k results that are as close as the k-th closest row."""
    places = {f"/p/{key}.jpg": place for place, key in enumerate(library.rows)}
    shares = []
    for scores, hits in zip(true_scores(library, queries), searched.search(queries, k), strict=True):
        wanted = min(k, len(scores))
        least = np.partition(scores, len(scores) - wanted)[len(scores) - wanted] - tolerance
        found = {places[hit.path] for hit in hits}
        shares.append(sum(scores[place] >= least for place in found) / wanted)
    return float(np.mean(shares))


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[bool], VectorDatabase]]:
    databases: list[VectorDatabase] = []

    def open_it(plain: bool = False) -> VectorDatabase:
        databases.append((PlainDatabase if plain else LiteDatabase)(tmp_path / "photos.db"))
        return databases[-1]

    yield open_it
    for database in databases:
        database.close()


def pairs() -> list[Any]:
    """Every history with every metric; with an index type that the place of both chooses, or (slowly) with all.

    So each index type meets each history, and each metric.
    """
    chosen = [
        pytest.param(
            history,
            metric,
            APPROXIMATE[(number + place) % len(METRICS) :: len(METRICS)],
            id=f"{history.__name__}-{metric.value}",
        )
        for number, history in enumerate(HISTORIES)
        for place, metric in enumerate(METRICS)
    ]
    every = [
        pytest.param(
            history, metric, APPROXIMATE, id=f"{history.__name__}-{metric.value}-all", marks=pytest.mark.slow
        )
        for history in HISTORIES
        for metric in METRICS
    ]
    return chosen + every


@pytest.mark.parametrize(("history", "metric", "index_types"), pairs())
def test_recall(
    opened: Callable[..., VectorDatabase],
    history: Callable[[Library], None],
    metric: Metric,
    index_types: tuple[str, ...],
) -> None:
    database = opened()
    library = Library(database.create(CollectionSpec("law", metric), fingerprint(DIM)))
    history(library)
    queries = queries_of(library)
    members = np.stack([library.rows[keys[-1]] for keys in library.groups])
    for k in RESULTS:
        assert recall(library, library.collection, np.concatenate([queries, members]), k) == 1.0, k
    for keys in library.groups:
        if metric is not Metric.IP:  # by which longer vectors are closer than a vector itself
            hits = library.collection.search(library.rows[keys[3]][None], len(keys))[0]
            assert {hit.path for hit in hits} == {f"/p/{key}.jpg" for key in keys}
    # Members of groups are no queries here: in large files a graph loses its way among vectors that are the same.
    for index_type in index_types:
        searched = database.open(CollectionSpec("law", metric, index_type))
        searched.build_index()
        for k in RESULTS:
            found = recall(library, searched, queries, k, ROUNDED.get(index_type, 1e-6))
            assert found >= LEAST_RECALL.get(index_type, 0.95), (index_type, k, found)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("index_type", [AUTO, "IVF_FLAT", "HNSW"])
def test_eighty_nearly_identical_pictures_among_ten_thousand(
    opened: Callable[..., VectorDatabase], index_type: str, plain: bool
) -> None:
    """Indexed after 9,144 others, 25 of them were found: as many as there were cells to be searched."""
    library = Library(opened(plain).create(CollectionSpec("law", index_type=index_type), fingerprint(DIM)))
    library.put(0, clustered(9_144, DIM))
    library.index()
    library.put(10_000, group(80, 7, 1e-3))
    library.index()
    frames = {f"/p/{key}.jpg" for key in range(10_000, 10_080)}
    for k in (26, 80, 100, 400):
        hits = library.collection.search(library.rows[10_040][None], k)[0]
        assert len(hits) == k
        assert {hit.path for hit in hits[:80]} <= frames
