"""Decode pictures in threads ahead of the network, in order, with bounded memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from imagesearch.errors import PictureError
from imagesearch.records import Skipped

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def decode_ahead(
    items: Iterable[Item],
    load: Callable[[Item], Loaded],
    *,
    threads: int = 0,
    ahead: int = 64,
) -> Iterator[Loaded | Skipped]:
    """Apply ``load`` to every item in worker threads and yield the results in the items' order.

    At most ``ahead`` results wait at any time, so memory does not grow with the library. A picture that cannot
    be read becomes a :class:`Skipped`; any other error is a bug and is raised.

    Args:
        items: paths, mostly; consumed lazily.
        load: called in worker threads; Pillow and NumPy release the interpreter lock for most of it.
        threads: number of workers; 0: one a core, at most 16.
        ahead: number of results kept ready.
    """
    workers = threads or min(16, os.cpu_count() or 1)
    pending: deque[Future[Loaded | Skipped]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for item in islice(source, max(ahead, workers)):
                pending.append(pool.submit(_load, load, item))
            while pending:
                result = pending.popleft().result()
                for item in islice(source, 1):
                    pending.append(pool.submit(_load, load, item))
                yield result
        finally:
            for future in pending:
                future.cancel()


def _load(load: Callable[[Item], Loaded], item: Item) -> Loaded | Skipped:
    try:
        return load(item)
    except PictureError as error:
        return Skipped(error.path, error.reason, error.retryable)


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Split into lists of ``size`` items, the last one shorter.

    Examples:
        >>> list(batches("abcde", 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch
