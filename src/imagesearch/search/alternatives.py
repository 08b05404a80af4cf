"""Queries that are several vectors, of which the best counts for each picture."""

from __future__ import annotations

from collections.abc import Iterable

from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.stores.scores import ranked_hits


def best_of(found: Iterable[Iterable[Hit]], metric: Metric, k: int) -> list[Hit]:
    """The k closest pictures to any of several vectors, each once, with its best score.

    Exactly those that a search by the best of the scores would find: each of them is among the k closest to the
    vector that it is closest to.

    Args:
        found: the k closest pictures to each of the vectors.
        metric: the collection's.
        k: at least 1.
    """
    best: dict[int, tuple[float, ImageRecord]] = {}
    for hit in (hit for hits in found for hit in hits):
        known = best.get(hit.picture.id)
        if known is None or (hit.score > known[0]) == metric.higher_is_closer:
            best[hit.picture.id] = hit.score, hit.picture
    return ranked_hits(best.values(), metric, k)
