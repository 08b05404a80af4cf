"""What travels between a server and its clients comes back as it was."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch import errors
from imagesearch.errors import DamagedError, ImageSearchError, PictureError, UnknownWordsError, UsageError
from imagesearch.frontends.web.schemas import SeveralRequest
from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Prediction, Skipped
from imagesearch.reports import AnnotateReport, ForgetReport, IndexReport, OfflineRoot
from imagesearch.search.answers import Answer
from imagesearch.search.filters import Filter
from imagesearch.search.grouping import Group
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.wire import (
    ERRORS,
    PROBLEM,
    annotate_report_from_dict,
    answer_from_dict,
    answer_to_dict,
    error_from_dict,
    error_to_dict,
    forget_report_from_dict,
    hit_from_dict,
    index_report_from_dict,
    info_from_dict,
    info_to_dict,
    options_to_dict,
    predictions_from_list,
    record_from_dict,
    record_to_dict,
    to_json,
)

# Bytes of file names that are not valid text are lone surrogates in Python.
NAMES = st.text(
    st.characters(exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**62)
VALUES = st.text(string.printable) | st.integers(-(2**53), 2**53) | NUMBERS | st.booleans()
TEXTS = st.none() | st.text(min_size=1)


def travelled(value: Any) -> Any:
    """The same after a way as bytes."""
    return json.loads(to_json(value))


def said(values: dict[str, Any]) -> str | None:
    return json.dumps(values, ensure_ascii=False) if values else None


@st.composite
def records(draw: st.DrawFn) -> ImageRecord:
    return ImageRecord(
        path="/" + draw(NAMES),
        root=draw(NAMES),
        content_hash=draw(st.text("0123456789abcdef", max_size=32)),
        size=draw(COUNTS),
        mtime_ns=draw(st.integers(0, 2**60)),
        width=draw(COUNTS),
        height=draw(COUNTS),
        taken=draw(st.sampled_from([None, "2020-01-02T03:04:05"])),
        camera=draw(TEXTS),
        latitude=draw(st.none() | st.floats(-90, 90)),
        longitude=draw(st.none() | st.floats(-180, 180)),
        annotations=said(draw(st.dictionaries(st.text(min_size=1), VALUES, max_size=3))),
    )


@st.composite
def hits(draw: st.DrawFn) -> Hit:
    known = st.none() | NUMBERS
    return Hit(draw(COUNTS), draw(NUMBERS), draw(records()), draw(known), draw(known))


@given(records())
def test_records(record: ImageRecord) -> None:
    values = travelled(record_to_dict(record))
    assert record_from_dict(values) == record
    assert values["id"] == str(record.id)


@given(st.lists(hits(), max_size=3), st.lists(hits(), max_size=2), st.none() | hits(), st.booleans())
def test_answers(found: list[Hit], others: list[Hit], best: Hit | None, grouped: bool) -> None:
    query = Query.words("cat")
    groups = tuple(Group(hit, tuple(others)) for hit in found) if grouped else ()
    answer = Answer(query, tuple(found), ("cat: an animal",), groups, best)
    back = answer_from_dict(query, travelled(answer_to_dict(answer)))
    assert (back.query, back.hits, back.meanings, back.groups, back.best, back.error) == (
        *(query, answer.hits, answer.meanings, answer.groups),
        *(best, None),
    )
    assert back.to_dict() == answer.to_dict()
    assert [back.others(hit) for hit in back.hits] == [answer.others(hit) for hit in answer.hits]


@given(NAMES, COUNTS, st.sampled_from(Metric), st.sampled_from(["", "FLAT", "HNSW"]), st.booleans())
def test_collections(name: str, rows: int, metric: Metric, index: str, normalized: bool) -> None:
    mark = Fingerprint("m", "revision", "pooler", (64, 32), 8, normalized)
    info = CollectionInfo(name, rows, metric, index, mark, ("camera",))
    assert info_from_dict(travelled(info_to_dict(info))) == info


@given(NAMES, COUNTS, st.booleans())
def test_reports(name: str, count: int, flag: bool) -> None:
    skipped, offline = (Skipped(name, "why", flag),), (OfflineRoot(name, "is empty", count),)
    report = IndexReport(count, 1, 2, skipped, "c", 0.25, 3, 4, offline, flag)
    assert index_report_from_dict(travelled(report.to_dict())) == report
    forgotten = ForgetReport("c", count, (name,), (name, name), flag)
    assert forget_report_from_dict(travelled(forgotten.to_dict())) == forgotten
    annotated = AnnotateReport("c", count, (name,), ("stars",))
    assert annotate_report_from_dict(travelled(annotated.to_dict())) == annotated
    labels = [Prediction(name, 0.5, count)]
    assert predictions_from_list(travelled([one.to_dict() for one in labels])) == labels


ALL_ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ImageSearchError)
]


@pytest.mark.parametrize("kind", ALL_ERRORS)
@given(text=NAMES, flag=st.booleans())
def test_errors(kind: type[ImageSearchError], text: str, flag: bool) -> None:
    special = {
        PictureError: lambda: PictureError(text, "is empty", retryable=flag),
        DamagedError: lambda: DamagedError(text, "is missing"),
        UnknownWordsError: lambda: UnknownWordsError(text, (text, "b") if flag else ()),
    }
    error = special.get(kind, lambda: kind(text))()
    back = error_from_dict(travelled(error_to_dict(error)))
    assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_every_error_has_a_name() -> None:
    assert set(ERRORS.values()) == set(ALL_ERRORS)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        ({"title": "Bad Gateway"}, "Bad Gateway"),
        ({"type": "urn:imagesearch:problem:unreadable-picture", "detail": "old"}, "old"),
        ({"type": "about:blank", "title": "t", "detail": "of a proxy"}, "of a proxy"),
        ({}, "without a name"),
    ],
)
def test_problems_of_others(problem: dict[str, Any], message: str) -> None:
    back = error_from_dict(problem)
    assert type(back) is ImageSearchError
    assert message in str(back)


@pytest.mark.parametrize("name", ["invalid-value", "not-found", "folder-not-allowed"])
def test_what_only_a_server_refuses_is_a_wrong_request(name: str) -> None:
    back = error_from_dict({"type": f"{PROBLEM}{name}", "detail": "there is no such thing"})
    assert (type(back), str(back)) == (UsageError, "there is no such thing")


@given(
    st.integers(1, 10_000),
    st.integers(0, 10_000),
    st.none() | NUMBERS,
    st.sampled_from(["score", "date"]),
    st.booleans(),
    st.lists(NAMES.filter(lambda name: name and "\0" not in name), max_size=2),
    st.none() | st.sampled_from(["2020", "2020-02-03"]),
)
def test_options_are_what_the_api_takes(
    k: int, offset: int, threshold: float | None, sort: str, flag: bool, under: list[str], after: str | None
) -> None:
    where = Filter(under=tuple(under), after=after, near=(1.5, -2.25, 3.0) if flag else None) or None
    options = SearchOptions(k, offset, threshold, flag, sort, "expand", "crops", where, flag, not flag)
    request = SeveralRequest.model_validate({**travelled(options_to_dict(options)), "queries": []})
    assert request.to_options() == options


@pytest.mark.parametrize(
    "read", [record_from_dict, hit_from_dict, info_from_dict, index_report_from_dict, forget_report_from_dict]
)
@pytest.mark.parametrize("values", [{}, {"input": 3}, {"picture": {}, "skipped": [1], "folders": 2}])
def test_what_is_something_else_is_refused(read: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        read(values)


def test_answers_that_are_something_else_are_refused() -> None:
    with pytest.raises(ValueError, match="not an answer"):
        answer_from_dict(Query.words("cat"), {"hits": 3})
    with pytest.raises(ValueError, match="not labels"):
        predictions_from_list(3)
