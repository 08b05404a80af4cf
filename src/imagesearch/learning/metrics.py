"""How good rankings are: the standard measures of information retrieval, with intervals and tests.

A *ranking* here is a row of relevances in ranked order, and *relevant* is how many relevant pictures there are to
be found, in or out of the row. A measure is undefined for a query without relevant pictures: its value is NaN, and
means leave it out.

Ties. :func:`relevance_in_order` breaks ties of scores by the order in which items are given; give them sorted by
path, and rankings are those of ``Collection.search``. Where the order of equal scores must not matter,
:func:`average_precision_of_scores` treats equal scores as one rank (as ``sklearn.metrics.average_precision_score``
does), and :func:`ndcg_of_scores` averages over all orders of equal scores (as ``sklearn.metrics.ndcg_score`` does;
McSherry & Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", 2008).

Definitions are those of Manning, Raghavan & Schütze, "Introduction to Information Retrieval", 2008, chapter 8, and
for nDCG of Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with the discount
1 / log2(rank + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imagesearch.errors import UsageError
from imagesearch.records import PlainValues

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

# Resamples of a bootstrap, and random sign changes of a permutation test.
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate(PlainValues):
    """A mean over queries.

    Attributes:
        value: the mean.
        low, high: bounds of its bootstrap interval.
        queries: how many queries it is a mean of.
    """

    value: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Difference(PlainValues):
    """How much better one setting is than another on the same queries.

    Attributes:
        value: mean difference, in the measure's own unit.
        low, high: bounds of its paired bootstrap interval.
        p: two-sided p-value of a paired permutation test: how often random signs give as large a difference.
        relative, relative_low, relative_high: the same in parts of the other setting's mean (0.05: 5 % better);
            NaN where that is 0.
    """

    value: float
    low: float
    high: float
    p: float
    relative: float
    relative_low: float
    relative_high: float

    @property
    def is_gain(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0


def relevance_in_order(scores: ArrayLike, relevant: ArrayLike, *, higher_is_closer: bool = True) -> Booleans:
    """Relevances sorted by score, best first; equal scores stay in the order given.

    Args:
        scores: shape (q, n).
        relevant: bool, shape (q, n).
        higher_is_closer: False for distances.

    Returns:
        bool, shape (q, n).
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    order = np.argsort(-values if higher_is_closer else values, axis=1, kind="stable")
    return np.asarray(np.take_along_axis(hits, order, axis=1))


def precision_at(relevances: ArrayLike, k: int) -> Floats:
    """Precision@k: the part of the first k that is relevant; a shorter row counts as filled with misses.

    Args:
        relevances: bool, shape (q, n), in ranked order.
        k: at least 1.

    Returns:
        float64, shape (q,).
    """
    rows = _rows(relevances)
    _check_k(k)
    return np.asarray(rows[:, :k].sum(axis=1) / k, np.float64)


def recall_at(relevances: ArrayLike, k: int, relevant: ArrayLike | None = None) -> Floats:
    """Recall@k: the part of what is relevant that is among the first k.

    Args:
        relevances: bool, shape (q, n), in ranked order.
        k: at least 1.
        relevant: int, shape (q,): how many are relevant; default: as many as the row has.

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    rows = _rows(relevances)
    _check_k(k)
    return _ratio(rows[:, :k].sum(axis=1), _counts(rows, relevant))


def r_precision(relevances: ArrayLike, relevant: ArrayLike | None = None) -> Floats:
    """R-precision: precision at R, the number of relevant pictures.

    Args:
        relevances, relevant: see :func:`recall_at`.

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    rows = _rows(relevances)
    counts = _counts(rows, relevant)
    within = np.arange(rows.shape[1]) < counts[:, None]
    return _ratio((rows & within).sum(axis=1), counts)


