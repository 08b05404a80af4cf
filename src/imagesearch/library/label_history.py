"""What can be undone of labelling by hand: steps in their order, each known by a key of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from imagesearch.library.hand_labels import restored
from imagesearch.records import ImageRecord


@dataclass(frozen=True, slots=True)
class Step:
    """A label that was given, with the annotations before it, or a skipped picture.

    Attributes:
        kind: which of them.
        id: of the picture.
        label: that was given.
        former: annotations before, by the ids of the files with this content.
        key: tells it from all other steps, also from those of another process.
    """

    kind: Literal["label", "skip"]
    id: int
    label: str = ""
    former: dict[int, dict[str, Any]] = field(default_factory=dict)
    key: str = field(default_factory=lambda: secrets.token_hex(8))

    def undone(self, record: ImageRecord) -> ImageRecord:
        """The record as it was before, unless somebody else has changed its label since."""
        return restored(record, self.label, self.former[record.id])


class History:
    """The steps of one session, the last one at the end."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def add(self, step: Step) -> str:
        """Put a step at the end; returns its key."""
        self._steps[step.key] = step
        return step.key

    def find(self, key: str | None) -> Step | None:
        """The step with this key, or the last one; None if there is none."""
        if key is not None:
            return self._steps.get(key)
        return next(reversed(self._steps.values()), None)

    def is_last_of_its_picture(self, step: Step, content_of: Callable[[int], int]) -> bool:
        """Whether nothing was said of its picture after it.

        Args:
            content_of: told the id of a file; returns the same for files with the same content.
        """
        content = content_of(step.id)
        for other in reversed(self._steps.values()):
            if other is step:
                return True
            if content_of(other.id) == content:
                return False
        return False

    def remove(self, step: Step) -> None:
        """Forget a step."""
        del self._steps[step.key]
