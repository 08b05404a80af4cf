"""What an evaluation found, as tables: the same on the terminal, on pages and in documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from imagesearch.evaluating import Evaluation, ModelEvaluation
    from imagesearch.learning.confidence_evaluation import ConfidenceReport
    from imagesearch.learning.copies import CopiesReport
    from imagesearch.learning.index_quality import IndexReport
    from imagesearch.learning.metrics import Difference, Estimate
    from imagesearch.learning.outcomes import Cost, LabelReport, MethodResult
    from imagesearch.learning.words_evaluation import WordSummary

# Classes of the table of classes: the best and the worst of many.
_SHOWN_CLASSES = 20


class Table(NamedTuple):
    """A table.

    Attributes:
        title: one line.
        columns: title -> ``"left"``, ``"right"`` or ``"fold"``: left, and long texts make no numbers give way.
        rows: texts.
        note: a line below, or empty.
    """

    title: str
    columns: dict[str, str]
    rows: list[list[str]]
    note: str = ""

    def markdown(self) -> str:
        """As a table of Markdown."""
        marks = ["---:" if side == "right" else "---" for side in self.columns.values()]
        lines = [list(self.columns), marks, *self.rows]
        text = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)
        return f"{text}\n\n{self.note}\n" if self.note else f"{text}\n"


def tables(found: Evaluation) -> list[Table]:
    """All that there are."""
    listed = [table for one in found.models for table in _tables_of_model(one, len(found.models) > 1)]
    for model, measures in found.comparisons.items():
        title = f"{found.models[0].model} compared with {model}, on the same pictures"
        rows = [[name, *_gain(one), f"{one.p:.4f}"] for name, one in measures.items()]
        listed.append(Table(title, _sides(["measure", "difference", "95 % interval", "p"], left=1), rows))
    return listed


def _tables_of_model(one: ModelEvaluation, named: bool) -> Iterable[Table]:
    prefix = f"{one.model}: " if named else ""
    if one.labels is not None:
        yield _measures(one.labels, prefix)
        if len(one.labels.methods) > 1:
            yield _methods(one.labels.methods, ("mAP", f"precision@{one.labels.k}"), prefix, one.encode_ms)
        yield _classes(one.labels, prefix)
    if one.copies is not None:
        yield _copies(one.copies, prefix)
        if len(one.copies.methods) > 1:
            yield _methods(one.copies.methods, ("MRR", "recall@1"), prefix, one.encode_ms)
            yield _distortions(one.copies, prefix)
    if one.index is not None:
        yield _index(one.index, prefix)
    if one.words is not None:
        yield _words(one.words, one.unknown, prefix)
    if one.confidence is not None:
        yield _confidence(one.confidence, prefix)


def _words(found: WordSummary, unknown: Sequence[str], prefix: str) -> Table:
    rows = [
        ["right picture first", f"{found.first:.3f}"],
        ["among the first ten", f"{found.among_first:.3f}"],
        ["precision@10", f"{found.precision:.3f}"],
        ["mAP", f"{found.mean_average_precision:.3f}"],
    ]
    note = (
        f"{counted(len(unknown), 'label')} that the model does not know, such as {unknown[0]!r}."
        if unknown
        else ""
    )
    title = f"{prefix}{found.words:,} labels asked for by their names"
    return Table(title, _sides(["measure", "mean"], left=1), rows, note)


def _confidence(found: ConfidenceReport, prefix: str) -> Table:
    rows = [
        [f"false alarms, nominally {found.rate:.0%}", f"{found.false_alarms:.3f}"],
        ["recall, of the best flat cutoff's with hindsight", found.shown_ratio],
        ["expected calibration error", f"{found.calibration_error:.3f}"],
        ["the same, of first hits", f"{found.first_calibration_error:.3f}"],
        ["milliseconds per query", f"{1000 * found.seconds_per_query:.2f}"],
    ]
    title = f"{prefix}Confidence with half of the labels absent, {len(found.trials)} random halves"
    return Table(title, _sides(["measure", "mean"], left=1), rows)


def _measures(report: LabelReport, prefix: str) -> Table:
    last = report.methods[-1] if len(report.methods) == 2 else report.methods[0]
    title = (
        f"{prefix}{report.queries:,} of {report.rows:,} pictures asked for the others of their class"
        f" ({report.classes:,} classes), ranking: {last.method}"
    )
    rows = [[name, *_estimate(one)] for name, one in last.estimates.items()]
    note = f"{counted(report.unlabelled, 'picture')} without a label: left out." if report.unlabelled else ""
    return Table(title, _sides(["measure", "mean", "95 % interval"], left=1), rows, note)


def _methods(
    methods: Sequence[MethodResult], measures: tuple[str, str], prefix: str, encode_ms: float | None
) -> Table:
    first, second = measures
    columns = ["ranking", first, "gain", "95 % interval", second, "gain ", "95 % interval ", "ms", "extra time"]
    rows = []
    for one in methods:
        cells = [one.method]
        for name in measures:
            gain = one.gains.get(name)
            cells += [f"{one.estimates[name].value:.3f}", *(_gain(gain) if gain else ["", ""])]
        rows.append([*cells, *_cost(one.cost)])
    note = (
        "Gains are relative to 'none', on the same queries. ms: the search alone, one query at a time; extra time:"
    )
    note += " of a whole query"
    if encode_ms is not None:
        note += f", of which reading and encoding the picture takes {encode_ms:.1f} ms"
    return Table(f"{prefix}ranking methods", _sides(columns, left=1), rows, note + ".")


def _classes(report: LabelReport, prefix: str) -> Table:
    shown = sorted(report.per_class.items(), key=lambda pair: (-pair[1]["mAP"], pair[0]))
    count = len(shown)
    title = f"{prefix}classes, by mAP with ranking {report.methods[-1].method}"
    if count > _SHOWN_CLASSES:
        half = _SHOWN_CLASSES // 2
        shown = [*shown[:half], *shown[-half:]]
        title += f": the {half} best and the {half} worst of {count}"
    names = [name for name in next(iter(report.per_class.values())) if name != "queries"]
    rows = [
        [label, f"{values['queries']:.0f}", *(f"{values[name]:.3f}" for name in names)] for label, values in shown
    ]
    return Table(title, {"class": "fold", **_sides(["queries", *names], left=0)}, rows)


def _copies(report: CopiesReport, prefix: str) -> Table:
    title = f"{prefix}originals of distorted copies: {report.originals:,} of {report.rows:,} pictures"
    rows = [
        [
            one.distortion,
            f"{one.level:g}",
            one.unit,
            *_estimate(one.recall),
            f"{one.median_rank:g}",
            f"{one.worst_rank:,}",
        ]
        for one in report.levels
    ]
    columns = ["distortion", "level", "unit", "recall@1", "95 % interval", "median rank", "worst rank"]
    note = f"{len(report.skipped):,} originals could not be read." if report.skipped else ""
    sides = {name: "left" if name in ("distortion", "unit") else "right" for name in columns}
    return Table(title, sides, rows, note)


def _distortions(report: CopiesReport, prefix: str) -> Table:
    rows = [
        [one.method, *(f"{recalls[one.method].value:.3f}" for recalls in report.distortions.values())]
        for one in report.methods
    ]
    title = f"{prefix}recall@1 by distortion, all its levels together"
    return Table(title, _sides(["ranking", *report.distortions], left=1), rows)


def _index(report: IndexReport, prefix: str) -> Table:
    kind = report.index_type or "no index"
    title = f"{prefix}index {kind} of {report.rows:,} pictures against exact search"
    rows = [
        [_params(one.params), *_estimate(one.recall), f"{one.median_ms:.2f}", f"{one.p95_ms:.2f}"]
        for one in report.points
    ]
    columns = ["milvus.search_params", f"recall@{report.k}", "95 % interval", "median ms", "95th percentile"]
    return Table(title, _sides(columns, left=1), rows, f"Recommended: {_params(report.recommended.params)}.")


def _params(params: object) -> str:
    return str(params).replace("'", "") if params else "{} (the defaults)"


def _sides(columns: Sequence[str], left: int) -> dict[str, str]:
    return {name: "left" if place < left else "right" for place, name in enumerate(columns)}


def _estimate(one: Estimate) -> list[str]:
    return [f"{one.value:.3f}", f"{one.low:.3f} to {one.high:.3f}"]


def _gain(one: Difference) -> list[str]:
    """Relative, in percent; absolute where the other mean is 0."""
    if one.relative != one.relative:
        return [f"{one.value:+.3f}", f"{one.low:+.3f} to {one.high:+.3f}"]
    return [f"{one.relative:+.1%}", f"{one.relative_low:+.1%} to {one.relative_high:+.1%}"]


def _cost(cost: Cost | None) -> list[str]:
    return ["", ""] if cost is None else [f"{cost.milliseconds:.2f}", f"{cost.extra:+.0%}"]
