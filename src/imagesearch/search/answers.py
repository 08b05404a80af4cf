"""From queries to ranked hits: encode, search, arrange."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np

from imagesearch.errors import ImageSearchError
from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.search.alternatives import best_of
from imagesearch.search.confidence import Background, assess, is_confident
from imagesearch.search.filters import matching
from imagesearch.search.grouping import (
    MOST_CANDIDATES,
    Group,
    candidates_for,
    diversify,
    fold,
    near_identical_in,
    stored_vectors,
)
from imagesearch.search.patches import COMPARED, PatchMatcher
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.ranking import CANDIDATES, METHODS, check_method, rank
from imagesearch.search.reordering import Floats
from imagesearch.search.vectors import QueryEncoder, QueryVector
from imagesearch.stores.base import Collection, Ids, Vectors

# How many times as many hits are looked at where what is left out, or put together, leaves too few results.
_MORE = 4


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
    among = matching(collection, options.where) if options.where else None
    finder = _Finder(collection, options.rerank or METHODS[0], among, background, label_axes, patches)
    both = zip(queries, encoded, strict=True)
    asked = [(query, vector) for query, vector in both if isinstance(vector, QueryVector)]
    wanted = options.offset + options.k
    if options.gathers:
        wanted = candidates_for(wanted)
    if options.leaves_out and finder.method != METHODS[0]:
        wanted = max(wanted, CANDIDATES)  # good ones may follow those that are left out
    found, arranger = iter(finder.hits(asked, wanted) if asked else ()), _Arranger(collection, options)
    return [
        _arranged(arranger, finder, (query, vector), next(found), wanted)
        if isinstance(vector, QueryVector)
        else Answer(query, error=vector)
        for query, vector in zip(queries, encoded, strict=True)
    ]


_Asked: TypeAlias = "tuple[Query, QueryVector]"


def _arranged(arranger: _Arranger, finder: _Finder, asked: _Asked, found: list[Hit], wanted: int) -> Answer:
    """An answer, from more hits where these do not fill the page once some are left out or put together."""
    answer, by_score = arranger.answer(*asked, found), finder.is_by_score(asked[1])
    while arranger.is_short(answer, found, by_score) and len(found) >= wanted and wanted < MOST_CANDIDATES:
        wanted = min(_MORE * wanted, MOST_CANDIDATES)
        (found,) = finder.hits([asked], wanted)
        answer = arranger.answer(*asked, found)
    return answer


@dataclass(frozen=True, eq=False, slots=True)
class _Finder:
    """Looks for hits: see :func:`answer`; ``among`` are ids of the rows that are looked at, None: all."""

    collection: Collection
    method: str
    among: Ids | None
    background: Background | None
    label_axes: Floats | None
    patches: PatchMatcher | None

    def is_by_score(self, query: QueryVector) -> bool:
        """Whether the hits of a query come by their scores, and by nothing else."""
        return self.method == METHODS[0] or len(query.vectors) > 1

    def hits(self, asked: Sequence[_Asked], wanted: int) -> list[list[Hit]]:
        """The hits of each query, best first, with all that is known of them."""
        looked_at = max(wanted, COMPARED) if self.patches is not None else wanted
        lists = self._ranked([vector for _, vector in asked], looked_at)
        if self.background is not None and any(not vector.has_words for _, vector in asked):
            assessed = iter(assess(self.background, self.collection, lists))
            # What words score is of another scale than what pictures score: nothing is known of it.
            lists = [
                found if vector.has_words else sure
                for (_, vector), found, sure in zip(asked, lists, assessed, strict=True)
            ]
        if self.patches is None:
            return lists
        pairs = zip(asked, lists, strict=True)
        return [self.patches.reordered(self.collection, query, found)[:wanted] for (query, _), found in pairs]

    def _ranked(self, queries: Sequence[QueryVector], wanted: int) -> list[list[Hit]]:
        """Hits by their ranking alone; re-ranking all alternatives would take too long."""
        collection, metric = self.collection, self.collection.spec.metric

        def ranked(chosen: Sequence[QueryVector], axes: Floats | None) -> Iterator[list[Hit]]:
            if not chosen:
                return iter(())
            return iter(rank(self.method, collection, _stacked(chosen), wanted, self.among, label_axes=axes))

        single = [query for query in queries if len(query.vectors) == 1]
        pictures = ranked([query for query in single if not query.has_words], self.label_axes)
        # A label is asked for by its prototype already, and by itself: which others a picture is like does not
        # count.
        words = ranked([query for query in single if query.has_words], None)
        several = [query for query in queries if len(query.vectors) > 1]
        found = iter(collection.search(_stacked(several), wanted, self.among) if several else ())
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
        options = self._options
        page = slice(options.offset, options.offset + options.k)
        sign = 1 if self._collection.spec.metric.higher_is_closer else -1
        # Of re-ranked hits the closest need not be the first.
        best = max(found[page], key=lambda hit: sign * hit.score, default=None)
        hits = [hit for hit in found if self._is_good_enough(hit)]
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

    def is_short(self, answer: Answer, found: list[Hit], by_score: bool) -> bool:
        """Whether what was left out or put together leaves too few results, and more hits may bring some."""
        options = self._options
        if len(answer.hits) >= options.k or not (options.leaves_out or options.gathers):
            return False
        # Scores that need not fall with the rank tell little of the next hits, one by one.
        last = found[-1:] if by_score else found[len(found) // 2 :]
        return any(map(self._is_good_enough, last))

    def _is_good_enough(self, hit: Hit) -> bool:
        options = self._options
        is_close = _is_close_enough(hit, options.threshold, self._collection.spec.metric)
        return is_close and (not options.only_confident or bool(is_confident(hit)))

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
