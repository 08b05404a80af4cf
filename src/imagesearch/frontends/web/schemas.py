"""What the HTTP API takes, as pydantic models: they check requests, and describe them in OpenAPI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from imagesearch.search.image_encoding import Views
from imagesearch.search.query import SearchOptions
from imagesearch.search.wire import filter_from_dict

# Ids of pictures are 63-bit numbers, which JavaScript cannot hold, so they are text.
PictureId = Annotated[
    str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$", description="id of a picture in the collection", examples=["42"])
]
HandLabel = Annotated[str, Field(min_length=1, max_length=200)]
LabelSessionId = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
LabelStepId = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_HITS = 10_000
MOST_PARTS = 64
# Of requests that ask for several things.
MOST_QUERIES = 256
MOST_HITS_TOGETHER = 256_000
MOST_LOOKED_UP = 1000
MOST_LABELLED = 64
MOST_QUESTIONS = 1000
_LONGEST_PATH = 65_535


def _path(value: Any) -> str:
    """Any text: bytes of a path that are not valid text travel as lone surrogates, which pydantic refuses."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_PATH or "\0" in value:
        raise ValueError(f"must be a text of 1 to {_LONGEST_PATH} characters other than NUL")
    try:
        os.fsencode(value)
    except UnicodeEncodeError as error:  # half of a surrogate pair that stands for no byte
        raise ValueError("must be a text that the name of a file can be") from error
    return value


Path = Annotated[
    Any,
    PlainValidator(_path),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": _LONGEST_PATH}),
]


class Model(BaseModel):
    """Unknown fields are refused: a misspelt option must not be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Weighted(Model):
    """A part of a query."""

    weight: Annotated[float, Field(ge=-100, le=100, description="negative: results shall be unlike it")] = 1.0


RegionText = Annotated[
    str | None,
    Field(
        max_length=100,
        description="the part of the picture that counts: x,y,width,height in pixels, or each with a percent sign",
        examples=["25%,25%,50%,50%"],
    ),
]


class WordsPart(Weighted):
    """What the words say."""

    kind: Literal["words"]
    text: Annotated[str, Field(min_length=1, max_length=1000)]


class Named(Weighted):
    """A picture as part of a query."""

    name: Annotated[str, Field(max_length=_LONGEST_PATH, description="what messages call it")] = ""


class PicturePart(Named):
    """What looks like a picture of the collection, or like a region of it."""

    kind: Literal["picture"]
    id: PictureId
    region: RegionText = None


class PathPart(Named):
    """What looks like the picture that was indexed under this path; the file is not read."""

    kind: Literal["path"]
    path: Path


UploadId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22,64}$", description="what POST /uploads returned")]


class UploadPart(Named):
    """What looks like an uploaded picture, or like a region of it."""

    kind: Literal["upload"]
    id: UploadId
    region: RegionText = None


class VectorPart(Weighted):
    """What has a vector close to this one."""

    kind: Literal["vector"]
    values: Annotated[list[float], Field(min_length=1, max_length=65_535)]


Part = Annotated[WordsPart | PicturePart | PathPart | UploadPart | VectorPart, Field(discriminator="kind")]

Date = Annotated[
    str, Field(max_length=30, description="YYYY, YYYY-MM, YYYY-MM-DD, or with a time", examples=["2024-05-31"])
]
Name = Annotated[str, Field(min_length=1, max_length=4096)]


def _split(value: Any) -> Any:
    """In an address, one value may hold all three numbers."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        return value[0].split(",")
    return value


class Conditions(Model):
    """Which pictures count; all conditions that are given have to hold."""

    under: Annotated[list[Path], Field(max_length=100, description="folders, of which one holds it")] = []
    after: Annotated[Date | None, Field(description="taken then or later")] = None
    before: Annotated[Date | None, Field(description="taken earlier")] = None
    near: Annotated[
        tuple[float, float, float] | None,
        Field(description="latitude, longitude in degrees, and kilometres from there"),
        BeforeValidator(_split),
    ] = None
    min_width: Annotated[int, Field(ge=0, le=10**9)] = 0
    min_height: Annotated[int, Field(ge=0, le=10**9)] = 0
    formats: Annotated[list[Name], Field(max_length=100, description="endings of file names")] = []
    camera: Annotated[Name | None, Field(description="part of the camera's name")] = None
    expression: Annotated[
        str | None, Field(min_length=1, max_length=10_000, description="in the language of Milvus")
    ] = None

    def to_filter(self) -> Any:
        """The library's filter, or None where nothing is asked.

        Raises:
            UsageError: a value makes no sense.
        """
        fields = set(Conditions.model_fields)
        return filter_from_dict(self.model_dump(include=fields, exclude_defaults=True)) or None


Rerank = Annotated[str | None, Field(max_length=40, description="a ranking method; null: as configured")]
ViewsOfQuery = Annotated[Views | None, Field(description="how a picture asked for is seen; null: as configured")]


