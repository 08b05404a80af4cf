"""The linear probe: the minimum that scikit-learn finds, calibration, and what it learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.learning.calibration import (
    best_temperature,
    expected_calibration_error,
    log_loss,
    probabilities,
)
from imagesearch.learning.logistic import LogisticRegression
from imagesearch.learning.probe import train_probe
from imagesearch.learning.splits import folds

from ..conftest import skip_without

skip_without("sklearn")


def scikit_learns(strength: float) -> Any:
    """What it is compared with, as exact as it can be; the penalty is one over ``strength``."""
    from sklearn import linear_model

    return linear_model.LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)


def blobs(
    classes: int = 6, each: int = 40, dim: int = 16, *, spread: float = 0.5, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around a centre per class, some of which overlap."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), each)
    centres = spread * random.standard_normal((classes, dim))
    return (centres[codes] + random.standard_normal((len(codes), dim))).astype(np.float32), codes


def of_classes(codes: np.ndarray) -> np.ndarray:
    return codes[:, None] == np.arange(codes.max() + 1)


@pytest.mark.parametrize("l2", [1.0, 0.01, 0.0001])
def test_the_minimum_is_that_of_scikit_learn(l2: float) -> None:
    vectors, codes = blobs()
    precise = vectors.astype(np.float64)
    own = LogisticRegression(precise, of_classes(codes)).fit(l2, tolerance=1e-7, limit=1000)
    theirs = scikit_learns(1 / (l2 * len(codes)))
    theirs.fit(precise, codes)
    np.testing.assert_allclose(own.weights, theirs.coef_, atol=1e-4)
    mine, other = probabilities(own.logits(precise)), theirs.predict_proba(precise)
    np.testing.assert_allclose(mine, other, atol=1e-5)


def test_fewer_vectors_than_numbers_in_one() -> None:
    vectors, codes = blobs(classes=3, each=8, dim=60)
    precise = vectors.astype(np.float64)
    own = LogisticRegression(precise, of_classes(codes)).fit(0.01, tolerance=1e-7, limit=1000)
    theirs = scikit_learns(1 / (0.01 * len(codes)))
    theirs.fit(precise, codes)
    np.testing.assert_allclose(own.weights, theirs.coef_, atol=1e-4)


def test_weighted_pictures_as_in_scikit_learn() -> None:
    vectors, codes = blobs(classes=3)
    weights = np.random.default_rng(1).uniform(0.1, 3, len(codes))
    own = LogisticRegression(vectors.astype(np.float64), of_classes(codes), importance=weights)
    found = own.fit(0.01, tolerance=1e-7, limit=1000)
    theirs = scikit_learns(1 / (0.01 * weights.sum()))
    theirs.fit(vectors.astype(np.float64), codes, sample_weight=weights)
    np.testing.assert_allclose(found.weights, theirs.coef_, atol=1e-4)


def test_several_labels_are_one_regression_each() -> None:
    vectors, _ = blobs()
    members = (vectors[:, :4] + np.random.default_rng(2).standard_normal((len(vectors), 4))) > 0.3
    own = LogisticRegression(vectors.astype(np.float64), members, several=True)
    found = own.fit(0.01, tolerance=1e-8, limit=1000)
    for label in range(4):
        theirs = scikit_learns(1 / (0.01 * len(vectors)))
        theirs.fit(vectors.astype(np.float64), members[:, label])
        np.testing.assert_allclose(found.weights[label], theirs.coef_[0], atol=1e-4)
        np.testing.assert_allclose(found.bias[label], theirs.intercept_[0], atol=1e-4)


@given(st.integers(0, 1000), st.sampled_from([1.0, 1e-2, 1e-4]))
@settings(max_examples=20, deadline=None)
def test_no_point_nearby_is_lower(seed: int, l2: float) -> None:
    vectors, codes = blobs(classes=4, each=15, dim=6, seed=seed)
    members = of_classes(codes)
    found = LogisticRegression(vectors.astype(np.float64), members).fit(l2, tolerance=1e-6, limit=1000)

    def value(weights: np.ndarray) -> float:
        return log_loss(vectors @ weights.T + found.bias, members) + 0.5 * l2 * float((weights**2).sum())

    random = np.random.default_rng(seed)
    lowest = value(found.weights)
    for _ in range(5):
        assert value(found.weights + 0.01 * random.standard_normal(found.weights.shape)) >= lowest - 1e-9


def test_a_probe_learns_what_is_there_and_says_how_well() -> None:
    vectors, codes = blobs(spread=1.0)
    shifted = 100 + 30 * vectors  # as pooled outputs may be
    found = train_probe(shifted, of_classes(codes), np.arange(len(codes)))
    fresh, truth = blobs(spread=1.0, seed=0)
    assert (found.linear.logits(100 + 30 * fresh).argmax(axis=1) == truth).mean() >= found.accuracy > 0.9
    assert min(found.losses.values()) == found.losses[found.l2]
    assert found.calibration_error < 0.08


def test_a_probe_of_noise_says_so() -> None:
    vectors, codes = blobs(spread=0.0, classes=4)
    found = train_probe(vectors, of_classes(codes), np.arange(len(codes)))
    assert found.accuracy < 0.4
    assert found.l2 >= 0.1
    scores = probabilities(found.linear.logits(vectors))
    assert scores.max() < 0.5  # it does not claim to know


def test_relatives_share_a_fold() -> None:
    """Copies of noise: with a fold of its own each would be recognised by its copy."""
    first, codes = blobs(spread=0.0, classes=4, dim=200)
    vectors, groups = np.repeat(first, 3, axis=0), np.repeat(np.arange(len(first)), 3)
    members = of_classes(np.repeat(codes, 3))
    assert train_probe(vectors, members, groups).accuracy < 0.4
    assert train_probe(vectors, members, np.arange(len(vectors))).accuracy > 0.6


@pytest.mark.parametrize("related", [4, 8])
def test_a_class_that_is_in_one_fold_alone_does_not_level_all_scores(related: int) -> None:
    """Such as one of a single burst, which no other fold knows: of half of the classes, and of all."""
    vectors, codes = blobs(classes=8, each=10, spread=6)
    groups = np.where(codes < related, codes, 100 + np.arange(len(codes)))
    found = train_probe(vectors, of_classes(codes), groups)
    assert found.temperature < 1.5
    scores = probabilities(found.linear.logits(vectors)).max(axis=1)
    assert scores.min() > 0.6


def test_few_pictures_out_of_their_folds_as_in_scikit_learn() -> None:
    """Fewer pictures than numbers in a vector: where rough fits have most freedom to err."""
    vectors, codes = blobs(classes=2, each=10, dim=200)
    members = of_classes(codes)
    found = train_probe(vectors, members, np.arange(len(codes)))
    standard = (vectors - vectors.mean(axis=0)) / vectors.std(axis=0)
    places, losses = folds(members, np.arange(len(codes)), 5, seed=0), np.empty(len(codes))
    for fold in range(5):
        inside = places != fold
        theirs = scikit_learns(2 / (found.l2 * inside.sum()))
        theirs.fit(standard[inside], codes[inside])  # two classes share one row of weights: its square counts half
        chances = theirs.predict_proba(standard[~inside])
        losses[~inside] = -np.log(chances[np.arange(len(chances)), codes[~inside]])
    assert found.losses[found.l2] == pytest.approx(losses.mean(), abs=0.05)


def test_several_labels() -> None:
    vectors, _ = blobs(each=100)
    members = vectors[:, :3] > 0.2
    members[~members.any(axis=1), 0] = True
    found = train_probe(vectors, members, np.arange(len(vectors)), several=True)
    assert found.accuracy > 0.85
    said = found.linear.logits(vectors) > 0
    assert (said == members).mean() > 0.85


def test_balanced_classes_find_the_rare_one() -> None:
    vectors, codes = blobs(classes=2, each=300, spread=0.3)
    kept = np.concatenate([np.arange(300), np.arange(300, 315)])
    members, groups = of_classes(codes)[kept], np.arange(len(kept))
    plain = train_probe(vectors[kept], members, groups).linear.logits(vectors[300:]).argmax(axis=1)
    balanced = train_probe(vectors[kept], members, groups, balanced=True)
    fair = balanced.linear.logits(vectors[300:]).argmax(axis=1)
    assert fair.mean() > plain.mean() + 0.1


def test_the_same_seed_gives_the_same_probe() -> None:
    vectors, codes = blobs()
    one, other = (train_probe(vectors, of_classes(codes), np.arange(len(codes)), seed=3) for _ in range(2))
    assert np.array_equal(one.linear.weights, other.linear.weights)


def test_a_constant_number_of_the_vectors_does_no_harm() -> None:
    vectors, codes = blobs(spread=1.0)
    vectors[:, 3] = 7
    found = train_probe(vectors, of_classes(codes), np.arange(len(codes)))
    assert np.isfinite(found.linear.weights).all()
    assert found.accuracy > 0.8


def test_a_single_group_is_refused() -> None:
    vectors, codes = blobs(classes=2, each=3)
    with pytest.raises(UsageError, match="copies of one another"):
        train_probe(vectors, of_classes(codes), np.zeros(6, np.int64))


@given(st.floats(0.2, 5), st.booleans())
@settings(max_examples=10, deadline=None)
def test_the_temperature_undoes_what_is_wrong(wrong: float, several: bool) -> None:
    """Labels drawn from the probabilities themselves; then logits are multiplied."""
    random = np.random.default_rng(0)
    logits = 2 * random.standard_normal((20_000, 4))
    shares = probabilities(logits, several=several)
    if several:
        members = random.random(shares.shape) < shares
    else:
        members = of_classes((random.random((len(shares), 1)) > shares.cumsum(axis=1)[:, :-1]).sum(axis=1))
    found = best_temperature(wrong * logits, members, several=several)
    assert found == pytest.approx(wrong, rel=0.05)
    scores = probabilities(wrong * logits / found, several=several)
    if not several:
        first = scores.argmax(axis=1)
        error = expected_calibration_error(scores.max(axis=1), members[np.arange(len(first)), first])
        assert error < 0.015


@pytest.mark.parametrize("several", [False, True])
def test_few_pictures_that_are_all_right_do_not_make_scores_certain(several: bool) -> None:
    members = of_classes(np.array([0, 1] * 5))
    logits = np.where(members, 2.0, -2.0)
    found = best_temperature(logits, members, several=several)
    assert 0.4 < found < 1
    assert best_temperature(logits, members, several=several, prior=0) < 0.02
    many = best_temperature(np.tile(logits, (100, 1)), np.tile(members, (100, 1)), several=several)
    assert many < 0.6 * found


def test_expected_calibration_error_by_hand() -> None:
    scores, right = np.array([0.9, 0.9, 0.1, 1.0]), np.array([True, False, False, True])
    # One bin holds .9 twice (half right: .4 off, half of all), one .1 (.1 off, a quarter), one 1 (right).
    assert expected_calibration_error(scores, right) == pytest.approx((2 * 0.4 + 0.1) / 4)


def test_two_hundred_classes() -> None:
    """Ten thousand vectors of 320 numbers."""
    vectors, codes = blobs(classes=200, each=50, dim=320, spread=0.25)
    found = train_probe(vectors, of_classes(codes), np.arange(len(codes)))
    assert found.accuracy > 0.5
