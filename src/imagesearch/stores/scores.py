"""Scores, and the order of hits: the same in every engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.stores.base import Collection, Ids, Vectors

# float32 arithmetic differs between engines in the seventh digit (1.0 here, 0.99999994 there, and
# 1.0000001 for the same vectors in another order of summation). Rounded, equal pictures tie in every
# engine, and all of them give one ranking.
SCORE_DECIMALS = 6

# Asked for beyond k, so that pictures with equal scores at the end are chosen by path, not by chance; and how many
# times as many each time that even these are all equal.
TIE_MARGIN, _TIE_GROWTH = 10, 32

# Scores that are further apart are so when rounded, too.
_SURELY_DIFFERENT = 10 * 10**-SCORE_DECIMALS

T = TypeVar("T")


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


def with_all_ties(
    search: Callable[[Vectors, int], list[T]],
    scores_of: Callable[[T], Sequence[float] | NDArray[np.float64]],
    queries: Vectors,
    k: int,
    metric: Metric,
    *,
    most: int | None = None,
) -> list[T]:
    """What a search finds for each query: at least the k closest, and all that tie with the last of these.

    For engines that choose by chance, or by when rows came, among rows with equal scores. However many copies of a
    picture there are, pages of results then neither repeat nor leave out any.

    Args:
        search: gives what is found for each of some queries, so many of the closest at most.
        scores_of: the scores of what was found for a query, closest first.
        queries: float32, shape (q, dim).
        k: how many are wanted.
        metric: what the scores are.
        most: how many can be asked for, at least ``k``; None: any number.
    """
    limit = k + TIE_MARGIN if most is None else min(k + TIE_MARGIN, most)
    found = search(queries, limit)
    while limit != most:
        cut = [place for place, one in enumerate(found) if _is_cut(scores_of(one), k, limit, metric)]
        if not cut:
            break
        limit = limit * _TIE_GROWTH if most is None else min(limit * _TIE_GROWTH, most)
        again: dict[bytes, T] = {}  # many queries may be one and the same, as the pictures are
        for place in cut:  # one at a time: these are long lists
            if (key := queries[place].tobytes()) not in again:
                (again[key],) = search(queries[[place]], limit)
            found[place] = again[key]
    return found


def _is_cut(scores: Sequence[float] | NDArray[np.float64], k: int, limit: int, metric: Metric) -> bool:
    """Whether more rows may tie with the k-th than were found."""
    if len(scores) < limit:
        return False
    wanted, last = float(scores[k - 1]), float(scores[-1])
    if abs(wanted - last) > _SURELY_DIFFERENT:  # as a rule; rounding them would take longer than looking at them
        return False
    wanted, last = tidy_scores([wanted, last], metric)
    return wanted == last


def vectors_of(collection: Collection, hits: Iterable[Hit]) -> tuple[Ids, Vectors]:
    """Ids and vectors of hits, those that are still there: for engines that cannot search without records."""
    records, vectors = collection.fetch([hit.picture.id for hit in hits])
    return np.array([record.id for record in records], np.int64), vectors
