"""The values that travel between the layers: small, frozen, and without behaviour of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class Metric(str, Enum):
    """How two vectors are compared; the values are Milvus's names."""

    COSINE = "COSINE"
    IP = "IP"
    L2 = "L2"

    @property
    def higher_is_closer(self) -> bool:
        """True for similarities (cosine, inner product), False for distances (squared L2)."""
        return self is not Metric.L2


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What makes two vectors comparable: they come from the same network fed the same way.

    Attributes:
        model: the name the user knows the checkpoint by, for messages; not part of the identity.
        revision: the hub commit, or a digest of a local folder's files.
        pooling: how the network's output became one vector (``"pooler"``, ``"cls"``, ...).
        input_size: height and width in pixels that the network sees.
        dim: length of the vector.
        normalized: whether vectors are scaled to unit length.
    """

    model: str
    revision: str
    pooling: str
    input_size: tuple[int, int]
    dim: int
    normalized: bool = True

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal exactly when vectors are comparable."""
        identity = [self.revision, self.pooling, list(self.input_size), self.dim, self.normalized]
        return hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()

    def to_json(self) -> str:
        """One line of JSON, read back by :meth:`from_json`."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: the text is not a fingerprint.
        """
        try:
            values = json.loads(text)
            values["input_size"] = tuple(values["input_size"])
            return cls(**values)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"not a model fingerprint: {text[:80]!r}") from error


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of one picture file besides its vector: one row of a collection.

    Attributes:
        path: absolute path as :func:`os.fsdecode` gives it (bytes that are no text survive).
        root: the folder it was found under, absolute; empty if it was named by itself.
        content_hash: BLAKE2b-128 of the file's bytes, hexadecimal; empty if unknown.
        size: bytes.
        mtime_ns: time of last change, nanoseconds since 1970.
        width, height: pixels, upright; 0 if unknown.
        taken: when the photograph was taken, ISO 8601 local time, if the file says so.
    """

    path: str
    root: str = ""
    content_hash: str = ""
    size: int = 0
    mtime_ns: int = 0
    width: int = 0
    height: int = 0
    taken: str | None = None

    @property
    def id(self) -> int:
        """The row's primary key: see :func:`picture_id`."""
        return picture_id(self.path)


def picture_id(path: str) -> int:
    """A stable non-negative 63-bit key of a path: indexing a file again replaces its row.

    63 bits of BLAKE2b fit Milvus's INT64, which searches faster than text keys do; among ten
    million paths the chance that any two share a key is about 5 in 1,000,000.
    """
    raw = path.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result.

    Attributes:
        rank: 1 for the closest.
        score: cosine similarity or inner product (higher is closer) or squared L2 distance
            (lower is closer), by the collection's metric.
        picture: the file that was found.
    """

    rank: int
    score: float
    picture: Picture

    @property
    def path(self) -> str:
        """The found file's path."""
        return self.picture.path


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label for a picture.

    Attributes:
        label: the class name.
        score: its probability, 0 to 1.
        index: the class's number in the checkpoint.
    """

    label: str
    score: float
    index: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was passed over, why, and whether a later try can succeed."""

    path: str
    reason: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a store knows of one collection.

    Attributes:
        name: the collection's name.
        rows: number of pictures in it.
        metric: how its vectors are compared.
        index_type: Milvus's name of the vector index, or ``""`` while none is built.
        fingerprint: the model its vectors come from.
    """

    name: str
    rows: int
    metric: Metric
    index_type: str
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What indexing did. ``found == indexed + unchanged + len(skipped)`` always holds."""

    found: int
    indexed: int
    unchanged: int
    skipped: tuple[Skipped, ...]
    collection: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class ExtractReport:
    """What extraction wrote, and what it passed over."""

    extracted: int
    skipped: tuple[Skipped, ...]
    features: str
    paths: str
    dim: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)


class Progress(Protocol):
    """Called by long operations; a front end draws, the library never does."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units (None: unknown) of ``stage`` are finished."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """The :class:`Progress` of callers who do not want to know."""
