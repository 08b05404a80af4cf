"""Draw the learning curve of a run's log.

python -m training.plot training/log.csv training/learning-curve.png
"""

from __future__ import annotations

import argparse
import csv

from matplotlib.figure import Figure


def draw(log: str, picture: str) -> None:
    """Loss by term and validation accuracy over the pictures seen."""
    with open(log, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    seen = [int(row["seen"]) / 1e6 for row in rows]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for term in ("loss", "label", "tuned", "embedding", "concept", "relation"):
        left.plot(seen, [float(row[term]) for row in rows], label=term, linewidth=2 if term == "loss" else 1)
    left.set(xlabel="million pictures seen", ylabel="training loss", yscale="log")
    left.legend(fontsize=8)
    measured = [(at, float(row["val_top1"])) for at, row in zip(seen, rows, strict=True) if row["val_top1"]]
    right.plot(*zip(*measured, strict=True), marker="o")
    right.set(xlabel="million pictures seen", ylabel="validation top-1")
    right.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the learning curve of a run's log.")
    parser.add_argument("log")
    parser.add_argument("picture")
    options = parser.parse_args()
    draw(options.log, options.picture)
