"""Pictures that people search for, kept for a while under names that nobody can guess: so searches have URLs."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from imagesearch.errors import ImageSearchError, PictureError, UsageError
from imagesearch.frontends.web.rendering import as_jpeg
from imagesearch.images.files import open_image
from imagesearch.images.find import reason_of
from imagesearch.images.metadata import upright_size

# Seconds that an upload is kept, and bytes of all of them; beyond that the oldest go.
KEPT = 24 * 3600
MOST_BYTES = 512_000_000
# Longest side of a preview, in pixels.
PREVIEW = 1600
_MOST_NAME = 200


class NotFoundError(ImageSearchError):
    """There is no such thing, or none any more."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture that somebody uploaded.

    Attributes:
        id: 32 random characters.
        name: what it was called, without folders and control characters.
        width, height: pixels, upright.
        size: bytes, with those of its preview.
        expires: seconds since 1970.
    """

    id: str
    name: str
    width: int
    height: int
    size: int
    expires: float


class Uploads:
    """Uploaded files in a folder of the operating system's for temporary ones, readable by this user only."""

    def __init__(self, kept: float = KEPT, most_bytes: int = MOST_BYTES) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="imagesearch-uploads-"))
        self._kept, self._most_bytes = kept, most_bytes
        self._uploads: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str, max_megapixels: float, *, preview: bool = True) -> Upload:
        """Keep a picture, and a preview of it.

        Args:
            preview: whether to make one, which decodes the picture.

        Raises:
            PictureError: it cannot be read, is of a format that is not read, or too large.
            UsageError: it cannot be kept.
        """
        name = tidy_name(name)
        if not data:
            raise PictureError(name, "is empty (0 bytes)")
        try:
            with open_image(data, name, max_megapixels) as image:
                width, height = upright_size(image)
            small = as_jpeg(data, PREVIEW, max_megapixels, name) if preview else b""
        except PictureError as error:  # which cannot know the name of what lies in memory
            raise PictureError(name, error.reason, retryable=error.retryable) from error
        size = len(data) + len(small)
        upload = Upload(secrets.token_urlsafe(24), name, width, height, size, time.time() + self._kept)
        try:
            (self._folder / upload.id).write_bytes(data)
            if preview:
                (self._folder / f"{upload.id}.jpg").write_bytes(small)
        except OSError as error:
            self._unlink(upload.id)  # what there is of it would stay until the server ends
            raise UsageError(f"the upload cannot be kept: {reason_of(error)}") from error
        with self._lock:
            self._uploads[upload.id] = upload
            self._drop_old()
        return upload

    def __len__(self) -> int:
        with self._lock:
            return len(self._uploads)

    def get(self, key: str) -> Upload:
        """What is known of an upload.

        Raises:
            NotFoundError: there is none of this id, or it has expired.
        """
        with self._lock:
            self._drop_old()
            if key not in self._uploads:
                raise NotFoundError("this upload has expired, or never was there: upload the picture again")
            return self._uploads[key]

    def read(self, key: str, *, preview: bool = False) -> bytes:
        """The file's bytes, or those of its preview, which is a JPEG.

        Raises:
            NotFoundError: see :meth:`get`; or it has no preview.
            PictureError: it cannot be read.
        """
        upload = self.get(key)
        try:
            return (self._folder / (f"{upload.id}.jpg" if preview else upload.id)).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError("this upload has no preview, or was removed just now") from error
        except OSError as error:
            raise PictureError(upload.name, reason_of(error), retryable=True) from error

    def path(self, key: str) -> Path:
        """Where its file is, for the decoder to read as it needs it.

        Raises:
            NotFoundError: see :meth:`get`.
        """
        return self._folder / self.get(key).id

    def key_of(self, path: str) -> str | None:
        """The id of the upload whose file this is; None of another file."""
        folder, name = os.path.split(path)
        return name if folder == str(self._folder) else None

    def remove(self, key: str) -> None:
        """Remove one before it expires.

        Raises:
            NotFoundError: see :meth:`get`.
        """
        with self._lock:
            if self._uploads.pop(key, None) is None:
                raise NotFoundError("this upload has expired, or never was there")
        self._unlink(key)

    def close(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _drop_old(self) -> None:
        total = sum(upload.size for upload in self._uploads.values())
        while self._uploads:
            oldest = next(iter(self._uploads.values()))
            if oldest.expires > time.time() and total <= self._most_bytes:
                return
            del self._uploads[oldest.id]
            total -= oldest.size
            self._unlink(oldest.id)

    def _unlink(self, key: str) -> None:
        for file in (key, f"{key}.jpg"):
            (self._folder / file).unlink(missing_ok=True)


def tidy_name(name: str) -> str:
    """The last part of a file's name, without characters that cannot be printed; a long one keeps its ending."""
    last = os.path.basename(name.replace("\\", "/"))
    stem, ending = ("".join(filter(str.isprintable, part)) for part in os.path.splitext(last))
    return f"{(stem or 'picture')[: max(1, _MOST_NAME - len(ending))]}{ending}"[:_MOST_NAME]
