"""How right labels are, and how true their probabilities, on pictures whose class is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.learning.confidence_evaluation import Bin, calibration_error, reliability
from imagesearch.learning.metrics import Estimate, estimate
from imagesearch.models.vocabulary import Vocabulary
from imagesearch.records import PlainValues, Prediction


@dataclass(frozen=True, slots=True)
class LabelQuality(PlainValues):
    """How good a labeller is.

    Attributes:
        pictures: how many were labelled, of classes that it knows.
        classes: how many classes these are of.
        unknown: classes that it has no label for; their pictures do not count.
        skipped: pictures that could not be read.
        accuracy: share of pictures whose most probable label is their class, with its 95 % interval.
        confidence: mean probability of the most probable label.
        calibration_error: expected calibration error of that probability (Guo et al., "On calibration of modern
            neural networks", ICML 2017), ten bins of equal width.
        threshold: see :class:`~imagesearch.search.labels.LabelOptions`.
        covered: share of pictures whose most probable label reaches it.
        covered_accuracy: accuracy on those; None if there are none.
        bins: the reliability diagram; ``related`` is the share of labels that were right.
    """

    pictures: int
    classes: int
    unknown: tuple[str, ...]
    skipped: int
    accuracy: Estimate
    confidence: float
    calibration_error: float
    threshold: float
    covered: float
    covered_accuracy: float | None
    bins: tuple[Bin, ...]


class Truth:
    """Which of a labeller's labels are right for pictures of a class.

    Args:
        labels: the labeller's.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self._places = {label: place for place, label in enumerate(labels)}
        self._vocabulary = Vocabulary(labels)
        self._known: dict[str, frozenset[int]] = {}

    @property
    def examples(self) -> str:
        """Some labels, for a message."""
        return ", ".join(repr(name) for name in list(self._places)[:3])

    def of(self, name: str) -> frozenset[int]:
        """Numbers of the labels that a class's name means, as in searches by words; empty: there is none."""
        if name not in self._known:
            match = None if name in self._places else self._vocabulary.match(name)
            if name in self._places:
                self._known[name] = frozenset((self._places[name],))
            elif match is not None and match.known_as is None:
                self._known[name] = frozenset(match.indices)
            else:
                self._known[name] = frozenset()
        return self._known[name]


@dataclass(slots=True)
class Outcome:
    """What a labeller said of one picture.

    Attributes:
        name: its class.
        first: the most probable label; None if the picture could not be read.
    """

    name: str
    first: Prediction | None


def label_quality(outcomes: Sequence[Outcome], truth: Truth, threshold: float = 0.0) -> LabelQuality:
    """Compare labels with classes.

    Raises:
        UsageError: none of the pictures is of a class that the labeller knows.
    """
    names = sorted({outcome.name for outcome in outcomes})
    unknown = tuple(name for name in names if not truth.of(name))
    found = [outcome for outcome in outcomes if outcome.first is not None and truth.of(outcome.name)]
    if not found:
        shown = ", ".join(unknown[:5]) or "none"
        raise UsageError(
            f"no picture of a class that has a label (classes without: {shown}): sub-folders must be called as"
            f" labels are, such as {truth.examples} (those of a model: 'imagesearch models --words'), or name the"
            " labels with --labels"
        )
    said = np.array([outcome.first.score for outcome in found if outcome.first], np.float64)
    right = np.array([outcome.first.index in truth.of(outcome.name) for outcome in found if outcome.first])
    bins = reliability(said, right)
    covered = said >= threshold
    return LabelQuality(
        pictures=len(found),
        classes=len({outcome.name for outcome in found}),
        unknown=unknown,
        skipped=sum(outcome.first is None for outcome in outcomes),
        accuracy=estimate(right.astype(np.float64)),
        confidence=float(said.mean()),
        calibration_error=calibration_error(bins),
        threshold=threshold,
        covered=float(covered.mean()),
        covered_accuracy=float(right[covered].mean()) if covered.any() else None,
        bins=bins,
    )
