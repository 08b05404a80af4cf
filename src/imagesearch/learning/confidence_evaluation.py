"""Does "nothing found" hold? Collections that lack half of what is asked for, and what confidence then says.

The protocol: half of the classes (or, of originals and their distorted copies, half of the originals) are left out
of the collection, and asked for all the same. A *false alarm* is such a query whose first hit counts as confident.
Nothing that is measured here is known to :func:`imagesearch.search.confidence.learn`: it sees no labels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.records import Fingerprint, Hit, ImageRecord, Metric, PlainValues
from imagesearch.search.confidence import assess, is_confident, learn
from imagesearch.stores.base import Collection, CollectionSpec, Vectors
from imagesearch.stores.memory import MemoryDatabase

Labels = NDArray[np.int64]

# Nominal rates at which curves are drawn.
RATES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
_BINS = 10
# Of either kind; more only take longer.
_QUERIES = 1000


@dataclass(frozen=True, slots=True)
class Split:
    """One collection that lacks something, and what is asked of it.

    Attributes:
        rows, row_labels: vectors of the collection, float32, shape (n, dim), and the class of each, int64, (n,).
        present, present_labels: queries that have something related in the collection, and their classes.
        absent: queries that have not.
    """

    rows: Vectors
    row_labels: Labels
    present: Vectors
    present_labels: Labels
    absent: Vectors


@dataclass(frozen=True, slots=True)
class Bin(PlainValues):
    """One bin of a reliability diagram.

    Attributes:
        hits: how many hits were stated to have a confidence in this tenth.
        confidence: their mean stated confidence.
        related: the share of them that is related.
    """

    hits: int
    confidence: float
    related: float


@dataclass(frozen=True, slots=True)
class Point(PlainValues):
    """What one nominal rate gives, means over the trials.

    Attributes:
        rate: the nominal false-alarm rate.
        false_alarms: share of the absent queries whose first hit counted as confident.
        recall: share of the present queries whose first hit did.
        flat_recall: the same by the flat cutoff on the score that gives exactly the nominal rate, with hindsight.
    """

    rate: float
    false_alarms: float
    recall: float
    flat_recall: float


@dataclass(frozen=True, slots=True)
class Trial(PlainValues):
    """One split at the nominal rate that was asked for; see :class:`Point` and :class:`ConfidenceReport`."""

    rows: int
    false_alarms: float
    recall: float
    flat_recall: float
    calibration_error: float
    first_calibration_error: float


@dataclass(frozen=True, slots=True)
class ConfidenceReport(PlainValues):
    """How well confidence was calibrated, on labelled pictures.

    Attributes:
        rate: the nominal false-alarm rate.
        false_alarms: the measured one, mean of the trials.
        recall_ratio: recall at the nominal rate over the recall of the best flat cutoff chosen with hindsight,
            both means of the trials; None where that cutoff finds nothing.
        calibration_error: expected calibration error (Guo et al., "On calibration of modern neural networks",
            ICML 2017) over all hits of all queries, ten bins of equal width, mean of the trials.
        first_calibration_error: the same over first hits only.
        learning_seconds: what learning took, mean.
        seconds_per_query: what :func:`imagesearch.search.confidence.assess` took, mean.
        trials: one for each split.
        bins: reliability of all trials' hits.
        curve: one point for each of :data:`RATES`.
    """

    rate: float
    false_alarms: float
    recall_ratio: float | None
    calibration_error: float
    first_calibration_error: float
    learning_seconds: float
    seconds_per_query: float
    trials: tuple[Trial, ...]
    bins: tuple[Bin, ...]
    curve: tuple[Point, ...]

    @property
    def shown_ratio(self) -> str:
        """The recall ratio for tables and figures."""
        return "-" if self.recall_ratio is None else f"{self.recall_ratio:.2f}"


def split_classes(vectors: Vectors, labels: Labels, *, seed: int, held_out: float = 0.3) -> Split:
    """Half of the classes absent; of each of the others a share is held out and asked for.

    Args:
        vectors: float32, shape (n, dim).
        labels: int64, shape (n,).
        seed: of the choice.
        held_out: the share, 0 to 1; at least one picture of each class.

    Raises:
        UsageError: fewer than four classes of at least two pictures.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    classes = rng.permutation(classes[counts >= 2])
    if len(classes) < 4:
        raise UsageError(
            f"{len(classes)} classes of at least two pictures: confidence is measured with four or more"
        )
    rows: list[int] = []
    asked: list[int] = []
    for label in classes[: len(classes) // 2]:
        places = rng.permutation(np.flatnonzero(labels == label))
        kept = len(places) - max(1, round(held_out * len(places)))
        rows += places[:kept].tolist()
        asked += places[kept:].tolist()
    absent = rng.permutation(np.flatnonzero(np.isin(labels, classes[len(classes) // 2 :])))[:_QUERIES]
    asked = rng.permutation(asked)[:_QUERIES].tolist()
    return Split(vectors[rows], labels[rows], vectors[asked], labels[asked], vectors[absent])


def split_originals(originals: Vectors, copies: Vectors, copy_of: Labels, *, seed: int) -> Split:
    """Half of the originals absent; asked for are distorted copies of all of them.

    Args:
        originals: float32, shape (n, dim).
        copies: of distorted copies, float32, shape (m, dim).
        copy_of: the row in ``originals`` that each is a copy of, int64, shape (m,).
        seed: of the choice.
    """
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(originals))[: len(originals) // 2])
    there = np.isin(copy_of, kept)
    present = rng.permutation(np.flatnonzero(there))[:_QUERIES]
    absent = rng.permutation(np.flatnonzero(~there))[:_QUERIES]
    return Split(originals[kept], kept, copies[present], copy_of[present], copies[absent])


def evaluate_confidence(
    splits: Iterable[Split],
    *,
    fingerprint: Fingerprint,
    metric: Metric = Metric.COSINE,
    rate: float = 0.1,
    k: int = 10,
) -> ConfidenceReport:
    """Ask collections for what they have and for what they lack.

    Args:
        splits: from :func:`split_classes` or :func:`split_originals`, one for each seed.
        fingerprint: the vectors' model.
        metric: how they are compared.
        rate: the nominal false-alarm rate.
        k: hits per query.

    Raises:
        UsageError: there is no split, or its collection is too small to learn from.
    """
    outcomes = [_ask(split, fingerprint, metric, k) for split in splits]
    if not outcomes:
        raise UsageError("confidence is measured with at least one split of the pictures")
    trials = tuple(_trial(outcome, metric, rate) for outcome in outcomes)
    means = {name: float(np.mean([getattr(trial, name) for trial in trials])) for name in _MEANS}
    stated = np.concatenate([outcome.stated for outcome in outcomes])
    related = np.concatenate([outcome.related for outcome in outcomes])
    return ConfidenceReport(
        rate=rate,
        false_alarms=means["false_alarms"],
        recall_ratio=means["recall"] / means["flat_recall"] if means["flat_recall"] else None,
        calibration_error=means["calibration_error"],
        first_calibration_error=means["first_calibration_error"],
        learning_seconds=float(np.mean([outcome.learning for outcome in outcomes])),
        seconds_per_query=float(np.mean([outcome.assessing for outcome in outcomes])),
        trials=trials,
        bins=reliability(stated.ravel(), related.ravel()),
        curve=tuple(
            _point([_trial(outcome, metric, nominal) for outcome in outcomes], nominal) for nominal in RATES
        ),
    )


_MEANS = ("false_alarms", "recall", "flat_recall", "calibration_error", "first_calibration_error")


def reliability(stated: NDArray[np.float64], related: NDArray[np.bool_]) -> tuple[Bin, ...]:
    """Ten bins of equal width; empty ones have zeros.

    Args:
        stated: confidences, 0 to 1, shape (n,).
        related: whether each hit is related, shape (n,).
    """
    places = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = places == number
        hits = int(inside.sum())
        means = (float(stated[inside].mean()), float(related[inside].mean())) if hits else (0.0, 0.0)
        bins.append(Bin(hits, *means))
    return tuple(bins)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean gap between stated and true shares, weighted by hits."""
    total = sum(each.hits for each in bins)
    return sum(each.hits * abs(each.confidence - each.related) for each in bins) / total if total else 0.0


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Answers to one split; as many absent queries as present ones, the absent ones last.

    Attributes:
        rows: of the collection.
        present, absent: first hits.
        stated, related: of all hits, shape (queries, hits).
        learning, assessing: seconds, in all and per query.
    """

    rows: int
    present: list[Hit]
    absent: list[Hit]
    stated: NDArray[np.float64]
    related: NDArray[np.bool_]
    learning: float
    assessing: float


def _ask(split: Split, fingerprint: Fingerprint, metric: Metric, k: int) -> _Outcome:
    collection = exact_collection(split.rows, fingerprint, metric)
    started = time.perf_counter()
    background = learn(collection)
    learning = time.perf_counter() - started
    if background is None:
        raise UsageError(f"a collection of {len(split.rows)} pictures is too small to learn confidence from")
    size = min(len(split.present), len(split.absent))
    found = collection.search(np.concatenate([split.present[:size], split.absent[:size]]), k)
    started = time.perf_counter()
    found = [answer for hits in found for answer in assess(background, collection, [hits])]
    assessing = (time.perf_counter() - started) / len(found)
    labels = np.array([[split.row_labels[int(hit.path)] for hit in hits] for hits in found])
    related = labels == np.concatenate([split.present_labels[:size], np.full(size, -1)])[:, None]
    stated = np.array([[hit.confidence for hit in hits] for hits in found], np.float64)
    firsts = [hits[0] for hits in found]
    return _Outcome(len(split.rows), firsts[:size], firsts[size:], stated, related, learning, assessing)


def exact_collection(vectors: Vectors, fingerprint: Fingerprint, metric: Metric = Metric.COSINE) -> Collection:
    """An exact collection whose paths are the numbers of the rows."""
    fingerprint = replace(fingerprint, dim=vectors.shape[1])
    collection = MemoryDatabase().create(CollectionSpec("confidence", metric), fingerprint)
    collection.upsert([ImageRecord(str(row)) for row in range(len(vectors))], vectors)
    return collection


def _trial(outcome: _Outcome, metric: Metric, rate: float) -> Trial:
    sign = 1 if metric.higher_is_closer else -1
    absent = np.array([sign * hit.score for hit in outcome.absent])
    present = np.array([sign * hit.score for hit in outcome.present])
    errors = [
        calibration_error(reliability(outcome.stated[:, :hits].ravel(), outcome.related[:, :hits].ravel()))
        for hits in (outcome.stated.shape[1], 1)
    ]
    return Trial(
        rows=outcome.rows,
        false_alarms=float(np.mean([bool(is_confident(hit, rate)) for hit in outcome.absent])),
        recall=float(np.mean([bool(is_confident(hit, rate)) for hit in outcome.present])),
        flat_recall=float(np.mean(present > np.quantile(absent, 1 - rate))),
        calibration_error=errors[0],
        first_calibration_error=errors[1],
    )


def _point(trials: Sequence[Trial], rate: float) -> Point:
    values = ((trial.false_alarms, trial.recall, trial.flat_recall) for trial in trials)
    return Point(rate, *(float(mean) for mean in np.mean(list(values), axis=0)))
