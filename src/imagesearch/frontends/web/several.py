"""Several things asked for in one request: each is answered, or its problem told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagesearch.errors import ImageSearchError, PictureError
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.failures import problem_to_dict
from imagesearch.frontends.web.schemas import ClassifySeveralRequest, Part, SeveralRequest
from imagesearch.records import Skipped
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.wire import answer_to_dict


async def answers(backend: Backend, request: SeveralRequest) -> list[dict[str, Any]]:
    """The answers to queries, or their problems, in their order.

    Raises:
        ImageSearchError: none can be answered.
    """
    options, parts = request.to_options(), [query.parts for query in request.queries]
    queries = await backend.decoding(_queries, backend, parts, request.views)
    good = [query for query in queries if isinstance(query, Query)]
    found = iter(await _found(backend, good, options))
    results = [next(found) if isinstance(query, Query) else query for query in queries]
    return [_answer_or_problem(backend, result) for result in results]


def labels(backend: Backend, request: ClassifySeveralRequest) -> list[dict[str, Any]]:
    """The labels of uploads, or their problems, in their order.

    Raises:
        ImageSearchError: an upload is not there, or nothing can be labelled.
    """
    found = backend.classify_several(request.uploads, request.top)
    return [
        failed(backend, result.error())
        if isinstance(result, Skipped)
        else {"predictions": [one.to_dict() for one in result]}
        for result in found
    ]


def failed(backend: Backend, error: ImageSearchError) -> dict[str, Any]:
    """Why one of several things could not be done; of an upload, with its id, and without the server's path."""
    key = backend.uploads.key_of(error.path) if isinstance(error, PictureError) else None
    if key is None or not isinstance(error, PictureError):
        return {"error": problem_to_dict(error)}
    renamed = PictureError(backend.uploads.get(key).name, error.reason, retryable=error.retryable)
    return {"error": problem_to_dict(renamed), "upload": key}


def _queries(
    backend: Backend, requests: Sequence[list[Part]], views: str | None
) -> list[Query | ImageSearchError]:
    # One is decoded here, so that a large picture holds up nobody else; many are while they are encoded, so that
    # they need not lie in memory all at once.
    lazily = len(requests) > 1
    made: list[Query | ImageSearchError] = []
    for parts in requests:
        try:
            query = Query(())
            for part in parts:
                query += part.weight * backend.one(part, views=views, lazily=lazily)
            query.check()
            made.append(query)
        except ImageSearchError as error:
            made.append(error)
    return made


async def _found(backend: Backend, queries: Sequence[Query], options: SearchOptions) -> list[Answer]:
    if len(queries) == 1:
        return [await backend.search(queries[0], options)]
    return await backend.search_apart(queries, options)


def _answer_or_problem(backend: Backend, result: Answer | ImageSearchError) -> dict[str, Any]:
    error = result.error if isinstance(result, Answer) else result
    if error is not None:
        return failed(backend, error)
    assert isinstance(result, Answer)
    return answer_to_dict(result)
