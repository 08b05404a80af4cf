"""Tables of one's own on their way to a server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from imagesearch.client_connection import API, Connection
from imagesearch.reports import AnnotateReport
from imagesearch.search.wire import annotate_report_from_dict, to_json

if TYPE_CHECKING:
    from imagesearch.library.annotations import Annotations, Row


def annotated(connection: Connection, table: Annotations, on: str, most_bytes: int) -> AnnotateReport:
    """What the server did with a table, which goes there in as many requests as its length takes.

    Args:
        connection: to the server.
        table: what was read.
        on: the column that says which picture.
        most_bytes: of a request.

    Raises:
        ImageSearchError: the server refuses it; what it has written stays.
    """
    order = {"on": on, "file": table.file, "columns": list(table.columns), "rows": []}
    report: AnnotateReport | None = None
    for rows in _parts(table.rows, most_bytes - len(to_json(order))):
        part = annotate_report_from_dict(connection.post(f"{API}/annotations", {**order, "rows": rows}))
        if report is not None:
            pictures, unmatched = report.pictures + part.pictures, report.unmatched + part.unmatched
            part = replace(part, pictures=pictures, unmatched=unmatched)
        report = part
    assert report is not None, "there is at least one part"
    return report


def _parts(rows: Mapping[str, Row], most_bytes: int) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    left = most_bytes
    for key, values in rows.items():
        row = {"key": key, "values": values}
        size = len(to_json(row)) + len(",")
        if part and size > left:
            yield part
            part, left = [], most_bytes
        part.append(row)
        left -= size
    yield part
