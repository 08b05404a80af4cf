"""What an evaluation found: values for tables, figures and JSON; and how two of them compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.learning import metrics
from imagesearch.learning.metrics import Difference, Estimate, Floats
from imagesearch.records import PlainValues
from imagesearch.search.image_encoding import VIEWS
from imagesearch.search.ranking import METHODS

# The measure that methods and models are judged by.
MAIN = "mAP"


@dataclass(frozen=True, slots=True)
class Cost(PlainValues):
    """Time of a query.

    Attributes:
        milliseconds: median, for the search alone, of one query at a time.
        extra: how much longer the whole query takes than without the method, in parts of encoding a picture and
            searching without it (0.1: 10 % longer).
    """

    milliseconds: float
    extra: float


@dataclass(frozen=True, slots=True)
class MethodResult:
    """How one ranking method does.

    Attributes:
        method: its name.
        summary: what it does.
        estimates: each measure's mean over queries.
        gains: each measure compared with ``"none"``; empty for that one.
        cost: None if it was not measured.
        values: per query, float64, shape (q,), by measure.
    """

    method: str
    summary: str
    estimates: Mapping[str, Estimate]
    gains: Mapping[str, Difference]
    cost: Cost | None
    values: Mapping[str, Floats] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without those of single queries."""
        return {
            "method": self.method,
            "summary": self.summary,
            "measures": {name: one.to_dict() for name, one in self.estimates.items()},
            "gains": {name: one.to_dict() for name, one in self.gains.items()},
            "cost": self.cost.to_dict() if self.cost else None,
        }


@dataclass(frozen=True, slots=True)
class WorstQuery(PlainValues):
    """A query with one of the lowest average precisions, and what it found.

    Attributes:
        path, label: of the query.
        average_precision: 0 to 1.
        found: path and label of the first results.
    """

    path: str
    label: str
    average_precision: float
    found: list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What the labels say.

    Attributes:
        model: the model's name.
        rows: pictures with a label; the others are left out.
        unlabelled: how many were left out.
        classes: how many labels.
        queries: how many pictures were asked for.
        k: results that precision@k and the like look at.
        methods: the ranking methods, ``"none"`` first.
        per_class: for each label its pictures asked for, and the means of some measures, by the last method.
        worst: the worst queries of the last method.
        paths: of the queries, in the order of all values.
    """

    model: str
    rows: int
    unlabelled: int
    classes: int
    queries: int
    k: int
    methods: list[MethodResult]
    per_class: dict[str, dict[str, float]]
    worst: list[WorstQuery]
    paths: list[str] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "pictures": self.rows,
            "unlabelled": self.unlabelled,
            "classes": self.classes,
            "queries": self.queries,
            "k": self.k,
            "methods": [one.to_dict() for one in self.methods],
            "per_class": self.per_class,
            "worst": [one.to_dict() for one in self.worst],
        }


def variant(method: str, views: str) -> str:
    """What a ranking method is called for queries in some views."""
    return method if views == "whole" else f"{method}, {views}"


def ways(methods: Sequence[str], views: Sequence[str]) -> list[tuple[str, str]]:
    """Ranking methods, each for pictures as a whole and in other views; the first is by distance, as a whole."""
    chosen = [name for name in METHODS if name in methods or name == "none"]
    return [(method, seen) for seen in VIEWS for method in chosen if seen == "whole" or seen in views]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        methods: ranking methods; ``"none"`` is always measured, as what the others are compared with.
        views: how pictures are seen that are asked for, besides as a whole.
        k: results that precision@k and the like look at.
        most_queries: a larger collection is sampled, evenly over its pictures.
        seed: of sampling and resampling.
        worst: how many of the worst queries are listed.
    """

    methods: tuple[str, ...] = ("none",)
    views: tuple[str, ...] = ()
    k: int = 10
    most_queries: int = 1000
    seed: int = 0
    worst: int = 12

    @property
    def ways(self) -> list[tuple[str, str]]:
        """See :func:`ways`."""
        return ways(self.methods, self.views)


class Report(Protocol):
    """What was measured for one model, by labels or by copies."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def methods(self) -> Sequence[MethodResult]:
        """The ranking methods, ``"none"`` first."""

    @property
    def paths(self) -> Sequence[str]:
        """Of the pictures that the methods' values are of."""


def compare_models(report: Report, other: Report, seed: int = 0) -> dict[str, Difference]:
    """How much better the first model is than the other on the queries that both were asked, by measure.

    Each by its last method.

    Raises:
        UsageError: they have no query in common.
    """
    places = {path: place for place, path in enumerate(other.paths)}
    shared = [(place, places[path]) for place, path in enumerate(report.paths) if path in places]
    if not shared:
        raise UsageError(f"models {report.model} and {other.model} were not asked for the same pictures")
    own, others = (np.array(column) for column in zip(*shared, strict=True))
    mine, theirs = report.methods[-1].values, other.methods[-1].values
    return {
        name: metrics.compare(values[own], theirs[name][others], seed=seed)
        for name, values in mine.items()
        if name in theirs
    }


@dataclass(frozen=True, slots=True)
class Choice(PlainValues):
    """Which ranking method a self-test recommends.

    Attributes:
        method: the best on one half of the queries.
        gain: of it over ``"none"``, on the other half, in the measure it was chosen by.
        is_sure: whether the gain's interval excludes zero.
    """

    method: str
    gain: Difference | None
    is_sure: bool


def choose_method(methods: Sequence[MethodResult], measure: str = MAIN, seed: int = 0) -> Choice:
    """The best method on a random half of the queries, and what it gains on the other half.

    So the gain is not that of a method that was picked because it happened to do well on the same queries.

    Args:
        methods: results on the same queries, ``"none"`` first.
        measure: to choose by.
        seed: of the halves.
    """
    count = len(methods[0].values[measure])
    mixed = np.random.default_rng(seed).permutation(count)
    half, rest = mixed[: count // 2], mixed[count // 2 :]
    means = [float(np.nanmean(one.values[measure][half])) if count > 1 else -math.inf for one in methods]
    best = methods[int(np.argmax(means))]
    if best.method == "none" or count < 4:
        return Choice("none", None, False)
    gain = metrics.compare(best.values[measure][rest], methods[0].values[measure][rest], seed=seed)
    return Choice(best.method, gain, gain.is_gain)