def average_precision(relevances: ArrayLike, relevant: ArrayLike | None = None, k: int | None = None) -> Floats:
    """Average precision: the mean of the precisions at each relevant picture's rank, 0 for those not found.

    Its mean over queries is mAP. Given a limit it is AP@k as in TREC's ``map_cut``: still divided by all that are
    relevant.

    Args:
        relevances, relevant: see :func:`recall_at`.
        k: ignore what comes after the first k.

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    rows = _rows(relevances)
    counts = _counts(rows, relevant)
    rows = rows[:, :k]
    precisions = np.cumsum(rows, axis=1) / np.arange(1, rows.shape[1] + 1)
    return _ratio((precisions * rows).sum(axis=1), counts)


def ndcg_at(relevances: ArrayLike, k: int, relevant: ArrayLike | None = None) -> Floats:
    """Normalised discounted cumulated gain of the first k, relevance being 0 or 1.

    Args:
        relevances, k, relevant: see :func:`recall_at`.

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    rows = _rows(relevances)
    _check_k(k)
    counts = _counts(rows, relevant)
    discounts = 1 / np.log2(np.arange(2, max(k, rows.shape[1]) + 2))
    gains = rows[:, :k] @ discounts[: min(k, rows.shape[1])]
    ideal = np.concatenate([[0.0], np.cumsum(discounts[:k])])[np.minimum(counts, k)]
    return _ratio(gains, ideal)


def knn_correct(labels: ArrayLike, truth: ArrayLike, k: int) -> Floats:
    """Whether the most frequent label of the first k is right; of equally frequent ones the closest counts.

    Its mean is the accuracy of the k-nearest-neighbour classifier (Cover & Hart 1967).

    Args:
        labels: int, shape (q, n), of ranked neighbours; negative: none.
        truth: int, shape (q,).
        k: at least 1.

    Returns:
        float64, shape (q,): 1 or 0.
    """
    right = np.asarray(truth)
    chosen = knn_labels(labels, k)
    return np.asarray((chosen == right) & (chosen >= 0), np.float64)


def knn_labels(labels: ArrayLike, k: int) -> NDArray[np.int64]:
    """The most frequent label of the first k; of equally frequent ones the closest.

    Args:
        labels: int, shape (q, n), of ranked neighbours; negative: none.
        k: at least 1.

    Returns:
        int64, shape (q,); -1 where there are no neighbours.
    """
    _check_k(k)
    near = np.asarray(labels, np.int64)[:, :k]
    if near.shape[1] == 0:
        return np.full(len(near), -1, np.int64)
    votes = (near[:, :, None] == near[:, None, :]).sum(axis=2)
    votes[near < 0] = 0
    chosen = np.take_along_axis(near, votes.argmax(axis=1)[:, None], axis=1)[:, 0]  # argmax: the first of equals
    return np.asarray(np.maximum(chosen, -1), np.int64)


def average_precision_of_scores(scores: ArrayLike, relevant: ArrayLike) -> Floats:
    """Average precision where equal scores share a rank: ``sum((recall_t - recall_before) * precision_t)``.

    The sum runs over distinct scores t, best first; precision and recall are those of everything that scores at
    least t. Equals scikit-learn's ``average_precision_score`` of each row.

    Args:
        scores: shape (q, n), higher is closer.
        relevant: bool, shape (q, n).

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(relevant, bool)
    ordered = -np.sort(-values, axis=1)
    rows = relevance_in_order(values, hits)
    last = np.ones(rows.shape, bool)
    last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    found = np.cumsum(rows, axis=1)
    ends = np.where(last, found, 0)
    before = np.zeros_like(found)
    before[:, 1:] = np.maximum.accumulate(ends, axis=1)[:, :-1]
    precisions = found / np.arange(1, rows.shape[1] + 1)
    return _ratio((precisions * (found - before) * last).sum(axis=1), rows.sum(axis=1))


def ndcg_of_scores(scores: ArrayLike, relevant: ArrayLike, k: int) -> Floats:
    """nDCG@k averaged over all orders of equal scores; equals scikit-learn's ``ndcg_score`` of each row.

    Args:
        scores: shape (q, n), higher is closer.
        relevant: bool or gains of at least 0, shape (q, n).
        k: at least 1.

    Returns:
        float64, shape (q,); NaN where nothing is relevant.
    """
    _check_k(k)
    values, gains = np.asarray(scores, np.float64), np.asarray(relevant, np.float64)
    discounts = np.zeros(values.shape[1])
    discounts[:k] = 1 / np.log2(np.arange(2, min(k, len(discounts)) + 2))
    ideal = -np.sort(-gains, axis=1) @ discounts
    totals = np.empty(len(values))
    for row, (own, gain) in enumerate(zip(values, gains, strict=True)):
        _, groups, sizes = np.unique(-own, return_inverse=True, return_counts=True)
        ends = np.cumsum(sizes)
        sums = np.concatenate([[0.0], np.cumsum(discounts)])
        totals[row] = np.bincount(groups, gain) / sizes @ (sums[ends] - sums[ends - sizes])
    return _ratio(totals, ideal)


def estimate(values: ArrayLike, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The mean over queries with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Queries are resampled; those whose value is NaN are left out.

    Args:
        values: one per query, shape (q,).
        level: of the interval.
        seed: of the resampling.
        resamples: how many.
    """
    known = np.asarray(values, np.float64)
    known = known[~np.isnan(known)]
    if not len(known):
        return Estimate(np.nan, np.nan, np.nan, 0)
    means = _bootstrap_means(known[:, None], seed, resamples)[:, 0]
    low, high = _bounds(means, level)
    return Estimate(float(known.mean()), low, high, len(known))


