"""From queries to ranked hits: encode, search, arrange."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from imagesearch.errors import ImageSearchError
from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.search.alternatives import best_of
from imagesearch.search.confidence import Background, assess, is_confident
from imagesearch.search.filters import matching
from imagesearch.search.grouping import (
    Group,
    candidates_for,
    diversify,
    fold,
    near_identical_in,
    stored_vectors,
)
from imagesearch.search.patches import COMPARED, PatchMatcher
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.ranking import METHODS, check_method, rank
from imagesearch.search.reordering import Floats
from imagesearch.search.vectors import QueryEncoder, QueryVector
from imagesearch.stores.base import Collection, Ids, Vectors


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What was found for one query.

    Attributes:
        query: what was looked for.
        hits: what was found, in the order that was asked for.
        meanings: how words in the query were taken, where they were not taken as they are.
        groups: where near-identical results are put together: each of ``hits`` with those that are like it.
        best: the closest picture on this page, also where it was not good enough to be among the hits.
        error: why there is no answer; the other fields are empty then.
    """

    query: Query
    hits: tuple[Hit, ...] = ()
    meanings: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    best: Hit | None = None
    error: ImageSearchError | None = field(default=None, repr=False)

    def require(self) -> list[Hit]:
        """The hits.

        Raises:
            ImageSearchError: there is no answer.
        """
        if self.error is not None:
            raise self.error
        return list(self.hits)

    @property
    def results(self) -> Sequence[Hit | Group]:
        """The hits, or the groups where there are any."""
        return self.groups or self.hits

    def others(self, hit: Hit) -> tuple[Hit, ...]:
        """Those that are nearly the same as one of the hits, and left out for it."""
        return next((group.others for group in self.groups if group.best is hit), ())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        if self.error is not None:
            return {"query": str(self.query), "error": str(self.error)}
        return {
            "query": str(self.query),
            "meanings": list(self.meanings),
            "hits": [result.to_dict() for result in self.results],
        }


def answer(
    collection: Collection,
    encoder: QueryEncoder,
    queries: Sequence[Query],
    options: SearchOptions,
    *,
    background: Background | None = None,
    label_axes: Floats | None = None,
    patches: PatchMatcher | None = None,
) -> list[Answer]:
    """Search for several queries together, which takes far less time per query than one after the other.

    Args:
        background: what the collection's pictures score by chance; None: hits have no confidence.
        label_axes: see :func:`~imagesearch.search.ranking.rank`.
        patches: what puts hits of pictures in order, by methods that look at patches.

    Raises:
        UsageError: an option makes no sense, or a query has nothing to look for.
        ModelError: a network cannot be used.
        StoreError: the database fails.
    """
    options.check()
    check_method(options.rerank or METHODS[0])
    for query in queries:
        query.check()
    encoded = encoder.encode(queries) if queries else []
    good = [vector for vector in encoded if isinstance(vector, QueryVector)]
    among = matching(collection, options.where) if options.where else None
    wanted = options.offset + options.k
    if options.gathers:
        wanted = candidates_for(wanted)
    looked_at = max(wanted, COMPARED) if patches is not None else wanted
    method = options.rerank or METHODS[0]
    lists = _search(collection, good, method, looked_at, among=among, label_axes=label_axes) if good else []
    if background is not None and any(not vector.has_words for vector in good):
        assessed = iter(assess(background, collection, lists))
        # What words score is of another scale than what pictures score: nothing is known of it.
        lists = [
            found if vector.has_words else sure for vector, found, sure in zip(good, lists, assessed, strict=True)
        ]
    if patches is not None:
        asked = [query for query, vector in zip(queries, encoded, strict=True) if isinstance(vector, QueryVector)]
        lists = [
            patches.reordered(collection, query, found)[:wanted] for query, found in zip(asked, lists, strict=True)
        ]
    found, arranger = iter(lists), _Arranger(collection, options)
    return [
        arranger.answer(query, vector, next(found))
        if isinstance(vector, QueryVector)
        else Answer(query, error=vector)
        for query, vector in zip(queries, encoded, strict=True)
    ]


