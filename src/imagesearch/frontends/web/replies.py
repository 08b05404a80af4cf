"""What the HTTP API gives, as pydantic models, which describe it in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from imagesearch.frontends.web.schemas import LabelSessionId, LabelStepId, PictureId
from imagesearch.search.image_encoding import Views


class Problem(BaseModel):
    """Problem details for HTTP APIs (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = ""
    instance: str = ""
    error: Annotated[
        dict[str, str | bool | list[str]], Field(description="what else is known of it, by name")
    ] = {}


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


class LookedUpOut(PicturesOut):
    """Pictures of the collection, for whoever is about to search for files that they may be."""

    views: Annotated[Views, Field(description="how a search sees files where nobody says")]


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


class SuggestionOut(BaseModel):
    """A label that a picture may have."""

    label: str
    score: Annotated[float, Field(description="probability among the labels so far, 0 to 1")]


class QuestionOut(BaseModel):
    """A picture to label."""

    id: PictureId
    path: str
    copies: Annotated[int, Field(description="files with this content, which share the label")]
    suggestions: Annotated[list[SuggestionOut], Field(description="most probable first")]


class LabelCountOut(BaseModel):
    """A label, and how many pictures have it."""

    label: str
    pictures: int


class ExpectationOut(BaseModel):
    """The accuracy to expect when the other pictures are labelled from these."""

    accuracy: float
    low: float
    high: float


class LabellingOut(BaseModel):
    """What comes next, and how far labelling is."""

    questions: Annotated[list[QuestionOut], Field(description="the most useful first; none: nothing is left")]
    labels: list[LabelCountOut]
    pictures: Annotated[int, Field(description="contents of the collection; copies are one")]
    labelled: int
    skipped: int
    expected: Annotated[ExpectationOut | None, Field(description="null while too little is known")]
    step: Annotated[LabelStepId | None, Field(description="what was done now, to take just this back later")]
    undone: Annotated[QuestionOut | None, Field(description="the picture whose label or skip was taken back")]


class LabelSessionOut(LabellingOut):
    """A labelling session of one's own."""

    id: Annotated[LabelSessionId, Field(description="of the session")]


class HandLabelledOut(BaseModel):
    """A file and the label that a person gave it."""

    path: str
    label: str


class HandLabelsOut(BaseModel):
    """What was labelled by hand."""

    files: Annotated[list[HandLabelledOut], Field(description="by path; of copies each")]


class JobsOut(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobOut]
