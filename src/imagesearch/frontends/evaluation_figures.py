"""What an evaluation found, as figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imagesearch.frontends.panels import ACCENT, BAR, Panel, figure_of, ground, ink, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imagesearch.evaluating import Evaluation
    from imagesearch.learning.copies import CopiesReport
    from imagesearch.learning.index_quality import IndexReport
    from imagesearch.learning.outcomes import LabelReport, MethodResult


def evaluation_figure(found: Evaluation) -> Figure:
    """All panels below each other."""
    return figure_of(evaluation_panels(found))


def evaluation_panels(found: Evaluation) -> list[Panel]:
    """A chart for each thing that was measured."""
    panels: list[Panel] = []
    for one in found.models:
        if one.labels is not None:
            panels.append(Panel(3.2, _classes_panel(one.labels)))
            panels += _methods_panels(one.model, "mAP", one.labels.methods)
        if one.copies is not None:
            panels.append(Panel(3.6, _copies_panel(one.copies)))
            panels += _methods_panels(one.model, "MRR", one.copies.methods)
        if one.index is not None:
            panels.append(Panel(3.2, _index_panel(one.model, one.index)))
    return panels


def _methods_panels(model: str, measure: str, methods: Sequence[MethodResult]) -> list[Panel]:
    shown = [
        one
        for one in methods
        if measure in one.gains and one.gains[measure].relative == one.gains[measure].relative
    ]

    def draw(axes: Axes) -> None:
        gains = [one.gains[measure] for one in shown]
        values = [100 * gain.relative for gain in gains]
        below = [100 * (gain.relative - gain.relative_low) for gain in gains]
        above = [100 * (gain.relative_high - gain.relative) for gain in gains]
        axes.barh([one.method for one in shown], values, xerr=[below, above], color=BAR, ecolor=ink(), capsize=3)
        axes.axvline(0, color=ink(), linewidth=0.8)
        axes.invert_yaxis()
        axes.set(xlabel=f"gain of {measure} over 'none', %, with 95 % intervals")
        title(axes, f"Ranking methods: {model}")

    return [Panel(1.2 + 0.3 * len(shown), draw)] if shown else []


def _classes_panel(report: LabelReport) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        values = sorted((one["mAP"] for one in report.per_class.values()), reverse=True)
        axes.bar(range(1, len(values) + 1), values, width=1.0, color=BAR, edgecolor=ground(), linewidth=0.3)
        mean = report.methods[-1].estimates["mAP"].value
        axes.axhline(mean, color=ACCENT, linewidth=1.2, label=f"mean over queries: {mean:.3f}")
        axes.set(xlabel="classes, best first", ylabel="mAP", ylim=(0, 1), xlim=(0.5, len(values) + 0.5))
        axes.legend(frameon=False)
        title(axes, f"Classes: {report.model}, ranking {report.methods[-1].method}")

    return draw


def _copies_panel(report: CopiesReport) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        names = list(dict.fromkeys(one.distortion for one in report.levels))
        for place, name in enumerate(names):
            recalls = [one.recall.value for one in report.levels if one.distortion == name]
            style = "o-" if place < 5 else "s--"
            axes.plot(range(1, len(recalls) + 1), recalls, style, label=name, markersize=4)
        axes.set(xlabel="level, mildest first", ylabel="recall@1", ylim=(-0.03, 1.03), xticks=range(1, 6))
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        title(axes, f"Originals of distorted copies: {report.model}")

    return draw


def _index_panel(model: str, report: IndexReport) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        points = sorted(report.points, key=lambda point: point.median_ms)
        axes.plot([one.median_ms for one in points], [one.recall.value for one in points], "o-", color=BAR)
        best = report.recommended
        axes.plot([best.median_ms], [best.recall.value], "o", color=ACCENT, markersize=9, label="recommended")
        axes.set(xlabel="median milliseconds per query", ylabel=f"recall@{report.k}")
        axes.set_xlim(left=0)
        axes.legend(frameon=False)
        title(axes, f"Index {report.index_type or 'none'}: {model}")

    return draw
