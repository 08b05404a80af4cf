"""What all HTML files of this program have in common: complete in themselves, harmless, light and dark.

No page has a script, and its policy (CSP) forbids the browser to load or run anything: whatever a file is called,
it is shown as text.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

from imagesearch.atomic import replacing
from imagesearch.errors import UsageError
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.evaluation_tables import Table
from imagesearch.frontends.text import printable
from imagesearch.records import Skipped

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --faint: #5b6675; --page: #fff; --card: #f3f5f7;
  --line: #d9dee5; --accent: #c2410c; --right: #2f8a50; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6eaf0; --faint: #9aa5b4; --page: #14181e; --card: #1e242c; --line: #323a45; --accent: #fb923c;
    --right: #58b97c; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: clamp(1rem, 2.5vw, 4rem); color: var(--ink); background: var(--page);
  font: clamp(.9375rem, .85rem + .18vw, 1.375rem)/1.45 system-ui, sans-serif; }
h1, h2, p, ol, ul, figure { margin: 0; }
h1 { font-size: 1.5em; line-height: 1.2; overflow-wrap: anywhere; }
h2 { font-size: 1.2em; line-height: 1.3; overflow-wrap: anywhere; }
figure { display: flex; flex-direction: column; gap: .4em; min-width: 0; }
.picture { display: flex; align-items: center; justify-content: center; aspect-ratio: 1; overflow: hidden;
  border-radius: .35em; background: var(--card); }
.picture img { display: block; width: 100%; height: 100%; object-fit: contain; }
.missing { padding: .8em; color: var(--faint); font-size: .85em; text-align: center; overflow-wrap: anywhere;
  border: 1px dashed var(--line); }
.note { color: var(--faint); margin-top: .8em; padding: .6em .9em;
  border-left: 3px solid var(--accent); background: var(--card); }
.name { font-size: .85em; overflow-wrap: anywhere; }
a { color: inherit; text-underline-offset: .15em; text-decoration-color: var(--line); }
a:hover, a:focus { text-decoration-color: currentColor; }
"""
# For pages of tables and figures, beside STYLE.
REPORT_STYLE = """
body { max-width: 80rem; }
h2 { margin: 2em 0 .5em; }
.about { color: var(--faint); margin: .4em 0; max-width: 60em; }
.wide { overflow-x: auto; max-height: 40em; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .15em .55em; border-bottom: 1px solid var(--line); text-align: left; }
td:first-child { overflow-wrap: break-word; min-width: 6em; max-width: 24em; }
th { color: var(--faint); font-weight: 600; position: sticky; top: 0; background: var(--page); }
.end { text-align: right; white-space: nowrap; }
.figure { display: block; overflow-x: auto; }
.figure img { display: block; width: 100%; min-width: 30rem; max-width: 55rem; height: auto;
  margin: 1em 0; border-radius: .35em; }
.strip { display: grid; gap: 1.2em 1em; padding: 0; list-style: none; margin: 1em 0 1.6em;
  grid-template-columns: repeat(auto-fill, minmax(min(8.5em, calc(50% - .5em)), 1fr)); }
.strip .picture { border: 3px solid transparent; }
.asked .picture { border-color: var(--ink); } .right .picture { border-color: var(--right); }
.wrong .picture { border-color: var(--accent); }
"""


class Thumbnail(NamedTuple):
    """A small picture as a ``data:`` URI, with its size in pixels."""

    uri: str
    width: int
    height: int


def head(title: str, style: str) -> str:
    """The page up to and with the start of its body.

    Args:
        title: plain text.
        style: all of its CSS.
    """
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="referrer" content="no-referrer">\n<title>{text(title)}</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n"
    )


def page_path(destination: str | os.PathLike[str]) -> Path:
    """Where a page goes: ``.html`` is added if the name has no ending.

    Raises:
        WrongUsageError: it names no file, such as an unset variable of a script.
    """
    path = Path(destination).expanduser()
    if path.name in ("", ".."):
        raise WrongUsageError(f"{os.fspath(destination)!r} names no file: say where to write the page")
    return path if path.suffix else path.with_name(f"{path.name}.html")


def write(parts: Iterable[str], destination: str | os.PathLike[str]) -> Path:
    """Write a page; an older file is replaced as a whole, and folders are made.

    Args:
        destination: the file; ``.html`` is added if the name has no ending.

    Returns:
        The file.

    Raises:
        UsageError: it cannot be written; see also :func:`page_path`.
    """
    path = page_path(destination)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(parts)
    except OSError as error:
        raise UsageError(f"cannot write {os.fspath(path)!r}: {(error.strerror or str(error)).lower()}") from error
    return path


def table(shown: Table, mark: str = "h2") -> str:
    """A table with its title; it scrolls in itself where the window is too narrow for it.

    Args:
        mark: the element of the title.
    """
    sides = [' class="end"' if side == "right" else "" for side in shown.columns.values()]
    names = "".join(f"<th{side}>{text(name)}</th>" for side, name in zip(sides, shown.columns, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{side}>{text(cell)}</td>" for side, cell in zip(sides, row, strict=True)) + "</tr>"
        for row in shown.rows
    )
    note = f'<p class="about">{text(shown.note)}</p>' if shown.note else ""
    title = text(shown.title)
    # Reachable by keyboard, as else nobody without a mouse can scroll it.
    return (
        f'<{mark}>{title}</{mark}>\n<div class="wide" tabindex="0" role="region" aria-label="{title}">\n'
        f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{note}"
    )


def picture_box(shown: Thumbnail | Skipped, label: str) -> str:
    """A picture, or why there is none."""
    if isinstance(shown, Skipped):
        return f'<div class="picture missing">{text(shown.reason)}</div>'
    size = f'width="{shown.width}" height="{shown.height}"'
    return f'<div class="picture"><img src="{shown.uri}" {size} alt="{text(label)}"></div>'


def link(path: str, name: str) -> str:
    """A name that leads to the file, for whoever has it."""
    if not os.path.isabs(path):
        return breaking(name)
    return f'<a href="{text(Path(path).as_uri())}" title="{text(path)}">{breaking(name)}</a>'


def breaking(name: str) -> str:
    """A name that the browser may break where its parts end, not amid a word."""
    return re.sub(r"(?<=[^\W_])([_.\-/]+)(?=[^\W_])", r"\1<wbr>", text(name))


def text(value: str) -> str:
    """Text between tags or in an attribute, whatever a file is called."""
    return escape(printable(value), quote=True)


def data_uri(content: bytes, kind: str) -> str:
    """A picture as an address that holds it.

    Args:
        kind: ``"png"``, ``"webp"``, ...
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