def _search(
    collection: Collection,
    queries: Sequence[QueryVector],
    method: str,
    wanted: int,
    *,
    among: Ids | None,
    label_axes: Floats | None,
) -> list[list[Hit]]:
    """The hits of each query, best first; re-ranking all alternatives would take too long."""
    metric = collection.spec.metric

    def ranked(chosen: Sequence[QueryVector], axes: Floats | None) -> Iterator[list[Hit]]:
        return iter(rank(method, collection, _stacked(chosen), wanted, among, label_axes=axes) if chosen else ())

    single = [query for query in queries if len(query.vectors) == 1]
    pictures = ranked([query for query in single if not query.has_words], label_axes)
    # A label is asked for by its prototype already, and by itself: which others a picture is like does not count.
    words = ranked([query for query in single if query.has_words], None)
    several = [query for query in queries if len(query.vectors) > 1]
    found = iter(collection.search(_stacked(several), wanted, among) if several else ())
    lists = []
    for query in queries:
        if len(query.vectors) > 1:
            lists.append(best_of(itertools.islice(found, len(query.vectors)), metric, wanted))
        else:
            lists.append(next(words if query.has_words else pictures))
    return lists


def _stacked(queries: Sequence[QueryVector]) -> Vectors:
    return np.concatenate([query.vectors for query in queries])


class _Arranger:
    """Makes answers of what was found: thresholds, groups, pages, order."""

    def __init__(self, collection: Collection, options: SearchOptions) -> None:
        self._collection, self._options = collection, options
        self._bound = near_identical_in(collection) if options.gathers else 1.0

    def answer(self, query: Query, vector: QueryVector, found: list[Hit]) -> Answer:
        options, metric = self._options, self._collection.spec.metric
        page = slice(options.offset, options.offset + options.k)
        best = found[options.offset] if len(found) > options.offset else None
        hits = [hit for hit in found if _is_close_enough(hit, options.threshold, metric)]
        if options.only_confident:
            hits = [hit for hit in hits if is_confident(hit)]
        groups: list[Group] = []
        if hits and options.gathers:
            groups = self._gathered(hits, page.stop)[page]
            hits = [group.best for group in groups]
        else:
            hits = hits[page]
        if options.sort == "date":
            hits.sort(key=lambda hit: moment_of(hit.picture), reverse=True)
            groups.sort(key=lambda group: moment_of(group.best.picture), reverse=True)
        return Answer(query, tuple(hits), vector.meanings, tuple(groups), best)

    def _gathered(self, hits: list[Hit], count: int) -> list[Group]:
        """Near-identical hits in groups; if asked for, those that are unlike each other."""
        hits, vectors = stored_vectors(self._collection, hits)
        groups = {group.best.picture.id: group for group in fold(hits, vectors, self._bound)}
        if not self._options.diverse:
            return list(groups.values())
        leading = [place for place, hit in enumerate(hits) if hit.picture.id in groups]
        metric = self._collection.spec.metric
        chosen = diversify([hits[place] for place in leading], vectors[leading], k=count, metric=metric)
        return [Group(hit, groups[hit.picture.id].others) for hit in chosen]


def _is_close_enough(hit: Hit, threshold: float | None, metric: Metric) -> bool:
    if threshold is None:
        return True
    return hit.score >= threshold if metric.higher_is_closer else hit.score <= threshold


def moment_of(record: ImageRecord) -> str:
    """When a picture was taken, or else when its file was changed last; ISO 8601 local time."""
    return moment(record.taken, record.mtime_ns)


def moment(taken: str | None, mtime_ns: int) -> str:
    """The same of these fields of an image record."""
    return taken or datetime.fromtimestamp(mtime_ns / 1e9).isoformat(timespec="seconds")
