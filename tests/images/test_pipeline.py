"""Decoding ahead: in order, bounded, nothing swallowed."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from imagesearch.errors import PictureError
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.records import Skipped


def counted(numbers: range, pulled: list[int]) -> Iterator[int]:
    for number in numbers:
        pulled.append(number)
        yield number


def test_order_is_kept_although_later_items_are_ready_first() -> None:
    first_may_go = threading.Event()

    def load(number: int) -> int:
        if number == 0:
            assert first_may_go.wait(20)
        if number == 3:
            first_may_go.set()
        return number * 10

    assert list(decode_ahead(range(8), load, threads=4, ahead=8)) == [0, 10, 20, 30, 40, 50, 60, 70]


def test_items_are_pulled_only_a_little_ahead() -> None:
    pulled: list[int] = []
    results = decode_ahead(counted(range(1000), pulled), str, threads=2, ahead=5)
    assert pulled == []
    for taken in range(1, 21):
        next(results)
        assert len(pulled) <= taken + 5
    results.close()
    assert len(pulled) <= 25


def test_work_happens_ahead_of_the_consumer() -> None:
    done = threading.Semaphore(0)
    results = decode_ahead(range(10), lambda number: done.release(), threads=2, ahead=4)
    next(results)
    for _ in range(4):
        assert done.acquire(timeout=20)
    results.close()


def test_broken_pictures_are_skipped_in_their_place() -> None:
    def load(number: int) -> int:
        if number % 2:
            raise PictureError(f"{number}.jpg", "broken", retryable=number == 3)
        return number

    assert list(decode_ahead(range(5), load, threads=3)) == [
        0,
        Skipped("1.jpg", "broken"),
        2,
        Skipped("3.jpg", "broken", retryable=True),
        4,
    ]


def test_bugs_are_raised_where_they_belong() -> None:
    def load(number: int) -> int:
        return 1 // (number - 2)

    results = decode_ahead(range(10), load, threads=2)
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_bugs_of_the_source_are_raised() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise RuntimeError("the listing broke")

    with pytest.raises(RuntimeError, match="the listing broke"):
        list(decode_ahead(source(), str))


@pytest.mark.timeout(20)
def test_leaving_early_leaves_no_threads() -> None:
    before = threading.active_count()
    loaded: list[int] = []
    results = decode_ahead(range(10_000), loaded.append, threads=2, ahead=50)
    next(results)
    results.close()
    assert threading.active_count() == before
    assert len(loaded) <= 51


def test_nothing_gives_nothing() -> None:
    assert list(decode_ahead([], str)) == []
    assert list(batches([], 3)) == []


def test_batches_take_from_the_source_only_what_they_give() -> None:
    pulled: list[int] = []
    pieces = batches(counted(range(10), pulled), 4)
    assert next(pieces) == [0, 1, 2, 3]
    assert pulled == [0, 1, 2, 3]
    assert list(pieces) == [[4, 5, 6, 7], [8, 9]]
