"""The order of active labelling: laws, and a simulation beside random order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imagesearch.learning.active import ActivePool, Known

Labelled = tuple[NDArray[np.float32], NDArray[np.int64]]


def blobs(classes: int, each: int, *, dim: int = 16, noise: float = 0.6, seed: int = 0) -> Labelled:
    """Vectors around a centre for each class."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((classes, dim))
    truth = np.repeat(np.arange(classes), each)
    vectors = centres[truth] + noise * random.standard_normal((len(truth), dim))
    return vectors.astype(np.float32), truth


def label_all(pool: ActivePool, truth: NDArray[np.int64], batch: int, most: int) -> list[int]:
    """The order in which pictures are asked for."""
    order: list[int] = []
    while len(order) < most:
        chosen = pool.choose(Known.of(order, truth[order].tolist()), batch)
        if not len(chosen):
            break
        order += chosen.tolist()
    return order


@given(
    seed=st.integers(0, 1000),
    count=st.integers(1, 30),
    batch=st.integers(1, 7),
    twins=st.integers(0, 10),
    skipped=st.integers(0, 5),
)
def test_each_picture_is_asked_for_once_and_never_a_copy(
    seed: int, count: int, batch: int, twins: int, skipped: int
) -> None:
    random = np.random.default_rng(seed)
    own = random.standard_normal((count, 8)).astype(np.float32)
    vectors = np.concatenate([own, own[random.integers(0, count, twins)]])
    truth = random.integers(0, 3, len(vectors))
    pool = ActivePool(vectors, seed=seed, bound=0.99999)
    away = random.permutation(len(vectors))[:skipped].tolist()
    order: list[int] = []
    while len(chosen := pool.choose(Known.of(order, truth[order].tolist(), away), batch)):
        assert len(chosen) <= batch
        order += chosen.tolist()
    assert len(set(order)) == len(order)
    assert not set(order) & set(away)
    cosines = pool_cosines(vectors[order + away])
    fresh = cosines[: len(order)]
    assert (np.triu(fresh[:, : len(order)], 1) < 0.99999).all()
    assert (fresh[:, len(order) :] < 0.99999).all()
    # and none was forgotten
    assert (pool_cosines(vectors)[order + away].max(axis=0) >= 0.99998).all()


def pool_cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(units @ units.T)


def test_the_first_pictures_are_of_different_kinds() -> None:
    vectors, truth = blobs(8, 40)
    first = ActivePool(vectors).choose(Known.of([], []), 8)
    assert set(truth[first]) == set(range(8))


def test_fewer_labels_than_at_random_reach_the_same_accuracy() -> None:
    """Also of rare classes: of twelve, the last has five pictures where the first has eighty."""
    ratios = []
    for seed in range(3):
        vectors, truth = blobs(12, 100, noise=1.2, seed=seed, dim=32)
        sizes = np.geomspace(80, 5, 12).round().astype(int)
        rows = np.concatenate([100 * number + np.arange(size) for number, size in enumerate(sizes)])
        tested = np.setdiff1d(np.arange(len(vectors)), rows)
        pool = ActivePool(vectors[rows], seed=seed)
        orders = {
            "random": np.random.default_rng(seed).permutation(len(rows)).tolist()[:120],
            "active": label_all(pool, truth[rows], 4, 120),
        }
        reached = {}
        for name, order in orders.items():
            accuracy = []
            for count in range(4, 121, 4):
                known = Known.of(order[:count], truth[rows][order[:count]].tolist())
                predicted = known.classes[pool.scores_of(known, vectors[tested]).argmax(axis=1)]
                accuracy.append((predicted == truth[tested]).mean())
            reached[name] = np.array(accuracy)
        level = 0.9 * reached["random"].max()
        needed = {name: 1 + np.flatnonzero(own >= level)[0] for name, own in reached.items()}
        ratios.append(needed["active"] / needed["random"])
    assert np.mean(ratios) <= 0.7


def test_from_some_hundred_labels_on_variance_decides() -> None:
    vectors, truth = blobs(6, 200, noise=1.5)
    pool = ActivePool(vectors)
    order = label_all(pool, truth, 50, 350)
    assert len(set(order)) == 350
    known = Known.of(order, truth[order].tolist())
    # The two that are asked for next are not the same gain twice: a copy of the first teaches less.
    chosen = pool.choose(known, 20)
    assert len(set(chosen.tolist())) == 20


def test_a_label_that_was_seldom_given_is_told_as_often_as_others() -> None:
    vectors, truth = blobs(3, 200, noise=2.5)
    pool = ActivePool(vectors)
    known = [0, 1, 2, *range(200, 240), *range(400, 440)]
    codes = pool.scores(Known.of(known, truth[known].tolist()), range(600)).argmax(axis=1)
    recall = [(codes[truth == label] == label).mean() for label in range(3)]
    assert min(recall) > 0.6 * max(recall), recall


@pytest.mark.parametrize("noise", [0.8, 2.0])
def test_expected_accuracy(noise: float) -> None:
    vectors, truth = blobs(6, 200, noise=noise)
    pool = ActivePool(vectors)
    order = label_all(pool, truth, 20, 120)
    known = Known.of(order, truth[order].tolist())
    expected = pool.expect(known)
    assert expected is not None
    assert 0 <= expected.low <= expected.accuracy <= expected.high <= 1
    rest = np.setdiff1d(np.arange(len(truth)), order)
    true = (pool.scores(known, rest).argmax(axis=1) == truth[rest]).mean()
    assert abs(expected.accuracy - true) < 0.15


def test_nothing_is_expected_of_single_labels() -> None:
    vectors, truth = blobs(6, 20)
    pool = ActivePool(vectors)
    first = pool.choose(Known.of([], []), 6)
    for known in (Known.of([], []), Known.of(first[:1], [0]), Known.of(first, truth[first].tolist())):
        assert pool.expect(known) is None


def test_what_was_taken_back_is_asked_for_again() -> None:
    vectors, truth = blobs(2, 3)
    pool = ActivePool(vectors, bound=0.9999)
    everything = Known.of(range(6), truth.tolist())
    assert not len(pool.choose(everything, 3))
    assert pool.left(everything) == 0
    assert pool.choose(Known.of(range(5), truth[:5].tolist()), 3).tolist() == [5]


def test_vectors_without_a_direction_or_a_difference() -> None:
    for vectors in (np.zeros((5, 4), np.float32), np.ones((5, 4), np.float32), np.ones((1, 4), np.float32)):
        pool = ActivePool(vectors)
        assert len(label_all(pool, np.array([0, 1, 0, 1, 0]), 2, 10)) in (1, 5)


def test_a_step_among_ten_thousand_is_quick() -> None:
    """Not in seconds, which depend on the machine: what is compared does not grow with the pool."""
    vectors, truth = blobs(5, 2000, dim=8)
    pool = ActivePool(vectors)
    assert pool._kernel.shape == (10_000, 2000)
    assert len(label_all(pool, truth, 10, 20)) == 20
