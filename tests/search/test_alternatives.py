"""Several vectors as one query: exactly the pictures that are closest to any of them."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search.alternatives import best_of
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase


@pytest.mark.parametrize("metric", Metric)
@pytest.mark.parametrize("k", [1, 7, 100])
def test_it_is_the_search_by_the_best_score(metric: Metric, k: int) -> None:
    random = np.random.default_rng(k)
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    queries = random.normal(size=(5, 8)).astype(np.float32)
    database = MemoryDatabase()
    collection = database.create(CollectionSpec("c", metric), Fingerprint("m", "r", "cls", (8, 8), 8))
    pictures: list[ImageRecord] = [ImageRecord(f"/{number:02}.jpg") for number in range(60)]
    collection.upsert(pictures, vectors)
    found = best_of(collection.search(queries, k), metric, k)
    every = {hit.picture.path: [] for hit in collection.search(queries[:1], 60)[0]}
    for hits in collection.search(queries, 60):
        for hit in hits:
            every[hit.picture.path].append(hit.score)
    best = max if metric.higher_is_closer else min
    scores = sorted(((best(values), path) for path, values in every.items()), reverse=metric.higher_is_closer)
    assert [(hit.score, hit.picture.path) for hit in found] == scores[:k]
    assert [hit.rank for hit in found] == list(range(1, min(k, 60) + 1))


def test_nothing_found_is_nothing() -> None:
    assert best_of([[], []], Metric.COSINE, 3) == []
