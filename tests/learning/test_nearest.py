"""Labels of near pictures: votes that can be counted by hand, and true probabilities."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.learning.confidence_evaluation import calibration_error, reliability
from imagesearch.learning.nearest import (
    NearestLabels,
    Neighbours,
    Votes,
    choose_temperature,
    choose_votes,
    read_known_labels,
)
from imagesearch.records import Fingerprint, ImageRecord, Metric, picture_id
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

PRIOR = np.array([0.5, 0.5])


def near(codes: Sequence[Sequence[int]], similarities: Sequence[Sequence[float]]) -> Neighbours:
    return Neighbours(np.array(codes), np.array(similarities, np.float64))


def collection(
    vectors: np.ndarray, labels: Sequence[str | None], metric: Metric = Metric.COSINE, digests: Sequence[str] = ()
) -> Collection:
    """One in memory; labels stand in the column "what" and in the names of folders."""
    made = MemoryDatabase().create(
        CollectionSpec("photos", metric), Fingerprint("mine", "1", "cls", (8, 8), vectors.shape[1])
    )
    pictures = [
        ImageRecord(
            f"/root/{label or '.'}/{place}.jpg".replace("/./", "/"),
            "/root",
            digests[place] if digests else "",
            annotations=json.dumps({"what": label}) if label else None,
        )
        for place, label in enumerate(labels)
    ]
    made.upsert(pictures, vectors.astype(np.float32))
    return made


def labeller(made: Collection, by: str = "what", k: int = 5) -> NearestLabels:
    return NearestLabels(None, made, read_known_labels(made, by), k)  # type: ignore[arg-type]


def clusters(size: int, seed: int = 0, classes: int = 3, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around a centre for each class, and their classes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).normal(size=(classes, 8))
    truth = rng.integers(classes, size=size)
    vectors = centres[truth] / np.linalg.norm(centres[truth], axis=1, keepdims=True)
    vectors = vectors + noise * rng.normal(size=vectors.shape)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), truth


def test_votes_can_be_counted_by_hand() -> None:
    """One vote at the usual similarity, half of one a little further; two more are shared out."""
    votes = Votes(usual=0.8, reach=0.1 / np.log(2), smoothing=2.0)
    found = votes.probabilities(near([[0, 1, 1]], [[0.8, 0.7, 0.6]]), PRIOR)
    assert found == pytest.approx(np.array([[2 / 3.75, 1.75 / 3.75]]))
    squared = Votes(0.8, 0.1 / np.log(2), 2.0, temperature=0.5).probabilities(
        near([[0, 1, 1]], [[0.8, 0.7, 0.6]]), PRIOR
    )
    assert squared == pytest.approx(np.array([[2**2, 1.75**2]]) / (2**2 + 1.75**2))


def test_far_neighbours_say_little() -> None:
    votes = Votes(0.8, 0.05, 1.0)
    (close,), (far,) = (votes.probabilities(near([[0, 0]], [[s, s]]), PRIOR) for s in (0.8, 0.1))
    assert close[0] > 0.8
    assert far == pytest.approx(PRIOR, abs=1e-4)


def test_without_neighbours_frequency_decides() -> None:
    prior = np.array([0.75, 0.25])
    found = Votes(0.8, 0.1, 1.0).probabilities(near([[-1, -1]], [[-np.inf, -np.inf]]), prior)
    assert found == pytest.approx(prior[None])


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-1, 3), st.floats(-1e3, 1e3)), min_size=1, max_size=6),
    st.floats(1e-6, 1e3),
    st.floats(1e-6, 1e3),
    st.floats(0.2, 4),
)
def test_probabilities_are_some(
    found: list[tuple[int, float]], reach: float, smoothing: float, temperature: float
) -> None:
    prior = np.full(4, 0.25)
    similarities = [-np.inf if code < 0 else similarity for code, similarity in found]
    shares = Votes(0.5, reach, smoothing, temperature).probabilities(
        near([[code for code, _ in found]], [similarities]), prior
    )
    assert np.isfinite(shares).all()
    assert shares.sum() == pytest.approx(1)


def test_the_nearest_label_wins() -> None:
    vectors, truth = clusters(120, noise=0.3)
    mine = labeller(collection(vectors, [f"class {number}" for number in truth]))
    asked, classes = clusters(60, seed=1, noise=0.3)
    found = mine.predict_vectors(asked.astype(np.float32), 2)
    assert np.mean([one[0].index == number for one, number in zip(found, classes, strict=True)]) > 0.8
    assert {len(one) for one in found} == {2}


def test_columns_and_folders_say_the_same() -> None:
    vectors, truth = clusters(40)
    made = collection(vectors, [f"class {number}" for number in truth])
    asked = clusters(5, seed=1)[0].astype(np.float32)
    assert labeller(made, "what").predict_vectors(asked) == labeller(made, "folder").predict_vectors(asked)


def test_no_more_neighbours_vote_than_there_are() -> None:
    vectors, codes = clusters(10)
    made = collection(vectors, [f"label {code}" for code in codes])
    assert labeller(made, k=10**15).predict_vectors(vectors) == labeller(made, k=30).predict_vectors(vectors)


def test_distances_and_similarities_give_the_same_probabilities() -> None:
    vectors, truth = clusters(80)
    labels, asked = [f"class {number}" for number in truth], clusters(9, seed=1)[0].astype(np.float32)
    cosine, squared, product = (
        [
            [(one.label, round(one.score, 3)) for one in row]
            for row in labeller(collection(vectors, labels, metric)).predict_vectors(asked)
        ]
        for metric in (Metric.COSINE, Metric.L2, Metric.IP)
    )
    assert cosine == squared == product


def test_pictures_without_a_label_have_no_vote() -> None:
    vectors, truth = clusters(60)
    labels = [f"class {number}" for number in truth]
    asked = clusters(9, seed=1)[0].astype(np.float32)
    alone = labeller(collection(vectors, labels)).predict_vectors(asked)
    more = collection(np.concatenate([vectors, asked]), [*labels, *[None] * len(asked)])
    assert labeller(more).predict_vectors(asked) == alone


def test_a_picture_has_no_vote_on_itself_nor_have_its_copies() -> None:
    """Labels by chance: who asks itself is always right, who leaves it out is not."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 8))
    vectors = np.concatenate([vectors, vectors])  # every picture twice
    labels = [f"class {number}" for number in rng.integers(2, size=40)] * 2
    made = collection(vectors, labels, digests=[f"content {place % 40}" for place in range(80)])
    mine = labeller(made)
    keys = [picture_id(f"/root/{label}/{place}.jpg") for place, label in enumerate(labels)]
    without = [mine.same_picture(key) for key in keys]
    assert {len(same) for same in without} == {2}
    own, other = (
        np.mean([row[0].label == label for row, label in zip(found, labels, strict=True)])
        for found in (
            mine.predict_vectors(vectors.astype(np.float32), 1),
            mine.predict_vectors(vectors.astype(np.float32), 1, without),
        )
    )
    assert other < 0.6 < own
    assert mine.votes.smoothing > 1  # it learned that neighbours say nothing here


