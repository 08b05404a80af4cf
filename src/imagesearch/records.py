"""The values that pass between the layers: small, frozen, and without behaviour of their own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from imagesearch.errors import PictureError


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
        earlier_revisions: what earlier versions of this program called the same files; not stored, and not part
            of the identity.
    """

    model: str
    revision: str
    pooling: str
    input_size: tuple[int, int]
    dim: int
    normalized: bool = True
    earlier_revisions: tuple[str, ...] = dataclasses.field(default=(), compare=False)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that are equal exactly when vectors are comparable."""
        return self._key(self.revision)

    def _key(self, revision: str) -> str:
        identity = [revision, self.pooling, list(self.input_size), self.dim, self.normalized]
        return hashlib.blake2b(json.dumps(identity).encode(), digest_size=6).hexdigest()

    def is_comparable(self, other: Fingerprint) -> bool:
        """Whether vectors of the two can be compared; unlike ``==``, whatever the model is called."""
        return other.key in self._keys() or self.key in other._keys()

    def _keys(self) -> set[str]:
        return {self._key(revision) for revision in (self.revision, *self.earlier_revisions)}

    def to_json(self) -> str:
        """One line of JSON, read back by :meth:`from_json`."""
        values = dataclasses.asdict(self)
        del values["earlier_revisions"]
        return json.dumps(values, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Fingerprint:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: the text is not a fingerprint.
        """
        try:
            values = json.loads(text)
            values["input_size"] = tuple(values["input_size"])
            fingerprint = cls(**values)
        except (TypeError, KeyError, ValueError, RecursionError) as error:
            raise ValueError(f"not a model fingerprint: {text[:80]!r}") from error
        if not fingerprint._makes_sense():
            raise ValueError(f"not a model fingerprint: {text[:80]!r}")
        return fingerprint

    def _makes_sense(self) -> bool:
        texts = (self.model, self.revision, self.pooling)
        numbers = (self.dim, *self.input_size)
        return (
            all(isinstance(text, str) for text in texts)
            and len(self.input_size) == 2
            and all(type(number) is int and 0 <= number < 2**16 for number in numbers)
            and isinstance(self.normalized, bool)
            and not self.earlier_revisions
        )


class PlainValues:
    """A dataclass whose fields are plain values, or such dataclasses."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


def column(default: Any = dataclasses.MISSING, *, max_bytes: int = 0, is_path: bool = False) -> Any:
    """A field of :class:`ImageRecord`, and with it a column of every database.

    Args:
        default: the value where it is not known; without one, the field is required.
        max_bytes: the longest text, in bytes of UTF-8; Milvus takes 65,535.
        is_path: whether it is a path, which may hold bytes that are not valid text.
    """
    return dataclasses.field(default=default, metadata={"max_bytes": max_bytes, "is_path": is_path})


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What is known of one image file besides its vector: one row of a collection.

    Each field is a column: a new one is a line here; how it is stored follows from it, in ``stores.columns``.

    Attributes:
        path: absolute path as :func:`os.fsdecode` gives it (bytes that are not valid text survive).
        root: the folder it was found under, absolute; empty if it was named by itself.
        content_hash: BLAKE2b-128 of the file's bytes, hexadecimal; empty if unknown.
        size: bytes.
        mtime_ns: time of last change, nanoseconds since 1970.
        width, height: pixels, upright; 0 if unknown.
        taken: when the photograph was taken, ISO 8601 local time, if the file says so.
        camera: maker and model of the camera, if the file says so.
        latitude, longitude: where it was taken, degrees (WGS 84; north and east positive), both or neither.
        annotations: what somebody said of it, as a JSON object; see :func:`parse_annotations`.
    """

    path: str = column(max_bytes=65_535, is_path=True)
    root: str = column("", max_bytes=65_535, is_path=True)
    content_hash: str = column("", max_bytes=128)
    size: int = column(0)
    mtime_ns: int = column(0)
    width: int = column(0)
    height: int = column(0)
    taken: str | None = column(None, max_bytes=64)
    camera: str | None = column(None, max_bytes=1024)
    latitude: float | None = column(None)
    longitude: float | None = column(None)
    annotations: str | None = column(None, max_bytes=65_535)

    @property
    def id(self) -> int:
        """The row's primary key: see :func:`picture_id`."""
        return picture_id(self.path)


def parse_annotations(text: str | None) -> dict[str, str | int | float | bool]:
    """Names and values of what somebody said of a picture; what is no object of plain values is left out."""
    try:
        values = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {name: value for name, value in values.items() if isinstance(value, (str, int, float, bool))}


# Ids are not negative, and fit into 63 bits.
LARGEST_ID = (1 << 63) - 1


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
        expected: how many unrelated pictures of a collection of this size would score as high, on average; None
            where nothing is known of the scores of unrelated pictures.
        confidence: the probability, 0 to 1, that it is related to the query; None likewise.
    """

    rank: int
    score: float
    picture: ImageRecord
    expected: float | None = None
    confidence: float | None = None

    @property
    def path(self) -> str:
        """The found file's path."""
        return self.picture.path

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: rank, score, and what is known of the image."""
        values = {name: getattr(self, name) for name in ("rank", "score", "expected", "confidence")}
        known = dataclasses.asdict(self.picture)
        return {**values, **known, "annotations": parse_annotations(self.picture.annotations)}


@dataclass(frozen=True, slots=True)
class Prediction(PlainValues):
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
class Skipped(PlainValues):
    """A file that was skipped, why, and whether a later try can succeed."""

    path: str
    reason: str
    retryable: bool = False

    def error(self) -> PictureError:
        """The same as an exception."""
        return PictureError(self.path, self.reason, retryable=self.retryable)


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What a database knows of one collection.

    Attributes:
        name: the collection's name.
        rows: number of image records in it.
        metric: how its vectors are compared.
        index_type: Milvus's name of the vector index, or ``""`` while none is built.
        fingerprint: the model its vectors come from.
        missing_columns: fields of :class:`ImageRecord` that it cannot hold, because an earlier version made it.
    """

    name: str
    rows: int
    metric: Metric
    index_type: str
    fingerprint: Fingerprint
    missing_columns: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the fingerprint's are among them, ``key`` being :attr:`Fingerprint.key`."""
        mark = self.fingerprint
        return {
            "name": self.name,
            "rows": self.rows,
            "model": mark.model,
            "dimension": mark.dim,
            "pooling": mark.pooling,
            "input": f"{mark.input_size[0]}x{mark.input_size[1]}",
            "key": mark.key,
            "metric": self.metric.value,
            "index": self.index_type or "none",
        }


class Progress(Protocol):
    """Called by long operations; a front end draws, the library never does."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Report that ``done`` of ``total`` units (None: unknown) of ``stage`` are finished."""


@runtime_checkable
class DescribedProgress(Progress, Protocol):
    """Progress that has room for a few words on how it goes, such as a loss."""

    def describe(self, stage: str, text: str) -> None:
        """Show a text beside a stage, in place of an earlier one."""


def describe(progress: Progress, stage: str, text: str) -> None:
    """Say how a stage goes to a front end that has room for it."""
    if isinstance(progress, DescribedProgress):
        progress.describe(stage, text)


def no_progress(stage: str, done: int, total: int | None) -> None:
    """No-op progress callback."""
