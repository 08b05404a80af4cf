"""A plain installation beside one with all extras: the first search ever, the next ones, and indexing.

The environment that runs this is the one with all extras. Make the other with

    python -m venv PLACE && PLACE/bin/pip install --constraint constraints.txt .

Each side starts with an empty cache of its own, in turns. Searches are whole commands, beside
``python -c "import torch"`` in the same environment; indexing is a whole command into a new database.

    python benchmarks/plain.py --plain PLACE/bin/python --pictures DIR
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import ELSEWHERE


class Installation:
    """One environment, with an empty cache and a database of its own below ``place``."""

    def __init__(self, python: Path, place: Path) -> None:
        self.python = python
        self.place = place
        place.mkdir()
        home = {"HOME": str(place), "XDG_CACHE_HOME": str(place / "cache"), "HF_HUB_OFFLINE": "1"}
        self.environment = {**os.environ, **home}
        self.environment.pop("PYTHONPATH", None)

    def seconds(self, *arguments: str) -> float:
        """Run Python with these arguments; raises RuntimeError, with what it said, if it failed."""
        start = time.perf_counter()
        done = subprocess.run(
            [str(self.python), *arguments],
            env=self.environment, cwd=ELSEWHERE, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{self.python} {' '.join(arguments)}: {done.stderr}")
        return time.perf_counter() - start

    def index(self, pictures: Path, database: str) -> float:
        """Index into a new database; returns seconds."""
        return self.seconds("-m", "imagesearch", "index", str(pictures), "--uri", str(self.place / database))

    def search(self, picture: Path, database: str) -> float:
        """Search as a new process; returns seconds."""
        place = str(self.place / database)
        return self.seconds("-m", "imagesearch", "search", str(picture), "--uri", place, "--top", "10")


def measure(plain: Path, pictures: Path, turns: int) -> dict[str, Any]:
    """Return medians in seconds per side and the ratios of the rounds; pictures of each index as well."""
    query = next(file for file in sorted(pictures.rglob("*")) if file.is_file())
    count = sum(1 for file in pictures.rglob("*") if file.is_file())
    with tempfile.TemporaryDirectory() as folder:
        sides = {
            "plain": Installation(plain, Path(folder, "plain")),
            "extras": Installation(Path(sys.executable), Path(folder, "extras")),
        }
        taken: dict[str, dict[str, list[float]]] = {
            name: {"index": [], "search": [], "torch": []} for name in sides
        }
        first = {}
        for name, side in sides.items():
            side.seconds("-c", "import torch, transformers")  # files into the page cache, modules compiled
            side.index(pictures, "first.db")
            shutil.rmtree(side.place / "cache", ignore_errors=True)  # so that the search is the first one ever
            first[name] = side.search(query, "first.db")
        for turn in range(turns):
            for name, side in sides.items():
                taken[name]["index"].append(side.index(pictures, f"{turn}.db"))
                taken[name]["search"].append(side.search(query, "first.db"))
                taken[name]["torch"].append(side.seconds("-c", "import torch"))
    medians = {n: {what: statistics.median(v) for what, v in of.items()} for n, of in taken.items()}
    speeds = [e / p for p, e in zip(taken["plain"]["index"], taken["extras"]["index"], strict=True)]
    return {
        "pictures": count, "turns": turns, "first_search": first, "seconds": medians,
        "search_of_torch": medians["plain"]["search"] / medians["plain"]["torch"],
        "indexing_of_extras": statistics.median(speeds),
    }  # fmt: skip


def main() -> None:
    """Print the table; with --json, write the figures as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", required=True, type=Path, help="the Python of the plain installation")
    parser.add_argument("--pictures", required=True, type=Path, help="a folder of pictures")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    figures = measure(options.plain.absolute(), options.pictures.absolute(), options.turns)
    for name, taken in figures["seconds"].items():
        speed = figures["pictures"] / taken["index"]
        print(
            f"{name:7} first search {figures['first_search'][name]:.2f} s, next {taken['search']:.2f} s, "
            f"import torch {taken['torch']:.2f} s, indexing {speed:.0f} pictures/s, start included"
        )
    print(f"plain: a search takes {figures['search_of_torch']:.2f} of 'import torch'")
    print(f"indexing: plain at {figures['indexing_of_extras']:.2f} of the speed with all extras")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
