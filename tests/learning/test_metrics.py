"""The measures equal scikit-learn's, and what follows from their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagesearch.errors import UsageError
from imagesearch.learning import metrics

from ..conftest import skip_without

skip_without("sklearn")  # the independent library


def random_rankings(levels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores with as many distinct values as levels, and relevances, at least one in each row."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, levels, (300, 40)) / levels
    relevant = random.random((300, 40)) < random.uniform(0.02, 0.9, (300, 1))
    relevant[np.arange(300), random.integers(0, 40, 300)] = True
    return scores, relevant


@pytest.mark.parametrize("levels", [1, 3, 10, 10**9])
def test_average_precision_equals_scikit_learns_ties_included(levels: int) -> None:
    from sklearn.metrics import average_precision_score

    scores, relevant = random_rankings(levels)
    expected = [average_precision_score(*row) for row in zip(relevant, scores, strict=True)]
    assert metrics.average_precision_of_scores(scores, relevant) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("levels", [1, 3, 10, 10**9])
@pytest.mark.parametrize("k", [1, 10, 40, 100])
def test_ndcg_equals_scikit_learns_ties_included(levels: int, k: int) -> None:
    from sklearn.metrics import ndcg_score

    scores, relevant = random_rankings(levels)
    expected = [ndcg_score([row], [own], k=k) for row, own in zip(relevant * 1.0, scores, strict=True)]
    assert metrics.ndcg_of_scores(scores, relevant, k) == pytest.approx(expected, abs=1e-9)


def test_without_ties_rankings_and_scores_give_the_same() -> None:
    scores, relevant = random_rankings(10**9)
    rows = metrics.relevance_in_order(scores, relevant)
    assert metrics.average_precision(rows) == pytest.approx(metrics.average_precision_of_scores(scores, relevant))
    assert metrics.ndcg_at(rows, 10) == pytest.approx(metrics.ndcg_of_scores(scores, relevant, 10))


def test_precision_and_recall_equal_scikit_learns() -> None:
    from sklearn.metrics import precision_score, recall_score

    scores, relevant = random_rankings(10**9)
    rows = metrics.relevance_in_order(scores, relevant)
    first_ten = np.zeros_like(rows)
    first_ten[:, :10] = True
    pairs = list(zip(rows, first_ten, strict=True))
    assert metrics.precision_at(rows, 10) == pytest.approx([precision_score(*pair) for pair in pairs])
    assert metrics.recall_at(rows, 10) == pytest.approx([recall_score(*pair) for pair in pairs])


def test_a_ranking_by_hand() -> None:
    rows = np.array([[1, 0, 1, 0]], bool)
    assert metrics.precision_at(rows, 2)[0] == 0.5
    assert metrics.precision_at(rows, 8)[0] == 0.25  # of eight places four are empty
    assert metrics.recall_at(rows, 2, [4])[0] == 0.25
    assert metrics.r_precision(rows)[0] == 0.5
    assert metrics.average_precision(rows)[0] == pytest.approx((1 + 2 / 3) / 2)
    assert metrics.average_precision(rows, [4])[0] == pytest.approx((1 + 2 / 3) / 4)
    assert metrics.average_precision(rows, k=2)[0] == pytest.approx(1 / 2)
    assert metrics.ndcg_at(rows, 4)[0] == pytest.approx((1 + 1 / 2) / (1 + 1 / np.log2(3)))


def test_equal_scores_stay_in_the_order_given() -> None:
    rows = metrics.relevance_in_order([[0.5, 0.5, 0.9]], [[True, False, False]])
    assert rows.tolist() == [[False, True, False]]
    nearest = metrics.relevance_in_order([[0.5, 0.5, 0.9]], [[True, False, False]], higher_is_closer=False)
    assert nearest.tolist() == [[True, False, False]]


def test_without_anything_relevant_there_is_no_value() -> None:
    rows = np.zeros((1, 5), bool)
    for values in (metrics.recall_at(rows, 3), metrics.r_precision(rows), metrics.average_precision(rows)):
        assert np.isnan(values).all()
    assert np.isnan(metrics.ndcg_at(rows, 3)).all()
    assert metrics.estimate([np.nan]).queries == 0


def test_the_closest_of_equally_frequent_labels_counts() -> None:
    near = [[2, 1, 1, 2], [1, -1, -1, -1], [-1, -1, -1, -1]]
    assert metrics.knn_correct(near, [2, 1, 1], 4).tolist() == [1, 1, 0]
    assert metrics.knn_correct(near, [1, 1, 1], 3).tolist() == [1, 1, 0]


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 30))))
@settings(max_examples=50, deadline=None)
def test_moving_a_relevant_picture_up_never_lowers_a_measure(rows: np.ndarray) -> None:
    better = -np.sort(-rows.astype(int), axis=1) == 1
    for measure in (metrics.average_precision, metrics.r_precision):
        assert np.all((measure(better) >= measure(rows) - 1e-12) | ~rows.any(axis=1))
    assert np.all((metrics.ndcg_at(better, 5) >= metrics.ndcg_at(rows, 5) - 1e-12) | ~rows.any(axis=1))
    assert metrics.average_precision(better)[rows.any(axis=1)] == pytest.approx(1)


def test_an_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    estimates = [metrics.estimate(random.random(60), resamples=300) for _ in range(200)]
    covered = np.mean([one.low <= 0.5 <= one.high for one in estimates])
    assert 0.88 <= covered <= 0.99


def test_the_paired_test_finds_a_small_steady_difference_and_none_where_there_is_none() -> None:
    random = np.random.default_rng(0)
    values = random.random(200)
    better = metrics.compare(values + 0.01 + 0.01 * random.standard_normal(200), values)
    assert better.is_gain
    assert better.p < 0.01
    assert better.relative == pytest.approx(better.value / values.mean())
    p_values = [metrics.compare(random.random(50), random.random(50), resamples=200).p for _ in range(200)]
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_intervals_are_repeatable_and_depend_on_the_seed() -> None:
    values = np.random.default_rng(0).random(50)
    assert metrics.estimate(values) == metrics.estimate(values)
    assert metrics.estimate(values) != metrics.estimate(values, seed=1)


def test_classes_are_averaged_on_their_own() -> None:
    assert metrics.per_class([1, 0, np.nan, 1], ["b", "b", "b", "a"]) == {"a": 1.0, "b": 0.5}


def test_impossible_questions_are_refused() -> None:
    with pytest.raises(UsageError, match="k = 0"):
        metrics.precision_at(np.zeros((1, 3)), 0)
    with pytest.raises(UsageError, match="same queries"):
        metrics.compare([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="at least one query"):
        metrics.compare([np.nan], [1.0])
