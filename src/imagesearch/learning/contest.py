"""How well classifiers do on pictures that were set aside, beside the nearest neighbours that need no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning import metrics
from imagesearch.learning.calibration import expected_calibration_error, probabilities
from imagesearch.learning.evaluation import evaluate_labels
from imagesearch.learning.exact import Rows
from imagesearch.learning.label_sets import LabelledPictures, Membership
from imagesearch.learning.metrics import Difference, Estimate, Floats
from imagesearch.learning.outcomes import MAIN, Plan
from imagesearch.learning.splits import Places, Split
from imagesearch.models.pooling import unit_vectors
from imagesearch.records import Metric
from imagesearch.stores.base import Vectors

BASELINE = "kNN"
# Numbers of neighbours of which the baseline takes the best.
NEIGHBOURS = (1, 3, 5, 10, 20, 50)
# Resamples of macro-F1, each of which counts all classes anew.
_RESAMPLES = 1000
# Queries whose cosines with all rows are in memory at once.
_BLOCK = 1000
# A label of several counts as said where at least this part of the neighbours has it.
_HALF = 0.5


@dataclass(frozen=True, slots=True)
class Contestant:
    """How one way to label pictures does on those that were set aside.

    Attributes:
        name: ``"kNN"``, ``"probe"``, ...
        detail: what was chosen for it, such as ``"k = 10"``.
        accuracy: the part of pictures whose label is right; with several labels, of those all of whose labels are.
        macro_f1: the mean of the classes' F1.
        retrieval: mAP among the pictures set aside, each asked for the others of its class, by the vectors that
            the model makes for search; None with several labels, or where no class has two pictures set aside.
        calibration_error: expected calibration error; None for neighbours.
        gain: in accuracy over the baseline, on the same pictures; None for the baseline.
        retrieval_gain: in mAP over the vectors before training, on the same pictures; None where vectors are the
            same, or retrieval was not measured.
        seconds: it took to train.
        predictions: bool, shape (pictures set aside, classes): the labels it gives.
        average_precisions: of each picture's retrieval; empty where there is none.
        scores: probabilities, float64, shape (pictures set aside, classes); None for neighbours.
    """

    name: str
    detail: str
    accuracy: Estimate
    macro_f1: Estimate
    retrieval: Estimate | None
    calibration_error: float | None
    gain: Difference | None
    retrieval_gain: Difference | None
    seconds: float
    predictions: Membership = field(repr=False)
    average_precisions: Floats = field(repr=False)
    scores: Floats | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without those of single pictures."""
        parts = {
            name: getattr(self, name) for name in ("accuracy", "macro_f1", "retrieval", "gain", "retrieval_gain")
        }
        return {
            "name": self.name,
            "detail": self.detail,
            **{name: part.to_dict() if part else None for name, part in parts.items()},
            "calibration_error": self.calibration_error,
            "seconds": self.seconds,
        }


def measure(
    name: str,
    predictions: Membership,
    truth: Membership,
    *,
    retrieval: Floats,
    baseline: Contestant | None = None,
    detail: str = "",
    calibration_error: float | None = None,
    scores: Floats | None = None,
    seconds: float = 0.0,
    seed: int = 0,
) -> Contestant:
    """Compare what was predicted with the truth, and with the baseline.

    Args:
        predictions, truth: bool, shape (pictures set aside, classes).
        retrieval: average precision of each picture, see :func:`retrieve`; empty: not measured.
        baseline: what the gain is over.
        calibration_error, scores: of a classifier that gives probabilities.
        seed: of resampling.
    """
    right = (predictions == truth).all(axis=1).astype(np.float64)
    gain = retrieval_gain = None
    if baseline is not None:
        gain = metrics.compare(right, (baseline.predictions == truth).all(axis=1).astype(np.float64), seed=seed)
        before = baseline.average_precisions
        if len(retrieval) and len(before) and retrieval is not before:
            retrieval_gain = metrics.compare(retrieval, before, seed=seed)
    return Contestant(
        name=name,
        detail=detail,
        accuracy=metrics.estimate(right, seed=seed),
        macro_f1=_macro_f1(predictions, truth, seed),
        retrieval=metrics.estimate(retrieval, seed=seed) if len(retrieval) else None,
        calibration_error=calibration_error,
        gain=gain,
        retrieval_gain=retrieval_gain,
        seconds=seconds,
        predictions=predictions,
        average_precisions=retrieval,
        scores=scores,
    )


def measure_logits(
    name: str,
    logits: NDArray[Any],
    truth: Membership,
    *,
    several: bool,
    retrieval: Floats,
    baseline: Contestant,
    detail: str,
    seconds: float,
    seed: int = 0,
) -> Contestant:
    """The same for a classifier that gives logits, whose calibration is measured too.

    Args:
        logits: shape (pictures set aside, classes).
        several: whether each label is decided by itself.
    """
    scores = probabilities(logits, several=several)
    return measure(
        name,
        predict(logits, several=several),
        truth,
        retrieval=retrieval,
        baseline=baseline,
        detail=detail,
        calibration_error=expected_calibration_error(*stated(scores, truth, several=several)),
        scores=scores,
        seconds=seconds,
        seed=seed,
    )


def stated(scores: Floats, truth: Membership, *, several: bool) -> tuple[Floats, NDArray[np.bool_]]:
    """What a classifier says how sure it is, and whether it is right: of the first label, or of several of each.

    Args:
        scores: probabilities, shape (pictures, classes).
        truth: bool, of the same shape.
    """
    if several:
        return scores.ravel(), truth.ravel()
    first = scores.argmax(axis=1)
    return scores.max(axis=1), np.asarray(truth[np.arange(len(first)), first])


