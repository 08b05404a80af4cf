"""Scores, and the order of hits: the same in every engine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.stores.base import Collection, Ids, Vectors

# float32 arithmetic differs between engines in the seventh digit (1.0 here, 0.99999994 there, and
# 1.0000001 for the same vectors in another order of summation). Rounded, equal pictures tie in every
# engine, and all of them give one ranking.
SCORE_DECIMALS = 6


def ranked_hits(candidates: Iterable[tuple[float, ImageRecord]], metric: Metric, k: int) -> list[Hit]:
    """The k closest candidates as hits: closest first, ties by path, scores rounded."""
    scored = list(candidates)
    scores = tidy_scores([score for score, _ in scored], metric)
    order = closest_first(scores, [picture.path for _, picture in scored], metric)
    return [Hit(rank, scores[place], scored[place][1]) for rank, place in enumerate(order[:k], start=1)]


def closest_first(scores: Sequence[float], paths: Sequence[str], metric: Metric) -> list[int]:
    """Places of candidates in the order of their hits, by tidy scores; ties by path."""
    sign = -1.0 if metric.higher_is_closer else 1.0
    return sorted(range(len(scores)), key=lambda place: (sign * scores[place], paths[place]))


def tidy_scores(scores: Sequence[float] | NDArray[np.float64], metric: Metric) -> list[float]:
    """Scores within the metric's true bounds and without float32 noise (never ``-0.0``)."""
    values = np.asarray(scores, np.float64)
    if metric is Metric.COSINE:
        values = np.clip(values, -1.0, 1.0)
    elif metric is Metric.L2:
        values = np.maximum(values, 0.0)
    tidy: list[float] = (np.round(values, SCORE_DECIMALS) + 0.0).tolist()
    return tidy


def vectors_of(collection: Collection, hits: Iterable[Hit]) -> tuple[Ids, Vectors]:
    """Ids and vectors of hits, those that are still there: for engines that cannot search without records."""
    records, vectors = collection.fetch([hit.picture.id for hit in hits])
    return np.array([record.id for record in records], np.int64), vectors