def compare(
    values: ArrayLike, others: ArrayLike, *, level: float = 0.95, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """How much larger ``values`` are than ``others`` on the same queries: paired bootstrap and permutation test.

    After Smucker, Allan & Carterette, "A comparison of statistical significance tests for information retrieval
    evaluation", 2007. Queries where one of the two is NaN are left out.

    Args:
        values, others: one per query, shape (q,).
        level, seed, resamples: see :func:`estimate`.

    Raises:
        UsageError: they are of different lengths, or have no query in common.
    """
    new, old = np.asarray(values, np.float64), np.asarray(others, np.float64)
    if new.shape != old.shape:
        raise UsageError(f"a paired comparison needs the same queries, not {len(new)} and {len(old)}")
    both = ~(np.isnan(new) | np.isnan(old))
    if not both.any():
        raise UsageError("a paired comparison needs at least one query that both settings have a value for")
    new, old = new[both], old[both]
    means = _bootstrap_means(np.stack([new - old, old], axis=1), seed, resamples)
    low, high = _bounds(means[:, 0], level)
    base, mean = float(old.mean()), float((new - old).mean())
    relative = (np.nan, np.nan, np.nan)
    if base > 0 and (means[:, 1] > 0).all():
        relative = (mean / base, *_bounds(means[:, 0] / means[:, 1], level))
    return Difference(mean, low, high, _permutation_p(new - old, seed, resamples), *relative)


def per_class(values: ArrayLike, labels: Sequence[str]) -> dict[str, float]:
    """The mean of each class's queries, by class name, sorted; NaN for a class whose queries have no value."""
    numbers = np.asarray(values, np.float64)
    names, groups = np.unique(np.asarray(labels, object).astype(str), return_inverse=True)
    known = ~np.isnan(numbers)
    sums = np.bincount(groups[known], numbers[known], len(names))
    means = _ratio(sums, np.bincount(groups[known], minlength=len(names)))
    return dict(zip(names.tolist(), means.tolist(), strict=True))


def _bootstrap_means(values: Floats, seed: int, resamples: int) -> Floats:
    """Means of resampled rows: shape (resamples, columns). Counts are drawn, so memory stays small."""
    random, count = np.random.default_rng(seed), len(values)
    means = np.empty((resamples, values.shape[1]))
    for start in range(0, resamples, 100):
        size = min(100, resamples - start)
        drawn = random.integers(0, count, (size, count))
        means[start : start + size] = values[drawn].mean(axis=1)
    return means


def _permutation_p(differences: Floats, seed: int, resamples: int) -> float:
    """Part of the random sign changes, and the observed one, that give as large a mean difference."""
    random, observed = np.random.default_rng(seed), abs(differences.mean())
    extreme = 1
    for start in range(0, resamples, 100):
        signs = random.integers(0, 2, (min(100, resamples - start), len(differences))) * 2.0 - 1
        # Rounding must not make equal sums differ.
        extreme += int((np.abs(signs @ differences) / len(differences) >= observed - 1e-12).sum())
    return extreme / (resamples + 1)


def _bounds(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _rows(relevances: ArrayLike) -> Booleans:
    rows = np.asarray(relevances, bool)
    if rows.ndim != 2:
        raise UsageError(f"relevances have shape {rows.shape}; expected (queries, ranks)")
    return rows


def _counts(rows: Booleans, relevant: ArrayLike | None) -> NDArray[np.int64]:
    return np.asarray(rows.sum(axis=1) if relevant is None else relevant, np.int64)


def _ratio(numerators: ArrayLike, denominators: ArrayLike) -> Floats:
    """Quotients; NaN where the denominator is 0."""
    above, below = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    return np.asarray(np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0))


def _check_k(k: int) -> None:
    if k < 1:
        raise UsageError(f"k = {k}: ask for at least 1 result")
