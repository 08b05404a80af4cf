"""Searches that come together are answered together, each with its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.batching import BusyError, SearchBatcher
from imagesearch.search.answers import Answer
from imagesearch.search.query import Query, SearchOptions

from .conftest import Gallery


class Recorder:
    """Answers each query with itself, and remembers how they came; waits for a permission first."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.batches: list[tuple[list[str], SearchOptions]] = []
        self.permission = threading.Event()
        self.began = threading.Event()
        if is_open:
            self.permission.set()

    def __call__(self, queries: Sequence[Query], options: SearchOptions) -> list[Answer]:
        self.began.set()
        self.permission.wait(10)
        self.batches.append(([str(query) for query in queries], options))
        if any("poison" in str(query) for query in queries):
            raise RuntimeError("poisoned")
        return [Answer(query, meanings=(str(options.k),)) for query in queries]


def test_long_searches_wait_for_one_another_and_for_nobody_else(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more of them wait than the settings say; the others are told to come back."""
    recorder, most = Recorder(is_open=False), gallery.images.config.server.queue_size
    backend = Backend(gallery.images, (), cache=tmp_path / "thumbnails")
    monkeypatch.setattr(gallery.images, "answer", recorder)
    options = SearchOptions(3, rerank="patches")

    async def ask_all() -> list[Answer | BaseException]:
        asked = [asyncio.create_task(backend.search(Query.words(str(n)), options)) for n in range(most + 5)]
        while not recorder.began.is_set():
            await asyncio.sleep(0.01)
        assert await asyncio.wait_for(anyio.to_thread.run_sync(lambda: "at once"), 5) == "at once"
        recorder.permission.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = anyio.run(ask_all)
    backend.close()
    assert [isinstance(one, BusyError) for one in found] == [False] * most + [True] * 5
    assert [queries for queries, _ in recorder.batches] == [[f'"{n}"'] for n in range(most)]


@settings(max_examples=30, deadline=None)
@given(
    asked=st.lists(st.tuples(st.integers(0, 99), st.integers(1, 3)), max_size=40),
    batch_size=st.integers(1, 8),
    threads=st.integers(1, 6),
)
def test_everybody_gets_the_answer_to_what_was_asked(
    asked: list[tuple[int, int]], batch_size: int, threads: int
) -> None:
    recorder = Recorder()
    batcher = SearchBatcher(recorder, batch_size=batch_size, queue_size=100)

    def ask(question: tuple[int, int]) -> Answer:
        number, k = question
        return batcher.submit(Query.words(f"w{number}"), SearchOptions(k)).result(10)

    with ThreadPoolExecutor(threads) as pool:
        answers = list(pool.map(ask, asked))
    batcher.close()
    assert [(str(answer.query), answer.meanings) for answer in answers] == [
        (f'"w{number}"', (str(k),)) for number, k in asked
    ]
    assert sum(len(queries) for queries, _ in recorder.batches) == len(asked)
    assert all(len(queries) <= batch_size for queries, _ in recorder.batches)


def test_what_waits_is_answered_together() -> None:
    recorder = Recorder(is_open=False)
    batcher = SearchBatcher(recorder, batch_size=8, queue_size=100)
    first = batcher.submit(Query.words("first"), SearchOptions(1))
    assert recorder.began.wait(10)
    later = [batcher.submit(Query.words(f"w{number}"), SearchOptions(1)) for number in range(10)]
    recorder.permission.set()
    for future in (first, *later):
        future.result(10)
    batcher.close()
    assert [len(queries) for queries, _ in recorder.batches] == [1, 8, 2]


def test_too_many_are_refused_and_the_others_answered() -> None:
    recorder = Recorder(is_open=False)
    batcher = SearchBatcher(recorder, batch_size=2, queue_size=3)
    first = batcher.submit(Query.words("first"), SearchOptions(1))
    assert recorder.began.wait(10)
    waiting = [batcher.submit(Query.words("more"), SearchOptions(1)) for _ in range(3)]
    with pytest.raises(BusyError, match="3 searches wait"):
        batcher.submit(Query.words("one too many"), SearchOptions(1))
    recorder.permission.set()
    assert all(future.result(10) for future in (first, *waiting))
    batcher.close()
    with pytest.raises(BusyError, match="shutting down"):
        batcher.submit(Query.words("late"), SearchOptions(1))


def test_those_that_were_cancelled_are_not_looked_for() -> None:
    recorder = Recorder(is_open=False)
    batcher = SearchBatcher(recorder, batch_size=4, queue_size=10)
    batcher.submit(Query.words("first"), SearchOptions(1))
    assert recorder.began.wait(10)
    given_up = batcher.submit(Query.words("given up"), SearchOptions(1))
    wanted = batcher.submit(Query.words("wanted"), SearchOptions(1))
    assert given_up.cancel()
    recorder.permission.set()
    wanted.result(10)
    batcher.close()
    assert ['"wanted"'] in [queries for queries, _ in recorder.batches]


def test_an_error_reaches_those_who_asked_and_nobody_else() -> None:
    batcher = SearchBatcher(Recorder(), batch_size=4, queue_size=10)
    with pytest.raises(RuntimeError, match="poisoned"):
        batcher.submit(Query.words("poison"), SearchOptions(1)).result(10)
    assert batcher.submit(Query.words("well"), SearchOptions(1)).result(10).meanings == ("1",)
    batcher.close()
