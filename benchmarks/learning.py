"""Everything that ``imagesearch train`` can learn with, side by side, on any folder of class folders.

    python benchmarks/learning.py --folders DIR [DIR ...] [--classes 10 200] [--each 50] [--epochs 5]
    python benchmarks/learning.py --folders DIR --loss arcface

For every folder and number of classes (the first in order of name) a table: accuracy, macro F1 and retrieval mAP
on pictures set aside, the gain in accuracy over the nearest neighbours and that in mAP over the untrained model
with 95 % intervals, and seconds. All methods have the same pictures. Without ``--folders`` only the probe's
cross-validation is measured.

probe            five folds of 10,000 vectors of 320 numbers, 200 classes, drawn at random; one thread of NumPy's
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command line does, before NumPy is loaded

PROBE = (10_000, 320, 200)
COLUMNS = (
    "method", "chosen", "accuracy", "95 %", "macro F1", "gain", "95 % of it", "mAP", "gain in mAP", "seconds"
)  # fmt: skip


def probe_seconds(rows: int, dim: int, classes: int, turns: int) -> list[float]:
    """Seconds of learning a probe with 5-fold cross-validation, of each turn."""
    import numpy as np

    from imagesearch.learning.probe import train_probe

    random = np.random.default_rng(0)
    truth = np.arange(rows) % classes
    centres = 0.35 * random.standard_normal((classes, dim))
    vectors = np.maximum(centres[truth] + random.standard_normal((rows, dim)), 0).astype(np.float32)
    members = truth[:, None] == np.arange(classes)
    taken = []
    for _ in range(turns):
        began = time.perf_counter()
        train_probe(vectors, members, np.arange(rows))
        taken.append(time.perf_counter() - began)
    return taken


def leave_no_traces(folder: str) -> None:
    """Vectors and the list of trained models are kept elsewhere, but downloaded models where they are."""
    os.environ.setdefault("HF_HOME", os.path.expanduser("~/.cache/huggingface"))
    for kind in ("CACHE", "DATA"):
        os.environ[f"XDG_{kind}_HOME"] = os.path.join(folder, kind.lower())


def sample(folder: Path, classes: int, each: int, into: Path) -> Path:
    """Links to the first pictures of the first classes, so that nothing is copied."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())[:classes]
    target = into / f"{folder.name}-{len(names)}"
    for name in names:
        (target / name).mkdir(parents=True)
        for picture in sorted(path for path in (folder / name).rglob("*") if path.is_file())[:each]:
            (target / name / picture.name).symlink_to(picture.resolve())
    return target


def compare(folder: Path, given: argparse.Namespace, out: Path) -> dict[str, Any]:
    """What a training finds on a folder."""
    from imagesearch import load_config
    from imagesearch.models.trainer import METHODS
    from imagesearch.training import Request, train

    methods = METHODS if "all" in given.method else tuple(name for name in given.method if name != "probe")
    config = load_config(overrides={"model": {"name": given.model}}, environ={})
    request = Request(
        str(folder),
        out=str(out / f"{folder.name}-model"),
        methods=tuple(methods),
        epochs=given.epochs,
        seed=given.seed,
        loss=given.loss,
    )
    return train(config, request).to_dict()


def table(found: dict[str, Any]) -> str:
    """The methods, as a table of Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|" + "---:|" * (len(COLUMNS) - 2)]
    for one in found["methods"]:
        accuracy, gain, retrieval = one["accuracy"], one["gain"], one["retrieval"]
        better = one["retrieval_gain"]
        cells = [
            one["name"],
            one["detail"],
            f"{accuracy['value']:.3f}",
            f"{accuracy['low']:.3f} to {accuracy['high']:.3f}",
            f"{one['macro_f1']['value']:.3f}",
            f"{gain['value']:+.3f}" if gain else "",
            f"{gain['low']:+.3f} to {gain['high']:+.3f}" if gain else "",
            f"{retrieval['value']:.3f}" if retrieval else "",
            f"{better['value']:+.3f} ({better['low']:+.3f} to {better['high']:+.3f})" if better else "",
            f"{one['seconds']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", nargs="*", type=Path, default=[], metavar="DIR", help="of class folders")
    parser.add_argument("--classes", nargs="+", type=int, default=[10, 200], metavar="N")
    parser.add_argument("--each", type=int, default=50, metavar="N", help="pictures of a class, at most")
    parser.add_argument("--method", nargs="+", default=["all"], help="as of imagesearch train, or probe")
    parser.add_argument("--loss", default="cross-entropy", help="as of imagesearch train")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--probe", nargs=3, type=int, default=PROBE, metavar="N", help="vectors, numbers, classes")
    parser.add_argument("--turns", type=int, default=3, help="of the probe")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    given = parser.parse_args()
    rows, dim, classes = given.probe
    taken = probe_seconds(rows, dim, classes, given.turns)
    each = ", ".join(f"{seconds:.2f}" for seconds in taken)
    print(f"probe, {rows:,} vectors x {dim}, {classes} classes: {min(taken):.2f} s, the best of {each}")
    figures: dict[str, Any] = {"probe": {"shape": list(given.probe), "seconds": taken}, "folders": []}
    with tempfile.TemporaryDirectory() as temporary:
        leave_no_traces(temporary)
        for folder in given.folders:
            for count in given.classes:
                found = compare(sample(folder, count, given.each, Path(temporary)), given, Path(temporary))
                figures["folders"].append(found)
                print(
                    f"\n{folder.name}: {found['pictures']:,} pictures, {found['classes']:,} classes, {given.model}"
                )
                print(f"\n{table(found)}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
