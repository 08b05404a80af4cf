"""The pictures of the collection, by their ids: what is known of them, thumbnails, and the pictures themselves."""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.rendering import THUMBNAIL_TYPE, as_jpeg
from imagesearch.frontends.web.replies import LookedUpOut, PictureOut, PicturesOut
from imagesearch.frontends.web.responses import ApiResponse, ServedBy, is_fresh, links, problems
from imagesearch.frontends.web.schemas import Conditions, LookupRequest, PictureId
from imagesearch.frontends.web.thumbnails import SIZES
from imagesearch.images.files import file_content, open_image
from imagesearch.records import ImageRecord
from imagesearch.search.vectors import is_unchanged
from imagesearch.search.wire import record_to_dict

router = APIRouter(prefix="/pictures", tags=["pictures"])

Key = Annotated[PictureId, Path()]
# What every browser shows, by the names that Pillow has for it; anything else is sent as a JPEG.
_SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
# Operations on one picture.
OF_A_PICTURE = ("describe_picture", "picture_thumbnail", "picture_image")
_LONGEST = 8192
_A_YEAR = "private, max-age=31536000, immutable"


class Wanted(Conditions):
    """Which pictures, and how many of them."""

    sort: Annotated[Literal["newest", "oldest", "path"], Field(description="by date or by path")] = "newest"
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0
    limit: Annotated[int, Field(ge=1, le=500)] = 60


@router.get("", response_model=PicturesOut, responses={200: links("/pictures/0/id", *OF_A_PICTURE), **problems()})
def list_pictures(wanted: Annotated[Wanted, Query()], backend: ServedBy) -> Response:
    """The pictures that match, in order."""
    page = backend.browser.page(wanted.sort, wanted.offset, wanted.limit, wanted.to_filter())
    return ApiResponse({"total": page.total, "pictures": [record_to_dict(record) for record in page.pictures]})


@router.post(
    "/lookup", response_model=LookedUpOut, responses={200: links("/pictures/0/id", *OF_A_PICTURE), **problems()}
)
def look_up_pictures(request: LookupRequest, backend: ServedBy) -> Response:
    """What is known of some pictures; those that are not in the collection are left out."""
    records = backend.pictures(request.ids)
    found = {"total": len(records), "pictures": [record_to_dict(record) for record in records]}
    return ApiResponse({**found, "views": backend.images.config.search.views})


@router.get("/{key}", response_model=PictureOut, responses=problems(404))
def describe_picture(key: Key, backend: ServedBy) -> Response:
    """What is known of a picture."""
    return ApiResponse(record_to_dict(backend.picture(key)))


@router.get(
    "/{key}/thumbnail",
    response_class=Response,
    responses={200: {"content": {THUMBNAIL_TYPE: {}}}, 304: {}, **problems(404)},
)
async def picture_thumbnail(
    key: Key,
    request: Request,
    backend: ServedBy,
    size: Annotated[int, Query(ge=1, le=SIZES[-1], description="longest side in pixels")] = SIZES[1],
    v: Annotated[
        str | None, Query(max_length=64, description="the content hash, so that it may be cached")
    ] = None,
) -> Response:
    """A small JPEG of a picture: of the next larger size that is kept, never enlarged."""
    longest = next(one for one in SIZES if one >= size)
    record, headers = await run_in_threadpool(_looked_up, backend, key, f"-{longest}", v)
    if is_fresh(request, headers.get("ETag")):
        return Response(status_code=304, headers=headers)
    data = await asyncio.wrap_future(backend.thumbnails.get(record, longest))
    return Response(data, media_type=THUMBNAIL_TYPE, headers=headers)


@router.get(
    "/{key}/image",
    response_class=Response,
    responses={200: {"content": {kind: {} for kind in _SHOWN.values()}}, 304: {}, **problems(404)},
)
def picture_image(
    key: Key,
    request: Request,
    backend: ServedBy,
    download: Annotated[bool, Query(description="the file as it is, to be saved")] = False,
    v: Annotated[
        str | None, Query(max_length=64, description="the content hash, so that it may be cached")
    ] = None,
) -> Response:
    """A picture: the file itself where browsers can show it, else as a JPEG of at most 8,192 pixels."""
    record, headers = _looked_up(backend, key, "-d" if download else "", v)
    if is_fresh(request, headers.get("ETag")):
        return Response(status_code=304, headers=headers)
    data, media_type = file_of(backend, record, as_it_is=download)
    headers["Content-Disposition"] = _disposition(record.path, "attachment" if download else "inline")
    return Response(data, media_type=media_type, headers=headers)


def file_of(backend: Backend, record: ImageRecord, *, as_it_is: bool) -> tuple[bytes, str]:
    """The bytes of a picture, and what they are; what is no picture any more is never sent.

    Args:
        as_it_is: the file itself, even where browsers cannot show it.

    Raises:
        PictureError: it cannot be read, or is none.
    """
    bound = backend.max_megapixels
    with file_content(record.path, bound) as (data, _), open_image(data, record.path, bound) as opened:
        kind = _SHOWN.get(opened.format or "")
    if as_it_is:
        return data, kind or "application/octet-stream"
    return (data, kind) if kind else (as_jpeg(data, _LONGEST, bound), THUMBNAIL_TYPE)


def _looked_up(backend: Backend, key: str, suffix: str, version: str | None) -> tuple[ImageRecord, dict[str, str]]:
    """A picture, and the headers that say how long its file, or what is made of it, may be kept."""
    record = backend.picture(key)
    if not is_unchanged(record, record.path):  # what is sent is no longer what the hash says
        return record, {"Cache-Control": "no-store"}
    known = record.content_hash or f"{record.mtime_ns:x}"
    is_named = version is not None and version == record.content_hash
    return record, {"ETag": f'"{known}{suffix}"', "Cache-Control": _A_YEAR if is_named else "private, no-cache"}


def _disposition(path: str, kind: str) -> str:
    """See RFC 6266; names are given in UTF-8 alone, percent-encoded, which no character can break out of."""
    name = os.path.basename(path).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return f"{kind}; filename*=UTF-8''{urllib.parse.quote(name, safe='')}"
