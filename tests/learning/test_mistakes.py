"""What a classifier gets wrong, on examples that can be worked out by hand, and against other programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.learning.mistakes import (
    Examination,
    confusion_matrix,
    most_confused,
    order_by_confusion,
    wilson,
    worst_mistakes,
)

NAMES = ["cat", "dog", "owl"]


def examination(truth: list[int], scores: list[list[float]]) -> Examination:
    exact = np.array(scores)
    classes = np.arange(exact.shape[1])
    predictions = exact.argmax(axis=1)[:, None] == classes
    paths = [f"{number}.jpg" for number in range(len(truth))]
    return Examination(paths, NAMES, np.array(truth)[:, None] == classes, predictions, exact)


@settings(deadline=None)  # the first call imports scipy
@given(st.integers(1, 500).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_wilson_is_scipys(rate: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(*rate).proportion_ci(0.95, method="wilson")
    assert wilson(*rate) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1))
def test_the_matrix_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, said = zip(*pairs, strict=True)
    found = examination(list(truth), np.eye(3)[list(said)].tolist())
    assert (confusion_matrix(found) == sklearn.confusion_matrix(truth, said, labels=[0, 1, 2])).all()


def test_pairs_by_count_then_by_part() -> None:
    matrix = np.array([[8, 2, 0], [0, 3, 2], [1, 0, 9]])
    pairs = most_confused(matrix, NAMES, 3)
    assert [(one.truth, one.said, one.pictures) for one in pairs] == [
        ("dog", "owl", 2),
        ("cat", "dog", 2),
        ("owl", "cat", 1),
    ]
    assert pairs[0].part == pytest.approx(0.4)
    assert len(most_confused(matrix, NAMES, 1)) == 1
    assert most_confused(np.diag([1, 2, 3]), NAMES, 5) == []


def test_confused_classes_stand_side_by_side() -> None:
    """Twenty pairs of classes, far apart in the alphabet, that are taken for each other."""
    count = 40
    matrix = 10 * np.eye(count, dtype=np.int64)
    partner = np.random.default_rng(0).permutation(count).reshape(-1, 2)
    for one, other in partner.tolist():
        matrix[one, other] = matrix[other, one] = 5
    order = order_by_confusion(matrix)
    assert sorted(order) == list(range(count))
    places = {number: place for place, number in enumerate(order)}
    distances = [abs(places[one] - places[other]) for one, other in partner.tolist()]
    assert np.mean(distances) < 3
    assert np.mean(np.abs(np.diff(partner, axis=1))) > 8


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_confusion_leaves_the_order(count: int) -> None:
    assert order_by_confusion(np.eye(count, dtype=np.int64)) == list(range(count))


def test_the_surest_mistakes_come_first() -> None:
    scores = [[0.9, 0.1, 0.0], [0.4, 0.35, 0.25], [0.02, 0.98, 0.0], [0.1, 0.6, 0.3]]
    worst = worst_mistakes(examination([0, 1, 2, 2], scores), 10)
    assert [(one.path, one.missed, one.added) for one in worst] == [
        ("2.jpg", ("owl",), ("dog",)),
        ("3.jpg", ("owl",), ("dog",)),
        ("1.jpg", ("dog",), ("cat",)),
    ]
    assert [(one.score, one.true_score) for one in worst[:2]] == [(0.98, 0.0), (0.6, 0.3)]
    assert len(worst_mistakes(examination([0, 1, 2, 2], scores), 1)) == 1


def test_several_labels_may_be_missing_or_too_many() -> None:
    truth = np.array([[True, True, False], [False, False, True], [True, False, False]])
    scores = np.array([[0.9, 0.05, 0.1], [0.8, 0.1, 0.7], [0.9, 0.2, 0.3]])
    worst = worst_mistakes(Examination(["a", "b", "c"], NAMES, truth, scores > 0.5, scores), 10)
    assert [(one.path, one.missed, one.added, one.score) for one in worst] == [
        ("a", ("dog",), (), pytest.approx(0.95)),
        ("b", (), ("cat",), pytest.approx(0.8)),
    ]
    assert worst[0].true_score == pytest.approx(0.05)
