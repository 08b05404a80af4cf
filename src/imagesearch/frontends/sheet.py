"""A contact sheet: queries and what was found for them, as one HTML file that needs nothing else.

Thumbnails are in the file, so it can be sent to somebody; they carry no metadata of the photographs. The page has
no script, and its policy (CSP) forbids the browser to load or run anything: whatever a file is called, it is shown
as text. Names link to the files, for whoever has them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.frontends import pages
from imagesearch.frontends.pages import Thumbnail, breaking, link, picture_box, text
from imagesearch.frontends.text import METRIC_CAPTIONS, counted, shortest_names
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import ImageSource
from imagesearch.records import CollectionInfo, Hit, Skipped
from imagesearch.search.answers import Answer
from imagesearch.search.image_encoding import load_region
from imagesearch.search.query import Kind, Part, Region

if TYPE_CHECKING:
    from PIL import Image

# Pixels of the longer side: sharp on a screen of twice the usual resolution, and about 15 KB.
THUMBNAIL = 360
# Thumbnails of a page, about 30 MB. Hits beyond are listed without.
MAX_THUMBNAILS = 2000
# More names of near-identical pictures than these are counted only.
_MAX_OTHERS = 50

_STYLE = (
    pages.STYLE
    + """
header p, .about { color: var(--faint); }
section { margin-top: 2.5em; padding-top: 1.5em; border-top: 1px solid var(--line); }
.about { margin-top: 1em; }
ol, ul.query { display: grid; gap: 1.25em 1em; padding: 0; list-style: none; margin-top: 1.2em;
  grid-template-columns: repeat(auto-fill, minmax(min(max(10.5em, 8vw), calc(50% - .5em)), 1fr)); }
.query figure { border: 3px solid var(--accent); border-radius: .5em; padding: .3em; }
.words { font-size: 1.15em; font-weight: 600; padding: .6em; text-align: center; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .6em;
  font-variant-numeric: tabular-nums; }
