"""Pictures that requests bring are decoded in a few threads that stay, each picture in bounded time.

A request goes from the event loop to one of them and back. At each such step threads hand the interpreter to each
other, and may have to wait for it: a thread of its own for each picture took a sixth of the time of a search.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from imagesearch.images.files import LARGE_PICTURES
from imagesearch.images.pipeline import Stopwatch, decode_ahead
from imagesearch.images.sources import ImageSource
from imagesearch.records import Skipped

T = TypeVar("T")

# Seconds that decoding one picture may take.
DECODE_SECONDS = 20.0
# Between two looks at a picture whose clock stands still, because it waits for other large ones.
_MOMENT = 0.02


class _Job:
    """What one thread does for a request, which may include decoding some pictures, one after the other."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.result: Future[Any] = Future()
        self.context = contextvars.copy_context()
        self.name: object = None
        self.watch: Stopwatch | None = None
        self._changing = threading.Lock()

    def decode(self, source: ImageSource, load: Callable[[ImageSource], T], name: object) -> T:
        """One picture, against the clock."""
        self.name, self.watch = name, Stopwatch()
        try:
            return load(source)
        finally:
            with self._changing:
                self.watch = None
            if self.result.done():
                raise _GivenUp

    def give_up(self, watch: Stopwatch, seconds: float) -> bool:
        """Answer in the thread's place; False if it has just finished this picture."""
        with self._changing:
            if self.watch is not watch:
                return False
            self.result.set_exception(watch.too_late(self.name, seconds).error())
            return True


class _GivenUp(BaseException):
    """Nobody waits for this thread any more: it ends."""


_here = threading.local()


class DecodingThreads:
    """Daemon threads, of which there are never more at work than told; one that takes too long is replaced.

    Args:
        size: as many at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._running: set[_Job] = set()
        self._threads = 0
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Do it in one of the threads; pictures that it decodes with :func:`decoded` have a bound in time each.

        Raises:
            PictureError: one took too long; what the thread does after that counts no more.
        """
        job = _Job(work)
        self._running.add(job)
        if self._threads < self._size:
            self._hire()
        if self._timer is None:
            self._watch()
        self._jobs.put(job)
        try:
            result: T = await asyncio.wrap_future(job.result)
            return result
        finally:
            if job.result.done():  # else its thread is still at work, although nobody waits any more
                self._running.discard(job)

    def close(self) -> None:
        """Let the threads end that wait for work."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _hire(self) -> None:
        self._threads += 1
        threading.Thread(target=self._work, name=f"decode-{self._threads}", daemon=True).start()

    def _watch(self) -> None:
        """Give up what takes too long, and look again when the next one may."""
        left = DECODE_SECONDS
        self._running = {job for job in self._running if not job.result.done()}
        for job in self._running:
            if (watch := job.watch) is None:
                continue
            if watch.seconds() < DECODE_SECONDS:
                left = min(left, DECODE_SECONDS - watch.seconds())
            elif job.give_up(watch, DECODE_SECONDS):
                LARGE_PICTURES.leave(watch.thread)
                self._threads -= 1
                self._hire()
        loop, is_needed = asyncio.get_running_loop(), bool(self._running)
        self._timer = loop.call_later(max(left, _MOMENT), self._watch) if is_needed else None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if job.result.set_running_or_notify_cancel():
                _here.job = job
                try:
                    result = job.context.run(job.work)
                except _GivenUp:
                    return
                except BaseException as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
                    job.result.set_exception(error)
                else:
                    job.result.set_result(result)
                    del result
                _here.job = None
            del job  # or the last picture's memory would be held while waiting for the next


def decoded(source: ImageSource, load: Callable[[ImageSource], T], name: str | None = None) -> T:
    """What ``load`` makes of a picture.

    Args:
        name: what a picture in memory is called where it takes too long.

    Raises:
        PictureError: it cannot be read, or not in :data:`DECODE_SECONDS`.
    """
    job: _Job | None = getattr(_here, "job", None)
    if job is not None:
        return job.decode(source, load, name or source)
    (result,) = decode_ahead([source], load, max_workers=1, timeout=DECODE_SECONDS)
    if isinstance(result, Skipped):
        raise result.error()
    return result
