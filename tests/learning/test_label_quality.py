"""How right labels are, against what can be counted by hand."""

from __future__ import annotations

import pytest

from imagesearch.errors import UsageError
from imagesearch.learning.label_quality import Outcome, Truth, label_quality
from imagesearch.records import Prediction

LABELS = ("Maltese dog, Maltese", "husky dog", "teapot", "tabby, tabby cat")


def said(name: str, index: int, score: float) -> Outcome:
    return Outcome(name, Prediction(LABELS[index], score, index))


def test_it_can_be_counted_by_hand() -> None:
    outcomes = [
        said("dog", 0, 0.9),
        said("dog", 1, 0.7),
        said("dog", 2, 0.7),
        said("teapot", 2, 0.5),
        Outcome("teapot", None),
        said("xylophone", 2, 0.9),
    ]
    found = label_quality(outcomes, Truth(LABELS), threshold=0.6)
    assert (found.pictures, found.classes, found.unknown, found.skipped) == (4, 2, ("xylophone",), 1)
    assert found.accuracy.value == 0.75
    assert found.confidence == pytest.approx(0.7)
    assert found.calibration_error == pytest.approx((0.1 + abs(1.4 - 1) + 0.5) / 4)
    assert (found.covered, found.covered_accuracy) == (0.75, pytest.approx(2 / 3))
    assert [one.hits for one in found.bins] == [0, 0, 0, 0, 0, 1, 0, 2, 0, 1]
    assert found.to_dict()["accuracy"]["queries"] == 4


@pytest.mark.parametrize(
    ("name", "expected"),
    [("dog", {0, 1}), ("husky_dog", {1}), ("Maltese dog, Maltese", {0}), ("cats", {3}), ("teapt", set())],
)
def test_classes_mean_labels_as_words_do(name: str, expected: set[int]) -> None:
    assert Truth(LABELS).of(name) == expected


def test_classes_without_labels() -> None:
    with pytest.raises(UsageError, match=r"classes without: n01440764\).*'husky dog', 'teapot' .*--labels"):
        label_quality([said("n01440764", 0, 0.5)], Truth(LABELS))
    assert label_quality([said("dog", 0, 0.5)], Truth(LABELS), threshold=0.9).covered_accuracy is None
