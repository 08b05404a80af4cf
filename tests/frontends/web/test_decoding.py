"""Pictures of requests are decoded in threads that stay; what takes too long holds up nobody for long."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import pytest

from imagesearch.errors import PictureError
from imagesearch.frontends.web import decoding
from imagesearch.frontends.web.decoding import DecodingThreads, decoded
from imagesearch.images.files import LARGE_PICTURES
from imagesearch.images.sources import ImageSource

T = TypeVar("T")

CALLER: ContextVar[int] = ContextVar("caller", default=-1)


@pytest.fixture
def end() -> Iterator[threading.Event]:
    """What pictures that hang wait for."""
    event = threading.Event()
    yield event
    event.set()


def running(scenario: Callable[[DecodingThreads], Coroutine[Any, Any, T]], size: int = 2) -> T:
    async def run() -> T:
        threads = DecodingThreads(size)
        try:
            return await asyncio.wait_for(scenario(threads), 20)
        finally:
            threads.close()

    return asyncio.run(run())


def test_each_request_gets_what_its_own_work_gives_in_its_own_context() -> None:
    def work(number: int) -> tuple[int, int]:
        if number % 3 == 0:
            raise PictureError(str(number), "cannot be read")
        return number, CALLER.get()

    async def ask(threads: DecodingThreads, number: int) -> Any:
        CALLER.set(number)
        return await threads.run(lambda: work(number))

    async def scenario(threads: DecodingThreads) -> list[Any]:
        return await asyncio.gather(*(ask(threads, n) for n in range(50)), return_exceptions=True)

    for number, result in enumerate(running(scenario)):
        if number % 3 == 0:
            assert isinstance(result, PictureError)
            assert result.path == str(number)
        else:
            assert result == (number, number)


def test_as_many_work_as_told_and_they_stay() -> None:
    both = threading.Barrier(2, timeout=10)  # breaks unless two are at work at once
    names: set[str] = set()
    at_work: list[int] = [0, 0]
    lock = threading.Lock()

    def work() -> None:
        with lock:
            at_work[0] += 1
            at_work[1] = max(at_work)
        names.add(threading.current_thread().name)
        both.wait()
        with lock:
            at_work[0] -= 1

    async def scenario(threads: DecodingThreads) -> None:
        await asyncio.gather(*(threads.run(work) for _ in range(20)))

    running(scenario)
    assert at_work[1] == 2
    assert len(names) == 2


def test_a_picture_that_takes_too_long_is_given_up_and_its_thread_replaced(
    monkeypatch: pytest.MonkeyPatch, end: threading.Event
) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.2)
    went_on: list[str] = []

    def work() -> None:
        with LARGE_PICTURES.passing():
            decoded(b"...", lambda _: end.wait(20), "holiday.jpg")
        went_on.append("after it was given up")

    async def scenario(threads: DecodingThreads) -> None:
        with pytest.raises(PictureError, match=r"took longer than 0\.2 s") as caught:
            await threads.run(work)
        assert caught.value.path == "holiday.jpg"
        assert caught.value.retryable  # it waited
        assert await threads.run(lambda: "another") == "another"
        with LARGE_PICTURES.passing():  # the next large picture need not wait for it
            pass
        end.set()
        for thread in threading.enumerate():
            if thread.name.startswith("decode-1"):
                thread.join(0.1)

    running(scenario, size=1)
    assert went_on == []


def test_each_of_several_pictures_has_its_own_time_and_other_work_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.4)

    def slowly(source: ImageSource) -> ImageSource:
        time.sleep(0.15)
        return source

    def work() -> list[ImageSource]:
        found = [decoded(name, slowly) for name in ("a", "b", "c", "d")]
        time.sleep(0.6)
        return found

    assert running(lambda threads: threads.run(work)) == ["a", "b", "c", "d"]


def test_what_nobody_waits_for_any_more_is_not_begun(end: threading.Event) -> None:
    begun = threading.Event()
    done: list[str] = []

    def hold() -> None:
        begun.set()
        end.wait(10)

    async def scenario(threads: DecodingThreads) -> None:
        first = asyncio.create_task(threads.run(hold))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        second = asyncio.create_task(threads.run(lambda: done.append("unwanted")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        end.set()
        await first
        await threads.run(lambda: done.append("wanted"))

    running(scenario, size=1)
    assert done == ["wanted"]


def test_a_picture_that_hangs_holds_no_thread_even_if_whoever_asked_has_gone(
    monkeypatch: pytest.MonkeyPatch, end: threading.Event
) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.2)
    begun = threading.Event()

    def hang(_: ImageSource) -> None:
        begun.set()
        end.wait(20)

    async def scenario(threads: DecodingThreads) -> str:
        asking = asyncio.create_task(threads.run(lambda: decoded("a.jpg", hang)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        asking.cancel()
        return await threads.run(lambda: "another")

    assert running(scenario, size=1) == "another"


def test_outside_of_these_threads_a_picture_has_a_bound_in_time_too(
    monkeypatch: pytest.MonkeyPatch, end: threading.Event
) -> None:
    monkeypatch.setattr(decoding, "DECODE_SECONDS", 0.1)
    assert decoded("a.jpg", str) == "a.jpg"
    with pytest.raises(PictureError, match=r"took longer than 0\.1 s") as caught:
        decoded("a.jpg", lambda _: end.wait(20))
    assert caught.value.path == "a.jpg"
