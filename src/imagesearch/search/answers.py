"""From queries to ranked hits: encode, search, arrange."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from imagesearch.errors import ImageSearchError
from imagesearch.records import Hit, ImageRecord, Metric
from imagesearch.search.alternatives import best_of
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.vectors import QueryEncoder, QueryVector
from imagesearch.stores.base import Collection


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What was found for one query.

    Attributes:
        query: what was looked for.
        hits: what was found, in the order that was asked for.
        meanings: how words in the query were taken, where they were not taken as they are.
        best: the closest picture on this page, also where it was not good enough to be among the hits.
        error: why there is no answer; the other fields are empty then.
    """

    query: Query
    hits: tuple[Hit, ...] = ()
    meanings: tuple[str, ...] = ()
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        if self.error is not None:
            return {"query": str(self.query), "error": str(self.error)}
        return {
            "query": str(self.query),
            "meanings": list(self.meanings),
            "hits": [hit.to_dict() for hit in self.hits],
        }


def answer(
    collection: Collection, encoder: QueryEncoder, queries: Sequence[Query], options: SearchOptions
) -> list[Answer]:
    """Search for several queries together, which takes far less time per query than one after the other.

    Raises:
        UsageError: an option makes no sense, or a query has nothing to look for.
        ModelError: a network cannot be used.
        StoreError: the database fails.
    """
    options.check()
    for query in queries:
        query.check()
    encoded = encoder.encode(queries) if queries else []
    good = [vector for vector in encoded if isinstance(vector, QueryVector)]
    found = iter(_search(collection, good, options) if good else ())
    return [
        _arranged(query, vector, next(found), options, collection.spec.metric)
        if isinstance(vector, QueryVector)
        else Answer(query, error=vector)
        for query, vector in zip(queries, encoded, strict=True)
    ]


def _search(collection: Collection, queries: Sequence[QueryVector], options: SearchOptions) -> list[list[Hit]]:
    """The hits of each query, closest first; all vectors of all queries are searched for in one call."""
    wanted, metric = options.offset + options.k, collection.spec.metric
    found = iter(collection.search(np.concatenate([query.vectors for query in queries]), wanted))
    lists = [list(itertools.islice(found, len(query.vectors))) for query in queries]
    return [hits[0] if len(hits) == 1 else best_of(hits, metric, wanted) for hits in lists]


def _arranged(
    query: Query, vector: QueryVector, found: list[Hit], options: SearchOptions, metric: Metric
) -> Answer:
    hits = [hit for hit in found[options.offset :] if _is_close_enough(hit, options.threshold, metric)]
    if options.sort == "date":
        hits.sort(key=lambda hit: moment_of(hit.picture), reverse=True)
    best = found[options.offset] if len(found) > options.offset else None
    return Answer(query, tuple(hits), vector.meanings, best)


def _is_close_enough(hit: Hit, threshold: float | None, metric: Metric) -> bool:
    if threshold is None:
        return True
    return hit.score >= threshold if metric.higher_is_closer else hit.score <= threshold


def moment_of(record: ImageRecord) -> str:
    """When a picture was taken, or else when its file was changed last; ISO 8601 local time."""
    return record.taken or datetime.fromtimestamp(record.mtime_ns / 1e9).isoformat(timespec="seconds")
