"""Small pictures of those in the collection, kept on disk up to a size."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from imagesearch.atomic import replacing
from imagesearch.frontends.web.rendering import as_jpeg
from imagesearch.records import ImageRecord
from imagesearch.search.vectors import is_unchanged

# Longest sides in pixels: of a result, of one on a screen of high density, of a picture by itself.
SIZES = (160, 320, 640, 1600)

# What is left when the oldest are removed.
_KEPT_SHARE = 0.9
# Of threads that make thumbnails, on Linux: searches come first.
_NICE = 10

_log = logging.getLogger(__name__)


class Thumbnails:
    """Makes thumbnails in threads of its own.

    Args:
        folder: where they are kept.
        most_bytes: of all of them; beyond that those are removed that nobody asked for longest. 0: none are kept.
        max_megapixels: larger pictures are refused.
        workers: threads; one less than cores, so that they never hold up searches.
    """

    def __init__(self, folder: Path, most_bytes: int, max_megapixels: float, workers: int = 0) -> None:
        self._folder, self._most_bytes, self._max_megapixels = folder, most_bytes, max_megapixels
        workers = workers or max(1, (os.cpu_count() or 1) - 1)
        self._pool = ThreadPoolExecutor(workers, "thumbnails", initializer=_step_back)
        self._lock = threading.Lock()
        self._making: dict[Path, Future[bytes]] = {}
        self._bytes: int | None = None

    def get(self, picture: ImageRecord, longest: int) -> Future[bytes]:
        """A JPEG of at most that size; its result raises :class:`PictureError` if the file cannot be read."""
        file = self._file(picture, longest)
        if (kept := _read(file)) is not None:
            return _done(kept)
        with self._lock:
            making = self._making.get(file)
            if making is None and (kept := _read(file)) is not None:  # made since the first look
                return _done(kept)
            if making is None:
                making = self._making[file] = self._pool.submit(self._make, picture, longest, file)
                # Runs here, with the lock held, if the work is done by now; else in the thread that does it.
                making.add_done_callback(lambda _: self._making.pop(file, None))
            return making

    def close(self) -> None:
        """End the threads; what waits is not made."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, picture: ImageRecord, longest: int, file: Path) -> bytes:
        data = as_jpeg(picture.path, longest, self._max_megapixels)
        # Another picture may lie there by now; kept under this one's hash, it would be shown for all copies of it.
        if self._most_bytes and is_unchanged(picture, picture.path):
            self._keep(file, data)
        return data

    def _file(self, picture: ImageRecord, longest: int) -> Path:
        name = picture.content_hash or f"{picture.id:x}-{picture.mtime_ns:x}"
        return self._folder / name[:2] / f"{name}-{longest}.jpg"

    def _keep(self, file: Path, data: bytes) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with replacing(file) as temporary:
                temporary.write_bytes(data)
        except OSError as error:  # a full disk: thumbnails are made again each time
            _log.warning("a thumbnail could not be kept: %s", error)
            return
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(size for _, size, _ in self._kept())
            else:
                self._bytes += len(data)
            too_many = self._bytes > self._most_bytes
        if too_many:
            self._remove_oldest()

    def _remove_oldest(self) -> None:
        with self._lock:
            kept = sorted(self._kept())
            total, bound = sum(size for _, size, _ in kept), self._most_bytes * _KEPT_SHARE
            for _, size, path in kept:
                if total <= bound:
                    break
                with contextlib.suppress(OSError):  # another process removed it
                    os.unlink(path)
                total -= size
            self._bytes = total

    def _kept(self) -> list[tuple[float, int, str]]:
        """When each file was asked for last, its size, and where it is."""
        found = []
        for folder in _entries(self._folder):
            for file in _entries(folder.path) if folder.is_dir() else ():
                with contextlib.suppress(OSError):
                    status = file.stat()
                    found.append((status.st_mtime, status.st_size, file.path))
        return found


def _done(data: bytes) -> Future[bytes]:
    done: Future[bytes] = Future()
    done.set_result(data)
    return done


def _entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    try:
        return list(os.scandir(folder))
    except OSError:
        return []


def _read(file: Path) -> bytes | None:
    try:
        data = file.read_bytes()
        os.utime(file)  # so that it is not among the oldest
    except OSError:
        return None
    return data or None


def _step_back() -> None:
    """Give this thread a lower priority, where a thread can have one of its own."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
