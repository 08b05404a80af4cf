"""Figures of words against ones computed by hand and by another library."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.learning.words_evaluation import WordScore, evaluate_words, summary, word_of
from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search.alternatives import best_of
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase


def collection_of(vectors: np.ndarray, metric: Metric = Metric.COSINE) -> Collection:
    fingerprint = Fingerprint("m", "r", "cls", (8, 8), vectors.shape[1])
    made = MemoryDatabase().create(CollectionSpec("c", metric), fingerprint)
    made.upsert([ImageRecord(f"/{number:03}.jpg") for number in range(len(vectors))], vectors.astype(np.float32))
    return made


def test_ranks_precision_and_average_precision_by_hand() -> None:
    """Pictures lie at 0, 10, 20 ... degrees; the word for "a" at 0, so they rank in this order."""
    angles = np.radians(np.arange(0, 120, 10))
    collection = collection_of(np.column_stack([np.cos(angles), np.sin(angles)]))
    labels = {"/001.jpg": "a", "/003.jpg": "a", "/011.jpg": "a", "/000.jpg": "b"}
    words = {"a": np.array([[1, 0]], np.float32), "b": np.array([[1, 0]], np.float32)}
    words |= {"no picture": np.array([[1, 0]], np.float32)}
    a, b = evaluate_words(collection, labels, words)
    assert a == WordScore("a", 3, 2, 0.2, pytest.approx((1 / 2 + 2 / 4 + 3 / 12) / 3))
    assert b == WordScore("b", 1, 1, 0.1, 1.0)
    means = summary([a, b])
    assert means.to_dict() == {
        "words": 2,
        "first": 0.5,
        "among_first": 1.0,
        "precision": pytest.approx(0.15),
        "mean_average_precision": pytest.approx((a.average_precision + 1) / 2),
    }


def test_average_precision_is_that_of_the_definition() -> None:
    """Over recall: the sum of (recall at k less recall at k-1) times precision at k."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(80, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = {f"/{number:03}.jpg": str(random.integers(4)) for number in range(80)}
    words = {str(word): random.normal(size=(1 + word, 16)).astype(np.float32) for word in range(4)}
    for score in evaluate_words(collection_of(vectors), labels, words):
        prototypes = words[score.label] / np.linalg.norm(words[score.label], axis=1, keepdims=True)
        order = np.argsort(-(vectors @ prototypes.T).max(axis=1))
        right = np.array([labels[f"/{number:03}.jpg"] == score.label for number in order])
        precision = np.cumsum(right) / np.arange(1, 81)
        recall = np.cumsum(right) / right.sum()
        assert score.average_precision == pytest.approx((np.diff(recall, prepend=0) * precision).sum())
        assert score.precision == pytest.approx(precision[9])
        assert score.rank == 1 + right.argmax()


@pytest.mark.parametrize("metric", Metric)
def test_the_ranking_is_that_of_a_search(metric: Metric) -> None:
    random = np.random.default_rng(1)
    collection = collection_of(random.normal(size=(70, 6)), metric)
    word = random.normal(size=(3, 6)).astype(np.float32)
    hits = best_of(collection.search(word, 70), metric, 70)
    for rank in (1, 2, 30, 70):
        labels = {hits[rank - 1].picture.path: "it"}
        (score,) = evaluate_words(collection, labels, {"it": word})
        assert score.rank == rank


@pytest.mark.parametrize(
    ("label", "word"),
    [("n01440764_tench", "tench"), ("n01440764", ""), ("German_shepherd", "German shepherd"), ("n1_x", "n1 x")],
)
def test_names_of_folders_and_files(label: str, word: str) -> None:
    assert word_of(label) == word