def predict(logits: NDArray[Any], *, several: bool) -> Membership:
    """The labels that logits say: the largest, or with several labels all above 0."""
    if several:
        return np.asarray(logits > 0)
    return np.asarray(np.arange(logits.shape[1]) == logits.argmax(axis=1)[:, None])


def predict_by_neighbours(labelled: LabelledPictures, parts: Split, groups: Places) -> tuple[Membership, int]:
    """The labels of the most similar pictures among those to learn from, by cosine.

    The number of neighbours is the best for the pictures to learn from, each without its own relatives.

    Returns:
        bool, shape (pictures set aside, classes), and the number of neighbours.
    """
    own, aside = labelled.vectors[parts.training], labelled.vectors[parts.held_out]
    members, most = labelled.members[parts.training], min(max(NEIGHBOURS), len(parts.training) - 1)
    several = labelled.is_multi_label
    among = groups[parts.training]
    near = _neighbours(own, own, most, (among, among))
    accuracies = {
        k: float((_vote(near, members, k, several) == members).all(axis=1).mean()) for k in NEIGHBOURS if k <= most
    }
    k = max(accuracies, key=lambda k: (accuracies[k], -k), default=1)
    return _vote(_neighbours(aside, own, k, None), members, k, several), k


def _neighbours(queries: Vectors, rows: Vectors, k: int, groups: tuple[Places, Places] | None) -> Places:
    """Places of the k rows with the largest cosines, nearest first; -1: none, as all others are relatives.

    Args:
        groups: of queries and rows; of the same group no row is a neighbour.
    """
    unit_rows, unit_queries = unit_vectors(rows), unit_vectors(queries)
    found = []
    for start in range(0, len(queries), _BLOCK):
        cosines = unit_queries[start : start + _BLOCK] @ unit_rows.T
        if groups is not None:
            cosines[groups[0][start : start + _BLOCK, None] == groups[1]] = -np.inf
        near = np.argpartition(-cosines, min(k, len(rows) - 1), axis=1)[:, :k]
        values = np.take_along_axis(cosines, near, axis=1)
        order = np.lexsort((near, -values), axis=1)
        near, values = np.take_along_axis(near, order, axis=1), np.take_along_axis(values, order, axis=1)
        found.append(np.where(np.isfinite(values), near, -1))
    return np.concatenate(found).astype(np.int64)


def _vote(near: Places, members: Membership, k: int, several: bool) -> Membership:
    if several:
        shares = np.stack(
            [members[row[row >= 0]].mean(axis=0) if (row >= 0).any() else 0 * members[0] for row in near[:, :k]]
        )
        return np.asarray(shares >= _HALF)
    codes = members.argmax(axis=1)
    chosen = metrics.knn_labels(np.where(near >= 0, codes[near], -1), k)
    return np.asarray(np.arange(members.shape[1]) == chosen[:, None])


def retrieve(labelled: LabelledPictures, parts: Split, vectors: Vectors, *, seed: int = 0) -> Floats:
    """Average precision of the pictures set aside, each asked for the others of its class among them.

    Args:
        vectors: of the pictures set aside, in their order, float32, shape (n, dim).

    Returns:
        float64, shape (queries,), in order of path; empty with several labels, or where no class has two pictures.
    """
    places = parts.held_out.tolist()
    if labelled.is_multi_label or labelled.members[parts.held_out].sum(axis=0).max() < 2:
        return np.empty(0)
    pictures = [labelled.pictures[place] for place in places]
    order = sorted(range(len(pictures)), key=lambda place: pictures[place].path)
    rows = Rows([pictures[place] for place in order], vectors[order], Metric.COSINE)
    codes = labelled.codes[parts.held_out][order]
    try:
        report = evaluate_labels(rows, [labelled.names[code] for code in codes], Plan(seed=seed))
    except UsageError:  # one class only was set aside: there is nothing to confuse it with
        return np.empty(0)
    return report.methods[0].values[MAIN]


def _macro_f1(predictions: Membership, truth: Membership, seed: int) -> Estimate:
    """The mean F1 of the classes that were predicted or are there, with its percentile bootstrap interval."""
    said, right, there = (
        predictions.astype(np.float32),
        (predictions & truth).astype(np.float32),
        truth.astype(np.float32),
    )
    random, count = np.random.default_rng(seed), len(truth)
    drawn = random.multinomial(count, np.full(count, 1 / count), _RESAMPLES).astype(np.float32)

    def means(weights: NDArray[np.float32]) -> Floats:
        twice, sums = 2 * weights @ right, weights @ said + weights @ there
        known = sums > 0
        return np.asarray(
            np.where(known, twice / np.where(known, sums, 1), 0).sum(axis=1) / known.sum(axis=1), np.float64
        )

    low, high = np.quantile(means(drawn), [0.025, 0.975])
    return Estimate(float(means(np.ones((1, count), np.float32))[0]), float(low), float(high), count)


def per_class(predictions: Membership, truth: Membership, names: Sequence[str]) -> Mapping[str, dict[str, float]]:
    """For each class that has pictures set aside how many, and precision, recall and F1, in order of F1."""
    table = {}
    for number, name in enumerate(names):
        said, there = predictions[:, number], truth[:, number]
        both, count = int((said & there).sum()), int(there.sum())
        if count:
            precision = both / int(said.sum()) if said.any() else 0.0
            table[name] = {
                "pictures": float(count),
                "precision": precision,
                "recall": both / count,
                "F1": 2 * both / (int(said.sum()) + count),
            }
    return dict(sorted(table.items(), key=lambda item: item[1]["F1"]))
