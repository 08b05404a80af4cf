"""Results as JSON and CSV: the keys that programs rely on, and lists that are printed as they come."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from imagesearch.frontends.cli.commands.classify import LabelledPicture
from imagesearch.frontends.cli.commands.collections import Dropped, ListedCollection, Renamed
from imagesearch.frontends.cli.commands.index import IndexResult
from imagesearch.frontends.cli.output import Format, print_results
from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric, Prediction, Skipped
from imagesearch.reports import ExtractReport, IndexReport, TransferReport

MARK = Fingerprint("toy", "1", "cls", (8, 8), 2)
INFO = CollectionInfo("mine", 3, Metric.COSINE, "", MARK)
PREDICTION = Prediction("cat", 0.5, 7)

HIT_KEYS = (  # in this order
    "rank score expected confidence path root content_hash size mtime_ns width height taken camera"
    " latitude longitude annotations"
)
INFO_KEYS = "name configured rows model dimension pooling input key metric index"
INDEX_KEYS = (
    "found indexed unchanged skipped collection seconds reused removed offline dry_run database"  # in this order
)


@pytest.mark.parametrize(
    ("result", "keys"),
    [
        (Hit(1, 0.9, ImageRecord("/a.jpg")), HIT_KEYS),
        (PREDICTION, "label score index"),
        (Skipped("/a.jpg", "is empty"), "path reason retryable"),
        (LabelledPicture("/a.jpg", [PREDICTION]), "path predictions"),
        (LabelledPicture("/a.jpg", Skipped("/a.jpg", "is empty")), "path error"),
        (ListedCollection("mine", True, INFO), INFO_KEYS),
        (ListedCollection("other", False, None), "name configured"),
        (IndexResult(IndexReport(1, 1, 0, (), "mine", 0.1), "Milvus"), INDEX_KEYS),
        (ExtractReport(1, (), "f", "p", 2), "extracted skipped features paths dim"),
        (TransferReport("mine", "a.db", 1, 0, 0.1), "collection target rows already_there seconds"),
        (Renamed("a", "b"), "collection renamed_from"),
        (Dropped("a", 3), "collection rows"),
    ],
)
def test_keys(result: Any, keys: str) -> None:
    assert list(result.to_dict()) == keys.split()
    assert json.loads(json.dumps(result.to_dict())).keys() == result.to_dict().keys()


@dataclass
class Row:
    number: int

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number, "path": "caf\udce9"}


def fail(_: object) -> None:
    raise AssertionError("printed as text")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_lists_are_what_json_dumps_prints(count: int) -> None:
    rows, stream = [Row(number) for number in range(count)], io.StringIO()
    print_results(rows, Format.JSON, fail, stream=stream)
    assert stream.getvalue() == json.dumps([row.to_dict() for row in rows], indent=2) + "\n"


@pytest.mark.parametrize("output", [Format.JSON, Format.CSV])
def test_lists_are_printed_as_they_come(output: Format) -> None:
    stream = io.StringIO()

    def rows() -> Iterator[Row]:
        yield Row(1)
        assert "1" in stream.getvalue()
        yield Row(2)

    print_results(rows(), output, fail, ("number", "unknown"), stream=stream)
    if output is Format.CSV:
        assert stream.getvalue() == "number,unknown\n1,\n2,\n"


def test_csv_holds_nothing_that_a_terminal_or_a_spreadsheet_acts_on() -> None:
    class Row:
        def __init__(self, *values: object) -> None:
            self.values = values

        def to_dict(self) -> dict[str, object]:
            return dict(zip("abc", self.values, strict=True))

    rows = [Row("=1+1", "\x1b[31mred", -5), Row("@SUM(A1)", "two\nlines", 0.5), Row("/a, b", "caf\udce9", "-x")]
    stream = io.StringIO()
    print_results(rows, Format.CSV, lambda _: None, "abc", stream=stream)
    assert list(csv.reader(io.StringIO(stream.getvalue())))[1:] == [
        ["'=1+1", "\\x1b[31mred", "-5"],
        ["'@SUM(A1)", "two\nlines", "0.5"],
        ["/a, b", "caf\\udce9", "'-x"],
    ]
    stream = io.StringIO()
    print_results(rows, Format.JSON, lambda _: None, stream=stream)
    assert json.loads(stream.getvalue()) == [row.to_dict() for row in rows]
