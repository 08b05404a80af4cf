"""What a training reports of itself, with and without the guard against copies on both sides of the split."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.learning import match
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.match import Match, Terms
from imagesearch.learning.splits import unrelated
from imagesearch.records import ImageRecord

CLASSES = 5


def copies_of_noise() -> LabelledPictures:
    """Sixty vectors without any relation to their labels, each with three near copies that have the same label."""
    random = np.random.default_rng(0)
    first = random.standard_normal((60, 32))
    vectors = np.repeat(first, 4, axis=0) + 0.05 * random.standard_normal((240, 32))
    codes = np.repeat(random.permutation(60) % CLASSES, 4)
    pictures = [ImageRecord(f"/photos/{place:03}.jpg") for place in range(240)]
    names = [f"class {number}" for number in range(CLASSES)]
    return LabelledPictures(pictures, vectors.astype(np.float32), names, codes[:, None] == np.arange(CLASSES))


def reported() -> dict[str, float]:
    contest = Match(copies_of_noise(), Terms(held_out=0.25))
    contest.add_neighbours()
    contest.add_probe()
    return {one.name: one.accuracy.value for one in contest.contestants}


def test_the_guard_keeps_reported_accuracy_honest(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to learn, so that one in five is right by chance."""
    honest = reported()
    monkeypatch.setattr(match, "find_relations", lambda pictures, _: unrelated(len(pictures)))
    naive = reported()
    assert honest["kNN"] < 0.35
    assert honest["probe"] < 0.35
    assert naive["kNN"] > 0.9
    assert naive["probe"] > honest["probe"] + 0.2
