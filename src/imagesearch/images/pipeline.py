"""Decode pictures in threads ahead of the network, in order, with bounded memory and bounded time."""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar, cast

from imagesearch.errors import PictureError
from imagesearch.images.files import IN_MEMORY, LARGE_PICTURES
from imagesearch.records import Skipped

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")

# The largest picture within the default bound takes about 10 seconds on a slow machine.
SECONDS_PER_IMAGE = 60.0
# The share of the time that a thread which decodes computes at least; others that compute may take their turn.
_COMPUTING = 0.25
# How long a consumer that leaves early waits for what is being decoded, so that no thread outlives it for long.
_SECONDS_TO_LEAVE = 1.0


def decode_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    *,
    max_workers: int = 0,
    ahead: int = 64,
    timeout: float | None = SECONDS_PER_IMAGE,
) -> Iterator[Loaded | Skipped]:
    """Apply ``load`` to every item in worker threads and yield the results in the items' order.

    At most ``ahead`` results wait at any time, so memory does not grow with the library. A picture that cannot
    be read becomes a :class:`Skipped`, and so does one that takes too long: its thread is left to itself (nothing
    can stop it) and another takes its place. It may be retried if its thread waited, for a disk or a network, but
    not if it computed. Any other error is a bug and is raised. The threads do not keep the interpreter alive.

    Args:
        items: paths, mostly; consumed lazily.
        load: called in worker threads; Pillow and NumPy release the interpreter lock for most of it.
        max_workers: number of threads; 0: one per core, at most 16.
        ahead: number of results kept ready.
        timeout: seconds an item may take, from when a worker began it, not counting the wait for other large
            pictures (:data:`imagesearch.images.files.LARGE_PICTURES`); None: any time.
    """
    workers = max_workers or min(16, os.cpu_count() or 1)
    pending: deque[_Job[Item, Loaded]] = deque()
    source = iter(items)
    pool = _Pool(load, workers)
    try:
        for item in islice(source, max(ahead, workers)):
            pending.append(pool.submit(item))
        while pending:
            job = pending.popleft()
            pool.wait(job, timeout)
            for item in islice(source, 1):
                pending.append(pool.submit(item))
            yield job.outcome()
            del job  # the consumer's now
    finally:
        pool.close()


def _name_of(item: object) -> str:
    path = getattr(item, "path", item)
    return os.fsdecode(path) if isinstance(path, (str, os.PathLike)) else IN_MEMORY


def _cpu_seconds(thread: threading.Thread) -> float:
    """Seconds that a running thread has computed; 0 where the system does not tell."""
    if sys.platform == "win32" or sys.platform == "darwin" or thread.ident is None:
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


class Stopwatch:
    """Measures how long the thread that makes it works on a picture.

    Attributes:
        thread: the one that made it.
    """

    __slots__ = ("_began", "_computed_before", "_waited_before", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self._waited_before = LARGE_PICTURES.waited(self.thread)
        self._computed_before = time.thread_time()
        self._began = time.monotonic()

    def seconds(self) -> float:
        """Since then, without the wait for its turn among the large pictures."""
        return time.monotonic() - self._began - (LARGE_PICTURES.waited(self.thread) - self._waited_before)

    def too_late(self, item: object, timeout: float) -> Skipped:
        """What becomes of a picture that took longer than so many seconds; the thread still works on it."""
        computed = _cpu_seconds(self.thread) - self._computed_before
        is_computing = computed > _COMPUTING * self.seconds()
        return Skipped(_name_of(item), f"took longer than {timeout:g} s to read and decode", not is_computing)


class _Job(Generic[Item, Loaded]):
    """One item on its way: waiting, begun by a thread, done or given up."""

    __slots__ = ("done", "error", "item", "result", "watch")

    def __init__(self, item: Item) -> None:
        self.item = item
        self.watch: Stopwatch | None = None
        self.done = False
        self.result: Loaded | Skipped | None = None
        self.error: BaseException | None = None

    def outcome(self) -> Loaded | Skipped:
        if self.error is not None:
            raise self.error
        return cast("Loaded | Skipped", self.result)


class _Pool(Generic[Item, Loaded]):
    """Daemon threads that apply one function; :class:`ThreadPoolExecutor` waits for hanging ones at exit."""

    def __init__(self, load: Callable[[Item], Loaded], size: int) -> None:
        self._load = load
        self._size = size
        self._jobs: queue.SimpleQueue[_Job[Item, Loaded] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()  # guards the jobs' state, and what follows
        self._threads: set[threading.Thread] = set()
        self._closed = False

    def submit(self, item: Item) -> _Job[Item, Loaded]:
        job: _Job[Item, Loaded] = _Job(item)
        self._jobs.put(job)
        with self._changed:
            if len(self._threads) < self._size:
                self._hire()
        return job

    def wait(self, job: _Job[Item, Loaded], timeout: float | None) -> None:
        """Until a job is done, or took longer than ``timeout`` seconds: then its thread is replaced."""
        with self._changed:
            while not job.done:
                left = timeout
                if timeout is not None and (watch := job.watch) is not None:
                    # At least a moment below: the clock of a job that waits for its turn stands still.
                    left = timeout - watch.seconds()
                    if left <= 0:
                        job.result = watch.too_late(job.item, timeout)
                        self._replace(watch.thread)
                        return
                self._changed.wait(None if left is None else max(left, 0.02))

    def close(self) -> None:
        """Drop what has not begun, and wait a moment for what has."""
        with self._changed:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._jobs.put(None)
        until = time.monotonic() + _SECONDS_TO_LEAVE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _hire(self) -> None:
        thread = threading.Thread(target=self._work, name=f"decode-{len(self._threads)}", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _replace(self, thread: threading.Thread) -> None:
        self._threads.discard(thread)
        LARGE_PICTURES.leave(thread)
        self._hire()

    def _work(self) -> None:
        thread = threading.current_thread()
        while (job := self._jobs.get()) is not None:
            with self._changed:
                if self._closed:
                    return
                job.watch = Stopwatch()
            result: Loaded | Skipped | None = None
            bug: BaseException | None = None
            try:
                result = self._load(job.item)
            except PictureError as error:
                result = Skipped(error.path, error.reason, error.retryable)
            except BaseException as error:  # noqa: BLE001 - raised where the results are taken
                bug = error
            with self._changed:
                if thread not in self._threads:
                    return  # given up in the meantime
                job.result, job.error, job.done = result, bug, True
                self._changed.notify_all()
            del job, result, bug  # or the last picture's memory would be held while waiting for the next


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split into lists of ``size`` items, the last one shorter.

    Examples:
        >>> list(batches("abcde", 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
