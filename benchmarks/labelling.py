"""How many labels does ``imagesearch label`` save? Its order beside random order, simulated on labelled pictures.

    python benchmarks/labelling.py --pictures DIR [--classes 10] [--per-class 50] [--rarest 0.1] [--seeds 5]

DIR has a folder for each class. With each seed some classes and pictures of them are chosen, and a part of each
class is set aside (--held-out), of which nothing is ever labelled or compared. The others are labelled in both
orders, --batch at a time, up to half of them (--most); after each batch the probe that makes the program's
suggestions is measured with those set aside. Printed are the accuracies in the mean over seeds, the labels that
each order needs for parts of the accuracy that random order reaches in the end, how far the program's estimate of
its accuracy is off, and how long a step takes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch import ImageSearch
from imagesearch.images.find import find_pictures
from imagesearch.learning.active import ActivePool, Known

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
Numbers = NDArray[np.float64]


@dataclass
class Curve:
    """What one order reaches after each batch; ``expected`` is the estimate, and the two that it is between."""

    labels: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    expected: list[tuple[float, float, float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--classes", type=int, help="how many, chosen anew with each seed; default: all")
    parser.add_argument("--per-class", type=int, help="pictures of each class at most")
    parser.add_argument(
        "--rarest", type=float, default=1.0, help="size of the smallest class, in parts of the largest"
    )
    parser.add_argument("--held-out", type=float, default=0.4)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--most", type=int, help="labels; default: half of those that there are")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="keep the figures in a file")
    options = parser.parse_args()
    vectors, truth = encode(options.pictures, options.model)
    curves: dict[str, list[Curve]] = {"random": [], "active": []}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        chosen = choose(truth, options, np.random.default_rng(seed))
        for order, found in curves.items():
            found.append(simulate(vectors[chosen], truth[chosen], order, options, seed))
    figures = summarise(curves)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def encode(folder: Path, model: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of the pictures and numbers of their classes; pictures that lie in no class folder are one class."""
    paths = [Path(path) for path in find_pictures(str(folder))]
    classes = [path.relative_to(folder.resolve()).parts[0] if path.parent != folder else "" for path in paths]
    with tempfile.TemporaryDirectory() as place:
        settings = {"model": {"name": model}, "milvus": {"uri": f"{place}/none.db"}}
        with ImageSearch(settings) as images:
            vectors = images.embed(map(str, paths))
    return vectors, np.unique(classes, return_inverse=True)[1].astype(np.int64)


def choose(
    truth: NDArray[np.int64], options: argparse.Namespace, random: np.random.Generator
) -> NDArray[np.int64]:
    """Some classes and pictures of them."""
    names = random.permutation(np.unique(truth))[: options.classes]
    rows = [random.permutation(np.flatnonzero(truth == name)) for name in names]
    most = options.per_class or max(map(len, rows))
    sizes = most * options.rarest ** np.linspace(0, 1, len(rows))
    return np.concatenate([own[: max(2, round(size))] for own, size in zip(rows, sizes, strict=True)])