class Options(Model):
    """How many results, which, and in which order."""

    k: Annotated[int, Field(ge=1, le=MOST_HITS, description="number of results")] = 30
    offset: Annotated[int, Field(ge=0, le=MOST_HITS, description="leave out so many of the closest")] = 0
    threshold: Annotated[float | None, Field(description="leave out what is less similar")] = None
    only_confident: Annotated[bool, Field(description="leave out what may well be unrelated")] = False
    sort: Annotated[Literal["score", "date"], Field(description="date: of the same results the newest first")] = (
        "score"
    )
    rerank: Rerank = None
    views: ViewsOfQuery = None
    group: Annotated[bool, Field(description="near-identical results count as one")] = False
    diverse: Annotated[bool, Field(description="choose results that are unlike each other")] = False
    where: Conditions = Conditions()

    def to_options(self) -> SearchOptions:
        """The library's options.

        Raises:
            UsageError: a value makes no sense.
        """
        given = {name: getattr(self, name) for name in type(self).model_fields if name in _OPTIONS}
        options = SearchOptions(**given, where=self.where.to_filter())
        options.check()
        return options


_OPTIONS = ("k", "offset", "threshold", "only_confident", "sort", "rerank", "views", "group", "diverse")


class SearchRequest(Options):
    """One query of one or several parts."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]


class QueryRequest(Model):
    """One of several queries."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]


class SeveralRequest(Options):
    """Several queries, and how to answer all of them."""

    queries: Annotated[list[QueryRequest], Field(max_length=MOST_QUERIES)]

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if len(self.queries) > 1 and len(self.queries) * self.k > MOST_HITS_TOGETHER:
            raise ValueError(f"at most {MOST_HITS_TOGETHER:,} results of several queries together")
        return self


class LookupRequest(Model):
    """Pictures of the collection."""

    ids: Annotated[list[PictureId], Field(max_length=MOST_LOOKED_UP)]


class ClassifyRequest(Model):
    """Which picture to label."""

    picture: Annotated[PicturePart | UploadPart, Field(discriminator="kind")]
    top: Annotated[int, Field(ge=1, le=1000)] = 5


class ClassifySeveralRequest(Model):
    """Which uploaded pictures to label."""

    uploads: Annotated[list[UploadId], Field(min_length=1, max_length=MOST_LABELLED)]
    top: Annotated[int, Field(ge=1, le=1000)] = 5


class ForgetRequest(Model):
    """What to take out of the collection."""

    folders: Annotated[list[Path], Field(min_length=1, max_length=1000)]
    dry_run: Annotated[bool, Field(description="change nothing, and say what would be done")] = False


class OpenLabelSessionRequest(Model):
    """A labelling session of one's own."""

    labels: Annotated[
        list[HandLabel], Field(max_length=10_000, description="that are expected, in the order of their keys")
    ] = []
    under: Annotated[Path | None, Field(description="only pictures below this folder")] = None


class SkipRequest(Model):
    """A picture that shall not be asked for."""

    id: PictureId
    count: Annotated[int, Field(ge=0, le=MOST_QUESTIONS, description="questions to answer with")] = 4


class GiveLabelRequest(SkipRequest):
    """What somebody says that a picture shows."""

    label: HandLabel
    replace: Annotated[bool, Field(description="also another label that the picture has")] = False


def _key(value: Any) -> str:
    """The same of a cell of a table, which may be empty, or no name at all: then it is that of no picture."""
    if not isinstance(value, str) or len(value) > _LONGEST_PATH:
        raise ValueError(f"must be a text of at most {_LONGEST_PATH} characters")
    return value


RowKey = Annotated[Any, PlainValidator(_key), WithJsonSchema({"type": "string", "maxLength": _LONGEST_PATH})]


class AnnotatedRow(Model):
    """What is said of a picture."""

    key: Annotated[RowKey, Field(description="its path, name or content hash")]
    values: dict[Name, bool | int | float | Annotated[str, Field(max_length=_LONGEST_PATH)]]


class AnnotateRequest(Model):
    """A table of one's own."""

    on: Annotated[Literal["path", "name", "content_hash"], Field(description="what the keys are")] = "path"
    file: Annotated[Path, Field(description="where the table is: paths may be relative to its folder")]
    columns: Annotated[list[Name], Field(max_length=200)]
    rows: Annotated[list[AnnotatedRow], Field(min_length=1)]


class JobRequest(Model):
    """What to index."""

    folders: Annotated[list[Path], Field(max_length=1000, description="none: all that were indexed before")] = []
    prune: Annotated[bool, Field(description="remove missing pictures even where a disk looks unplugged")] = False
    retry_skipped: Annotated[bool, Field(description="try again files that could not be read")] = False
    dry_run: Annotated[bool, Field(description="change nothing, and say what would be done")] = False
