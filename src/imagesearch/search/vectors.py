"""From queries to vectors: images are encoded, words looked up, vectors of pictures in the collection read."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ImageSearchError, PictureError, UsageError
from imagesearch.images.files import examine
from imagesearch.images.find import changed_ns
from imagesearch.records import LARGEST_ID, Fingerprint, ImageRecord, Skipped, picture_id
from imagesearch.search.image_encoding import ImageReading, Preprocessed, Views, encode_parts, encoded
from imagesearch.search.query import Kind, Part, Query
from imagesearch.stores.base import Collection, Vectors

if TYPE_CHECKING:
    from imagesearch.models.embedder import Encoder


class Meaning(Protocol):
    """What words stand for in the space of a model's image vectors."""

    @property
    def vectors(self) -> Vectors:
        """Alternatives, of which the closest to a picture counts: float32, shape (n, dim), n at least 1."""

    @property
    def meaning(self) -> str:
        """How the words were taken, for people; empty where they were taken as they are."""


# The words of queries -> what they stand for in a collection of vectors of that model.
FindMeanings = Callable[[Sequence[str], Fingerprint], Sequence[Meaning]]


@dataclass(frozen=True, eq=False, slots=True)
class QueryVector:
    """A query, ready to be compared.

    Attributes:
        vectors: float32, shape (n, dim), n at least 1; of unit length if the collection's are. Most queries have
            one; words that mean several labels have alternatives, of which the closest to a picture counts.
        meanings: how words in it were taken.
        has_words: whether there are any.
    """

    vectors: Vectors
    meanings: tuple[str, ...] = ()
    has_words: bool = False


