"""Indexing as jobs: one at a time, with progress for whoever watches, and cancelled between two batches."""

from __future__ import annotations

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any

from imagesearch.errors import ImageSearchError
from imagesearch.frontends.web.batching import BusyError
from imagesearch.frontends.web.failures import problem_to_dict
from imagesearch.frontends.web.uploads import NotFoundError
from imagesearch.records import Progress
from imagesearch.reports import IndexReport

# Jobs that may wait, and ended ones that are remembered.
MOST_WAITING = 16
MOST_ENDED = 50

_log = logging.getLogger(__name__)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class _CancelledError(ImageSearchError):
    """Somebody cancelled the job."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be indexed: arguments of :meth:`imagesearch.service.ImageSearch.index`."""

    folders: tuple[str, ...] = ()
    prune: bool = False
    retry_skipped: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is now.

    Attributes:
        id: random characters.
        state: ``queued``, ``running``, ``done``, ``failed`` or ``cancelled``.
        version: counts its changes.
        progress: stage, units done, and of how many (None: unknown).
        error: why it failed, for people.
        failure: the same as it was raised; None where it was a mistake of the program.
    """

    id: str
    order: Order
    state: str = "queued"
    created: str = field(default_factory=_now)
    started: str | None = None
    finished: str | None = None
    progress: tuple[str, int, int | None] | None = None
    report: IndexReport | None = None
    error: str | None = None
    failure: ImageSearchError | None = None
    version: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ("done", "failed", "cancelled")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        progress = None
        if self.progress is not None:
            stage, done, total = self.progress
            progress = {"stage": stage, "done": done, "total": total}
        return {
            "id": self.id,
            "state": self.state,
            "folders": list(self.order.folders),
            "dry_run": self.order.dry_run,
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "progress": progress,
            "report": None if self.report is None else self.report.to_dict(),
            "error": self.error,
            "problem": None if self.failure is None else problem_to_dict(self.failure),
        }


class Jobs:
    """Runs jobs in a thread of its own.

    Args:
        index: does the work of one, and reports progress.
        changed: called at the end of each, when rows may have been written.
    """

    def __init__(self, index: Callable[[Order, Progress], IndexReport], changed: Callable[[], None]) -> None:
        self._index, self._rows_changed = index, changed
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._cancelled: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def start(self, order: Order) -> Job:
        """Queue a job.

        Raises:
            BusyError: too many wait already.
        """
        with self._changed:
            waiting = sum(job.state == "queued" for job in self._jobs.values())
            if self._closed or waiting >= MOST_WAITING:
                raise BusyError("the server is shutting down" if self._closed else f"{waiting} jobs wait already")
            job = Job(secrets.token_urlsafe(12), order)
            self._jobs[job.id] = job
            ended = [key for key, other in self._jobs.items() if other.has_ended]
            for key in ended[: max(0, len(ended) - MOST_ENDED)]:
                del self._jobs[key]
            self._changed.notify_all()
            return job

    def all(self) -> list[Job]:
        """All that are remembered, the newest first."""
        with self._changed:
            return list(reversed(self._jobs.values()))

    def get(self, key: str) -> Job:
        """One job.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self._changed:
            if key not in self._jobs:
                raise NotFoundError(f"there is no job {key!r}")
            return self._jobs[key]

    def cancel(self, key: str) -> Job:
        """End a job: before it begins, or after the batch that is being written; that one is kept.

        Raises:
            NotFoundError: there is none of this id.
        """
        with self._changed:
            job = self.get(key)
            if job.state == "queued":
                self._update(key, state="cancelled", finished=_now())
            elif job.state == "running":
                self._cancelled.add(key)
            return self._jobs[key]

    def close(self) -> None:
        """Cancel all jobs, and wait for the batch that is being written."""
        with self._changed:
            self._closed = True
            for key in list(self._jobs):
                self.cancel(key)
            self._changed.notify_all()
        self._thread.join()

    def _update(self, key: str, **changes: Any) -> None:
        with self._changed:
            job = self._jobs[key]
            self._jobs[key] = replace(job, **changes, version=job.version + 1)
            self._changed.notify_all()

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or any(self._queued()))
            return None if self._closed else next(self._queued())

    def _queued(self) -> Iterator[str]:
        return (key for key, job in self._jobs.items() if job.state == "queued")

    def _run(self) -> None:
        while (key := self._next()) is not None:
            self._update(key, state="running", started=_now())
            with self._outcome(key):
                report = self._index(self.get(key).order, _Reporter(self, key))
                self._update(key, report=report)

    @contextmanager
    def _outcome(self, key: str) -> Iterator[None]:
        state, error, raised = "done", None, None
        try:
            yield
        except _CancelledError:
            state = "cancelled"
        except ImageSearchError as failure:
            state, error, raised = "failed", str(failure), failure
        except Exception:  # noqa: BLE001 - the thread goes on with the next job
            _log.exception("job %s failed", key)
            state, error = "failed", "an error of the program; the server's log has it"
        finally:
            self._rows_changed()
            self._cancelled.discard(key)
            self._update(key, state=state, error=error, failure=raised, finished=_now())


class _Reporter:
    """Progress of one job; ends it where somebody cancelled it."""

    def __init__(self, jobs: Jobs, key: str) -> None:
        self._jobs, self._key = jobs, key

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if self._key in self._jobs._cancelled:
            raise _CancelledError("cancelled")
        self._jobs._update(self._key, progress=(stage, done, total))
