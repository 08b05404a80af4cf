"""Measuring confidence: the splits, the calibration error by hand, a whole report, and its figure."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.frontends.confidence_figures import confidence_figure
from imagesearch.learning.confidence_evaluation import (
    RATES,
    Bin,
    ConfidenceReport,
    calibration_error,
    evaluate_confidence,
    reliability,
    split_classes,
    split_originals,
)
from imagesearch.records import Fingerprint

from ..search.test_confidence import DIM, families

MARK = Fingerprint("toy", "1", "cls", (8, 8), DIM)


@pytest.fixture(scope="module")
def report() -> ConfidenceReport:
    vectors, labels = families(40, 12, noise=0.8, seed=1), np.repeat(np.arange(40), 12)
    return evaluate_confidence([split_classes(vectors, labels, seed=seed) for seed in (0, 1)], fingerprint=MARK)


def test_absent_classes_are_absent_and_nothing_is_its_own_query() -> None:
    vectors, labels = families(10, 10, noise=0.8, seed=0), np.repeat(np.arange(10), 10)
    split = split_classes(vectors, labels, seed=0)
    kept = {row.tobytes() for row in split.rows}
    assert (len(split.rows), len(split.present), len(split.absent)) == (35, 15, 50)
    assert not kept & {row.tobytes() for row in [*split.present, *split.absent]}
    assert set(split.present_labels) == set(split.row_labels)
    known = {row.tobytes(): label for row, label in zip(vectors, labels.tolist(), strict=True)}
    assert not {known[row.tobytes()] for row in split.absent} & set(split.row_labels.tolist())


def test_half_of_the_originals_are_absent() -> None:
    originals = families(10, 2, noise=0.8, seed=0)
    split = split_originals(originals, np.repeat(originals, 3, axis=0), np.repeat(np.arange(20), 3), seed=0)
    assert (len(split.rows), len(split.present), len(split.absent)) == (10, 30, 30)
    assert set(split.present_labels) == set(split.row_labels)


def test_calibration_error_by_hand() -> None:
    bins = reliability(np.array([0.05, 0.95, 0.95, 1.0]), np.array([False, True, True, False]))
    assert bins[0] == Bin(1, 0.05, 0.0)
    assert bins[9].hits == 3
    assert calibration_error(bins) == pytest.approx(0.25 * 0.05 + 0.75 * abs((0.95 + 0.95 + 1) / 3 - 2 / 3))


def test_a_perfect_statement_has_no_error() -> None:
    stated = np.repeat([0.25, 0.75], 4)
    assert calibration_error(reliability(stated, np.array([1, 0, 0, 0, 1, 1, 1, 0], bool))) == 0


def test_a_report_is_whole(report: ConfidenceReport) -> None:
    assert [trial.rows for trial in report.trials] == [160, 160]
    assert [point.rate for point in report.curve] == list(RATES)
    alarms = [point.false_alarms for point in report.curve]
    assert alarms == sorted(alarms)
    at_rate = next(point for point in report.curve if point.rate == report.rate)
    assert at_rate.false_alarms == report.false_alarms
    assert report.recall_ratio == pytest.approx(at_rate.recall / at_rate.flat_recall)
    assert sum(each.hits for each in report.bins) == 2 * 160 * 10
    assert report.seconds_per_query < 0.01


def test_few_classes_are_refused() -> None:
    with pytest.raises(UsageError, match="four or more"):
        split_classes(families(3, 10, noise=0.8, seed=0), np.repeat(np.arange(3), 10), seed=0)
    few = split_classes(families(4, 5, noise=0.8, seed=0), np.repeat(np.arange(4), 5), seed=0)
    with pytest.raises(UsageError, match="too small"):
        evaluate_confidence([few], fingerprint=MARK)
    with pytest.raises(UsageError, match="at least one split"):
        evaluate_confidence([], fingerprint=MARK)


def test_the_figure_is_drawn(report: ConfidenceReport) -> None:
    buffer = io.BytesIO()
    confidence_figure(report, "half of $ the classes").savefig(buffer, format="png")
    picture = np.asarray(Image.open(buffer).convert("RGB"))
    assert picture.shape[1] > 1500
    assert (picture != 255).any(axis=2).mean() > 0.01