.rank { font-weight: 700; }
.sure { color: var(--accent); font-weight: 600; }
.date, details { font-size: .8em; color: var(--faint); }
details ul { padding-left: 1.2em; overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { section { break-before: auto; } li { break-inside: avoid; } }
"""
)


def contact_sheet(
    answers: Sequence[Answer],
    destination: str | os.PathLike[str],
    *,
    info: CollectionInfo,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Path:
    """Write queries and their hits as one self-contained HTML page; an older file is replaced as a whole.

    A picture that cannot be read any more is a placeholder with the reason. At most :data:`MAX_THUMBNAILS`
    pictures are shown; further hits are listed without.

    Args:
        destination: the file; ``.html`` is added if the name has no ending. Its folder is made if it is missing.
        info: the collection that was searched.
        max_megapixels: larger pictures are not shown.

    Returns:
        The file.

    Raises:
        UsageError: it cannot be written.
    """
    return pages.write(_page(answers, info, max_megapixels), destination)


def thumbnail(
    source: ImageSource,
    region: Region | None = None,
    *,
    side: int = THUMBNAIL,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Thumbnail:
    """A picture no larger than a square, without any metadata.

    Args:
        region: the part of it to show.
        side: of the square, pixels.

    Raises:
        PictureError: it cannot be read.
    """
    picture = load_region(source, region, max_megapixels, side)
    if picture is source:
        picture = picture.copy()
    picture.thumbnail((side, side))
    picture.info = {}  # Pillow writes what it finds there, which may tell where a photograph was taken
    kind, data = _encoded(picture)
    return Thumbnail(pages.data_uri(data, kind), *picture.size)


def _encoded(picture: Image.Image) -> tuple[str, bytes]:
    from PIL import features

    kind = "webp" if features.check("webp") else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=78)
    return kind, file.getvalue()


def _page(answers: Sequence[Answer], info: CollectionInfo, max_megapixels: float) -> Iterator[str]:
    """The page, part by part."""
    first = ", ".join(map(_short, answers[0].query.parts)) if answers else ""
    title = f"Pictures like {first}" if len(answers) == 1 else f"{len(answers):,} searches"
    yield pages.head(title, _STYLE)
    yield (
        f"<header>\n<h1>{text(title)}</h1>\n"
        f"<p>{counted(info.rows, 'picture')} in collection {text(info.name)},"
        f" model {text(info.fingerprint.model)}; {METRIC_CAPTIONS[info.metric.value]}</p>\n</header>\n<main>\n"
    )
    thumbnails = _thumbnails(answers, max_megapixels)
    for answer in answers:
        yield from _section(answer, thumbnails)
    yield "</main>\n</body>\n</html>\n"


def _thumbnails(answers: Sequence[Answer], max_megapixels: float) -> Iterator[Thumbnail | Skipped]:
    """For every picture of the page, in its order; decoded ahead."""

    def sources() -> Iterator[tuple[ImageSource, Region | None]]:
        for answer in answers:
            yield from ((part.value, part.region) for part in answer.query.parts if part.has_picture)
            yield from ((hit.path, None) for hit in answer.hits)

    def load(source: tuple[ImageSource, Region | None]) -> Thumbnail:
        return thumbnail(source[0], source[1], max_megapixels=max_megapixels)

    room = iter(range(MAX_THUMBNAILS))
    bounded = (source for source, _ in zip(sources(), room, strict=False))
    yield from decode_ahead(bounded, load, max_workers=0)
    while True:
        yield Skipped("", f"not shown: a page has at most {MAX_THUMBNAILS:,} pictures")


def _section(answer: Answer, thumbnails: Iterator[Thumbnail | Skipped]) -> Iterator[str]:
    """A query and its hits."""
    signs = [
        "&minus; " if part.weight < 0 else "+ " if place else "" for place, part in enumerate(answer.query.parts)
    ]
    parts = zip(signs, answer.query.parts, strict=True)
    heading = " ".join(f"{sign}{breaking(_short(part))}" for sign, part in parts)
    yield f'<section>\n<h2>{heading}</h2>\n<ul class="query">\n'
    for part in answer.query.parts:
        yield f"<li>{_part(part, next(thumbnails) if part.has_picture else None)}</li>\n"
    yield "</ul>\n"
    for remark in answer.meanings:
        yield f'<p class="note">{text(remark)}</p>\n'
    if not answer.hits:
        yield '<p class="about">Nothing found.</p>\n</section>\n'
        return
    yield f'<p class="about">{counted(len(answer.hits), "hit")}</p>\n<ol>\n'
    names = shortest_names([hit.path for hit in answer.hits])
    for hit, name in zip(answer.hits, names, strict=True):
        yield f"<li>{_hit(hit, answer.others(hit), name, next(thumbnails))}</li>\n"
    yield "</ol>\n</section>\n"


def _part(part: Part, shown: Thumbnail | Skipped | None) -> str:
    role = "Query" if part.weight > 0 else "Not like this"
    role = role if abs(part.weight) == 1 else f"{role}, weight {abs(part.weight):g}"
    if shown is None:
        box, caption = f'<div class="picture words">{text(_short(part))}</div>', role
    else:
        name = _short(part)
        box, caption = picture_box(shown, f"{role}: {name}"), f"{role}: {breaking(name)}"
    return f'<figure>{box}<figcaption class="name">{caption}</figcaption></figure>'


def _short(part: Part) -> str:
    """Of a path or URL the last part; words without quotes."""
    if part.kind is Kind.WORDS:
        return str(part.value)
    return os.path.basename(part.label.rstrip("/")) or part.label if part.has_picture else part.label


def _hit(hit: Hit, others: Sequence[Hit], name: str, shown: Thumbnail | Skipped) -> str:
    sure = "" if hit.confidence is None else f'<span class="sure">{hit.confidence:.0%} sure</span>'
    facts = (
        f'<div class="facts"><span class="rank">{hit.rank}</span>{sure}'
        f'<span class="score"{_chance(hit)}>{hit.score:.3f}</span></div>'
    )
    label = f"Hit {hit.rank}: {name}, score {hit.score:.3f}"
    folded = _others(others) if others else ""
    return (
        f"<figure>{picture_box(shown, label)}<figcaption>{facts}"
        f'<div class="name">{link(hit.path, name)}</div>{_date(hit)}{folded}</figcaption></figure>'
    )


def _chance(hit: Hit) -> str:
    if hit.expected is None:
        return ""
    return f' title="unrelated pictures with such a score, on average: {hit.expected:.2g}"'


def _date(hit: Hit) -> str:
    """When the photograph was taken, or else when the file was last changed, which is said."""
    if hit.picture.taken:
        return f'<div class="date">{text(hit.picture.taken[:16].replace("T", " "))}</div>'
    if not hit.picture.mtime_ns:
        return ""
    changed = datetime.fromtimestamp(hit.picture.mtime_ns // 10**9, timezone.utc)
    return f'<div class="date">file of {changed:%Y-%m-%d}</div>'


def _others(others: Sequence[Hit]) -> str:
    """The near-identical ones, folded."""
    items = "".join(f"<li>{link(hit.path, hit.path)} ({hit.score:.3f})</li>" for hit in others[:_MAX_OTHERS])
    more = f"<li>and {len(others) - _MAX_OTHERS:,} more</li>" if len(others) > _MAX_OTHERS else ""
    return f"<details><summary>and {len(others):,} nearly the same</summary><ul>{items}{more}</ul></details>"
