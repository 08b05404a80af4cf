"""A contact sheet: queries and what was found for them, as one HTML file that needs nothing else.

Thumbnails are in the file, so it can be sent to somebody; they carry no metadata of the photographs. The page has
no script, and its policy (CSP) forbids the browser to load or run anything: whatever a file is called, it is shown
as text. Names link to the files, for whoever has them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from imagesearch.atomic import replacing
from imagesearch.errors import UsageError
from imagesearch.frontends.text import METRIC_CAPTIONS, counted, printable, shortest_names
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.pipeline import decode_ahead
from imagesearch.images.sources import ImageSource
from imagesearch.records import CollectionInfo, Hit, Skipped
from imagesearch.search.answers import Answer
from imagesearch.search.query import Kind, Part, Region
from imagesearch.search.vectors import load_region

if TYPE_CHECKING:
    from PIL import Image

# Pixels of the longer side: sharp on a screen of twice the usual resolution, and about 15 KB.
THUMBNAIL = 360
# Thumbnails of a page, about 30 MB. Hits beyond are listed without.
MAX_THUMBNAILS = 2000
# More names of near-identical pictures than these are counted only.
_MAX_OTHERS = 50

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #5b6675; --page: #fff; --card: #f3f5f7;
  --line: #d9dee5; --accent: #c2410c; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --faint: #9aa5b4; --page: #14181e; --card: #1e242c; --line: #323a45; --accent: #fb923c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: clamp(1rem, 2.5vw, 4rem); color: var(--ink); background: var(--page);
  font: clamp(.9375rem, .85rem + .18vw, 1.375rem)/1.45 system-ui, sans-serif; }
h1, h2, p, ol, ul, figure { margin: 0; }
h1 { font-size: 1.5em; line-height: 1.2; }
h2 { font-size: 1.2em; line-height: 1.3; overflow-wrap: anywhere; }
header p, .note, .about { color: var(--faint); }
section { margin-top: 2.5em; padding-top: 1.5em; border-top: 1px solid var(--line); }
.about { margin-top: 1em; }
.note { margin-top: .8em; padding: .6em .9em; border-left: 3px solid var(--accent); background: var(--card); }
ol, ul.query { display: grid; gap: 1.25em 1em; padding: 0; list-style: none; margin-top: 1.2em;
  grid-template-columns: repeat(auto-fill, minmax(min(max(10.5em, 8vw), calc(50% - .5em)), 1fr)); }
.query figure { border: 3px solid var(--accent); border-radius: .5em; padding: .3em; }
figure { display: flex; flex-direction: column; gap: .4em; min-width: 0; }
.picture { display: flex; align-items: center; justify-content: center; aspect-ratio: 1; overflow: hidden;
  border-radius: .35em; background: var(--card); }
.picture img { display: block; width: 100%; height: 100%; object-fit: contain; }
.missing { padding: .8em; color: var(--faint); font-size: .85em; text-align: center; overflow-wrap: anywhere;
  border: 1px dashed var(--line); }
.words { font-size: 1.15em; font-weight: 600; padding: .6em; text-align: center; overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 .6em;
  font-variant-numeric: tabular-nums; }
.rank { font-weight: 700; }
.sure { color: var(--accent); font-weight: 600; }
.name { font-size: .85em; overflow-wrap: anywhere; }
.date, details { font-size: .8em; color: var(--faint); }
a { color: inherit; text-underline-offset: .15em; text-decoration-color: var(--line); }
a:hover, a:focus { text-decoration-color: currentColor; }
details ul { padding-left: 1.2em; overflow-wrap: anywhere; }
summary { cursor: pointer; }
@media print { section { break-before: auto; } li { break-inside: avoid; } }
"""
_POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src"
    f" 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)


class Thumbnail(NamedTuple):
    """A small picture as a ``data:`` URI, with its size in pixels."""

    uri: str
    width: int
    height: int


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
    path = Path(destination).expanduser()
    path = path if path.suffix else path.with_name(f"{path.name}.html")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(_page(answers, info, max_megapixels))
    except OSError as error:
        raise UsageError(f"cannot write {os.fspath(path)!r}: {(error.strerror or str(error)).lower()}") from error
    return path


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
    return Thumbnail(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", *picture.size)


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
    yield (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{_text(title)}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{_text(title)}</h1>\n"
        f"<p>{counted(info.rows, 'picture')} in collection {_text(info.name)},"
        f" model {_text(info.fingerprint.model)}; {METRIC_CAPTIONS[info.metric.value]}</p>\n</header>\n<main>\n"
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
    heading = " ".join(f"{sign}{_breaking(_short(part))}" for sign, part in parts)
    yield f'<section>\n<h2>{heading}</h2>\n<ul class="query">\n'
    for part in answer.query.parts:
        yield f"<li>{_part(part, next(thumbnails) if part.has_picture else None)}</li>\n"
    yield "</ul>\n"
    for remark in answer.meanings:
        yield f'<p class="note">{_text(remark)}</p>\n'
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
        box, caption = f'<div class="picture words">{_text(_short(part))}</div>', role
    else:
        name = _short(part)
        box, caption = _box(shown, f"{role}: {name}"), f"{role}: {_breaking(name)}"
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
        f"<figure>{_box(shown, label)}<figcaption>{facts}"
        f'<div class="name">{_link(hit.path, name)}</div>{_date(hit)}{folded}</figcaption></figure>'
    )


def _box(shown: Thumbnail | Skipped, label: str) -> str:
    """The picture, or why there is none."""
    if isinstance(shown, Skipped):
        return f'<div class="picture missing">{_text(shown.reason)}</div>'
    size = f'width="{shown.width}" height="{shown.height}"'
    return f'<div class="picture"><img src="{shown.uri}" {size} alt="{_text(label)}"></div>'


def _chance(hit: Hit) -> str:
    if hit.expected is None:
        return ""
    return f' title="unrelated pictures with such a score, on average: {hit.expected:.2g}"'


def _link(path: str, name: str) -> str:
    if not os.path.isabs(path):
        return _breaking(name)
    return f'<a href="{_text(Path(path).as_uri())}" title="{_text(path)}">{_breaking(name)}</a>'


def _date(hit: Hit) -> str:
    """When the photograph was taken, or else when the file was last changed, which is said."""
    if hit.picture.taken:
        return f'<div class="date">{_text(hit.picture.taken[:16].replace("T", " "))}</div>'
    if not hit.picture.mtime_ns:
        return ""
    changed = datetime.fromtimestamp(hit.picture.mtime_ns // 10**9, timezone.utc)
    return f'<div class="date">file of {changed:%Y-%m-%d}</div>'


def _others(others: Sequence[Hit]) -> str:
    """The near-identical ones, folded."""
    items = "".join(f"<li>{_link(hit.path, hit.path)} ({hit.score:.3f})</li>" for hit in others[:_MAX_OTHERS])
    more = f"<li>and {len(others) - _MAX_OTHERS:,} more</li>" if len(others) > _MAX_OTHERS else ""
    return f"<details><summary>and {len(others):,} nearly the same</summary><ul>{items}{more}</ul></details>"


def _breaking(name: str) -> str:
    """A name that the browser may break where its parts end, not amid a word."""
    return re.sub(r"(?<=[^\W_])([_.\-/]+)(?=[^\W_])", r"\1<wbr>", _text(name))


def _text(text: str) -> str:
    """Text between tags or in an attribute, whatever a file is called."""
    return escape(printable(text), quote=True)
