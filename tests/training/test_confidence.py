"""Fitting confidence: known numbers come back, sets count as asked, and no set's own pictures judge it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from training.confidence import (
    Sample,
    class_samples,
    compared,
    copies_samples,
    errors,
    fit,
    logistic,
    portions,
    read,
    report,
    robust,
    with_right_shift,
)

from imagesearch.learning.confidence_evaluation import split_classes
from imagesearch.records import Fingerprint
from imagesearch.search.confidence import CALIBRATION, Calibration
from training import confidence

from ..search.test_confidence import DIM, families
from .test_commands import write_classes, write_teacher

MARK = Fingerprint("toy", "1", "cls", (8, 8), DIM)
CLASSES, EACH = 30, 20


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """Of two sets of classes, one of them tighter, and of copies; two halves of each."""
    labels, found = np.repeat(np.arange(CLASSES), EACH), []
    for name, noise in (("tight", 1.0), ("loose", 1.6)):
        found += class_samples(families(CLASSES, EACH, noise=noise, seed=1), labels, MARK, name, range(2))
    originals = families(CLASSES, EACH, noise=1.5, seed=2)
    noise = np.random.default_rng(3).normal(0, 0.5, (2 * len(originals), DIM))
    copies = (np.repeat(originals, 2, axis=0) + noise).astype(np.float32)
    return [*found, *copies_samples(originals, copies, MARK, "copies", range(2))]


def test_a_line_comes_back_whatever_the_outliers() -> None:
    random = np.random.default_rng(0)
    inputs = random.normal(size=(400, 2)) * (1, 5) + (3, -2)
    targets = 0.5 + inputs @ (1.5, -0.2) + random.normal(0, 0.02, 400)
    targets[:20] += 50
    found = robust(inputs, targets, np.ones(400))
    # The ridge penalty takes a little off.
    assert found == pytest.approx([0.5, 1.5, -0.2], abs=0.2)
    assert np.abs(np.linalg.lstsq(np.c_[np.ones(400), inputs], targets)[0] - [0.5, 1.5, -0.2]).max() > 1


def test_what_has_no_weight_does_not_count() -> None:
    inputs, targets = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0.0, 1.0, 2.0, 99.0])
    weights = np.array([1.0, 1.0, 1.0, 0.0])
    assert robust(inputs, targets, weights) == pytest.approx(robust(inputs, np.array([0, 1, 2, -99.0]), weights))


def test_a_logistic_function_comes_back() -> None:
    random = np.random.default_rng(0)
    inputs = np.c_[np.ones(20_000), random.normal(size=20_000)]
    related = (random.random(20_000) < 1 / (1 + np.exp(-(inputs @ (-1.0, 2.0))))).astype(float)
    assert logistic(inputs, related, np.ones(20_000)) == pytest.approx([-1.0, 2.0], abs=0.1)


def test_large_sets_give_parts_and_small_ones_do_not() -> None:
    small = list(portions(np.repeat(np.arange(99), 3), 0))
    assert [(weight, len(places)) for weight, places in small] == [(3.0, 297)]
    labels = np.repeat(np.arange(120), 30)
    parts = [(len(np.unique(labels[places])), len(places)) for _, places in portions(labels, 0)]
    assert parts == [(120, 3600), (20, 600), (50, 1500), (60, 1260), (120, 960)]


def test_sets_weigh_the_same_unless_asked_otherwise(samples: Sequence[Sample]) -> None:
    weighed = confidence.weighed(samples, {"tight": 4.0})
    sums = {
        name: sum(each.weight for each in weighed if each.name == name) for name in ("tight", "loose", "copies")
    }
    assert sums == pytest.approx({"tight": 4.0, "loose": 1.0, "copies": 1.0})


def test_the_fit_is_better_calibrated_than_other_numbers(samples: Sequence[Sample]) -> None:
    weighed = confidence.weighed(samples, {})
    fitted = fit(weighed)
    flat = Calibration(shift=fitted.shift, logistic=(0.0, -0.1, 0.0, 0.0))
    ours, theirs = (np.mean([errors(each, one) for each in weighed], axis=0) for one in (fitted, flat))
    assert ours[3] < theirs[3] / 2
    assert abs(ours[0] - 0.1) < 0.05
    shifted = Calibration(shift=(fitted.shift[0] + 2, *fitted.shift[1:]))
    assert np.mean([errors(each, shifted)[0] for each in weighed]) < ours[0] / 2
    # What no fit is asked for stays: the bounds of the measures.
    assert (fitted.rows, fitted.spread, fitted.clustered) == (
        CALIBRATION.rows,
        CALIBRATION.spread,
        CALIBRATION.clustered,
    )


def test_a_set_takes_no_part_in_the_fit_that_judges_it(samples: Sequence[Sample]) -> None:
    lines = list(report(confidence.weighed(samples, {})))
    others = fit([each for each in confidence.weighed(samples, {}) if each.name != "loose"])
    alarms = np.mean([errors(each, others)[0] for each in samples if each.name == "loose"])
    assert [line for line in lines if line.startswith(f"| loose | toy | without it | {alarms:.3f} |")]
    assert len(lines) == 4 + 3 * 3


def test_the_right_shift_meets_the_nominal_rate(samples: Sequence[Sample]) -> None:
    wrong = Calibration(shift=(2.0, 0.0, 0.0))
    for name in ("tight", "loose", "copies"):
        own = [each for each in samples if each.name == name]
        right = np.mean([errors(each, with_right_shift(wrong, each))[0] for each in own])
        assert abs(right - 0.1) < 0.05 < abs(np.mean([errors(each, wrong)[0] for each in own]) - 0.1)


def test_labels_count_as_much_as_vectors() -> None:
    random = np.random.default_rng(0)
    vectors, axes = random.normal(size=(6, 5)).astype(np.float32), random.normal(size=(4, 5))
    both = compared(vectors, axes)
    said = vectors @ axes.T
    cosines = [each @ each.T / np.outer(*[np.linalg.norm(each, axis=1)] * 2) for each in (vectors, said)]
    np.testing.assert_allclose(both @ both.T, np.mean(cosines, axis=0), atol=1e-6)
    assert compared(vectors, None) is vectors


def test_lengths_of_vectors_do_not_matter() -> None:
    vectors, labels = families(12, 12, noise=0.8, seed=0), np.repeat(np.arange(12), 12)
    stretched = vectors * np.random.default_rng(0).uniform(0.5, 2, (len(vectors), 1)).astype(np.float32)
    plain, other = (
        confidence.sample(split_classes(each, labels, seed=0), MARK, name="a", weight=1, seed=0)
        for each in (vectors, stretched)
    )
    assert plain.target == pytest.approx(other.target)
    np.testing.assert_allclose(plain.absent, other.absent, atol=1e-5)


def test_a_collection_that_says_nothing_is_named() -> None:
    vectors, labels = families(8, 4, noise=0.5, seed=0), np.repeat(np.arange(8), 4)
    few = confidence.sample(split_classes(vectors, labels, seed=0), MARK, name="few", weight=1, seed=0)
    with pytest.raises(SystemExit, match="few: nothing can be learned"):
        fit([few])


def test_pictures_are_compared_by_labels_where_asked(tmp_path: Path) -> None:
    write_classes(tmp_path)
    plain, both = (
        next(read([f"classes={tmp_path}"], [], "starter", [0], labels=labels)) for labels in (False, True)
    )
    np.testing.assert_array_equal(plain.draws.rows, both.draws.rows)
    assert not np.allclose(plain.absent, both.absent, atol=1e-3)


def test_a_model_without_labels_to_compare_by_is_named(tmp_path: Path) -> None:
    write_teacher(tmp_path)  # four labels, far fewer than its vectors have numbers
    with pytest.raises(SystemExit, match="leave --labels out"):
        next(read([], [], str(tmp_path), [0], labels=True))