@pytest.mark.parametrize("noise", [0.35, 0.8])
def test_probabilities_are_true(noise: float) -> None:
    """Learned from some pictures, measured on others: wrong by a few hundredths, as far as 600 can tell."""
    vectors, truth = clusters(600, noise=noise, classes=5)
    mine = labeller(collection(vectors, [f"class {number}" for number in truth]), k=20)
    asked, classes = clusters(600, seed=1, noise=noise, classes=5)
    found = [row[0] for row in mine.predict_vectors(asked.astype(np.float32), 1)]
    said = np.array([one.score for one in found])
    right = np.array([one.label == f"class {number}" for one, number in zip(found, classes, strict=True)])
    assert calibration_error(reliability(said, right)) < 0.06
    assert abs(said.mean() - right.mean()) < 0.05


def test_the_temperature_undoes_what_was_overstated() -> None:
    """Shares whose logarithms were multiplied by two need a temperature of two."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet([1.0, 1.0, 1.0], size=4000)
    truth = np.array([rng.choice(3, p=row) for row in true])
    sharp = true**2 / (true**2).sum(axis=1, keepdims=True)
    assert choose_temperature(true, truth) == pytest.approx(1, rel=0.1)
    assert choose_temperature(sharp, truth) == pytest.approx(2, rel=0.1)


def test_a_few_right_answers_are_no_certainty() -> None:
    """Of n that are all right, the next one is with (n + 1) / (n + 2), by Laplace's rule."""
    vectors = np.array([[1, 0.01 * place, 0] for place in range(4)] + [[0, 0.01 * place, 1] for place in range(4)])
    mine = labeller(collection(vectors, ["cat"] * 4 + ["dog"] * 4))
    found = mine.predict_vectors(vectors.astype(np.float32), 1)
    assert [row[0].label for row in found] == ["cat"] * 4 + ["dog"] * 4
    assert all(0.8 < row[0].score < 0.95 for row in found)


def test_nothing_to_learn_from_is_no_error() -> None:
    votes = choose_votes(near([[-1], [-1]], [[-np.inf], [-np.inf]]), np.array([0, 1]), PRIOR)
    assert votes.smoothing > 0
    alike = choose_votes(near([[0, 1]] * 4, [[1.0, 1.0]] * 4), np.array([0, 1, 0, 1]), PRIOR)
    assert np.isfinite(alike.probabilities(near([[0, 1]], [[1.0, 1.0]]), PRIOR)).all()


class TestRefusals:
    def test_one_label(self) -> None:
        made = collection(np.eye(3), ["cat", "cat", None])
        with pytest.raises(UsageError, match=r"1 labels in the column 'what', .*two.*columns: what\)"):
            read_known_labels(made, "what")
        with pytest.raises(UsageError, match="lie in 1 sub-folders"):
            read_known_labels(made, "folder")

    def test_no_such_column(self) -> None:
        with pytest.raises(UsageError, match=r"0 labels in the column 'who'.*columns: what"):
            read_known_labels(collection(np.eye(2), ["cat", "dog"]), "who")
        with pytest.raises(UsageError, match="columns: none: join some with 'imagesearch annotate'"):
            read_known_labels(collection(np.eye(2), [None, None]), "who")
