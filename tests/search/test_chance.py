"""Drawing scores by chance: small collections are compared at once, and that changes nothing."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search import chance
from imagesearch.search.chance import draw
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from .test_confidence import DIM, families

ROWS = 480


def collection_of(metric: Metric, seed: int) -> Collection:
    """Pictures whose paths are in another order than their rows, some of them copies of others."""
    vectors = families(40, 12, noise=0.8, seed=seed)
    vectors[::7] = vectors[1::7][: len(vectors[::7])]
    rng = np.random.default_rng(seed)
    found = MemoryDatabase().create(CollectionSpec("c", metric), Fingerprint("toy", "1", "cls", (8, 8), DIM))
    found.upsert([ImageRecord(f"/{number}.jpg") for number in rng.permutation(ROWS)], vectors)
    return found


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("seed", [0, 1])
def test_comparing_all_rows_draws_what_searching_draws(
    metric: Metric, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collection_of(metric, seed)
    asked: list[int] = []
    search = collection.search
    monkeypatch.setattr(collection, "search", lambda vectors, k: asked.append(k) or search(vectors, k))
    compared = draw(collection, seed)
    assert not asked
    monkeypatch.setattr(chance, "_COMPARED", ROWS - 1)
    searched = draw(collection, seed)
    assert len(asked) == 2
    for ours, theirs in zip(astuple(compared), astuple(searched), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_clusters_stop_where_nothing_changes_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.repeat(np.eye(DIM, dtype=np.float32)[:4], 10, axis=0)
    found = [chance._clusters(vectors, 8, np.random.default_rng(0))]
    monkeypatch.setattr(chance, "_STEPS", 100)
    found.append(chance._clusters(vectors, 8, np.random.default_rng(0)))
    np.testing.assert_array_equal(*found)
