"""Pictures on their way to a server."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from imagesearch.client_connection import API, Connection, Form, TooLongError
from imagesearch.errors import ImageSearchError, PictureError
from imagesearch.images.files import IN_MEMORY, file_content
from imagesearch.images.raw import is_raw
from imagesearch.images.sources import ImageSource, bytes_of
from imagesearch.search.image_encoding import load_region
from imagesearch.search.query import Region

Item = TypeVar("Item")

# Pictures that go into one request, as the API bounds it.
MOST_TOGETHER = 64
# Bytes of files that lie on the server at a time: it keeps 512 MB for everybody, and drops the oldest beyond that.
_MOST_UPLOADED = 200_000_000
# What an open file is taken for that does not say how long it is: what a server usually takes.
_UNKNOWN = 25_000_000
# Bytes of a request besides the pictures: boundaries and names.
_BESIDE = 64_000
_BESIDE_EACH = 500

# Uploads a picture of which a region is wanted; returns the upload's id, and the region of what was uploaded.
Upload = Callable[[ImageSource, "Region | None"], "tuple[str, Region | None]"]


class Pictures:
    """Reads pictures and sends them to a server.

    Args:
        connection: to the server.
        served: asked for what the server tells of itself: see ``GET /api/v1/served``.
        max_megapixels: larger pictures are refused.
    """

    def __init__(
        self, connection: Connection, served: Callable[[], Mapping[str, Any]], max_megapixels: float
    ) -> None:
        self._connection, self._served, self._max_megapixels = connection, served, max_megapixels

    def content(self, source: ImageSource) -> bytes:
        """The file of a picture that the server reads as the library would.

        Raises:
            PictureError: it cannot be read.
            UsageError: it is of another type.
        """
        return self._content(source, None)[0]

    def _content(self, source: ImageSource, region: Region | None) -> tuple[bytes, Region | None]:
        """The same, and the region of it; one of what is not sent as it is, is cut here: sizes may differ."""
        source = self._readable_again(source)
        if isinstance(source, (str, os.PathLike)):
            path = os.fsdecode(source)
            with file_content(path, self._max_megapixels) as (content, _):
                data = content
        elif isinstance(source, (bytes, bytearray, memoryview)):
            path, data = IN_MEMORY, bytes_of(source, self._max_megapixels)
        else:
            return _as_png(load_region(source, region, self._max_megapixels)), None
        if is_raw(data, path):  # what it is depends on its name, and the server may lack the decoder
            return _as_png(load_region(source, region, self._max_megapixels)), None
        return data, region

    def batches(self, sources: Sequence[ImageSource]) -> Iterator[list[tuple[ImageSource, bytes]]]:
        """Pictures and their files, as many at a time as go into one request.

        Raises:
            PictureError: one cannot be read.
        """
        most = int(self._served()["max_upload_bytes"])
        batch: list[tuple[ImageSource, bytes]] = []
        size = _BESIDE
        for source in sources:
            again = self._readable_again(source)
            data = self.content(again)
            if _BESIDE + len(data) > most and len(data := self._pixels(again, None)) + _BESIDE > most:
                raise PictureError(name_of(source), f"is too large for the server, which takes {most:,} bytes")
            if batch and (len(batch) == MOST_TOGETHER or size + len(data) > most):
                yield batch
                batch, size = [], _BESIDE
            batch.append((source, data))
            size += len(data) + _BESIDE_EACH
        if batch:
            yield batch

    @contextlib.contextmanager
    def uploading(self) -> Iterator[Upload]:
        """A function that uploads pictures; at the end the server forgets them."""
        keys: list[str] = []

        def upload(source: ImageSource, region: Region | None) -> tuple[str, Region | None]:
            key, left = self._upload(source, region)
            keys.append(key)
            return key, left

        try:
            yield upload
        finally:
            for key in keys:
                with contextlib.suppress(ImageSearchError):  # they expire by themselves
                    self._connection.delete(f"{API}/uploads/{key}")

    def error_of(self, source: ImageSource, error: ImageSearchError) -> PictureError:
        """What the server says of an upload, as the library says it of the picture."""
        reason = error.reason if isinstance(error, PictureError) else str(error)
        return PictureError(name_of(source), reason, retryable=getattr(error, "retryable", False))

    def _upload(self, source: ImageSource, region: Region | None) -> tuple[str, Region | None]:
        source, name = self._readable_again(source), os.path.basename(name_of(source))
        data, left = self._content(source, region)
        try:
            return self._send(data, name), left
        except PictureError as error:
            raise self.error_of(source, error) from error
        except TooLongError:
            pixels = self._pixels(source, region)
        try:
            return self._send(pixels, f"{name}.png"), None
        except TooLongError as error:
            raise PictureError(name_of(source), f"is too large for the server: {error}") from error

    def _readable_again(self, source: ImageSource) -> ImageSource:
        """The same; of an open file, which can be read once, its bytes."""
        return bytes_of(source, self._max_megapixels) if hasattr(source, "read") else source

    def _pixels(self, source: ImageSource, region: Region | None) -> bytes:
        """What the network is shown, which may be fewer bytes: decoded here as the server would, and cut."""
        side = self._served()["decode_side"]
        return _as_png(load_region(source, region, self._max_megapixels, side))

    def _send(self, data: bytes, name: str) -> str:
        form = Form([("image", name, data)], {"preview": "false"})
        return str(self._connection.post(f"{API}/uploads", form=form)["id"])


def together(items: Iterable[Item], most: int, size: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Things with pictures, as many at a time as may lie on the server.

    Args:
        most: number of them at a time.
        size: bytes of one's pictures.
    """
    batch: list[Item] = []
    left = _MOST_UPLOADED
    for item in items:
        needed = size(item)
        if batch and needed > left:
            yield batch
            batch, left = [], _MOST_UPLOADED
        batch.append(item)
        left -= needed
        if len(batch) == most:
            yield batch
            batch, left = [], _MOST_UPLOADED
    if batch:
        yield batch


def size_of(source: Any) -> int:
    """Bytes that a picture may take on the server; 0 of a file that cannot be read."""
    if isinstance(source, (str, os.PathLike)):
        with contextlib.suppress(OSError, ValueError):
            return os.stat(source).st_size
        return 0
    if isinstance(source, (bytes, bytearray)):
        source = memoryview(source)
    if hasattr(source, "nbytes"):  # in memory, or an array
        return int(source.nbytes)
    if hasattr(source, "width"):  # an image, of three bytes a pixel
        return 3 * int(source.width) * int(source.height)
    return _rest_of(source)


def _rest_of(file: Any) -> int:
    """Bytes that an open file has left."""
    try:
        here = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(here)
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN
    return int(end - here)


def name_of(source: ImageSource) -> str:
    """What errors call a picture."""
    return os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else IN_MEMORY


def _as_png(image: Any) -> bytes:
    """Pixels without loss; compressed lightly, because it is for one use."""
    target = io.BytesIO()
    image.save(target, "PNG", compress_level=1)
    return target.getvalue()
