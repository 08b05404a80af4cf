"""Jobs: one after the other, watched, cancelled, and ended with the server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from imagesearch.errors import StoreError, UsageError
from imagesearch.frontends.web.batching import BusyError
from imagesearch.frontends.web.jobs import MOST_ENDED, MOST_WAITING, Job, Jobs, Order
from imagesearch.frontends.web.uploads import NotFoundError
from imagesearch.records import Progress
from imagesearch.reports import IndexReport

REPORT = IndexReport(3, 3, 0, (), "images_starter", 0.1)


class Work:
    """Work that takes a step each time it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.step, self.began = threading.Semaphore(0), threading.Semaphore(0)
        self.error, self.steps = error, 0

    def __call__(self, order: Order, progress: Progress) -> IndexReport:
        self.began.release()
        for done in range(3):
            assert self.step.acquire(timeout=10)
            self.steps += 1
            progress("encode", done + 1, 3)
        if self.error:
            raise self.error
        return REPORT


def ended(jobs: Jobs, key: str) -> Job:
    wait_until(lambda: jobs.get(key).has_ended)
    return jobs.get(key)


def wait_until(holds: Callable[[], Any]) -> None:
    for _ in range(1000):
        if holds():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come about")


def test_a_job_goes_through_its_states() -> None:
    work, changes = Work(), []
    jobs = Jobs(work, lambda: changes.append(1))
    job = jobs.start(Order(("a",)))
    assert job.state == "queued"
    assert work.began.acquire(timeout=10)
    assert jobs.get(job.id).state == "running"
    work.step.release()
    wait_until(lambda: jobs.get(job.id).progress == ("encode", 1, 3))
    work.step.release(2)
    done = ended(jobs, job.id)
    assert (done.state, done.report, done.error, done.progress) == ("done", REPORT, None, ("encode", 3, 3))
    assert changes
    jobs.close()


def test_one_runs_at_a_time_in_the_order_they_came() -> None:
    work = Work()
    jobs = Jobs(work, list)
    first, second = jobs.start(Order()), jobs.start(Order())
    assert work.began.acquire(timeout=10)
    assert not work.began.acquire(timeout=0.1)
    assert jobs.get(second.id).state == "queued"
    work.step.release(6)
    assert ended(jobs, first.id).state == ended(jobs, second.id).state == "done"
    assert [job.id for job in jobs.all()] == [second.id, first.id]
    jobs.close()


def test_a_running_job_is_cancelled_after_the_batch_that_is_being_written() -> None:
    work = Work()
    jobs = Jobs(work, list)
    job, other = jobs.start(Order()), jobs.start(Order())
    assert work.began.acquire(timeout=10)
    assert jobs.cancel(other.id).state == "cancelled"
    assert jobs.cancel(job.id).state == "running"
    work.step.release()
    assert ended(jobs, job.id).state == "cancelled"
    assert work.steps == 1
    assert jobs.cancel(job.id).state == "cancelled"
    jobs.close()


@pytest.mark.parametrize(
    ("error", "told"),
    [(StoreError("the disk is full"), "the disk is full"), (ZeroDivisionError("x"), "error of the program")],
)
def test_errors_end_a_job_and_not_the_thread(error: Exception, told: str) -> None:
    work = Work(error)
    jobs = Jobs(work, list)
    for _ in range(2):
        work.step.release(3)
        failed = ended(jobs, jobs.start(Order()).id)
        assert failed.state == "failed"
        assert told in str(failed.error)
    jobs.close()


def test_few_wait_and_few_are_remembered() -> None:
    work = Work(UsageError("no"))
    jobs = Jobs(work, list)
    jobs.start(Order())
    assert work.began.acquire(timeout=10)
    for _ in range(MOST_WAITING):
        jobs.start(Order())
    with pytest.raises(BusyError, match="wait already"):
        jobs.start(Order())
    for job in jobs.all():
        jobs.cancel(job.id)
    work.step.release(1000)
    for _ in range(2 * MOST_ENDED):
        ended(jobs, jobs.start(Order()).id)
    assert len(jobs.all()) <= MOST_ENDED + 1
    with pytest.raises(NotFoundError):
        jobs.get("nothing")
    jobs.close()


def test_closing_cancels_what_runs_and_what_waits() -> None:
    work = Work()
    jobs = Jobs(work, list)
    job, waiting = jobs.start(Order()), jobs.start(Order())
    assert work.began.acquire(timeout=10)
    closing = threading.Thread(target=jobs.close)
    closing.start()
    wait_until(lambda: jobs.get(waiting.id).state == "cancelled")
    work.step.release()
    closing.join(10)
    assert jobs.get(job.id).state == "cancelled"
    with pytest.raises(BusyError, match="shutting down"):
        jobs.start(Order())
