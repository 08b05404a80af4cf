"""Confidence: its laws, its file, and false alarms on drawn clusters."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search.confidence import (
    MIN_ROWS,
    Background,
    assess,
    is_confident,
    learn,
    read_background,
    write_background,
)
from imagesearch.stores.base import CollectionSpec, Vectors
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

DIM = 24
MARK = Fingerprint("toy", "1", "cls", (8, 8), DIM)


def clusters(kinds: int, each: int, *, seed: int = 0, noise: float = 0.75) -> Vectors:
    """Rows around random centres, kind by kind: float32, shape (kinds * each, DIM)."""
    rng = np.random.default_rng(seed)
    centres = np.repeat(rng.normal(size=(kinds, DIM)), each, axis=0)
    return np.asarray(centres + noise * rng.normal(size=centres.shape), np.float32)


def collection_of(vectors: Vectors, metric: Metric = Metric.COSINE, name: str = "c") -> MemoryCollection:
    collection = MemoryDatabase().create(CollectionSpec(name, metric), MARK)
    collection.upsert([ImageRecord(f"/{row}") for row in range(len(vectors))], vectors)
    return collection


@pytest.fixture(scope="module", params=list(Metric), ids=lambda metric: metric.value)
def learned(request: pytest.FixtureRequest) -> tuple[MemoryCollection, Background]:
    collection = collection_of(clusters(20, 15), request.param)
    background = learn(collection)
    assert background is not None
    return collection, background


def test_closer_is_rarer_and_likelier(learned: tuple[MemoryCollection, Background]) -> None:
    _, background = learned
    low, high = background.close[0], background.close[-1]
    close = np.linspace(low, high + (high - low), 500)
    scores = close if background.metric.higher_is_closer else -close
    expected = background.expected(scores)
    assert (np.diff(expected) < 0).all()
    confidence = background.confidence(expected)
    assert (np.diff(confidence) >= 0).all()  # near 1, float64 has no more digits
    assert confidence[0] < 0.1 < 0.9 < confidence[-1]
    assert expected[0] == pytest.approx(background.rows)


@given(scores=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20), factor=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_expected_grows_with_the_rows_and_is_no_nonsense(scores: list[float], factor: int) -> None:
    background = Background("c", MARK.key, Metric.COSINE, 100, 1.0, (0.0, 0.5, 0.8), (4.6, 0.0, -3.0))
    expected = background.expected(scores)
    assert np.allclose(background.expected(scores, 100 * factor), factor * expected)
    assert ((expected >= 0) & (expected <= 100)).all()
    confidence = background.confidence(expected)
    assert ((confidence >= 0) & (confidence <= 1)).all()


def test_hits_keep_order_and_score(learned: tuple[MemoryCollection, Background]) -> None:
    collection, background = learned
    found = collection.search(clusters(3, 2, seed=5), 7)
    answered = assess(background, collection, found)
    assert [[replace(hit, expected=None, confidence=None) for hit in hits] for hits in answered] == found
    for hits in answered:
        expected = [hit.expected for hit in hits if hit.expected is not None]
        assert len(expected) == 7
        assert expected == sorted(expected)


def test_a_copy_is_confident_and_the_opposite_is_not(learned: tuple[MemoryCollection, Background]) -> None:
    collection, background = learned
    _, vectors = collection.fetch([ImageRecord("/7").id])
    copy, opposite = assess(background, collection, collection.search(np.concatenate([vectors, -vectors]), 1))
    if background.metric is not Metric.IP:  # where a longer vector may be closer than the row itself
        assert is_confident(copy[0])
        assert copy[0].expected is not None
        assert copy[0].expected < 0.02
    assert not is_confident(opposite[0])


def test_nothing_is_known_without_a_background() -> None:
    collection = collection_of(clusters(2, 3))
    found = collection.search(clusters(1, 1), 3)
    assert assess(None, collection, found) == found
    assert is_confident(found[0][0]) is None


@pytest.mark.parametrize("rows", [0, 1, 5, MIN_ROWS - 1])
def test_few_rows_say_nothing(rows: int) -> None:
    assert learn(collection_of(clusters(1, 50)[:rows])) is None


def test_equal_rows_say_nothing() -> None:
    assert learn(collection_of(np.ones((100, DIM), np.float32))) is None


def test_pairs_of_copies_are_no_chance() -> None:
    once = clusters(150, 1)
    collection = collection_of(np.concatenate([once, once]))
    background = learn(collection)
    assert background is not None
    copies, strangers = collection.search(once[:50], 1), collection.search(clusters(50, 1, seed=9), 1)
    assert all(is_confident(hits[0]) for hits in assess(background, collection, copies))
    alarms = [is_confident(hits[0]) for hits in assess(background, collection, strangers)]
    assert np.mean([bool(alarm) for alarm in alarms]) <= 0.3


def test_the_same_rows_and_seed_give_the_same() -> None:
    vectors = clusters(40, 15)
    assert learn(collection_of(vectors), seed=3) == learn(collection_of(vectors), seed=3)


def test_a_large_collection_is_looked_at_in_neighbourhoods() -> None:
    collection = collection_of(clusters(60, 15))
    background = learn(collection)
    assert background is not None
    assert background.rows == 900


@pytest.mark.parametrize("metric", list(Metric))
def test_the_file_gives_back_what_was_written(metric: Metric, tmp_path: Path) -> None:
    collection = collection_of(clusters(10, 10), metric)
    background, file = learn(collection), tmp_path / "new" / "c.background.json"
    write_background(file, background)
    assert background is not None
    assert read_background(file, collection) == background
    write_background(file, None)
    assert read_background(file, collection) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"format": 1', '"format": 999'),
        lambda text: text.replace('"rows": 100', '"rows": 0'),
        lambda text: text.replace('"rows": 100', '"rows": "many"'),
        lambda text: text.replace('"COSINE"', '"HAMMING"'),
        lambda text: text.replace('"close": [', '"close": [9.0, '),
        lambda text: text.replace('"log_expected": [', '"log_expected": [NaN, '),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_file_is_ignored_with_a_note(damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:  # type: ignore[no-untyped-def]
    collection, file = collection_of(clusters(10, 10)), tmp_path / "c.background.json"
    write_background(file, learn(collection))
    file.write_text(damage(file.read_text()))
    with caplog.at_level(logging.WARNING):
        assert read_background(file, collection) is None
    assert str(file) in caplog.text


def test_a_background_of_something_else_is_ignored(tmp_path: Path) -> None:
    vectors, file = clusters(10, 10), tmp_path / "c.background.json"
    background = learn(collection_of(vectors))
    write_background(file, background)
    assert background is not None
    others = [
        collection_of(vectors, name="d"),
        collection_of(vectors, Metric.L2),
        collection_of(clusters(30, 10)),
    ]
    for other in others:
        assert read_background(file, other) is None
        found = other.search(vectors[:1], 2)
        assert assess(background, other, found) == found


def test_it_is_fresh_while_the_collection_hardly_changes() -> None:
    background = learn(collection_of(clusters(10, 10)))
    assert background is not None
    grown = collection_of(clusters(12, 10))
    assert background.is_fresh(grown, 108)
    assert not background.is_fresh(grown, 120)
    assert background.describes(grown, 120)


def families(kinds: int, each: int, *, noise: float, seed: int) -> Vectors:
    """Like pictures: kinds belong to families (kinds of dogs), and some kinds are wider than others."""
    rng = np.random.default_rng(seed)
    family = rng.normal(size=(12, DIM))
    centres = family[rng.integers(12, size=kinds)] + 0.8 * rng.normal(size=(kinds, DIM))
    widths = np.repeat(noise * rng.uniform(0.6, 1.4, kinds), each)[:, None]
    return np.asarray(np.repeat(centres, each, axis=0) + widths * rng.normal(size=(kinds * each, DIM)), np.float32)


@pytest.mark.parametrize("noise", [0.7, 1.0])
def test_one_in_ten_is_a_false_alarm_where_half_of_the_kinds_are_absent(noise: float) -> None:
    alarms = []
    for seed in range(5):
        vectors = families(60, 12, noise=noise, seed=seed)
        collection = collection_of(vectors[:360])
        found = collection.search(vectors[360::2], 1)
        alarms += [bool(is_confident(hits[0])) for hits in assess(learn(collection), collection, found)]
    assert 0.05 <= np.mean(alarms) <= 0.15
