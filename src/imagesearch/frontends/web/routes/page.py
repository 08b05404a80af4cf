"""The web page: HTML that is made here, and the modules, style sheets and the icon that it loads."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as File
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from imagesearch.frontends.web.responses import ServedBy, is_fresh
from imagesearch.frontends.web.schemas import PictureId
from imagesearch.frontends.web.security.credentials import session_ids
from imagesearch.frontends.web.uploads import NotFoundError

if TYPE_CHECKING:
    import jinja2

router = APIRouter(include_in_schema=False)

_PAGE = File(__file__).parent.parent / "page"
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FOREVER = "private, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


@dataclass(frozen=True, slots=True)
class Static:
    """A file of the page.

    Attributes:
        content: its bytes.
        media_type: what they are.
        etag: differs where they do.
    """

    content: bytes
    media_type: str
    etag: str


@lru_cache(maxsize=1)
def static_files() -> dict[str, Static]:
    """All files of the page by their names: nothing else can be asked for, whatever a path says."""
    return {file.name: _read(file) for file in sorted((_PAGE / "static").iterdir()) if file.suffix in _TYPES}


@lru_cache(maxsize=1)
def page_version() -> str:
    """Differs wherever any file of the page does; part of their addresses, so that browsers may keep them."""
    return _digest(b"".join(one.etag.encode() for one in static_files().values()))


@router.get("/")
def show_library(request: Request) -> Response:
    """All pictures, or what a search found: the address holds what is asked for."""
    return _html(request, "library.html", title="ImageSearch")


@router.get("/picture/{key}")
def show_picture(request: Request, key: Annotated[PictureId, Path()], backend: ServedBy) -> Response:
    """One picture; the page behind it is the same, so that one can go back to the results."""
    try:
        record = backend.picture(key)
    except NotFoundError:  # people get a page that says so
        return _html(request, "library.html", title="Not found - ImageSearch", status_code=404)
    # A file name need not be valid text, and HTML has to be.
    name = os.path.basename(record.path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return _html(request, "library.html", title=f"{name} - ImageSearch")


@router.get("/jobs")
def show_jobs(request: Request) -> Response:
    """Indexing, and the files that could not be read."""
    return _html(request, "jobs.html", title="Indexing - ImageSearch")


@router.get("/label")
def show_labelling(request: Request) -> Response:
    """Labelling by hand."""
    return _html(request, "label.html", title="Labelling - ImageSearch")


@router.get("/favicon.svg")
def show_icon(request: Request) -> Response:
    """The icon."""
    return _static(request, "icon.svg", _ASK_AGAIN)


@router.get("/static/{version}/{name}")
def static_file(request: Request, version: str, name: str) -> Response:
    """A file of the page."""
    return _static(request, name, _FOREVER if version == page_version() else _ASK_AGAIN)


def _static(request: Request, name: str, caching: str) -> Response:
    found = static_files().get(name)
    if found is None:
        raise HTTPException(404, "the page has no such file")
    headers = {"ETag": found.etag, "Cache-Control": caching}
    if is_fresh(request, found.etag):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _html(request: Request, template: str, *, title: str, status_code: int = 200) -> Response:
    static, logged_in = f"/static/{page_version()}", bool(session_ids(request.scope))
    text = _templates().get_template(template).render(title=title, static=static, logged_in=logged_in)
    content = text.encode()
    headers = {"ETag": f'"{_digest(content)}"', "Cache-Control": f"private, {_ASK_AGAIN}"}
    if status_code == 200 and is_fresh(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return Response(content, status_code, headers, media_type="text/html")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_PAGE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def _read(file: File) -> Static:
    content = file.read_bytes()
    return Static(content, _TYPES[file.suffix], f'"{_digest(content)}"')


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
