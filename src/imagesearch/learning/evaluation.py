"""How well a collection finds what belongs together: every picture asked for the others of its class.

Each query is a picture of the collection that for this one search is not there (leave-one-out), so what is
measured is what an unseen picture of the same kind would get. Rankings are exact and complete: mAP is the mean
average precision over the whole collection, not over the first results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning import metrics
from imagesearch.learning.exact import ExactRows, Rows
from imagesearch.learning.metrics import Floats
from imagesearch.learning.outcomes import MAIN, Cost, LabelReport, MethodResult, Plan, WorstQuery
from imagesearch.records import Progress, no_progress
from imagesearch.search.ranking import METHODS, RECIPES, order, rank
from imagesearch.stores.base import Collection, Vectors

# Queries ranked at once: their scores with all rows are in memory.
_BLOCK = 32
# Queries of a sample that costs are measured with, and results per query.
_TIMED_QUERIES, _TIMED_RESULTS = 40, 10


def evaluate_labels(
    rows: Rows,
    labels: Sequence[str | None],
    plan: Plan,
    *,
    model: str = "",
    costs: Mapping[str, Cost] | None = None,
    progress: Progress = no_progress,
) -> LabelReport:
    """Ask for pictures of a collection and see whether others of their class come first.

    Args:
        rows: the collection.
        labels: of each row; None: unknown, which takes no part.
        plan: what to measure.
        model: its name, for the report.
        costs: of the methods, from :func:`measure_costs`.
        progress: told of the stage ``"evaluate"``.

    Raises:
        UsageError: fewer than two classes, or no class has two pictures.
    """
    known = [place for place, label in enumerate(labels) if label is not None]
    of_rows = [str(labels[place]) for place in known]
    names, codes = np.unique(of_rows, return_inverse=True)
    _require_classes(names, codes)
    kept = Rows([rows.pictures[place] for place in known], rows.vectors[known], rows.metric, rows.label_axes)
    queries = _sample(codes, plan)
    methods = ["none", *(name for name in METHODS if name in plan.methods and name != "none")]
    found: list[MethodResult] = []
    for number, method in enumerate(methods):
        part = _part(progress, number, len(methods), len(queries))
        values = _values(kept, codes, queries, method, k=plan.k, progress=part)
        base, cost = found[0].values if found else None, (costs or {}).get(method)
        found.append(_result(method, values, base, cost, plan))
    return LabelReport(
        model=model,
        rows=len(known),
        unlabelled=len(labels) - len(known),
        classes=len(names),
        queries=len(queries),
        k=plan.k,
        methods=found,
        per_class=_per_class(found[-1].values, [of_rows[place] for place in queries], plan.k),
        worst=_worst(kept, of_rows, queries, found[-1], plan),
        paths=[kept.pictures[place].path for place in queries],
    )


def _require_classes(names: NDArray[Any], codes: NDArray[np.int64]) -> None:
    if len(names) < 2 or np.bincount(codes).max() < 2:
        raise UsageError(
            f"labels: found {len(names)} in the folders (or in the file of labels), and at least two are needed,"
            " one of them with two pictures: evaluate a folder of class folders, or pass --labels FILE.csv"
        )


def _sample(codes: NDArray[np.int64], plan: Plan) -> NDArray[np.int64]:
    """Rows to ask for, sorted: all that are not alone in their class, or as many as the plan allows."""
    able = np.flatnonzero(np.bincount(codes)[codes] > 1)
    if len(able) > plan.most_queries:
        able = np.random.default_rng(plan.seed).choice(able, plan.most_queries, replace=False)
    return np.sort(able)


def _values(
    rows: Rows,
    codes: NDArray[np.int64],
    queries: NDArray[np.int64],
    method: str,
    *,
    k: int,
    progress: Callable[[int], None],
) -> dict[str, Floats]:
    """Each measure of each query."""
    counts = np.bincount(codes)
    finder = ExactRows(rows, queries[:0])
    parts: dict[str, list[Floats]] = {}
    for start in range(0, len(queries), _BLOCK):
        block = queries[start : start + _BLOCK]
        ranked = np.array(order(RECIPES[method], finder.at(block), rows.vectors[block], len(codes) - 1))
        near, truth, relevant = codes[ranked], codes[block], counts[codes[block]] - 1
        relevances = near == truth[:, None]
        measured = {
            MAIN: metrics.average_precision(relevances, relevant),
            "precision@1": metrics.precision_at(relevances, 1),
            f"precision@{k}": metrics.precision_at(relevances, k),
            f"recall@{k}": metrics.recall_at(relevances, k, relevant),
            "R-precision": metrics.r_precision(relevances, relevant),
            f"nDCG@{k}": metrics.ndcg_at(relevances, k, relevant),
            f"kNN accuracy@{k}": metrics.knn_correct(near, truth, k),
        }
        for name, values in measured.items():
            parts.setdefault(name, []).append(values)
        progress(start + len(block))
    return {name: np.concatenate(values) for name, values in parts.items()}


def _result(
    method: str, values: dict[str, Floats], base: Mapping[str, Floats] | None, cost: Cost | None, plan: Plan
) -> MethodResult:
    estimates = {name: metrics.estimate(own, seed=plan.seed) for name, own in values.items()}
    gains = (
        {}
        if base is None
        else {name: metrics.compare(own, base[name], seed=plan.seed) for name, own in values.items()}
    )
    return MethodResult(method, RECIPES[method].summary, estimates, gains, cost, values)


def _per_class(values: Mapping[str, Floats], labels: Sequence[str], k: int) -> dict[str, dict[str, float]]:
    shown = (MAIN, f"precision@{k}", f"recall@{k}")
    means = {name: metrics.per_class(values[name], labels) for name in shown}
    counts = {label: float(labels.count(label)) for label in set(labels)}
    return {
        label: {"queries": counts[label], **{name: means[name][label] for name in shown}} for label in means[MAIN]
    }


def _worst(
    rows: Rows, labels: Sequence[str], queries: NDArray[np.int64], result: MethodResult, plan: Plan
) -> list[WorstQuery]:
    """The queries with the lowest average precision, and what they find."""
    lowest = np.argsort(result.values[MAIN], kind="stable")[: plan.worst]
    places = queries[lowest]
    recipe, shown = RECIPES[result.method], min(plan.k, len(labels) - 1)
    found = order(recipe, ExactRows(rows, places), rows.vectors[places], shown) if len(places) else []
    return [
        WorstQuery(
            rows.pictures[place].path,
            labels[place],
            float(result.values[MAIN][query]),
            [(rows.pictures[near].path, labels[near]) for near in ranked],
        )
        for place, query, ranked in zip(places.tolist(), lowest.tolist(), found, strict=True)
    ]


def measure_costs(
    collection: Collection,
    vectors: Vectors,
    methods: Sequence[str],
    encoding: float,
    label_axes: Floats | None = None,
) -> dict[str, Cost]:
    """How long one query takes with each method, measured on the collection itself, methods by turns.

    Args:
        collection: what is searched.
        vectors: of queries, float32, shape (q, dim); the first :data:`_TIMED_QUERIES` are used.
        methods: to measure; ``"none"`` is always.
        encoding: seconds to read and encode one picture.
        label_axes: see :func:`~imagesearch.search.ranking.rank`.

    Raises:
        StoreError: the database fails.
    """
    names = ["none", *(name for name in methods if name != "none")]
    for name in names:  # what is read and built at the first search of a kind
        rank(name, collection, vectors[:1], _TIMED_RESULTS, label_axes=label_axes)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for query in vectors[:_TIMED_QUERIES]:
        for name in names:
            began = time.perf_counter()
            rank(name, collection, query[None], _TIMED_RESULTS, label_axes=label_axes)
            seconds[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    whole = encoding + medians["none"]
    return {name: Cost(1000 * time, (time - medians["none"]) / whole) for name, time in medians.items()}


def _part(progress: Progress, number: int, count: int, queries: int) -> Callable[[int], None]:
    """Progress of the queries of one of several methods."""
    return lambda done: progress("evaluate", number * queries + done, count * queries)
