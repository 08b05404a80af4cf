"""How long it takes to refresh a library in which nothing changed.

    python benchmarks/refresh.py --rows 100000 [--before FOLDER]

Makes a folder of that many (tiny, never read) files with synthetic rows for them in Milvus Lite, and runs
``imagesearch index`` on it as a new process; the time of ``imagesearch info`` on an empty database beside it is
what starting costs. With --before, the program of an earlier commit (``git worktree add FOLDER REV``) takes turns
with this one, on files and a database of its own. A million rows need 5 GB of disk and two million inodes each.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from imagesearch import ImageSearch
from measuring import run_cli, run_script
from synthetic import library

# The same through the interface that the program had before `stores/base.py` had two protocols.
FILL_BEFORE = """
import sys
from pathlib import Path
from imagesearch import ImageSearch
from synthetic import library

folder, uri, rows = sys.argv[1:]
with ImageSearch({"milvus": {"uri": uri}}) as images:
    mark = images.embedder.fingerprint
    images.store.create(mark)
    for pictures, vectors in library(Path(folder), int(rows), mark.dim):
        images.store.upsert(pictures, vectors)
    images.store.build_index()
"""


def fill(folder: Path, uri: str, rows: int) -> None:
    """Tiny files, and rows for them with random unit vectors of the bundled model's dimension."""
    with ImageSearch({"milvus": {"uri": uri}}) as images:
        mark = images.embedder.fingerprint
        database = images.config.database_address.open()
        try:
            collection = database.create(images.spec, mark)
            for pictures, vectors in library(folder, rows, mark.dim):
                collection.upsert(pictures, vectors)
            collection.build_index()
        finally:
            database.close()


def fill_of(tree: Path | None, folder: Path, uri: str, rows: int) -> None:
    """:func:`fill`, by the program of an earlier commit if ``tree`` is one."""
    started = time.perf_counter()
    if tree is None:
        fill(folder, uri, rows)
    else:
        run_script(FILL_BEFORE, folder, uri, str(rows), tree=tree)
    side = "before" if tree else "now"
    print(f"{side}: filled {rows:,} in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)


def measure_refresh(rows: int, repeat: int, before: Path | None) -> dict[str, Any]:
    """Seconds and peak of a refresh that finds nothing to do, and seconds of starting."""
    trees = {"now": None, **({"before": before} if before else {})}
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(os.path.realpath(temporary))
        for side, tree in trees.items():
            fill_of(tree, place / side, str(place / f"{side}.db"), rows)
            fill_of(tree, place / f"{side}-few", str(place / f"{side}-few.db"), 1)
            run_cli(
                "index", place / f"{side}-few", "--uri", place / f"{side}-few.db", tree=tree
            )  # compiles modules
        for _ in range(repeat):
            for side, tree in trees.items():
                start = run_cli("info", "--uri", place / f"{side}-few.db", tree=tree).seconds
                run = run_cli("index", place / side, "--uri", place / f"{side}.db", "--json", tree=tree)
                report = json.loads(run.out)
                assert (report["found"], report["unchanged"]) == (rows, rows), report
                known = figures.setdefault(side, {"seconds": run.seconds, "start_seconds": start, "peak_mb": 0.0})
                known["seconds"] = min(known["seconds"], run.seconds)
                known["start_seconds"] = min(known["start_seconds"], start)
                known["peak_mb"] = max(known["peak_mb"], run.peak_mb)
    result: dict[str, Any] = {"rows": rows, **figures["now"]}
    if before:
        result |= {"before": figures["before"], "ratio": figures["now"]["seconds"] / figures["before"]["seconds"]}
    return result


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000], help="pictures in the library")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the source tree of an earlier commit")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    every = []
    for rows in options.rows:
        figures = measure_refresh(rows, options.repeat, options.before)
        every.append(figures)
        print(
            f"refresh of {rows:,} unchanged pictures: {figures['seconds']:.1f} s, of which starting"
            f" {figures['start_seconds']:.1f} s; peak {figures['peak_mb']:.0f} MB"
        )
        if options.before:
            there = figures["before"]
            print(
                f"before: {there['seconds']:.1f} s; peak {there['peak_mb']:.0f} MB; ratio {figures['ratio']:.2f}"
            )
    if options.json:
        options.json.write_text(json.dumps(every, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
