"""How long it takes to refresh a library in which nothing changed.

    python benchmarks/refresh.py --rows 100000

Makes a folder of that many (tiny, never read) files with synthetic rows for them in Milvus Lite, and runs
``imagesearch index`` on it as a new process; the time of ``imagesearch info`` on an empty database beside it is
what starting costs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from imagesearch import ImageSearch, Picture
from measuring import run_cli

FILES_A_FOLDER = 500
ROWS_A_CALL = 2000


def fill(folder: Path, uri: str, rows: int) -> None:
    """Tiny files, and rows for them with random unit vectors of the bundled model's dimension."""
    rng = np.random.default_rng(0)
    with ImageSearch({"milvus": {"uri": uri}}) as images:
        mark = images.embedder.fingerprint
        images.store.create(mark)
        pictures: list[Picture] = []
        for number in range(rows):
            path = folder / f"{number // FILES_A_FOLDER:05d}" / f"IMG_{number:07d}.jpg"
            if number % FILES_A_FOLDER == 0:
                path.parent.mkdir(parents=True)
            path.write_bytes(b"%d" % number)
            status = path.stat()
            pictures.append(
                Picture(
                    *(str(path), str(folder), f"{number:032x}", status.st_size, status.st_mtime_ns, 4000, 3000),
                    taken="2026-01-01T12:00:00",
                )
            )
            if len(pictures) == ROWS_A_CALL or number == rows - 1:
                vectors = rng.standard_normal((len(pictures), mark.dim), dtype=np.float32)
                images.store.upsert(pictures, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
                pictures = []
        images.store.build_index()


def measure_refresh(rows: int, repeat: int) -> dict[str, float]:
    """Seconds of a refresh that finds nothing to do, and of starting."""
    with tempfile.TemporaryDirectory() as place:
        folder, uri = Path(os.path.realpath(place), "pictures"), str(Path(place, "library.db"))
        empty = str(Path(place, "empty.db"))
        started = time.perf_counter()
        fill(folder, uri, rows)
        print(f"filled in {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        with ImageSearch({"milvus": {"uri": empty}}) as images:
            images.store.check()  # makes the database
        times, starts, peak = [], [], 0.0
        for _ in range(repeat):
            starts.append(run_cli("info", "--uri", empty).seconds)
            run = run_cli("index", folder, "--uri", uri, "--json")
            times.append(run.seconds)
            peak = max(peak, run.peak_mb)
            report = json.loads(run.out)
            assert (report["found"], report["unchanged"]) == (rows, rows), report
    return {"rows": rows, "seconds": min(times), "start_seconds": min(starts), "peak_mb": peak}


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000, help="pictures in the library")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    figures = measure_refresh(options.rows, options.repeat)
    print(
        f"refresh of {options.rows:,} unchanged pictures: {figures['seconds']:.1f} s, of which starting"
        f" {figures['start_seconds']:.1f} s; peak {figures['peak_mb']:.0f} MB"
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
