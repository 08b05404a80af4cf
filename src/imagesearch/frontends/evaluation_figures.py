"""What an evaluation found, as figures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from imagesearch.evaluating import Evaluation
    from imagesearch.learning.copies import CopiesReport
    from imagesearch.learning.index_quality import IndexReport
    from imagesearch.learning.outcomes import LabelReport, MethodResult

_INK, _BAR, _ACCENT = "#1c2430", "#2a7f9e", "#e4572e"
_WIDTH = 8.0

Panel = tuple[float, "Callable[[Axes], None]"]


def evaluation_figure(found: Evaluation) -> Figure:
    """All panels below each other."""
    from matplotlib.figure import Figure

    panels = _panels(found)
    heights = [height for height, _ in panels]
    figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained", facecolor="white")
    grid = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (_, draw), axes in zip(panels, grid[:, 0], strict=True):
        draw(axes)
    return figure


def panels_as_png(found: Evaluation) -> list[bytes]:
    """Each panel as the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    files = []
    for height, draw in _panels(found):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
        files.append(content.getvalue())
    return files


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _panels(found: Evaluation) -> list[Panel]:
    panels: list[Panel] = []
    for one in found.models:
        if one.labels is not None:
            panels.append((3.2, _classes_panel(one.labels)))
            panels += _methods_panels(one.model, "mAP", one.labels.methods)
        if one.copies is not None:
            panels.append((3.6, _copies_panel(one.copies)))
            panels += _methods_panels(one.model, "MRR", one.copies.methods)
        if one.index is not None:
            panels.append((3.2, _index_panel(one.model, one.index)))
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
        axes.barh([one.method for one in shown], values, xerr=[below, above], color=_BAR, ecolor=_INK, capsize=3)
        axes.axvline(0, color=_INK, linewidth=0.8)
        axes.invert_yaxis()
        axes.set(xlabel=f"gain of {measure} over 'none', %, with 95 % intervals")
        _title(axes, f"Ranking methods: {model}")

    return [(1.2 + 0.3 * len(shown), draw)] if shown else []


def _classes_panel(report: LabelReport) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        values = sorted((one["mAP"] for one in report.per_class.values()), reverse=True)
        axes.bar(range(1, len(values) + 1), values, width=1.0, color=_BAR, edgecolor="white", linewidth=0.3)
        mean = report.methods[-1].estimates["mAP"].value
        axes.axhline(mean, color=_ACCENT, linewidth=1.2, label=f"mean over queries: {mean:.3f}")
        axes.set(xlabel="classes, best first", ylabel="mAP", ylim=(0, 1), xlim=(0.5, len(values) + 0.5))
        axes.legend(frameon=False)
        _title(axes, f"Classes: {report.model}, ranking {report.methods[-1].method}")

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
        _title(axes, f"Originals of distorted copies: {report.model}")

    return draw


def _index_panel(model: str, report: IndexReport) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        points = sorted(report.points, key=lambda point: point.median_ms)
        axes.plot([one.median_ms for one in points], [one.recall.value for one in points], "o-", color=_BAR)
        best = report.recommended
        axes.plot([best.median_ms], [best.recall.value], "o", color=_ACCENT, markersize=9, label="recommended")
        axes.set(xlabel="median milliseconds per query", ylabel=f"recall@{report.k}")
        axes.set_xlim(left=0)
        axes.legend(frameon=False)
        _title(axes, f"Index {report.index_type or 'none'}: {model}")

    return draw


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=11, color=_INK, parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
