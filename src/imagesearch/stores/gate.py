"""Closing a database that several threads use, and refusing it to a process made by ``fork``."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, Protocol, TypeVar, cast

from imagesearch.errors import StoreError
from imagesearch.stores.base import closed

P = ParamSpec("P")
T = TypeVar("T")


class Gate:
    """Counts the threads inside a database's methods: they pass side by side while it is open.

    Args:
        place: of the database, for messages.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._threads = 0
        self._closed = False
        self._process: int | None = None  # the one that passed first
        self._changed = threading.Condition()
        self._own = threading.local()

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside. A thread may enter again while it is: what it began can be finished.

        Raises:
            StoreError: it is closed, or was used by the process that this one was forked from.
        """
        depth = getattr(self._own, "depth", 0)
        if not depth:
            self._enter()
        self._own.depth = depth + 1
        try:
            yield
        finally:
            self._own.depth = depth
            if not depth:
                self._leave()

    def close(self) -> bool:
        """Let nobody in any more, and wait until all others are out.

        Returns:
            Whether there is something to let go of: no if it was closed before, or belongs to the parent process.
        """
        if self._is_forked():
            self._closed = True  # the parent's threads are not here, so nobody is inside
            return False
        with self._changed:
            first, self._closed = not self._closed, True
            own = 1 if getattr(self._own, "depth", 0) else 0
            self._changed.wait_for(lambda: self._threads <= own)
        return first

    def _enter(self) -> None:
        # Before the lock: a thread that is not in this process may have held it when the process was forked.
        if self._is_forked():
            raise StoreError(
                f"the database at {self._place} was opened by another process, from which this one was forked: "
                f"open it again here"
            )
        with self._changed:
            if self._closed:
                raise closed(self._place)
            self._process = os.getpid()
            self._threads += 1

    def _leave(self) -> None:
        with self._changed:
            self._threads -= 1
            self._changed.notify_all()

    def _is_forked(self) -> bool:
        return self._process not in (None, os.getpid())


class Gated(Protocol):
    """What has a gate."""

    @property
    def gate(self) -> Gate:
        """The gate."""


G = TypeVar("G", bound=Gated)


def while_open(method: Callable[Concatenate[G, P], T]) -> Callable[Concatenate[G, P], T]:
    """Run a method inside its object's gate: closing waits for it."""

    @functools.wraps(method)
    def call(self: G, *args: P.args, **kwargs: P.kwargs) -> T:
        with self.gate.passing():
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[G, P], T]", call)
