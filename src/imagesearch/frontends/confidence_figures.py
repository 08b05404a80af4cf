"""Figures of how well confidence is calibrated: reliability diagram, false alarms and recall by nominal rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagesearch.learning.confidence_evaluation import ConfidenceReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _FAINT, _ACCENT, _BAR = "#1c2430", "#6b7686", "#e4572e", "#2a7f9e"


def confidence_figure(report: ConfidenceReport, title: str = "") -> Figure:
    """Three panels: reliability of stated confidence, false alarms by nominal rate, recall by nominal rate.

    The area of a dot in the first is proportional to the hits of its bin. In the second, the band is from half to
    one and a half times the nominal rate.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 4.1), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    _reliability(left, report)
    _false_alarms(middle, report)
    _recall(right, report)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_FAINT, labelsize=8.5)
        axes.set_ylim(0, None)
    if title:
        figure.suptitle(title, fontsize=12, fontweight="bold", color=_INK, parse_math=False)
    return figure


def _reliability(axes: Axes, report: ConfidenceReport) -> None:
    filled = [each for each in report.bins if each.hits]
    most = max((each.hits for each in filled), default=1)
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle="--")
    axes.plot([b.confidence for b in filled], [b.related for b in filled], color=_BAR, linewidth=1.2)
    sizes = [12 + 160 * b.hits / most for b in filled]
    axes.scatter([b.confidence for b in filled], [b.related for b in filled], s=sizes, color=_BAR, zorder=3)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("stated confidence", fontsize=9.5)
    axes.set_ylabel("share of related hits", fontsize=9.5)
    axes.set_title(f"Calibration error {report.calibration_error:.3f}", fontsize=10)


def _false_alarms(axes: Axes, report: ConfidenceReport) -> None:
    rates = [point.rate for point in report.curve]
    axes.fill_between(
        rates, [r / 2 for r in rates], [1.5 * r for r in rates], color=_FAINT, alpha=0.18, linewidth=0
    )
    axes.plot(rates, rates, color=_FAINT, linewidth=1, linestyle="--")
    axes.plot(rates, [point.false_alarms for point in report.curve], color=_ACCENT, marker="o", markersize=4)
    axes.set_xlabel("nominal false-alarm rate", fontsize=9.5)
    axes.set_ylabel("measured false-alarm rate", fontsize=9.5)
    axes.set_title(f"{report.false_alarms:.1%} false alarms at {report.rate:.0%}", fontsize=10)


def _recall(axes: Axes, report: ConfidenceReport) -> None:
    rates = [point.rate for point in report.curve]
    flat = [point.flat_recall for point in report.curve]
    axes.plot(rates, flat, color=_FAINT, linestyle="--", label="flat cutoff, with hindsight")
    recall = [point.recall for point in report.curve]
    axes.plot(rates, recall, color=_BAR, marker="o", markersize=4, label="confidence, without")
    axes.set_xlabel("nominal false-alarm rate", fontsize=9.5)
    axes.set_ylabel("recall", fontsize=9.5)
    axes.legend(fontsize=8.5, frameon=False)
    axes.set_title(f"Recall {report.shown_ratio} of the cutoff's at {report.rate:.0%}", fontsize=10)
