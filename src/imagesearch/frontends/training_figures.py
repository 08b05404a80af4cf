"""What a training found, as charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imagesearch.frontends.panels import ACCENT, BAR, THIRD, Panel, ground, ink, title
from imagesearch.frontends.text import printable, shorten_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from imagesearch.learning.metrics import Estimate
    from imagesearch.training import Training

# Classes whose names and counts are readable in a matrix, and classes whose names are beside a bar.
_NAMED, _COUNTED = 40, 16
_BARS = 40
# Characters of a name.
_WIDTH = 24


def training_panels(found: Training) -> list[Panel]:
    """Comparison, learning curves, confusion, classes, reliability and retrieval, as far as there are any."""
    panels = [_comparison(found)]
    panels += [_curves(name, history) for name, history in found.histories.items() if history]
    if not found.several:
        panels.append(_confusion(found))
    panels += [_classes(found), _reliability(found)]
    if any(one.retrieval is not None for one in found.contestants[2:]):  # the probe leaves vectors as they are
        panels.append(_retrieval(found))
    return panels


def _comparison(found: Training) -> Panel:
    shown = found.contestants

    def draw(axes: Axes) -> None:
        _bars(axes, [one.name for one in shown], [one.accuracy for one in shown], found.best)
        axes.set(xlabel="accuracy on the pictures set aside, with 95 % intervals", xlim=(0, 1))
        title(axes, "Methods")

    values = ", ".join(f"{one.name} {one.accuracy.value:.3f}" for one in shown)
    return Panel(1.3 + 0.3 * len(shown), draw, "methods", f"Accuracy of the methods: {values}")


def _bars(axes: Axes, names: list[str], values: list[Estimate], best: int | None) -> None:
    middle = np.array([one.value for one in values])
    bounds = np.array([[one.low for one in values], [one.high for one in values]])
    errors = np.maximum(np.abs(bounds - middle), 0)
    colours = [ACCENT if place == best else BAR for place in range(len(names))]
    places = range(len(names))
    axes.barh(places, middle, xerr=errors, color=colours, ecolor=ink(), capsize=3)
    axes.set_yticks(places, [_short(name) for name in names])
    axes.invert_yaxis()


def _curves(method: str, history: list[dict[str, float]]) -> Panel:
    """Losses on the left scale; on the right one accuracy, or mAP where retrieval was trained."""
    if any("validation_loss" in row for row in history):
        best = min(history, key=lambda row: row.get("validation_loss", float("inf")))
    else:
        best = max(history, key=lambda row: row.get("mAP", float("-inf")))

    def draw(axes: Axes) -> None:
        from matplotlib.ticker import MaxNLocator

        other = axes.twinx()
        for scale, key, label, colour, style in (
            (axes, "loss", "training loss", BAR, "o-"),
            (axes, "validation_loss", "validation loss", ACCENT, "o-"),
            (other, "accuracy", "validation accuracy", THIRD, "s--"),
            (other, "mAP", "validation mAP", THIRD, "s--"),
        ):
            if rows := [row for row in history if key in row]:
                values = [row[key] for row in rows]
                scale.plot([row["epoch"] for row in rows], values, style, color=colour, label=label)
        epoch = best["epoch"]
        axes.axvline(epoch, color=ink(), linewidth=0.8, linestyle=":", label=f"best epoch: {epoch:.0f}")
        axes.set(xlabel="epoch", ylabel="loss", xlim=(history[0]["epoch"] - 0.5, history[-1]["epoch"] + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=min(0.0, *(row.get("loss", 0.0) for row in history)))
        title(axes, f"Learning curves: {method}")
        other.set(ylabel="mAP" if "mAP" in best else "accuracy", ylim=(0, 1))
        other.spines["top"].set_visible(False)
        lines = [*axes.get_lines(), *other.get_lines()]
        axes.figure.legend(handles=lines, frameon=False, fontsize=8, loc="outside lower center", ncols=4)

    says = f"Losses by epoch of {method}; the best epoch is {best['epoch']:.0f}"
    return Panel(3.6, draw, f"curves-{method}", says)


def _confusion(found: Training) -> Panel:
    from imagesearch.learning.mistakes import confusion_matrix, order_by_confusion

    whole = confusion_matrix(found.examination)
    there = [number for number in order_by_confusion(whole) if whole[number].any() or whole[:, number].any()]
    matrix = whole[np.ix_(there, there)]
    names = [_short(found.examination.names[number]) for number in there]
    rates = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)

    def draw(axes: Axes) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        colours = LinearSegmentedColormap.from_list("confusion", [ground(), BAR, ink()])
        # The square root shows single confusions among many classes.
        image = axes.imshow(np.sqrt(rates), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
        bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, ticks=np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]))
        bar.ax.set_yticklabels(["0", "1 %", "10 %", "25 %", "50 %", "100 %"], fontsize=8)
        bar.set_label("part of the class (row)")
        axes.set(xlabel="label that was given; confused classes stand side by side", ylabel="true class")
        if len(names) <= _NAMED:
            axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            axes.set_yticks(range(len(names)), names, fontsize=8)
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        if len(names) <= _COUNTED:
            for row, column in np.argwhere(matrix).tolist():
                colour = ink() if rates[row, column] < 0.2 else ground()
                axes.text(
                    column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=9, color=colour
                )
        title(axes, f"Confusion matrix: {found.winner.name}")
        axes.spines[["top", "right"]].set_visible(True)

    right = int(np.trace(matrix))
    says = f"Confusion matrix of {len(names)} classes: {right} of {int(matrix.sum())} pictures on the diagonal"
    return Panel(min(7.6, 3.2 + 0.22 * len(names)), draw, "confusion", says)


def _classes(found: Training) -> Panel:
    rows = sorted(found.per_class.items(), key=lambda item: (item[1]["recall"], item[0]))
    recalls = np.array([row["recall"] for _, row in rows])
    from imagesearch.learning.mistakes import wilson

    bounds = np.array(
        [wilson(round(row["recall"] * row["pictures"]), round(row["pictures"])) for _, row in rows]
    ).reshape(-1, 2)
    errors = np.maximum(np.abs(bounds - recalls[:, None]), 0).T
    text = "recall (the part of a class's pictures that is found), with 95 % Wilson intervals"

    def draw(axes: Axes) -> None:
        if len(rows) <= _BARS:
            places = range(len(rows))
            axes.barh(places, recalls, xerr=errors, color=BAR, ecolor=ink(), capsize=2)
            axes.set_yticks(places, [_short(name) for name, _ in rows], fontsize=8)
            axes.invert_yaxis()
            axes.set(xlabel=text, xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
        else:
            places = range(1, len(rows) + 1)
            axes.errorbar(
                places, recalls, errors, fmt="none", ecolor=BAR, elinewidth=0.8, alpha=0.6, label="95 % interval"
            )
            axes.plot(places, recalls, ".", color=ACCENT, markersize=4, label="recall")
            axes.set(xlabel=f"{len(rows):,} classes, the worst first", ylabel="recall", ylim=(-0.02, 1.02))
            axes.legend(frameon=False, loc="lower right")
        title(axes, f"Classes: {found.winner.name}")

    height = 1.3 + 0.19 * len(rows) if len(rows) <= _BARS else 3.4
    return Panel(height, draw, "classes", f"Recall of {len(rows)} classes, the worst first")


def _reliability(found: Training) -> Panel:
    from imagesearch.learning.confidence_evaluation import reliability
    from imagesearch.learning.contest import stated

    seen = found.examination
    bins = [one for one in reliability(*stated(seen.scores, seen.truth, several=found.several)) if one.hits]

    def draw(axes: Axes) -> None:
        most = max(one.hits for one in bins)
        axes.plot([0, 1], [0, 1], color=ink(), linewidth=0.8, linestyle="--", label="perfectly calibrated")
        said, right = [one.confidence for one in bins], [one.related for one in bins]
        axes.plot(said, right, color=BAR, linewidth=1.2)
        sizes = [15 + 200 * one.hits / most for one in bins]
        axes.scatter(said, right, s=sizes, color=BAR, zorder=3, label="a tenth of the scores; area: how many")
        axes.set(
            xlabel="score", ylabel="part that is right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal"
        )
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.02, 0.5))
        error = found.winner.calibration_error
        title(axes, f"Reliability: {found.winner.name}, expected calibration error {error:.3f}")

    return Panel(3.8, draw, "reliability", "Reliability diagram: the part that is right, by score")


def _retrieval(found: Training) -> Panel:
    shown = [one for one in found.contestants[1:] if one.retrieval is not None]
    names = ["before", *(f"after: {one.name}" for one in shown if one.name != "probe")]
    values = [one.retrieval for one in shown if one.retrieval is not None]

    def draw(axes: Axes) -> None:
        _bars(axes, names, values, None)
        axes.set(xlabel="mAP of searches among the pictures set aside, with 95 % intervals", xlim=(0, 1))
        title(axes, "Retrieval")

    said = ", ".join(f"{name} {value.value:.3f}" for name, value in zip(names, values, strict=True))
    return Panel(1.3 + 0.3 * len(names), draw, "retrieval", f"Retrieval mAP: {said}")


def _short(name: str) -> str:
    return shorten_middle(printable(name), _WIDTH)
