"""Answers and their parts as JSON, and back: what the HTTP API sends and the Python client reads.

Ids and times of change are whole numbers beyond what JavaScript counts exactly (2^53), so they travel as text. A
path may hold bytes that are not valid text; :func:`to_json` escapes them, and :func:`json.loads` gives them back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from imagesearch.errors import (
    CollectionNotFoundError,
    ConfigError,
    DamagedError,
    FeaturesError,
    ForeignCollectionError,
    HubUnreachableError,
    ImageSearchError,
    LabelledMeanwhileError,
    ModelError,
    ModelMismatchError,
    PictureError,
    StoreError,
    StoreLockedError,
    StoreUnreachableError,
    TransferError,
    UnknownWordsError,
    UnsupportedIndexError,
    UsageError,
)
from imagesearch.records import (
    CollectionInfo,
    Fingerprint,
    Hit,
    ImageRecord,
    Metric,
    Prediction,
    Skipped,
    parse_annotations,
)
from imagesearch.reports import AnnotateReport, ForgetReport, IndexReport, OfflineRoot
from imagesearch.search.answers import Answer, moment_of
from imagesearch.search.filters import Filter
from imagesearch.search.grouping import Group
from imagesearch.search.query import Query, SearchOptions

# Before the names of problems (RFC 9457). They are never renamed, because programs tell problems apart by them.
PROBLEM = "urn:imagesearch:problem:"
# What went wrong -> what is raised for it. Of an error, the most specific class that is listed counts.
ERRORS: dict[str, type[ImageSearchError]] = {
    "settings": ConfigError,
    "wrong-request": UsageError,
    "labelled-meanwhile": LabelledMeanwhileError,
    "unknown-words": UnknownWordsError,
    "unreadable-picture": PictureError,
    "features-files": FeaturesError,
    "transfer": TransferError,
    "model": ModelError,
    "hub-unreachable": HubUnreachableError,
    "database": StoreError,
    "database-unreachable": StoreUnreachableError,
    "database-locked": StoreLockedError,
    "database-damaged": DamagedError,
    "unsupported-index": UnsupportedIndexError,
    "nothing-indexed": CollectionNotFoundError,
    "other-model": ModelMismatchError,
    "foreign-collection": ForeignCollectionError,
    "failed": ImageSearchError,
}
_NAMES = {kind: name for name, kind in ERRORS.items()}
# Problems of the HTTP API for which there is no error of the library's own: the request was wrong.
_WRONG_REQUESTS = ("invalid-value", "not-found", "folder-not-allowed")

_FIELDS = tuple(field.name for field in dataclasses.fields(ImageRecord))
_LISTS = ("under", "formats", "near")


def to_json(value: Any) -> bytes:
    """ASCII JSON; what is not valid text in a path is escaped as a lone surrogate.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_number).encode("ascii")


def _number(value: object) -> Any:
    """A number of NumPy's, such as one that was computed from vectors, as Python has it."""
    if not isinstance(value, np.generic):
        raise TypeError(f"{type(value).__name__} has no form in JSON")
    return value.item()


def record_to_dict(record: ImageRecord) -> dict[str, Any]:
    """An image record for JSON, with its id, and the moment by which it is sorted by date."""
    values = {name: getattr(record, name) for name in _FIELDS}
    values["mtime_ns"] = str(record.mtime_ns)
    values["annotations"] = parse_annotations(record.annotations)
    return {"id": str(record.id), **values, "date": moment_of(record)}


