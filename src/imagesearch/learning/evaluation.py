"""How well a collection finds what belongs together: every picture asked for the others of its class.

Each query is a picture of the collection that for this one search is not there (leave-one-out), so what is
measured is what an unseen picture of the same kind would get. Rankings are exact and complete: mAP is the mean
average precision over the whole collection, not over the first results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning import metrics
from imagesearch.learning.exact import ExactRows, Rows
from imagesearch.learning.metrics import Floats
from imagesearch.learning.outcomes import MAIN, Cost, LabelReport, MethodResult, Plan, WorstQuery, variant
from imagesearch.learning.pictures import PictureFiles
from imagesearch.records import Progress, no_progress
from imagesearch.search.image_encoding import Views, checked_views
from imagesearch.search.patches import COMPARED
from imagesearch.search.ranking import RECIPES, order

# Queries ranked at once: their scores with all rows are in memory.
_BLOCK = 32


def evaluate_labels(
    rows: Rows,
    labels: Sequence[str | None],
    plan: Plan,
    *,
    model: str = "",
    costs: Mapping[str, Cost] | None = None,
    files: PictureFiles | None = None,
    progress: Progress = no_progress,
) -> LabelReport:
    """Ask for pictures of a collection and see whether others of their class come first.

    Args:
        rows: the collection.
        labels: of each row; None: unknown, which takes no part.
        plan: what to measure.
        model: its name, for the report.
        costs: of the methods, from :mod:`imagesearch.learning.costs`.
        files: of the rows; needed for queries in several views, and for patches.
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
    found: list[MethodResult] = []
    ways = plan.ways
    for number, (method, views) in enumerate(ways):
        asked = _Asked(kept, queries, method, checked_views(views), files)
        values = _values(asked, codes, k=plan.k, progress=_part(progress, number, len(ways), len(queries)))
        base = found[0].values if found else None
        found.append(_result(asked, values, base, (costs or {}).get(asked.name), plan.seed))
    return LabelReport(
        model=model,
        rows=len(known),
        unlabelled=len(labels) - len(known),
        classes=len(names),
        queries=len(queries),
        k=plan.k,
        methods=found,
        per_class=_per_class(found[-1].values, [of_rows[place] for place in queries], plan.k),
        worst=_worst(asked, of_rows, found[-1], plan),
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


@dataclass(frozen=True, eq=False, slots=True)
class _Asked:
    """Rows that are asked for, each as if it were not there; and how.

    Attributes:
        rows: all.
        queries: places of those that are asked for.
        method, views: how.
        files: of the rows, where ``method`` or ``views`` need them.
    """

    rows: Rows
    queries: NDArray[np.int64]
    method: str
    views: Views
    files: PictureFiles | None

    @property
    def name(self) -> str:
        """What this way of asking is called."""
        return variant(self.method, self.views)

    def rankings(self, k: int) -> Iterator[list[list[int]]]:
        """Places of the k best rows for each query, some queries at a time."""
        finder = ExactRows(self.rows, self.queries[:0])
        for start in range(0, len(self.queries), _BLOCK):
            yield self.ranked(self.queries[start : start + _BLOCK], k, finder)

    def ranked(self, block: NDArray[np.int64], k: int, finder: ExactRows) -> list[list[int]]:
        """The same for some of the queries."""
        rows, recipe = self.rows, RECIPES[self.method]
        vectors = rows.vectors[block]
        if self.views != "whole":
            vectors = self._required().vectors(rows, block, self.views)
        looked_at = max(k, COMPARED) if recipe.by_patches else k
        orders = order(recipe, finder.at(block), vectors, looked_at)
        if recipe.by_patches:
            files = self._required()
            orders = [
                files.reordered(rows, query, ranked) for query, ranked in zip(block.tolist(), orders, strict=True)
            ]
        return [ranked[:k] for ranked in orders]

    def _required(self) -> PictureFiles:
        if self.files is None:
            raise UsageError(f"{self.name!r} needs the files of the pictures")
        return self.files


def _values(
    asked: _Asked, codes: NDArray[np.int64], *, k: int, progress: Callable[[int], None]
) -> dict[str, Floats]:
    """Each measure of each query."""
    counts = np.bincount(codes)
    parts: dict[str, list[Floats]] = {}
    done = 0
    for rankings in asked.rankings(len(codes) - 1):
        ranked = np.array(rankings)
        block = asked.queries[done : done + len(ranked)]
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
        done += len(block)
        progress(done)
    return {name: np.concatenate(values) for name, values in parts.items()}


def _result(
    asked: _Asked, values: dict[str, Floats], base: Mapping[str, Floats] | None, cost: Cost | None, seed: int
) -> MethodResult:
    estimates = {name: metrics.estimate(own, seed=seed) for name, own in values.items()}
    gains = (
        {} if base is None else {name: metrics.compare(own, base[name], seed=seed) for name, own in values.items()}
    )
    return MethodResult(asked.name, RECIPES[asked.method].summary, estimates, gains, cost, values)


def _per_class(values: Mapping[str, Floats], labels: Sequence[str], k: int) -> dict[str, dict[str, float]]:
    shown = (MAIN, f"precision@{k}", f"recall@{k}")
    means = {name: metrics.per_class(values[name], labels) for name in shown}
    counts = {label: float(labels.count(label)) for label in set(labels)}
    return {
        label: {"queries": counts[label], **{name: means[name][label] for name in shown}} for label in means[MAIN]
    }


def _worst(asked: _Asked, labels: Sequence[str], result: MethodResult, plan: Plan) -> list[WorstQuery]:
    """The queries with the lowest average precision, and what they find."""
    lowest = np.argsort(result.values[MAIN], kind="stable")[: plan.worst]
    places, rows = asked.queries[lowest], asked.rows
    shown = min(plan.k, len(labels) - 1)
    found = asked.ranked(places, shown, ExactRows(rows, places)) if len(places) else []
    return [
        WorstQuery(
            rows.pictures[place].path,
            labels[place],
            float(result.values[MAIN][query]),
            [(rows.pictures[near].path, labels[near]) for near in ranked],
        )
        for place, query, ranked in zip(places.tolist(), lowest.tolist(), found, strict=True)
    ]


def _part(progress: Progress, number: int, count: int, queries: int) -> Callable[[int], None]:
    """Progress of the queries of one of several methods."""
    return lambda done: progress("evaluate", number * queries + done, count * queries)
