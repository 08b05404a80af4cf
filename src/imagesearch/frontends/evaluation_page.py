"""What an evaluation found, as one self-contained HTML page: tables, figures, the worst queries as pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.errors import ImageSearchError
from imagesearch.frontends import pages
from imagesearch.frontends.evaluation_figures import evaluation_panels
from imagesearch.frontends.evaluation_tables import tables
from imagesearch.frontends.pages import picture_box, text
from imagesearch.frontends.panels import Panel, as_png
from imagesearch.frontends.sheet import thumbnail
from imagesearch.records import Skipped

if TYPE_CHECKING:
    from imagesearch.evaluating import Evaluation
    from imagesearch.frontends.pages import Thumbnail
    from imagesearch.learning.outcomes import LabelReport

_THUMBNAIL = 240
_STYLE = pages.STYLE + pages.REPORT_STYLE


def write_page(found: Evaluation, file: str | os.PathLike[str], max_megapixels: float) -> Path:
    """Write the page; it needs no other file and no network.

    Raises:
        UsageError: the file cannot be written.
    """
    return pages.write(_page(found, max_megapixels), file)


def _page(found: Evaluation, max_megapixels: float) -> Iterator[str]:
    """The page, part by part."""
    title = f"Evaluation of {', '.join(one.model for one in found.models)}"
    yield f"{pages.head(title, _STYLE)}<h1>{text(title)}</h1>\n"
    yield from map(pages.table, tables(found))
    yield "<h2>Figures</h2>\n"
    yield from map(figure, evaluation_panels(found))
    for one in found.models:
        if one.labels is not None:
            yield from _worst(one.labels, max_megapixels)
    yield "</body>\n</html>\n"


def figure(panel: Panel, png: bytes | None = None) -> str:
    """A chart, for light and for dark.

    Args:
        png: the one for light, where it was drawn before.
    """
    light, dark = (pages.data_uri(one, "png") for one in (png or as_png(panel), as_png(panel, dark=True)))
    return (
        f'<picture class="figure"><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img alt="{text(panel.says)}" src="{light}"></picture>\n'
    )


def small_picture(path: str, max_megapixels: float) -> Thumbnail | Skipped:
    """A picture for a strip, or why there is none: it was there when it was indexed."""
    try:
        return thumbnail(path, side=_THUMBNAIL, max_megapixels=max_megapixels)
    except ImageSearchError as error:
        return Skipped(path, str(error))


def _worst(report: LabelReport, max_megapixels: float) -> Iterator[str]:
    yield f"<h2>Worst queries: {text(report.model)}, ranking {text(report.methods[-1].method)}</h2>\n"
    yield (
        '<p class="about">Each row: the picture asked for (strong frame), then what it found first; green: of its'
        " class, orange: of another.</p>\n"
    )
    for query in report.worst:
        yield '<ul class="strip">\n'
        yield _picture(query.path, f"{query.label}: AP {query.average_precision:.3f}", "asked", max_megapixels)
        for path, label in query.found:
            yield _picture(path, label, "right" if label == query.label else "wrong", max_megapixels)
        yield "</ul>\n"


def _picture(path: str, caption: str, kind: str, max_megapixels: float) -> str:
    box = picture_box(small_picture(path, max_megapixels), caption)
    return (
        f'<li class="{kind}" title="{text(path)}"><figure>{box}'
        f'<figcaption class="name">{text(caption)}</figcaption></figure></li>\n'
    )
