"""Several pictures of the collection in one file, to be saved."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Iterator, Sequence
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from imagesearch.errors import CollectionNotFoundError, PictureError
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.responses import ServedBy, problems
from imagesearch.frontends.web.routes.pictures import file_of
from imagesearch.frontends.web.schemas import PictureId
from imagesearch.frontends.web.uploads import NotFoundError, tidy_name
from imagesearch.library.placing import MAX_NAME
from imagesearch.library.sorting import folded, safe_name
from imagesearch.records import ImageRecord

router = APIRouter(tags=["pictures"])

MOST_PICTURES = 200
_MISSING = "could not be read.txt"
_ZIP = "application/zip"


@router.get(
    "/archive", response_class=StreamingResponse, responses={200: {"content": {_ZIP: {}}}, **problems(404)}
)
def archive_pictures(
    ids: Annotated[list[PictureId], Query(min_length=1, max_length=MOST_PICTURES)], backend: ServedBy
) -> Response:
    """The files of pictures as they are, in a ZIP archive; a text in it names those that could not be read."""
    try:
        records, _ = backend.images.collection().fetch([key for key in map(int, ids) if key < 2**63])
    except CollectionNotFoundError:
        records = []
    if not records:
        raise NotFoundError("none of these pictures is in the collection")
    headers = {"Content-Disposition": 'attachment; filename="pictures.zip"', "Cache-Control": "no-store"}
    return StreamingResponse(_archived(backend, records), media_type=_ZIP, headers=headers)


class _Sink:
    """Takes what the archive writes, until it is sent on."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        """What was written since the last call."""
        data, self._written = b"".join(self._written), []
        return data


def _archived(backend: Backend, records: Sequence[ImageRecord]) -> Iterator[bytes]:
    """The archive, a picture at a time, so that memory holds one; they are compressed already."""
    sink, used, missing = _Sink(), {_MISSING}, []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for record in records:
            try:
                data, _ = file_of(backend, record, as_it_is=True)
            except PictureError as error:
                missing.append(str(error))
                continue
            archive.writestr(unused_name(os.path.basename(record.path), used), data)
            yield sink.take()
        if missing:
            archive.writestr(_MISSING, "\n".join(missing).encode("utf-8", "replace"))
    yield sink.take()


def unused_name(name: str, used: set[str]) -> str:
    """A name that no other file of the archive has, however it is written, and that is a name everywhere."""
    stem, ending = os.path.splitext(safe_name(tidy_name(name), MAX_NAME))
    for number in itertools.count(1):
        tail = ending if number == 1 else f" ({number}){ending}"
        while len(f"{stem}{tail}".encode()) > MAX_NAME:
            stem = stem[:-1]
        if (key := folded(f"{stem}{tail}")) not in used:
            used.add(key)
            return f"{stem}{tail}"
    raise AssertionError("the numbers are without end")
