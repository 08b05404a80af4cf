"""What it takes to search from a cold shell, beside the bare imports and the loading of the model.

    python benchmarks/startup.py --rows 10000 100000 [--before FOLDER]

Each side is a process of its own; they take turns, and the best turn of each counts. The collection has synthetic
rows in Milvus Lite; the model is the bundled one, with its graph made beforehand (see ``model.runtime``).

nothing          ``python -c pass``
help             ``imagesearch --help``
bare             imports of what a search needs from others, and the model loaded from its graph
search           ``imagesearch search``, shell to result; the ratio is to "bare"
before           the same of an earlier commit (``git worktree add FOLDER REV``), with a database that it filled
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measuring import ELSEWHERE, environment, run_cli, run_script
from refresh import fill_of

BARE = """
import numpy, PIL.Image, pillow_heif, pydantic, typer, yaml, faiss, pyarrow.parquet
from imagesearch import ImageSearch
ImageSearch().embedder
"""

# Let the bundled model run often enough, for vectors and for labels, for its graphs to be made and kept.
MAKE_GRAPHS = """
import numpy as np
from imagesearch import ImageSearch

blank = [np.zeros((64, 64, 3), np.uint8)] * 200
with ImageSearch({"model": {"name": "starter"}}) as images:
    images.embed(blank)
    list(images.classify_all(blank))
"""


def seconds(command: list[str], tree: Path | None = None) -> tuple[float, str]:
    """How long a process runs, and what it says on stderr."""
    started = time.perf_counter()
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment(tree), cwd=ELSEWHERE
    )
    return time.perf_counter() - started, done.stderr


def make_graphs(tree: Path | None = None) -> None:
    """Make the bundled model's graphs, in a process of its own."""
    run_script(MAKE_GRAPHS, tree=tree)


def measure(rows: int, turns: int, before: Path | None) -> dict[str, Any]:
    """Seconds of all sides at one size, and the peak of memory of searches."""
    trees = {"search": None, **({"before": before} if before else {})}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        query = place / "query.jpg"
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((1600, 1200)).save(query)
        run = [sys.executable, "-m", "imagesearch"]
        commands = {
            "nothing": [sys.executable, "-c", "pass"],
            "help": [*run, "--help"],
            "bare": [sys.executable, "-c", BARE],
        }
        for side, tree in trees.items():
            fill_of(tree, place / side, str(place / f"{side}.db"), rows)
            commands[side] = [*run, "search", str(query), "--uri", str(place / f"{side}.db")]
        best = dict.fromkeys(commands, float("inf"))
        for turn in range(turns + 1):
            for name, command in commands.items():
                taken = seconds(command, trees.get(name))[0]
                if turn or not turns:  # the first one compiles modules
                    best[name] = min(best[name], taken)
        peaks = {name: run_cli(*commands[name][3:], tree=tree).peak_mb for name, tree in trees.items()}
        stages = seconds([*commands["search"], "--timings"])[1].strip().splitlines()[-1]
    figures = {"rows": rows, "seconds": best, "peak_mb": peaks, "ratio": best["search"] / best["bare"]}
    if before:
        figures["to_before"] = best["search"] / best["before"]
    return {**figures, "stages": stages}


def show(figures: dict[str, Any]) -> None:
    """The figures of one size as text."""
    print(f"{figures['rows']:,} pictures")
    for name, value in figures["seconds"].items():
        peak = f"  peak {figures['peak_mb'][name]:6.0f} MB" if name in figures["peak_mb"] else ""
        print(f"  {name:<8} {value:6.2f} s{peak}")
    print(f"  search is {figures['ratio']:.2f} times the bare imports and model")
    if "to_before" in figures:
        print(f"  search is {figures['to_before']:.2f} times what it was before")
    print(f"  {figures['stages']}", flush=True)


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the source tree of an earlier commit")
    parser.add_argument("--turns", type=int, default=5, help="0: only the one that does not count otherwise")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    for tree in (None, *([options.before] if options.before else [])):
        make_graphs(tree)
    every = []
    for rows in options.rows:
        every.append(measure(rows, options.turns, options.before))
        show(every[-1])
    if options.json:
        options.json.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
