"""What an evaluation found, as one self-contained HTML page: tables, figures, the worst queries as pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.atomic import replacing
from imagesearch.errors import ImageSearchError, UsageError
from imagesearch.frontends.evaluation_figures import data_uri, panels_as_png
from imagesearch.frontends.evaluation_tables import Table, tables
from imagesearch.frontends.text import printable
from imagesearch.images.sources import load_image

if TYPE_CHECKING:
    from imagesearch.evaluating import Evaluation
    from imagesearch.learning.outcomes import LabelReport, WorstQuery

_THUMBNAIL = 172

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; margin: 2rem auto; max-width: 70rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .7rem; border-bottom: 1px solid #e6eaef; text-align: left }
th { color: #6b7686; font-weight: 600 } .right { text-align: right }
p.note { color: #6b7686; margin: .3rem 0 } img.figure { max-width: 100%; display: block; margin: 1rem 0 }
.strip { display: flex; flex-wrap: wrap; gap: .4rem; margin: .3rem 0 1.2rem }
figure { margin: 0; width: 92px; font-size: 11px; line-height: 1.3; overflow-wrap: anywhere }
figure div { height: 92px; display: flex; align-items: center; justify-content: center; background: #eef0f3;
  border: 3px solid transparent }
figure.query div { border-color: #1c2430 } figure.right-class div { border-color: #3a9d5d }
figure.wrong-class div { border-color: #e4572e }
figure img { max-width: 86px; max-height: 86px }
"""


def write_page(found: Evaluation, file: str | os.PathLike[str], max_megapixels: float) -> Path:
    """Write the page; it needs no other file and no network.

    Raises:
        UsageError: the file cannot be written.
    """
    path = Path(file).expanduser()
    text = page(found, max_megapixels)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from error
    return path


def page(found: Evaluation, max_megapixels: float) -> str:
    """The page as text."""
    names = ", ".join(_text(one.model) for one in found.models)
    figures = "\n".join(
        f'<img class="figure" alt="figure" src="{data_uri(content, "png")}">' for content in panels_as_png(found)
    )
    worst = "\n".join(_worst(one.labels, max_megapixels) for one in found.models if one.labels is not None)
    listed = "\n".join(map(_table, tables(found)))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Evaluation of {names}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>Evaluation of {names}</h1>\n{listed}\n<h2>Figures</h2>\n{figures}\n{worst}\n</body>\n</html>\n"
    )


def _table(table: Table) -> str:
    sides = [f' class="{side}"' if side == "right" else "" for side in table.columns.values()]
    head = "".join(f"<th{side}>{_text(name)}</th>" for side, name in zip(sides, table.columns, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{side}>{_text(cell)}</td>" for side, cell in zip(sides, row, strict=True)) + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return f"<h2>{_text(table.title)}</h2>\n<table>\n<tr>{head}</tr>\n{rows}\n</table>\n{note}"


def _worst(report: LabelReport, max_megapixels: float) -> str:
    heading = f"<h2>Worst queries: {_text(report.model)}, ranking {_text(report.methods[-1].method)}</h2>"
    explained = (
        '<p class="note">Each row: the picture asked for (black frame), then what it found first; green: of its'
        " class, red: of another.</p>"
    )
    strips = "\n".join("".join(_strip(query, max_megapixels)) for query in report.worst)
    return f"{heading}\n{explained}\n{strips}"


def _strip(query: WorstQuery, max_megapixels: float) -> Iterator[str]:
    yield '<div class="strip">'
    yield _picture(query.path, f"{query.label}: AP {query.average_precision:.3f}", "query", max_megapixels)
    for path, label in query.found:
        kind = "right-class" if label == query.label else "wrong-class"
        yield _picture(path, label, kind, max_megapixels)
    yield "</div>"


def _picture(path: str, caption: str, kind: str, max_megapixels: float) -> str:
    try:
        picture = load_image(path, max_megapixels)
    except ImageSearchError as error:
        shown = _text(str(error))  # it was there when it was indexed
    else:
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=80)
        shown = f'<img alt="" src="{data_uri(content.getvalue(), "jpeg")}">'
    return (
        f'<figure class="{kind}" title="{_text(path)}"><div>{shown}</div>'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )


def _text(text: str) -> str:
    return escape(printable(text))
