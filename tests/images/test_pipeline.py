"""Decoding ahead: in order, bounded, nothing swallowed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesearch.errors import PictureError
from imagesearch.images.files import LARGE_PICTURES, Gate
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.records import ImageRecord, Skipped


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

    assert list(decode_ahead(range(8), load, max_workers=4, ahead=8)) == [0, 10, 20, 30, 40, 50, 60, 70]


def test_items_are_pulled_only_a_little_ahead() -> None:
    pulled: list[int] = []
    results = decode_ahead(counted(range(1000), pulled), str, max_workers=2, ahead=5)
    assert pulled == []
    for taken in range(1, 21):
        next(results)
        assert len(pulled) <= taken + 5
    results.close()
    assert len(pulled) <= 25


def test_work_happens_ahead_of_the_consumer() -> None:
    done = threading.Semaphore(0)
    results = decode_ahead(range(10), lambda number: done.release(), max_workers=2, ahead=4)
    next(results)
    for _ in range(4):
        assert done.acquire(timeout=20)
    results.close()


def test_broken_pictures_are_skipped_in_their_place() -> None:
    def load(number: int) -> int:
        if number % 2:
            raise PictureError(f"{number}.jpg", "broken", retryable=number == 3)
        return number

    assert list(decode_ahead(range(5), load, max_workers=3)) == [
        0,
        Skipped("1.jpg", "broken"),
        2,
        Skipped("3.jpg", "broken", retryable=True),
        4,
    ]


def test_bugs_are_raised_where_they_belong() -> None:
    def load(number: int) -> int:
        return 1 // (number - 2)

    results = decode_ahead(range(10), load, max_workers=2)
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
    results = decode_ahead(range(10_000), loaded.append, max_workers=2, ahead=50)
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


class TestTimeout:
    def test_what_takes_too_long_is_skipped_in_its_place(self) -> None:
        never = threading.Event()

        def load(path: str) -> str:
            if path == "hangs":
                never.wait(20)
            return path.upper()

        paths = ["a", "hangs", "b", "hangs", "c", "d"]
        late = Skipped("hangs", "took longer than 0.2 s to read and decode", retryable=True)
        started = time.monotonic()
        assert list(decode_ahead(paths, load, max_workers=2, timeout=0.2)) == ["A", late, "B", late, "C", "D"]
        assert time.monotonic() - started < 5
        never.set()

    def test_more_may_hang_than_there_are_threads(self) -> None:
        never = threading.Event()
        results = list(decode_ahead("012345", lambda name: never.wait(20), max_workers=2, timeout=0.05))
        assert [result.path for result in results if isinstance(result, Skipped)] == list("012345")
        never.set()

    def test_paths_of_items_that_are_none(self) -> None:
        never = threading.Event()
        items = [ImageRecord("/p/a.jpg"), Path("b.jpg"), b"bytes"]
        seen = decode_ahead(items, lambda item: never.wait(20), timeout=0.05)
        assert [result.path for result in seen if isinstance(result, Skipped)] == [
            "/p/a.jpg",
            "b.jpg",
            "<picture in memory>",
        ]
        never.set()

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what another thread has computed")
    def test_what_computes_for_too_long_is_not_tried_again(self) -> None:
        enough = threading.Event()

        def load(name: str) -> None:
            while name == "computes" and not enough.is_set():
                sum(range(10_000))
            enough.wait(20)

        late = list(decode_ahead(["computes", "waits"], load, max_workers=2, timeout=0.5))
        enough.set()
        assert [result.retryable for result in late if isinstance(result, Skipped)] == [False, True]

    def test_what_is_late_but_done_when_asked_for_counts(self) -> None:
        results = decode_ahead(
            [0.0, 0.15], lambda seconds: time.sleep(seconds) or seconds, max_workers=2, timeout=0.1
        )
        assert next(results) == 0.0
        time.sleep(0.3)
        assert next(results) == 0.15

    def test_errors_of_a_thread_given_up_are_not_raised(self) -> None:
        go = threading.Event()

        def load(number: int) -> int:
            if number == 0:
                go.wait(20)
                raise RuntimeError("too late to matter")
            return number

        results = decode_ahead(range(3), load, max_workers=1, timeout=0.1)
        assert isinstance(next(results), Skipped)
        go.set()
        assert list(results) == [1, 2]

    def test_waiting_for_another_large_picture_does_not_count(self) -> None:
        inside = threading.Event()

        def load(number: int) -> int:
            with LARGE_PICTURES.passing():
                inside.set()
                time.sleep(0.3)
            return number

        assert list(decode_ahead(range(4), load, max_workers=4, timeout=1.0)) == [0, 1, 2, 3]
        assert inside.is_set()

    def test_a_thread_given_up_does_not_keep_the_gate(self) -> None:
        never = threading.Event()

        def load(number: int) -> int:
            with LARGE_PICTURES.passing():
                if number == 0:
                    never.wait(20)
            return number

        first, *others = decode_ahead(range(4), load, max_workers=2, timeout=0.2)
        assert isinstance(first, Skipped)
        assert others == [1, 2, 3]
        never.set()

    def test_leaving_early_does_not_wait_for_what_hangs(self) -> None:
        never = threading.Event()
        results = decode_ahead(range(9), lambda number: number and never.wait(20), max_workers=2, timeout=None)
        assert next(results) == 0
        started = time.monotonic()
        results.close()
        assert time.monotonic() - started < 5
        assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("decode-"))
        never.set()

    def test_the_interpreter_exits_although_something_hangs(self) -> None:
        program = (
            "import time\n"
            "from imagesearch.images.pipeline import decode_ahead\n"
            "print(next(decode_ahead([1], lambda item: time.sleep(1000), timeout=0.1)).reason)\n"
        )
        run = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert run.stdout == "took longer than 0.1 s to read and decode\n"
        assert run.stderr == ""


class TestGate:
    def test_one_at_a_time(self) -> None:
        gate, inside, most = Gate(), [], []

        def work() -> None:
            with gate.passing():
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.01)
                inside.pop()

        threads = [threading.Thread(target=work) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 5

    def test_the_wait_is_known_while_it_lasts_and_afterwards(self) -> None:
        gate, waited = Gate(), []

        def work() -> None:
            with gate.passing():
                waited.append(gate.waited(threading.current_thread()))

        thread = threading.Thread(target=work)
        with gate.passing():
            thread.start()
            time.sleep(0.2)
            assert gate.waited(thread) >= 0.1
        thread.join()
        assert 0.1 <= waited[0] < 5
        assert gate.waited(threading.current_thread()) < 0.1

    def test_errors_leave_it_open(self) -> None:
        gate = Gate()
        with pytest.raises(ValueError, match="inside"), gate.passing():
            raise ValueError("inside")
        with gate.passing():
            pass

    def test_only_who_is_inside_is_let_out(self) -> None:
        gate = Gate()
        other = threading.Thread()
        with gate.passing():
            gate.leave(other)
            assert gate._inside is threading.current_thread()
