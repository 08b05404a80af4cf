"""Answers and their parts as JSON, and back: what the HTTP API sends and the Python client reads.

Ids and times of change are whole numbers beyond what JavaScript counts exactly (2^53), so they travel as text. A
path may hold bytes that are not valid text; :func:`to_json` escapes them, and :func:`json.loads` gives them back.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from imagesearch.records import Hit, ImageRecord, parse_annotations
from imagesearch.search.answers import Answer, moment_of
from imagesearch.search.filters import Filter
from imagesearch.search.grouping import Group
from imagesearch.search.query import Query

_FIELDS = tuple(field.name for field in dataclasses.fields(ImageRecord))
_LISTS = ("under", "formats", "near")


def to_json(value: Any) -> bytes:
    """ASCII JSON; what is not valid text in a path is escaped as a lone surrogate.

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


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
