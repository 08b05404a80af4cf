"""What is asked of a person who labels pictures, and how far that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagesearch.learning.active import Expectation
from imagesearch.records import PlainValues, Prediction


@dataclass(frozen=True, slots=True)
class Question:
    """A picture to label.

    Attributes:
        id: its id in the collection.
        path: its file.
        suggestions: the most probable labels so far, most probable first.
        copies: files with the same content in the collection, this one included; they share the label.
    """

    id: int
    path: str
    suggestions: tuple[Prediction, ...]
    copies: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        suggestions = [{"label": one.label, "score": one.score} for one in self.suggestions]
        return {"id": self.id, "path": self.path, "copies": self.copies, "suggestions": suggestions}


@dataclass(frozen=True, slots=True)
class LabelProgress(PlainValues):
    """How far labelling is.

    Attributes:
        pictures: how many there are; files with the same content are one.
        labelled: how many of them a person has labelled.
        skipped: how many were skipped in this session.
        labels: how many pictures have each label, in the order of :attr:`LabelSession.labels`.
        expected: the accuracy to expect when the others are labelled from these; None while too little is known.
    """

    pictures: int
    labelled: int
    skipped: int
    labels: dict[str, int]
    expected: Expectation | None
