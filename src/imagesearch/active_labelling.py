"""Labelling a collection by hand: which picture comes next, and what somebody says of it, kept at once.

How labels are kept says :mod:`imagesearch.library.hand_labels`; those of a model do not count, and give way.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from imagesearch.errors import LabelledMeanwhileError, UsageError
from imagesearch.learning.questions import LabelProgress, Question
from imagesearch.library.annotations import require_annotations
from imagesearch.library.hand_labels import (
    Content,
    change,
    given_label,
    labelled,
    patiently,
    read_contents,
    tidy_label,
)
from imagesearch.library.label_history import History, Step
from imagesearch.records import Prediction, parse_annotations
from imagesearch.search.filters import is_below
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.columns import ID

if TYPE_CHECKING:
    from imagesearch.learning.active import ActivePool, Expectation, Known

# Unlabelled pictures that are compared at a time; of a larger collection a sample, then the next one.
MOST = 10_000
# Pictures chosen at a time, before what was said of them is learnt from.
BATCH = 10
_MOST_SUGGESTIONS = 5
# What is read must not change until it is written; sessions of one process may share an opened database.
_USING = threading.RLock()


class Library(Protocol):
    """What is labelled: an :class:`imagesearch.service.ImageSearch`."""

    @property
    def spec(self) -> CollectionSpec:
        """Names the collection."""

    def collection(self) -> Collection:
        """The collection; opened where it is not."""

    def release(self) -> None:
        """Let go of the database until it is needed again."""


class LabelSession:
    """Labels the pictures of the configured collection in an order that saves labels.

    Every label is in the database before :meth:`give` returns, so that nothing is lost when the program ends, in
    whatever way. A later session goes on where this one was; only what was skipped is asked again. Thread-safe.

    Examples:
        >>> with ImageSearch() as images, images.label_session(["cat", "dog"]) as session:  # doctest: +SKIP
        ...     for question in session.next(1):
        ...         session.give(question.id, "cat")
    """

    def __init__(
        self,
        images: Library,
        labels: Sequence[str] = (),
        *,
        under: str | os.PathLike[str] | None = None,
        release: bool = False,
    ) -> None:
        """Read the collection.

        Args:
            images: an :class:`ImageSearch`; it stays open.
            labels: that are expected, in the order of their keys; those that pictures have come after them.
            under: only pictures below this folder are asked for, and counted.
            release: let go of the database between calls, so that other processes can use a Milvus Lite file.

        Raises:
            CollectionNotFoundError: nothing has been indexed with this model yet.
            UsageError: the collection is empty or of an earlier version, or no picture is below the folder.
            StoreError: the database fails.
        """
        self._images, self._release = images, release
        self._under = None if under is None else os.path.abspath(os.path.expanduser(os.fspath(under)))
        self._is_under = (lambda _: True) if self._under is None else is_below([self._under])
        self._lock = threading.RLock()
        self._labels: dict[str, None] = dict.fromkeys(map(tidy_label, labels))
        self._pictures: dict[int, Content] = {}
        self._first_of: dict[int, int] = {}
        self._skipped: dict[int, None] = {}
        self._history = History()
        self._queue: list[int] = []
        self._pool: ActivePool | None = None
        self._rows: list[int] = []
        self._sampled: set[int] = set()
        self._known: Known | None = None
        self._expected: tuple[Known, Expectation | None] | None = None
        self._changed = False
        with self._collection() as collection:
            require_annotations(collection)
            self._read(collection)
        if not self._pictures:
            where = f"below {self._under!r}" if self._under else f"in collection {images.spec.name!r}"
            raise UsageError(f"there are no pictures {where}: index some first")

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels so far; one that comes later is added at the end."""
        with self._lock:
            return tuple(self._labels)

    def next(self, count: int = 1) -> list[Question]:
        """The pictures to label next, the most useful first; fewer where few are left, none at the end.

        They stay the same until they are labelled or skipped.

        Raises:
            StoreError: the database fails.
        """
        with self._lock:
            with self._collection() as collection:
                self._news(collection, self._queue)
                if len(self._queue) < count:
                    self._read(collection)
                    self._refill(collection, max(count, BATCH))
                elif self._pool is None and (rows := self._sample()):  # pictures came or went
                    self._open_pool(collection, rows)
            return self._questions(self._queue[:count])

    def give(self, key: int, label: str, *, only_if_unlabelled: bool = False) -> str:
        """Label a picture and those with the same content; a label that it has is replaced.

        But not one of another process that this session did not know of: the first call is refused, and makes it
        known; a second one replaces it.

        Args:
            only_if_unlabelled: refuse to replace another label, whoever gave it.

        Returns:
            What tells :meth:`undo` to take back just this.

        Raises:
            LabelledMeanwhileError: somebody else labelled it.
            UsageError: the picture is not in the collection (any more), or the label is empty.
            StoreError: the database fails; nothing was changed.
        """
        label = tidy_label(label)
        with self._lock:
            _, first = self._picture(key)
            with self._collection() as collection:
                news = self._news(collection, [first])
                picture, first = self._picture(key)
                other = picture.label if news or only_if_unlabelled else None
                if other not in (None, label):
                    raise LabelledMeanwhileError(f"{picture.path}: somebody else has labelled it {other!r}")
                former = change(collection, picture.ids, lambda record: labelled(record, label))
                self._changed = True
            self._labels.setdefault(label)
            self._skipped.pop(first, None)
            self._remember(first, label)
            return self._history.add(Step("label", first, label, former))

    def skip(self, key: int) -> str:
        """Do not ask for a picture again in this session; returns and raises what :meth:`give` does."""
        with self._lock:
            _, first = self._picture(key)
            self._skipped[first] = None
            self._forget(first)
            return self._history.add(Step("skip", first))

    def undo(self, step: str | None = None) -> Question | None:
        """Take back a label or skip of this session; its picture is the next again.

        A label that somebody else changed since stays as it is now.

        Args:
            step: which one, as :meth:`give` or :meth:`skip` returned it; None: the last one.

        Returns:
            The picture; None: there is nothing (left) to take back.

        Raises:
            LabelledMeanwhileError: somebody said something else of this picture since; nothing was changed.
            UsageError: the picture is not in the collection any more, so that this can be taken back no more.
            StoreError: the database fails; nothing was changed.
        """
        with self._lock:
            if (found := self._history.find(step)) is None:
                return None
            if not self._history.is_last_of_its_picture(found, lambda key: self._first_of.get(key, key)):
                raise LabelledMeanwhileError("somebody has said something else of this picture since")
            try:
                _, first = self._picture(found.id)
                if found.kind == "label":
                    with self._collection() as collection:
                        change(collection, list(found.former), found.undone)
                        self._changed = True
                    self._remember(first, given_label(next(iter(found.former.values()))))
                elif self._pictures[first].label is not None:
                    raise LabelledMeanwhileError("somebody has labelled this picture since")
            except UsageError:
                self._history.remove(found)
                raise
            self._history.remove(found)
            self._skipped.pop(first, None)
            self._known = None
            self._queue = [first, *(other for other in self._queue if other != first)]
            return self._questions([first])[0]

    def progress(self) -> LabelProgress:
        """How far it is, and what accuracy to expect."""
        with self._lock:
            given = Counter(one.label for one in self._pictures.values() if one.label is not None)
            known, pool = self._what_is_known(), self._pool
            return LabelProgress(
                pictures=len(self._pictures),
                labelled=given.total(),
                skipped=len(self._skipped),
                labels={label: given[label] for label in self._labels},
                expected=None if pool is None else self._expect(pool, known),
            )

    def labelled(self) -> list[tuple[str, str]]:
        """Path and label of each file that a person has labelled, sorted by path; of copies each.

        Raises:
            StoreError: the database fails.
        """
        with self._lock, self._collection() as collection:
            self._read(collection)
            given = {key: one.label for one in self._pictures.values() if one.label for key in one.ids}
            found: list[tuple[str, str]] = []
            for columns in collection.scan_columns([ID, "path"]):
                for key, path in zip(columns[ID], columns["path"], strict=True):
                    if (label := given.get(int(key))) is not None and self._is_under(path):
                        found.append((path, label))
            return sorted(found)

    def close(self) -> None:
        """Make what was labelled searchable through the index again; labels are kept without it, too."""
        with self._lock:
            if self._changed:
                with self._collection() as collection:
                    if not collection.index_is_current():
                        collection.build_index()
                self._changed = False

    def __enter__(self) -> LabelSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the database ---

    @contextmanager
    def _collection(self) -> Iterator[Collection]:
        """The collection, once no other process holds the database; one session of this process at a time."""
        with _USING:
            collection = patiently(self._images.collection)
            try:
                yield collection
            finally:
                if self._release:
                    self._images.release()

    def _read(self, collection: Collection) -> None:
        """Read which pictures there are and what labels they have; those of other processes are among them."""
        pictures = read_contents(collection, self._is_under)
        if pictures != self._pictures:
            if pictures.keys() != self._pictures.keys():  # what is compared is no longer what is there
                self._pool, self._rows = None, []
                self._sampled.clear()
            self._pictures, self._known = pictures, None
            self._first_of = {key: first for first, one in pictures.items() for key in one.ids}
            still = (self._first_of.get(key) for key in self._skipped)
            self._skipped = dict.fromkeys(key for key in still if key is not None)
            there = sorted({one.label for one in pictures.values() if one.label is not None} - self._labels.keys())
            self._labels.update(dict.fromkeys(there))
            self._queue = [key for key in self._queue if key in pictures and pictures[key].label is None]

    def _news(self, collection: Collection, firsts: Sequence[int]) -> list[str]:
        """Labels that somebody else gave these pictures since they were read; they are not asked for."""
        keys = {key: first for first in firsts for key in self._pictures[first].ids}
        found: list[str] = []
        records = collection.fetch(list(keys))[0] if keys else []
        if len(records) < len(keys):  # files were removed since
            self._read(collection)
        for record in records:
            if record.id not in self._first_of:
                continue
            first, label = self._first_of[record.id], given_label(parse_annotations(record.annotations))
            if label is not None and label != self._pictures[first].label:
                self._labels.setdefault(label)
                self._remember(first, label)
                found.append(label)
        return found

    # --- what comes next ---

    def _refill(self, collection: Collection, wanted: int) -> None:
        """Choose pictures until so many wait, if there are so many."""
        while len(self._queue) < wanted:
            if self._pool is None or not self._choose(wanted):
                rows = self._sample()
                if not rows:
                    return
                self._open_pool(collection, rows)

    def _choose(self, wanted: int) -> bool:
        assert self._pool is not None
        known = self._what_is_known()
        waiting = set(self._queue)
        places = [place for place, key in enumerate(self._rows) if key in waiting]
        whole = replace(known, skipped=np.concatenate([known.skipped, np.array(places, np.int64)]))
        chosen = self._pool.choose(whole, wanted - len(self._queue))
        self._queue += [self._rows[place] for place in chosen]
        return len(chosen) > 0

    def _sample(self) -> list[int]:
        """Unlabelled pictures that were not compared yet: the lowest ids, which are hashes, so at random."""
        free = (key for key, one in self._pictures.items() if one.label is None and key not in self._sampled)
        return sorted(free)[:MOST]

    def _open_pool(self, collection: Collection, rows: list[int]) -> None:
        """Compare pictures, together with those that are labelled."""
        from imagesearch.learning.active import ActivePool

        self._sampled.update(rows)
        labelled = [key for key, one in self._pictures.items() if one.label is not None]
        wanted = sorted({*rows, *sorted(labelled)[:MOST]})
        records, vectors = collection.fetch(wanted)
        self._rows = [record.id for record in records]
        self._pool, self._known = ActivePool(vectors), None

    def _what_is_known(self) -> Known:
        """Of the pictures that are compared."""
        from imagesearch.learning.active import Known

        if self._known is None:
            numbers = {label: number for number, label in enumerate(self._labels)}
            labels = [one.label if (one := self._pictures.get(key)) else None for key in self._rows]
            places = [place for place, label in enumerate(labels) if label is not None]
            skipped = [place for place, key in enumerate(self._rows) if key in self._skipped]
            self._known = Known.of(places, [numbers[labels[place] or ""] for place in places], skipped)
        return self._known

    def _expect(self, pool: ActivePool, known: Known) -> Expectation | None:
        if self._expected is None or self._expected[0] is not known:
            self._expected = known, pool.expect(known)
        return self._expected[1]

    def _questions(self, keys: Sequence[int]) -> list[Question]:
        if not keys:
            return []
        known, names = self._what_is_known(), tuple(self._labels)
        places = {key: place for place, key in enumerate(self._rows)}
        compared = [places[key] for key in keys if key in places]
        scores = dict(zip(compared, self._pool.scores(known, compared) if self._pool else [], strict=True))
        found = []
        for key in keys:
            picture, own = self._pictures[key], scores.get(places.get(key, -1))
            order = [] if own is None else np.argsort(-own, kind="stable")[:_MOST_SUGGESTIONS].tolist()
            numbers = known.classes
            suggestions = [
                Prediction(names[numbers[place]], round(float(own[place]), 4), int(numbers[place]))
                for place in order
                if own is not None
            ]
            found.append(Question(key, picture.path, tuple(suggestions), len(picture.ids)))
        return found

    def _picture(self, key: int) -> tuple[Content, int]:
        first = self._first_of.get(key)
        if first is None:
            raise UsageError(
                f"there is no picture {key} in the collection any more, or none that is to be labelled here"
            )
        return self._pictures[first], first

    def _remember(self, key: int, label: str | None) -> None:
        self._pictures[key] = replace(self._pictures[key], label=label)
        self._forget(key)

    def _forget(self, key: int) -> None:
        """Do not ask for a picture."""
        self._queue = [other for other in self._queue if other != key]
        self._known = None
