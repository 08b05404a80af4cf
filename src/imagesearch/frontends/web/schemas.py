"""What the HTTP API takes and gives, as pydantic models: they check requests, and describe both in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from imagesearch.search.query import Region, SearchOptions
from imagesearch.search.wire import filter_from_dict

# Ids of pictures are 63-bit numbers, which JavaScript cannot hold, so they are text.
PictureId = Annotated[
    str, Field(pattern=r"^(0|[1-9][0-9]{0,18})$", description="id of a picture in the collection", examples=["42"])
]
MOST_HITS = 10_000
MOST_PARTS = 64
# Of requests that ask for several things.
MOST_QUERIES = 256
MOST_LOOKED_UP = 1000
MOST_LABELLED = 64
_LONGEST_PATH = 65_535


def _path(value: Any) -> str:
    """Any text: bytes of a path that are not valid text travel as lone surrogates, which pydantic refuses."""
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_PATH:
        raise ValueError(f"must be a text of 1 to {_LONGEST_PATH} characters")
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


class Options(Model):
    """How many results, which, and in which order."""

    k: Annotated[int, Field(ge=1, le=MOST_HITS, description="number of results")] = 30
    offset: Annotated[int, Field(ge=0, le=MOST_HITS, description="leave out so many of the closest")] = 0
    threshold: Annotated[float | None, Field(description="leave out what is less similar")] = None
    only_confident: Annotated[bool, Field(description="leave out what may well be unrelated")] = False
    sort: Annotated[Literal["score", "date"], Field(description="date: of the same results the newest first")] = (
        "score"
    )
    rerank: Annotated[str | None, Field(max_length=40, description="a ranking method; null: as configured")] = None
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


_OPTIONS = ("k", "offset", "threshold", "only_confident", "sort", "rerank", "group", "diverse")


class SearchRequest(Options):
    """One query of one or several parts."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]


class QueryRequest(Model):
    """One of several queries."""

    parts: Annotated[list[Part], Field(min_length=1, max_length=MOST_PARTS)]


class SeveralRequest(Options):
    """Several queries, and how to answer all of them."""

    queries: Annotated[list[QueryRequest], Field(max_length=MOST_QUERIES)]


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


class AnnotatedRow(Model):
    """What is said of a picture."""

    key: Annotated[Path, Field(description="its path, name or content hash")]
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