def simulate(
    vectors: NDArray[np.float32], truth: NDArray[np.int64], order: str, options: argparse.Namespace, seed: int
) -> Curve:
    """Label in one order, and measure after each batch."""
    random = np.random.default_rng([seed, 1])
    aside = np.zeros(len(truth), bool)
    for name in np.unique(truth):
        own = random.permutation(np.flatnonzero(truth == name))
        aside[own[: round(options.held_out * len(own))]] = True
    rows, tested = np.flatnonzero(~aside), np.flatnonzero(aside)
    pool, codes = ActivePool(vectors[rows], seed=seed), truth[rows]
    shuffled = random.permutation(len(rows))
    curve, known = Curve(), Known.of([], [])
    for _ in range(options.most or len(rows) // 2):
        began = time.perf_counter()
        more = options.batch if options.most is None else min(options.batch, options.most - len(known.places))
        if order == "active":
            fresh = pool.choose(known, more)
        else:
            fresh = shuffled[len(known.places) : len(known.places) + more]
        if not len(fresh) or len(known.places) + more > (options.most or len(rows) // 2):
            break
        places = np.concatenate([known.places, fresh])
        known = Known.of(places.tolist(), codes[places].tolist())
        predicted = known.classes[pool.scores_of(known, vectors[tested]).argmax(axis=1)]
        curve.labels.append(len(places))
        curve.accuracy.append(float((predicted == truth[tested]).mean()))
        expected = pool.expect(known)
        nothing = (np.nan,) * 3
        curve.expected.append(nothing if expected is None else (expected.accuracy, expected.low, expected.high))
        curve.seconds.append(time.perf_counter() - began)
    return curve


def summarise(curves: dict[str, list[Curve]]) -> dict[str, Any]:
    """The figures, from the mean of the curves of all seeds."""
    batches = min(len(curve.labels) for found in curves.values() for curve in found)
    labels = curves["random"][0].labels[:batches]
    means = {order: mean([curve.accuracy[:batches] for curve in found]) for order, found in curves.items()}
    top = float(means["random"].max())
    levels = []
    for part in LEVELS:
        needed = {order: labels_for(part * top, labels, accuracy) for order, accuracy in means.items()}
        ratio = needed["active"] / needed["random"]
        levels.append({"part": part, "accuracy": part * top, **needed, "ratio": ratio})
    expected = np.array([curve.expected[:batches] for curve in curves["active"]])
    true = np.array([curve.accuracy[:batches] for curve in curves["active"]])
    off = np.abs(expected[..., 0] - true)
    some = np.isfinite(off)
    inside = (expected[..., 1] <= true) & (true <= expected[..., 2])
    # What is never reached would have taken at least all labels that there were.
    ratios = [one["ratio"] if np.isfinite(one["ratio"]) else labels[-1] / one["random"] for one in levels]
    return {
        "labels": labels,
        **{order: accuracy.tolist() for order, accuracy in means.items()},
        "levels": [{name: None if np.isnan(value) else value for name, value in one.items()} for one in levels],
        "ratio": float(np.exp(np.mean(np.log(ratios)))),
        "estimate_off": float(off[some].mean()) if some.any() else None,
        "estimate_inside": float(inside[some].mean()) if some.any() else None,
        "seconds": float(np.median([value for curve in curves["active"] for value in curve.seconds])),
        "slowest": float(max(value for curve in curves["active"] for value in curve.seconds)),
    }


def mean(rows: list[list[float]]) -> Numbers:
    """Over seeds."""
    return np.asarray(np.mean(rows, axis=0))


def labels_for(accuracy: float, labels: list[int], curve: Numbers) -> float:
    """The labels at which a curve first reaches an accuracy, between batches by proportion; NaN if never."""
    best = np.maximum.accumulate(curve)
    if best[-1] < accuracy:
        return float("nan")
    return float(np.interp(accuracy, np.concatenate([[0.0], best]), [0, *labels]))


def show(figures: dict[str, Any]) -> None:
    """Print tables."""
    print(f"{'labels':>8}{'random':>9}{'active':>9}")
    shown = np.unique(np.geomspace(1, len(figures["labels"]), 10).round().astype(int) - 1)
    for place in shown.tolist():
        print(f"{figures['labels'][place]:8}{figures['random'][place]:9.1%}{figures['active'][place]:9.1%}")
    print(f"\n{'accuracy':>8}{'random':>9}{'active':>9}{'ratio':>9}   (labels needed)")
    for level in figures["levels"]:
        active, ratio = (
            ("never", "") if level["ratio"] is None else (f"{level['active']:.0f}", f"{level['ratio']:.2f}")
        )
        print(f"{level['accuracy']:8.1%}{level['random']:9.0f}{active:>9}{ratio:>9}")
    print(f"labels needed, in parts of random order's, geometric mean: {figures['ratio']:.2f}")
    if figures["estimate_off"] is not None:
        print(
            f"expected accuracy is off by {figures['estimate_off']:.1%} in the mean; the true one is between its"
            f" two estimates in {figures['estimate_inside']:.0%} of cases"
        )
    print(f"seconds per batch, measuring included: median {figures['seconds']:.2f}, most {figures['slowest']:.2f}")


if __name__ == "__main__":
    main()
