"""Labelling by hand by way of a server: the methods of :class:`LabelSession`, as requests of the HTTP API."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from imagesearch.client_connection import API, Connection
from imagesearch.errors import ImageSearchError, UsageError
from imagesearch.learning.active import Expectation
from imagesearch.learning.questions import LabelProgress, Question
from imagesearch.library.hand_labels import tidy_label
from imagesearch.records import Prediction

if TYPE_CHECKING:
    from typing_extensions import Self

_API = f"{API}/labelling"
# Questions in one request, and before them, as the API bounds them.
_MOST_QUESTIONS, _MOST_OFFSET = 1000, 10_000


class ServedLabelSession:
    """Labels pictures of a server's collection; made by :meth:`Client.label_session`.

    The session is the server's, which keeps few of them, and ends when the server does; then calls raise
    :class:`UsageError`. Labels are kept. Several threads may use one object.
    """

    def __init__(self, connection: Connection, labels: Sequence[str], under: str | None) -> None:
        """Open a session on the server; see :class:`LabelSession` for the rest.

        Args:
            connection: to the server.
            labels: that are expected, in the order of their keys.
            under: a folder of the server's machine.

        Raises:
            CollectionNotFoundError, UsageError, StoreError: see :class:`LabelSession`.
            StoreUnreachableError: the server does not answer.
            ImageSearchError: it does not let one label.
        """
        self._connection, self._lock, self._is_open = connection, threading.RLock(), True
        order = {"labels": list(dict.fromkeys(map(tidy_label, labels))), "under": under}
        self._state: Mapping[str, Any] = connection.post(f"{_API}/sessions", order, repeatable=False)
        self._session = str(self._state["id"])

    @property
    def labels(self) -> tuple[str, ...]:
        """See :attr:`LabelSession.labels`."""
        return tuple(self.progress().labels)

    def next(self, count: int = 1) -> list[Question]:
        """See :meth:`LabelSession.next`; at most 11,000.

        Raises:
            StoreError: the server's database fails, or the server does not answer.
            UsageError: the session has ended.
        """
        found: dict[int, Question] = {}
        with self._lock:
            for offset in range(0, min(count, _MOST_OFFSET + _MOST_QUESTIONS), _MOST_QUESTIONS):
                wanted = min(count - offset, _MOST_QUESTIONS)
                self._state = self._connection.get(self._address("", count=wanted, offset=offset))
                found |= {one.id: one for one in map(self._question, self._state["questions"])}
                if len(self._state["questions"]) < wanted:
                    break
        return list(found.values())

    def give(self, key: int, label: str, *, only_if_unlabelled: bool = False) -> str:
        """See :meth:`LabelSession.give`.

        Raises:
            LabelledMeanwhileError: somebody else labelled it.
            UsageError: the picture is not in the collection (any more), the label is empty, or the session has
                ended.
            StoreError: the server's database fails, or the server does not answer.
        """
        order = {"id": str(int(key)), "label": tidy_label(label), "replace": not only_if_unlabelled, "count": 0}
        return str(self._change("/labels", order)["step"])

    def skip(self, key: int) -> str:
        """See :meth:`LabelSession.skip`; raises what :meth:`give` does."""
        return str(self._change("/skips", {"id": str(int(key)), "count": 0})["step"])

    def undo(self, step: str | None = None) -> Question | None:
        """See :meth:`LabelSession.undo`.

        Raises:
            LabelledMeanwhileError: somebody said something else of this picture since; nothing was changed.
            UsageError: the picture is not in the collection any more, or the session has ended.
            StoreError: the server's database fails, or the server does not answer.
        """
        with self._lock:
            undone = self._change("/undo", {}, count=0, **({} if step is None else {"step": step}))["undone"]
            return undone and self._question(undone)

    def progress(self) -> LabelProgress:
        """See :meth:`LabelSession.progress`; as the last call found it."""
        with self._lock:
            return _progress_from_dict(self._state)

    def labelled(self) -> list[tuple[str, str]]:
        """See :meth:`LabelSession.labelled`.

        Raises:
            StoreError: the server's database fails, or the server does not answer.
            UsageError: the session has ended.
        """
        with self._lock:
            files = self._connection.get(self._address("/labels"))["files"]
            self._state = self._connection.get(self._address("", count=0))
        return [(one["path"], one["label"]) for one in files]

    def close(self) -> None:
        """End the session on the server; labels are kept without it, too.

        Raises:
            ImageSearchError: the server does not answer, or its database fails.
        """
        with self._lock:
            if self._is_open:
                self._is_open = False
                with contextlib.suppress(UsageError):  # the server has ended it already
                    self._connection.delete(f"{_API}/sessions/{self._session}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        with contextlib.suppress(ImageSearchError):  # the first error is the one to tell
            self.close()

    def _change(self, path: str, order: dict[str, Any], **query: Any) -> Mapping[str, Any]:
        """What the server says after a change, which must not be made twice."""
        with self._lock:
            self._state = self._connection.post(self._address(path, **query), order, repeatable=False)
            return self._state

    def _address(self, path: str, **query: Any) -> str:
        return f"{_API}{path}?{urlencode({**query, 'session': self._session})}"

    def _question(self, values: Mapping[str, Any]) -> Question:
        return _question_from_dict(values, self.labels)


def _question_from_dict(values: Mapping[str, Any], labels: Sequence[str]) -> Question:
    """
    Args:
        labels: all of the session, by whose order suggestions are numbered.
    """
    suggestions = tuple(
        Prediction(one["label"], one["score"], labels.index(one["label"])) for one in values["suggestions"]
    )
    return Question(int(values["id"]), values["path"], suggestions, values["copies"])


def _progress_from_dict(values: Mapping[str, Any]) -> LabelProgress:
    labels = {one["label"]: one["pictures"] for one in values["labels"]}
    expected = Expectation(**values["expected"]) if values["expected"] else None
    return LabelProgress(values["pictures"], values["labelled"], values["skipped"], labels, expected)
