"""Searches that come at the same time are answered together: one batch for the network, one call of the database.

Nothing is held back to wait for company: while one batch is answered, the next one gathers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import NamedTuple

from imagesearch.errors import ImageSearchError
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query, SearchOptions

Answerer = Callable[[Sequence[Query], SearchOptions], Sequence[Answer]]


class BusyError(ImageSearchError):
    """Too many requests wait already."""


class _Request(NamedTuple):
    query: Query
    options: SearchOptions
    result: Future[Answer]


class SearchBatcher:
    """Answers searches of many threads in one thread of its own.

    Args:
        answer: answers some queries with one set of options.
        batch_size: as many queries at most are answered together.
        queue_size: as many may wait.

    Attributes:
        observe: called with the size of each batch.
    """

    def __init__(self, answer: Answerer, *, batch_size: int, queue_size: int) -> None:
        self._answer, self._batch_size = answer, batch_size
        self._waiting: queue.Queue[_Request | None] = queue.Queue(queue_size)
        self.observe: Callable[[int], object] = int
        # Held while something is put in, so that nothing comes after the end.
        self._entering = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="searches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return self._waiting.qsize()

    def submit(self, query: Query, options: SearchOptions) -> Future[Answer]:
        """The answer, some time later; one that is cancelled in time is not looked for.

        Raises:
            BusyError: too many wait, or this is closed.
        """
        request = _Request(query, options, Future())
        with self._entering:
            if self._closed:
                raise BusyError("the server is shutting down")
            try:
                self._waiting.put_nowait(request)
            except queue.Full:
                raise BusyError(f"{self._waiting.maxsize} searches wait already: try again in a moment") from None
        return request.result

    def close(self) -> None:
        """Answer what waits, and end."""
        with self._entering:
            self._closed = True
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch, ends = [first], False
            while len(batch) < self._batch_size and not ends:
                try:
                    following = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    ends = True
                else:
                    batch.append(following)
            self._answer_all([one for one in batch if one.result.set_running_or_notify_cancel()])
            if ends:
                return

    def _answer_all(self, batch: Sequence[_Request]) -> None:
        for options in dict.fromkeys(request.options for request in batch):
            alike = [request for request in batch if request.options == options]
            self.observe(len(alike))
            try:
                answers = self._answer([request.query for request in alike], options)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
                for request in alike:
                    request.result.set_exception(error)
                continue
            for request, answer in zip(alike, answers, strict=True):
                request.result.set_result(answer)