def record_from_dict(values: Mapping[str, Any]) -> ImageRecord:
    """The inverse of :func:`record_to_dict`.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        fields = {name: values[name] for name in _FIELDS}
        fields["mtime_ns"] = int(fields["mtime_ns"])
        said = fields["annotations"]
        fields["annotations"] = json.dumps(said, ensure_ascii=False) if said else None
        return ImageRecord(**fields)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an image record: {str(values)[:80]}") from error


def hit_to_dict(hit: Hit) -> dict[str, Any]:
    """A hit for JSON."""
    return {
        "rank": hit.rank,
        "score": hit.score,
        "expected": hit.expected,
        "confidence": hit.confidence,
        "picture": record_to_dict(hit.picture),
    }


def hit_from_dict(values: Mapping[str, Any]) -> Hit:
    """The inverse of :func:`hit_to_dict`.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        picture = record_from_dict(values["picture"])
        return Hit(values["rank"], values["score"], picture, values["expected"], values["confidence"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a hit: {str(values)[:80]}") from error


def answer_to_dict(found: Answer) -> dict[str, Any]:
    """An answer for JSON; each hit has the near-identical ones that were left out for it.

    Raises:
        ImageSearchError: there is no answer.
    """
    hits = [
        {**hit_to_dict(hit), "others": [hit_to_dict(other) for other in found.others(hit)]}
        for hit in found.require()
    ]
    return {
        "query": str(found.query),
        "meanings": list(found.meanings),
        "hits": hits,
        "grouped": bool(found.groups),
        "best": hit_to_dict(found.best) if found.best else None,
    }


def answer_from_dict(query: Query, values: Mapping[str, Any]) -> Answer:
    """The inverse of :func:`answer_to_dict`.

    Args:
        query: what was asked.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        hits = tuple(hit_from_dict(hit) for hit in values["hits"])
        others = [tuple(hit_from_dict(other) for other in hit["others"]) for hit in values["hits"]]
        groups = tuple(map(Group, hits, others)) if values["grouped"] else ()
        best = hit_from_dict(values["best"]) if values["best"] else None
        return Answer(query, hits, tuple(values["meanings"]), groups, best)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not an answer: {str(values)[:80]}") from error


def filter_to_dict(where: Filter) -> dict[str, Any]:
    """The conditions of a filter that are not left out."""
    default = Filter()
    values = {field.name: getattr(where, field.name) for field in dataclasses.fields(Filter)}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def filter_from_dict(values: Mapping[str, Any]) -> Filter:
    """The inverse of :func:`filter_to_dict`.

    Raises:
        UsageError: a value makes no sense.
    """
    fields: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in values.items()}
    return Filter(**fields)


def options_to_dict(options: SearchOptions) -> dict[str, Any]:
    """How many results, which, and in which order."""
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(SearchOptions)}
    values["where"] = filter_to_dict(options.where) if options.where else {}
    return values


def info_to_dict(info: CollectionInfo) -> dict[str, Any]:
    """What is known of a collection, for JSON."""
    more = {"revision": info.fingerprint.revision, "normalized": info.fingerprint.normalized}
    return {**info.to_dict(), **more, "missing_columns": list(info.missing_columns)}


def info_from_dict(values: Mapping[str, Any]) -> CollectionInfo:
    """The inverse of :func:`info_to_dict`.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        height, width = map(int, values["input"].split("x"))
        model, revision, pooling = values["model"], values["revision"], values["pooling"]
        mark = Fingerprint(model, revision, pooling, (height, width), values["dimension"], values["normalized"])
        index = "" if values["index"] == "none" else values["index"]
        missing = tuple(values["missing_columns"])
        return CollectionInfo(values["name"], values["rows"], Metric(values["metric"]), index, mark, missing)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a collection: {str(values)[:80]}") from error


def index_report_from_dict(values: Mapping[str, Any]) -> IndexReport:
    """The inverse of ``IndexReport.to_dict``.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        skipped = tuple(Skipped(**skip) for skip in values["skipped"])
        offline = tuple(OfflineRoot(**root) for root in values["offline"])
        return IndexReport(**{**values, "skipped": skipped, "offline": offline})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report of indexing: {str(values)[:80]}") from error


def forget_report_from_dict(values: Mapping[str, Any]) -> ForgetReport:
    """The inverse of ``ForgetReport.to_dict``.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        folders, still = tuple(values["folders"]), tuple(values["still_indexed"])
        return ForgetReport(**{**values, "folders": folders, "still_indexed": still})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report of forgetting: {str(values)[:80]}") from error


def annotate_report_from_dict(values: Mapping[str, Any]) -> AnnotateReport:
    """The inverse of ``AnnotateReport.to_dict``.

    Raises:
        ValueError: a field is missing or of another kind.
    """
    try:
        unmatched, columns = tuple(values["unmatched"]), tuple(values["columns"])
        return AnnotateReport(**{**values, "unmatched": unmatched, "columns": columns})
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a report of annotating: {str(values)[:80]}") from error


def predictions_from_list(values: Any) -> list[Prediction]:
    """The labels of one picture.

    Raises:
        ValueError: they are something else.
    """
    try:
        return [Prediction(**value) for value in values]
    except TypeError as error:
        raise ValueError(f"not labels: {str(values)[:80]}") from error


def error_to_dict(error: ImageSearchError) -> dict[str, Any]:
    """What names an error in a problem: its type, its message, and what the error knows besides."""
    name = next(_NAMES[kind] for kind in type(error).__mro__ if kind in _NAMES)
    known = {key: _plain(value) for key, value in vars(error).items()}
    return {"type": f"{PROBLEM}{name}", "detail": str(error), "error": known}


def _plain(value: object) -> bool | str | list[str]:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value if isinstance(value, bool) else str(value)


def error_from_dict(values: Mapping[str, Any]) -> ImageSearchError:
    """The inverse of :func:`error_to_dict`; of another problem, such as one of a proxy, its title and detail."""
    name = str(values.get("type", "")).removeprefix(PROBLEM)
    kind = UsageError if name in _WRONG_REQUESTS else ERRORS.get(name)
    known = values.get("error", {})
    try:
        if kind is PictureError:
            return PictureError(known["path"], known["reason"], retryable=known["retryable"])
        if kind is DamagedError:
            return DamagedError(known["file"], known["problem"])
        if kind is UnknownWordsError:
            return UnknownWordsError(str(values["detail"]), tuple(map(str, known["nearest"])))
    except (KeyError, TypeError):  # not from this program
        kind = None
    if kind is not None:
        return kind(str(values.get("detail", "")))
    return ImageSearchError(str(values.get("detail") or values.get("title") or "a problem without a name"))
