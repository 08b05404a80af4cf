"""Errors of the library as problem details."""

from __future__ import annotations

from imagesearch.errors import (
    CollectionNotFoundError,
    ConfigError,
    HubUnreachableError,
    ImageSearchError,
    LabelledMeanwhileError,
    ModelError,
    ModelMismatchError,
    PictureError,
    StoreError,
    UsageError,
)
from imagesearch.frontends.web.batching import BusyError
from imagesearch.frontends.web.problems import Problem
from imagesearch.frontends.web.uploads import NotFoundError
from imagesearch.images.files import IN_MEMORY
from imagesearch.search.wire import PROBLEM, error_to_dict


class ForbiddenError(UsageError):
    """Whoever asked may not do this."""


class LabelsForbiddenError(ForbiddenError):
    """Whoever asked may not label pictures."""


# Status and title. The most specific class that fits counts.
_PROBLEMS: dict[type[Exception], tuple[int, str]] = {
    BusyError: (503, "Too busy"),
    NotFoundError: (404, "Not found"),
    ForbiddenError: (403, "This folder may not be indexed from here"),
    LabelsForbiddenError: (403, "Pictures may not be labelled from here"),
    LabelledMeanwhileError: (409, "Somebody else has labelled pictures meanwhile"),
    PictureError: (422, "The picture cannot be read"),
    UsageError: (422, "The request makes no sense"),
    CollectionNotFoundError: (409, "Nothing has been indexed yet"),
    ModelMismatchError: (409, "The collection belongs to another model"),
    HubUnreachableError: (503, "The model cannot be downloaded"),
    ModelError: (422, "The model cannot do this"),
    StoreError: (503, "The database cannot be used"),
    ConfigError: (503, "The settings are wrong"),
    ImageSearchError: (503, "The request failed"),
}
# Of errors that only a server knows. Names are never renamed, because programs tell problems apart by them.
_OWN = {
    BusyError: "busy",
    NotFoundError: "not-found",
    ForbiddenError: "folder-not-allowed",
    LabelsForbiddenError: "labels-not-allowed",
}
_RETRY_LATER = (("Retry-After", "1"),)


def problem_of(error: ImageSearchError) -> Problem:
    """What to answer in place of what was asked for."""
    kind = next(kind for kind in type(error).__mro__ if kind in _PROBLEMS)
    status, title = _PROBLEMS[kind]
    told = error_to_dict(error)
    name = f"{PROBLEM}{_OWN[kind]}" if kind in _OWN else told["type"]
    headers = _RETRY_LATER if status == 503 else ()
    extra = {"error": told["error"]} if told["error"] else {}
    return Problem(status=status, title=title, detail=_told(error), type=name, headers=headers, extra=extra)


def problem_to_dict(error: ImageSearchError) -> dict[str, object]:
    """A problem within an answer: where several things were asked for, and some of them failed."""
    problem = problem_of(error)
    standard = {"type": problem.type, "title": problem.title, "status": problem.status, "detail": problem.detail}
    return {**problem.extra, **standard}


def _told(error: Exception) -> str:
    """The message; of a picture in memory without a path."""
    if isinstance(error, PictureError):
        return f"{error.path}: {error.reason}".removeprefix(f"{IN_MEMORY}: ")
    return str(error)
