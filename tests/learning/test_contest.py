"""Contestants: measures as scikit-learn's, neighbours without relatives, and gains."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.learning.contest import measure, per_class, predict, predict_by_neighbours, retrieve
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.splits import Split
from imagesearch.records import ImageRecord

from ..conftest import skip_without

skip_without("sklearn")

NOTHING = np.empty(0)


def of_classes(codes: np.ndarray, count: int = 0) -> np.ndarray:
    return codes[:, None] == np.arange(max(count, codes.max() + 1))


def labelled(vectors: np.ndarray, members: np.ndarray) -> LabelledPictures:
    pictures = [ImageRecord(f"/photos/{place:04}.jpg") for place in range(len(vectors))]
    return LabelledPictures(pictures, vectors, [f"c{number}" for number in range(members.shape[1])], members)


def test_accuracy_and_f1_are_those_of_scikit_learn() -> None:
    from sklearn import metrics as theirs

    random = np.random.default_rng(0)
    truth = random.integers(0, 5, 300)
    guess = np.where(random.random(300) < 0.6, truth, random.integers(0, 5, 300))
    found = measure("x", of_classes(guess), of_classes(truth), retrieval=NOTHING)
    assert found.accuracy.value == pytest.approx(theirs.accuracy_score(truth, guess))
    assert found.macro_f1.value == pytest.approx(theirs.f1_score(truth, guess, average="macro"))
    assert found.macro_f1.low < found.macro_f1.value < found.macro_f1.high
    assert found.retrieval is None
    names = [f"c{number}" for number in range(5)]
    table = per_class(of_classes(guess), of_classes(truth), names)
    precision, recall, f1, counts = theirs.precision_recall_fscore_support(truth, guess)
    for number, name in enumerate(names):
        wanted = [counts[number], precision[number], recall[number], f1[number]]
        assert list(table[name].values()) == pytest.approx(wanted)


def test_a_gain_is_over_the_baseline_on_the_same_pictures() -> None:
    truth = np.arange(100) % 4
    worse = np.where(np.arange(100) < 30, (truth + 1) % 4, truth)
    base = measure("kNN", of_classes(worse), of_classes(truth), retrieval=NOTHING)
    better = measure("probe", of_classes(truth), of_classes(truth), retrieval=NOTHING, baseline=base)
    assert better.gain is not None
    assert better.gain.value == pytest.approx(0.3)
    assert better.gain.is_gain
    assert base.gain is None


def test_neighbours_vote_and_their_number_is_chosen() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    random = np.random.default_rng(0)
    codes = np.arange(400) % 2
    vectors = (random.standard_normal((400, 8)) + 0.6 * np.eye(8)[codes]).astype(np.float32)
    everything = labelled(vectors, of_classes(codes))
    parts = Split(np.arange(300), np.arange(300, 400))
    predictions, k = predict_by_neighbours(everything, parts, np.arange(400))
    assert k > 1  # noise: one neighbour is not enough
    neighbours = KNeighborsClassifier(k, metric="cosine")
    theirs = neighbours.fit(vectors[:300], codes[:300]).predict(vectors[300:])
    agree = (predictions.argmax(axis=1) == theirs).mean()
    assert agree >= (1.0 if k % 2 else 0.8)  # of an even number ties are decided otherwise


def test_relatives_do_not_choose_the_number() -> None:
    """Every picture has a copy: one neighbour would seem perfect."""
    random = np.random.default_rng(1)
    first = np.arange(150) % 2
    vectors = np.repeat(random.standard_normal((150, 8)) + 0.6 * np.eye(8)[first], 2, axis=0).astype(np.float32)
    everything, groups = labelled(vectors, of_classes(np.repeat(first, 2))), np.repeat(np.arange(150), 2)
    parts = Split(np.arange(240), np.arange(240, 300))
    assert predict_by_neighbours(everything, parts, groups)[1] > 1
    assert predict_by_neighbours(everything, parts, np.arange(300))[1] == 1


def test_several_labels_by_half_of_the_neighbours() -> None:
    random = np.random.default_rng(0)
    members = random.random((200, 3)) < 0.5
    members[~members.any(axis=1), 0] = True
    vectors = (members @ np.eye(3, 6) + 0.1 * random.standard_normal((200, 6))).astype(np.float32)
    everything = labelled(vectors, members)
    predictions, _ = predict_by_neighbours(everything, Split(np.arange(150), np.arange(150, 200)), np.arange(200))
    assert (predictions == members[150:]).all(axis=1).mean() > 0.9
    assert not len(retrieve(everything, Split(np.arange(150), np.arange(150, 200)), vectors[150:]))


def test_retrieval_among_pictures_set_aside() -> None:
    codes = np.arange(40) % 4
    everything = labelled(np.eye(4, dtype=np.float32)[codes], of_classes(codes))
    parts = Split(np.arange(20), np.arange(20, 40))
    assert retrieve(everything, parts, everything.vectors[20:]).tolist() == [1.0] * 20
    only_one = Split(np.flatnonzero(codes), np.flatnonzero(codes == 0))
    assert not len(retrieve(everything, only_one, everything.vectors[codes == 0]))


def test_labels_that_logits_say() -> None:
    logits = np.array([[2.0, 1.0, -1.0], [-3.0, -2.0, -4.0]])
    assert predict(logits, several=False).tolist() == [[True, False, False], [False, True, False]]
    assert predict(logits, several=True).tolist() == [[True, True, False], [False, False, False]]
