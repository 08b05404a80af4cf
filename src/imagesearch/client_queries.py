"""Queries as requests of the HTTP API, and its answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from imagesearch.client_connection import API, Connection
from imagesearch.client_pictures import Pictures, Upload, size_of, together
from imagesearch.errors import ImageSearchError, PictureError, UsageError
from imagesearch.records import CollectionInfo, ImageRecord, picture_id
from imagesearch.search.answers import Answer
from imagesearch.search.query import Kind, Part, Query, Region, SearchOptions
from imagesearch.search.vectors import indexed_names, is_file_name, is_unchanged
from imagesearch.search.wire import answer_from_dict, error_from_dict, options_to_dict, record_from_dict

# Queries in one request, their results, and ids that are looked up in one, as the API bounds them.
_MOST_QUERIES = 256
_MOST_HITS = 256_000
_MOST_IDS = 1000


def answer_several(
    connection: Connection,
    pictures: Pictures,
    describe: Callable[[], CollectionInfo],
    queries: Sequence[Query],
    options: SearchOptions,
) -> list[Answer]:
    """The answers of the server, in the order of the queries.

    Args:
        connection: to the server.
        pictures: uploads what is not in the collection.
        describe: asked for the collection where its vectors' dimension is needed.
        queries: what is looked for, already checked.
        options: how.

    Raises:
        ImageSearchError: none can be answered.
    """
    wanted = options_to_dict(options)
    wanted["where"] = {**wanted["where"], **_folders(options)}
    answers: list[Answer] = []
    for some in together(queries, max(1, min(_MOST_QUERIES, _MOST_HITS // options.k)), _size):
        answers += _Request(connection, pictures, describe, some).answers(wanted)
    return answers or _none(connection, wanted)


def _none(connection: Connection, wanted: Mapping[str, Any]) -> list[Answer]:
    """No answers to no queries; but what is wrong with the options or the collection is told."""
    connection.post(f"{API}/search/several", {**wanted, "queries": []})
    return []


def _folders(options: SearchOptions) -> dict[str, Any]:
    """The server's process has another working folder."""
    under = options.where.under if options.where else ()
    return {"under": [os.path.abspath(os.path.expanduser(folder)) for folder in under]} if under else {}


def _size(query: Query) -> int:
    """Bytes of the pictures that a query may have to send."""
    return sum(size_of(part.value) for part in query.parts if part.kind is Kind.IMAGE)


class _Request:
    """Some queries that are answered together.

    Args:
        connection: to the server.
        pictures, describe: see :func:`answer_several`.
        queries: no more than go into one request.
    """

    def __init__(
        self,
        connection: Connection,
        pictures: Pictures,
        describe: Callable[[], CollectionInfo],
        queries: Sequence[Query],
    ) -> None:
        self._connection, self._pictures, self._queries = connection, pictures, queries
        self._describe = describe
        self._uploaded: dict[str, Part] = {}

    def answers(self, wanted: Mapping[str, Any]) -> list[Answer]:
        """What the server answers.

        Args:
            wanted: options, for JSON.
        """
        stored = self._stored(wanted.get("views"))
        failed: dict[int, ImageSearchError] = {}
        asked: dict[int, dict[str, Any]] = {}
        with self._pictures.uploading() as upload:
            for number, query in enumerate(self._queries):
                try:
                    asked[number] = {"parts": [self._part(part, stored, upload) for part in query.parts]}
                except (PictureError, UsageError) as error:
                    failed[number] = error
            body = {**wanted, "queries": list(asked.values())}
            found = self._connection.post(f"{API}/search/several", body)["answers"]
        answers = {number: Answer(self._queries[number], error=error) for number, error in failed.items()}
        for number, values in zip(asked, found, strict=True):
            answers[number] = self._answer(self._queries[number], values)
        return [answers[number] for number in range(len(self._queries))]

    def _answer(self, query: Query, values: Mapping[str, Any]) -> Answer:
        if "error" not in values:
            return answer_from_dict(query, values)
        error, part = error_from_dict(values["error"]), self._uploaded.get(values.get("upload", ""))
        return Answer(query, error=error if part is None else self._pictures.error_of(part.value, error))

    def _stored(self, views: str | None) -> dict[int, ImageRecord]:
        """Pictures of the collection that files of the queries may be, by their ids.

        Args:
            views: how files are seen, or None, as the server says: in several views they are encoded, whatever is
                stored of them.
        """
        if views not in (None, "whole"):
            return {}
        files = [os.fsdecode(part.value) for query in self._queries for part in query.parts if is_file_name(part)]
        ids = sorted({picture_id(name) for file in files for name in indexed_names(file)})
        found: dict[int, ImageRecord] = {}
        for start in range(0, len(ids), _MOST_IDS):
            wanted = {"ids": [str(key) for key in ids[start : start + _MOST_IDS]]}
            answered = self._connection.post(f"{API}/pictures/lookup", wanted)
            if views is None and answered.get("views", "whole") != "whole":
                return {}
            for values in answered["pictures"]:
                record = record_from_dict(values)
                found[record.id] = record
        return found

    def _part(self, part: Part, stored: Mapping[int, ImageRecord], upload: Upload) -> dict[str, Any]:
        """One part of a query for JSON; its picture is uploaded if it is not in the collection as it is now."""
        weight = float(part.weight)
        if part.kind is Kind.WORDS:
            if not part.value.strip():  # the server would refuse all queries of the request
                raise UsageError("a query of words is empty: say what to look for")
            return {"kind": "words", "text": part.value, "weight": weight}
        if part.kind is Kind.VECTOR:
            return {"kind": "vector", "values": self._numbers(part), "weight": weight}
        name = _sendable(part.name or (os.fsdecode(part.value) if _is_path(part) else ""))
        if part.kind is Kind.STORED and not _is_path(part):
            return {"kind": "picture", "id": str(part.value), "weight": weight, "name": name}
        if part.kind is Kind.STORED:
            return {"kind": "path", "path": os.path.abspath(part.value), "weight": weight, "name": name}
        if (record := _same(part, stored)) is not None:
            return {"kind": "picture", "id": str(record.id), "weight": weight, "name": name}
        key, region = upload(part.value, part.region)
        self._uploaded[key] = part
        return {"kind": "upload", "id": key, "region": _exact(region), "weight": weight, "name": name}

    def _numbers(self, part: Part) -> list[float]:
        vector = np.asarray(part.value)
        if vector.ndim != 1 or not np.isfinite(vector).all():
            dimension = self._describe().fingerprint.dim
            raise UsageError(f"{part.label}: a query needs {dimension} finite numbers, not shape {vector.shape}")
        return [float(number) for number in vector]


def _exact(region: Region | None) -> str | None:
    """A region as text with every digit, which ``str`` leaves out."""
    if region is None:
        return None
    sign = "%" if region.is_share else ""
    return ",".join(f"{value!r}{sign}" for value in (region.left, region.top, region.width, region.height))


def _is_path(part: Part) -> bool:
    return isinstance(part.value, (str, os.PathLike))


def _sendable(name: str) -> str:
    """A name for messages; bytes that are not valid text are replaced."""
    return name.encode("utf-8", "replace").decode()


def _same(part: Part, stored: Mapping[int, ImageRecord]) -> ImageRecord | None:
    """The picture of the collection that a file is, if it has not changed since; as the library chooses it."""
    found = None
    if is_file_name(part):
        for key in map(picture_id, indexed_names(os.fsdecode(part.value))):
            if key in stored and is_unchanged(stored[key], part.value):
                found = stored[key]
    return found
