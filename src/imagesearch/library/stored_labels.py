"""Labels of pictures, written into their collection: what a model said, besides what somebody said."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType

from imagesearch.library.annotations import require_annotations, with_annotations
from imagesearch.library.exclusive import changing
from imagesearch.records import ImageRecord, Prediction, parse_annotations
from imagesearch.reports import StoreReport
from imagesearch.stores.base import Collection

# The columns, to which filters can refer; searches by words read them (search.label_words).
LABEL, SCORE = "label", "label_score"
_PICTURES_PER_WRITE = 500
# Digits after the point that are worth keeping.
_DECIMALS = 6


class LabelStore:
    """Writes labels as they come, some hundred pictures at a time; use it as a context manager.

    A label without a score is one that somebody gave the picture, and stays as it is.

    Attributes:
        report: what was done so far.
    """

    def __init__(self, collection: Collection) -> None:
        """Nothing happens yet.

        Raises:
            UsageError: the collection was made by an earlier version, and has no room for labels.
        """
        require_annotations(collection)
        self._collection = collection
        self._waiting: list[tuple[Sequence[int], Prediction | None]] = []
        self._stored = self._cleared = self._kept = self._missing = 0

    @property
    def report(self) -> StoreReport:
        """See the class."""
        return StoreReport(
            self._collection.spec.name, self._stored, self._cleared, self._kept, self._missing + len(self._waiting)
        )

    def add(self, keys: Sequence[int], label: Prediction | None) -> None:
        """Write, now or a little later, what a picture shows.

        Args:
            keys: ids that it may have in the collection.
            label: None: nothing that is sure enough; an earlier label is taken away.

        Raises:
            StoreError: the database fails; what was written stays.
        """
        self._waiting.append((keys, label))
        if len(self._waiting) >= _PICTURES_PER_WRITE:
            self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            UsageError: a picture has too many annotations already.
            StoreError: the database fails.
        """
        waiting, self._waiting = self._waiting, []
        with changing(self._collection):
            records, vectors = self._collection.fetch([key for keys, _ in waiting for key in keys])
            places = {record.id: place for place, record in enumerate(records)}
            changed: dict[int, ImageRecord] = {}
            for keys, label in waiting:
                place = next((places[key] for key in keys if key in places), None)
                if place is None:
                    self._missing += 1
                elif (record := self._labelled(records[place], label)) is not None:
                    changed[place] = record
            if changed:
                self._collection.upsert(list(changed.values()), vectors[list(changed)])

    def _labelled(self, record: ImageRecord, label: Prediction | None) -> ImageRecord | None:
        """The record with its label; None if it stays as it is."""
        there = parse_annotations(record.annotations)
        if LABEL in there and SCORE not in there:
            self._kept += 1
            return None
        if label is not None:
            self._stored += 1
            return with_annotations(record, {LABEL: label.label, SCORE: round(label.score, _DECIMALS)})
        if LABEL not in there:
            return None
        self._cleared += 1
        return with_annotations(record, {}, without=(LABEL, SCORE))

    def __enter__(self) -> LabelStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, KeyboardInterrupt):
            self.flush()
            if self._stored + self._cleared and not self._collection.index_is_current():
                self._collection.build_index()
