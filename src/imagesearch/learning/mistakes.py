"""What a classifier gets wrong: which classes it takes for which, which pictures, and how sure a rate is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from imagesearch.learning.label_sets import Membership
from imagesearch.learning.metrics import Floats

Counts = NDArray[np.int64]

# Of the normal distribution: 95 % lie within.
_NORMAL = 1.959963984540054


@dataclass(frozen=True, eq=False, slots=True)
class Examination:
    """What a classifier says of pictures that it did not learn from.

    Attributes:
        paths: of n pictures.
        names: of the classes.
        truth: which labels each has, bool, shape (n, classes).
        predictions: which it says, of the same shape.
        scores: probabilities, float64, of the same shape.
    """

    paths: list[str] = field(repr=False)
    names: list[str]
    truth: Membership = field(repr=False)
    predictions: Membership = field(repr=False)
    scores: Floats = field(repr=False)


class Mistake(NamedTuple):
    """A picture with a wrong label.

    Attributes:
        path: of the picture.
        missed: the labels that it has, and was not given.
        added: those that it was given, and does not have.
        score: how probable the classifier holds the worst of these errors to be the truth.
        true_score: the probability of the label that it has; of several, the least.
    """

    path: str
    missed: tuple[str, ...]
    added: tuple[str, ...]
    score: float
    true_score: float


class Confusion(NamedTuple):
    """How often pictures of one class are taken for another.

    Attributes:
        truth, said: the classes.
        pictures: so many.
        part: of those of the class ``truth``.
    """

    truth: str
    said: str
    pictures: int
    part: float


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % score interval of a rate (Wilson, 1927), which holds for few pictures, and for rates of 0 and 1.

    Examples:
        >>> low, high = wilson(10, 10)
        >>> f"{low:.3f} {high:.3f}"
        '0.722 1.000'
        >>> wilson(0, 0)
        (0.0, 1.0)
    """
    if not count:
        return 0.0, 1.0
    rate, square = right / count, _NORMAL**2 / count
    centre = (rate + square / 2) / (1 + square)
    half = _NORMAL * math.sqrt(rate * (1 - rate) / count + square / (4 * count)) / (1 + square)
    return max(0.0, centre - half) if right else 0.0, min(1.0, centre + half) if right < count else 1.0


def confusion_matrix(found: Examination) -> Counts:
    """How often pictures of each class (row) are given each label (column), shape (classes, classes).

    Every picture has one label and is given one.
    """
    count = len(found.names)
    pairs = found.truth.argmax(axis=1) * count + found.predictions.argmax(axis=1)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def most_confused(matrix: Counts, names: Sequence[str], most: int) -> list[Confusion]:
    """The pairs of classes that are confused most often, by count, then by part."""
    wrong = matrix - np.diag(np.diag(matrix))
    totals = matrix.sum(axis=1)
    rows, columns = np.nonzero(wrong)
    parts = wrong[rows, columns] / totals[rows]
    order = np.lexsort((columns, rows, -parts, -wrong[rows, columns]))[:most]
    return [
        Confusion(names[rows[at]], names[columns[at]], int(wrong[rows[at], columns[at]]), float(parts[at]))
        for at in order.tolist()
    ]


def order_by_confusion(matrix: Counts) -> list[int]:
    """Classes so that those which are confused with each other stand side by side.

    Spectral ordering: by the second eigenvector of the Laplacian of the graph whose edges are confusions (Atkins,
    Boman & Hendrickson, 1998). Classes that are never confused come where they are in the alphabet, at the end.
    """
    rates = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    both = rates + rates.T
    np.fill_diagonal(both, 0)
    linked = np.flatnonzero(both.sum(axis=1) > 0)
    alone = [number for number in range(len(matrix)) if number not in set(linked.tolist())]
    if len(linked) < 3:
        return [*linked.tolist(), *alone]
    edges = both[np.ix_(linked, linked)] + 1e-4  # so that there is one graph, not islands
    laplacian = np.diag(edges.sum(axis=1)) - edges
    second = np.linalg.eigh(laplacian)[1][:, 1]
    second *= np.sign(second[np.argmax(np.abs(second))])
    return [*linked[np.argsort(second.round(9), kind="stable")].tolist(), *alone]


def worst_mistakes(found: Examination, most: int) -> list[Mistake]:
    """Pictures whose label is wrong, those first where the classifier was surest of it.

    With several labels a label too many counts by its probability, a label that is missing by that of its absence.
    """
    wrong = found.truth != found.predictions
    places = np.flatnonzero(wrong.any(axis=1))
    too_many = np.where(found.predictions & ~found.truth, found.scores, 0).max(axis=1)
    missed = np.where(found.truth & ~found.predictions, 1 - found.scores, 0).max(axis=1)
    is_single = bool((found.truth.sum(axis=1) == 1).all() and (found.predictions.sum(axis=1) == 1).all())
    sureness = too_many if is_single else np.maximum(too_many, missed)
    chosen = places[np.argsort(-sureness[places], kind="stable")][:most]
    return [_mistake(found, place, float(sureness[place])) for place in chosen.tolist()]


def _mistake(found: Examination, place: int, score: float) -> Mistake:
    truth, said, scores = found.truth[place], found.predictions[place], found.scores[place]
    missed, added = (
        tuple(found.names[number] for number in np.flatnonzero(labels).tolist())
        for labels in (truth & ~said, said & ~truth)
    )
    return Mistake(found.paths[place], missed, added, score, float(scores[truth].min(initial=1.0)))