class QueryEncoder:
    """Makes vectors of queries for one collection.

    Args:
        collection: what will be searched.
        embedder: loads the network; called only if an image has to be encoded.
        meanings: called only if there are words.
        reading: limits for images.
        views: how images are seen; other than ``"whole"``, files are encoded even if their vectors are stored.
    """

    def __init__(
        self,
        collection: Collection,
        embedder: Callable[[], Encoder],
        meanings: FindMeanings,
        reading: ImageReading,
        views: Views = "whole",
    ) -> None:
        self._collection = collection
        self._embedder, self._meanings, self._reading, self._views = embedder, meanings, reading, views

    def encode(self, queries: Sequence[Query]) -> list[QueryVector | ImageSearchError]:
        """The vector of each query, or why it has none; images and words of all queries go together.

        Raises:
            ModelError: a network cannot be used.
            StoreError: the database fails.
        """
        parts = [part for query in queries for part in query.parts]
        found = self._stored(parts)
        left = [part for part in parts if part.kind is Kind.IMAGE and found[id(part)] is None]
        if left:
            made = self._encode_images(left)
            found.update((id(part), result) for part, result in zip(left, made, strict=True))
        meanings: dict[int, Meaning] = {}
        for part in parts:
            if part.kind is Kind.WORDS:
                word = self._word(part.value)
                if isinstance(word, UsageError):
                    found[id(part)] = word
                else:
                    meanings[id(part)], found[id(part)] = word, word.vectors
        return [self._combined(query, found, meanings) for query in queries]

    def _combined(
        self, query: Query, found: dict[int, Vectors | ImageSearchError | None], meanings: dict[int, Meaning]
    ) -> QueryVector | ImageSearchError:
        fingerprint = self._collection.fingerprint
        alternatives: list[Vectors] = []
        for part in query.parts:
            vectors = found[id(part)]
            if not isinstance(vectors, np.ndarray):
                assert isinstance(vectors, ImageSearchError)
                return vectors
            with np.errstate(over="ignore"):  # what is too large for a database's numbers is infinite there
                matrix = np.atleast_2d(vectors).astype(np.float32)
            if matrix.shape[1:] != (fingerprint.dim,) or not np.isfinite(matrix).all():
                return UsageError(
                    f"{part.label}: a query needs {fingerprint.dim} finite numbers, not shape {vectors.shape}"
                )
            alternatives.append(matrix)
        sums = combinations(alternatives, [part.weight for part in query.parts], fingerprint.normalized)
        if not len(sums):
            return UsageError(f"{query}: the parts cancel each other, so that nothing is left to look for")
        said = (meanings[id(part)].meaning for part in query.parts if id(part) in meanings)
        return QueryVector(sums, tuple(filter(None, said)), query.has_words)

    def _stored(self, parts: Sequence[Part]) -> dict[int, Vectors | ImageSearchError | None]:
        """Vectors that need no network: given ones, and those of pictures in the collection."""
        found: dict[int, Vectors | ImageSearchError | None] = dict.fromkeys(map(id, parts))
        wanted: dict[int, tuple[int, ...]] = {}
        for part in parts:
            if part.kind is Kind.VECTOR:
                found[id(part)] = part.value
            elif part.kind is Kind.STORED and isinstance(part.value, int):
                wanted[id(part)] = (part.value,) if 0 <= part.value <= LARGEST_ID else ()
            elif part.kind is Kind.STORED or (is_file_name(part) and self._takes_stored(part.value)):
                wanted[id(part)] = tuple(map(picture_id, indexed_names(os.fsdecode(part.value))))
        rows = self._rows({key for keys in wanted.values() for key in keys})
        for part in parts:
            for key in wanted.get(id(part), ()):
                if key in rows and (part.kind is Kind.STORED or is_unchanged(rows[key][0], part.value)):
                    found[id(part)] = rows[key][1]
            if part.kind is Kind.STORED and found[id(part)] is None:
                name = self._collection.spec.name
                found[id(part)] = UsageError(
                    f"{part.label} is not in collection {name!r}: index it, or search by file"
                )
        return found

    def _takes_stored(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file's stored vector is as good as a new one, or all there is."""
        return self._views == "whole" or not os.path.exists(path)

    def _rows(self, keys: set[int]) -> dict[int, tuple[ImageRecord, Vectors]]:
        if not keys:
            return {}
        records, vectors = self._collection.fetch(sorted(keys))
        return {record.id: (record, vector) for record, vector in zip(records, vectors, strict=True)}

    def _encode_images(self, parts: Sequence[Part]) -> Iterator[Vectors | PictureError]:
        if len(parts) == 1 and isinstance(parts[0].value, (str, os.PathLike)):
            try:  # before a model is loaded for it; of several, each is read once
                examine(os.fsdecode(parts[0].value), max_megapixels=self._reading.max_megapixels)
            except PictureError as error:
                yield error
                return
        embedder = self._embedder()
        images: list[Preprocessed] = [part.value for part in parts if isinstance(part.value, Preprocessed)]
        if len(images) == len(parts):  # nothing is left to do ahead of the network
            yield from encoded(embedder, images, self._reading.batch_size or embedder.batch_size)
            return
        for result in encode_parts(embedder, parts, self._reading, self._views):
            yield result.error() if isinstance(result, Skipped) else result

    def _word(self, text: str) -> Meaning | UsageError:
        try:
            return self._meanings([text], self._collection.fingerprint)[0]
        except UsageError as error:  # nothing that the model knows
            return error


# Parts of a query that leave less of their length than this cancel each other: what is left is rounding.
_CANCELLED = 1e-3
# Vectors of one query; each is a search of its own.
_MOST_CHOICES = 256


def combinations(alternatives: Sequence[Vectors], weights: Sequence[float], normalized: bool) -> Vectors:
    """The weighted sums of one direction of each part, for all choices: float32, shape (n, dim).

    A single part stays as it is. A sum gets unit length, or else the mean length of its parts. Of parts with a
    negative weight the mean direction counts, and so it does where there would be too many choices. Choices whose
    directions cancel each other are left out.

    Args:
        alternatives: of each part, shape (number of alternatives, dim).
    """
    if len(alternatives) == 1:
        return alternatives[0]
    directions = [_directions(matrix.astype(np.float64)) for matrix in alternatives]
    too_many = math.prod(map(len, directions)) > _MOST_CHOICES
    choices = [
        _directions(matrix.mean(axis=0, keepdims=True)) if weight < 0 or too_many else matrix
        for matrix, weight in zip(directions, weights, strict=True)
    ]
    sums = np.stack([np.asarray(weights) @ np.stack(choice) for choice in itertools.product(*choices)])
    lengths = np.linalg.norm(sums, axis=1)
    left = lengths >= _CANCELLED * float(np.abs(weights).sum())
    wanted = 1.0 if normalized else float(np.mean([np.linalg.norm(m, axis=1).mean() for m in alternatives]))
    result: Vectors = (sums[left] * (wanted / lengths[left])[:, None]).astype(np.float32)
    return result


def _directions(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: NDArray[np.float64] = matrix / np.where(lengths == 0, 1.0, lengths)
    return unit


def is_file_name(part: Part) -> bool:
    return part.kind is Kind.IMAGE and part.region is None and isinstance(part.value, (str, os.PathLike))


def indexed_names(path: str) -> tuple[str, ...]:
    """Under which names a file may have been indexed: with links to its folder, and without."""
    if "\0" in path:
        return ()
    absolute = os.path.abspath(path)
    folder, name = os.path.split(absolute)
    return tuple(dict.fromkeys((absolute, os.path.join(os.path.realpath(folder), name))))


def is_unchanged(record: ImageRecord, path: str | os.PathLike[str]) -> bool:
    """Whether a file is as it was when it was indexed, or is not there: then its stored vector is all there is."""
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_size, changed_ns(now)) == (record.size, record.mtime_ns)