class Problem(BaseModel):
    """Problem details for HTTP APIs (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    error: Annotated[dict[str, str | bool], Field(description="what else is known of it, by name")] = {}


class PictureOut(BaseModel):
    """A picture of the collection."""

    id: PictureId
    path: str
    root: Annotated[str, Field(description="the indexed folder it was found under")]
    content_hash: str
    size: Annotated[int, Field(description="bytes")]
    mtime_ns: Annotated[str, Field(description="time of last change, nanoseconds since 1970")]
    width: int
    height: int
    taken: Annotated[str | None, Field(description="ISO 8601 local time, if the file says so")]
    camera: str | None
    latitude: float | None
    longitude: float | None
    annotations: dict[str, str | int | float | bool]
    date: Annotated[str, Field(description="when it was taken, or else when the file was changed last")]


class HitOut(BaseModel):
    """One result."""

    rank: int
    score: Annotated[float, Field(description="similarity or distance, by the collection's metric")]
    expected: Annotated[float | None, Field(description="unrelated pictures that would score as high, on average")]
    confidence: Annotated[float | None, Field(description="probability that it is related, 0 to 1")]
    picture: PictureOut


class GroupOut(HitOut):
    """One result, with the near-identical ones that were left out for it."""

    others: list[HitOut]


class AnswerOut(BaseModel):
    """What was found."""

    query: Annotated[str, Field(description="the query in words")]
    meanings: Annotated[list[str], Field(description="how words were taken")]
    hits: list[GroupOut]
    grouped: bool
    best: Annotated[HitOut | None, Field(description="the closest picture, even if it was left out")]


class FailedOut(BaseModel):
    """Why one of several things that were asked for could not be done."""

    error: Problem
    upload: Annotated[str | None, Field(description="the upload that cannot be used, if it is one")] = None


class AnswersOut(BaseModel):
    """What was found for each query, or why it could not be answered."""

    answers: list[AnswerOut | FailedOut]


class PicturesOut(BaseModel):
    """A page of the collection."""

    total: Annotated[int, Field(description="number of pictures that match")]
    pictures: list[PictureOut]


class PredictionOut(BaseModel):
    """One label."""

    label: str
    score: Annotated[float, Field(description="probability, 0 to 1")]
    index: Annotated[int, Field(description="the class's number in the checkpoint")]


class LabelsOfOut(BaseModel):
    """The most probable labels of one of several pictures."""

    predictions: list[PredictionOut]


class PredictionsOut(BaseModel):
    """The most probable labels, most probable first."""

    model: str
    predictions: list[PredictionOut]


class LabelledOut(BaseModel):
    """The most probable labels of each picture, or why it has none."""

    model: str
    results: list[LabelsOfOut | FailedOut]


class VectorsOut(BaseModel):
    """Vectors of pictures, in their order."""

    model: str
    key: Annotated[str, Field(description="equal for vectors that can be compared, and only for these")]
    vectors: list[list[float]]


class UploadOut(BaseModel):
    """An uploaded picture, which queries can refer to until it expires."""

    id: str
    name: str
    width: Annotated[int, Field(description="pixels, upright")]
    height: int
    expires: Annotated[str, Field(description="ISO 8601, UTC")]


class CollectionOut(BaseModel):
    """A collection."""

    name: str
    rows: int
    model: str
    dimension: int
    pooling: str
    input: str
    key: str
    metric: str
    index: str
    revision: Annotated[str, Field(description="of the model's files")]
    normalized: Annotated[bool, Field(description="whether vectors have unit length")]
    missing_columns: Annotated[list[str], Field(description="what it cannot hold: an earlier version made it")]


class ServedOut(BaseModel):
    """What is searched, and what may be sent."""

    engine: str
    place: Annotated[str, Field(description="where the database is; of a local one its path, without links")]
    name: Annotated[str, Field(description="of the configured collection")]
    collection: Annotated[CollectionOut | None, Field(description="null: nothing has been indexed yet")]
    index_mismatch: Annotated[
        tuple[str, str] | None,
        Field(description="index type of the collection and of the settings, if they differ"),
    ]
    top_k: Annotated[int, Field(description="number of results where nobody says")]
    max_upload_bytes: Annotated[int, Field(description="longest body of a request")]
    decode_side: Annotated[
        int | None, Field(description="pixels of the shorter side that the network needs; null: all, or not known")
    ]


class CollectionsOut(BaseModel):
    """All collections of the database, and which of them is searched."""

    configured: str
    collections: list[CollectionOut]
    foreign: Annotated[list[str], Field(description="names of those that other programs made")]


class WordsOut(BaseModel):
    """Which words the model understands."""

    free_text: Annotated[bool, Field(description="whether any text can be searched for")]
    known: Annotated[int, Field(description="number of labels that can be searched for")]
    explanation: Annotated[str, Field(description="why no words can be searched for; empty if some can")]


class StatusOut(BaseModel):
    """What is served."""

    version: str
    engine: str
    model: str
    classifier: Annotated[str | None, Field(description="the model that labels pictures; null: none can")]
    collection: CollectionOut | None
    folders: Annotated[list[str], Field(description="folders that were indexed")]
    may_index: Annotated[list[str], Field(description="folders below which anything may be indexed")]
    words: WordsOut
    skipped: Annotated[int, Field(description="number of files that could not be read")]
    queue: Annotated[int, Field(description="searches that wait")]
    running_jobs: int


class SkippedOut(BaseModel):
    """A file that could not be read."""

    path: str
    reason: str
    retryable: bool


class SkippedListOut(BaseModel):
    """A page of the files that could not be read."""

    total: int
    skipped: list[SkippedOut]


class LabelsOut(BaseModel):
    """Labels that can be searched for."""

    labels: list[str]


class ProgressOut(BaseModel):
    """How far a job is."""

    stage: str
    done: int
    total: int | None


class JobOut(BaseModel):
    """A job of indexing."""

    id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    folders: list[str]
    dry_run: bool
    created: Annotated[str, Field(description="ISO 8601, UTC")]
    started: str | None
    finished: str | None
    progress: ProgressOut | None
    report: Annotated[dict[str, Any] | None, Field(description="what was done: see IndexReport")]
    error: str | None
    problem: Annotated[Problem | None, Field(description="the error, for programs")]


class ForgottenOut(BaseModel):
    """What forgetting folders did."""

    collection: str
    removed: Annotated[int, Field(description="number of pictures that were taken out, or would be")]
    folders: list[str]
    still_indexed: Annotated[list[str], Field(description="indexed folders that hold some of these")]
    dry_run: bool


class AnnotatedOut(BaseModel):
    """What joining a table did."""

    collection: str
    pictures: Annotated[int, Field(description="number of pictures that got values")]
    unmatched: Annotated[list[str], Field(description="keys that no picture has")]
    columns: list[str]


class JobsOut(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobOut]


def region_of(text: str | None) -> Region | None:
    """A region from its text.

    Raises:
        UsageError: it is none.
    """
    return None if text is None else Region.parse(text)
