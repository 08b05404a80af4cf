"""How long it takes to refresh a library in which nothing changed, and how memory grows with the library.

    python benchmarks/refresh.py --rows 100000
    python benchmarks/refresh.py --memory 2000 20000

The first makes a folder of that many (tiny, never read) files with synthetic rows for them in Milvus Lite, and
runs ``imagesearch index`` on it as a new process; the time of ``imagesearch info`` on an empty database beside it
is what starting costs. The second extracts pictures (one file under many names) with the bundled model, and prints
the peak of resident memory at both sizes and their ratio.
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

import numpy as np
from PIL import Image

from imagesearch import ImageSearch, Picture

FILES_A_FOLDER = 500
ROWS_A_CALL = 2000

# Runs the command line and prints the peak of its resident memory, in MB, as the last line of stderr.
MEASURED = """
import resource, sys
from imagesearch.frontends.cli import app
try:
    app(sys.argv[1:])
finally:
    unit = 1e6 if sys.platform == "darwin" else 1e3
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, file=sys.stderr)
"""


def run_cli(*arguments: str) -> tuple[str, float, float]:
    """Run ``imagesearch``; its stdout, seconds, and peak of resident memory in MB."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - started, float(done.stderr.split()[-1])


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
            starts.append(run_cli("info", "--uri", empty)[1])
            out, seconds, peak = run_cli("index", str(folder), "--uri", uri, "--json")
            times.append(seconds)
            report = json.loads(out)
            assert (report["found"], report["unchanged"]) == (rows, rows), report
    return {"rows": rows, "seconds": min(times), "start_seconds": min(starts), "peak_mb": peak}


def measure_memory(sizes: list[int]) -> list[tuple[int, float]]:
    """Peak resident memory in MB of extracting so many pictures."""
    peaks = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place, "pictures")
            folder.mkdir()
            rng = np.random.default_rng(0)
            noise = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((400, 300)).save(folder / "0.jpg")
            for number in range(1, size):
                os.link(folder / "0.jpg", folder / f"{number}.jpg")
            peaks.append((size, run_cli("extract", str(folder), "-o", str(Path(place, "x")))[2]))
    return peaks


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, help="refresh a library of so many pictures")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--memory", type=int, nargs=2, metavar=("FEW", "MANY"), help="extract so many pictures")
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    if options.rows:
        refresh = measure_refresh(options.rows, options.repeat)
        figures["refresh"] = refresh
        print(
            f"refresh of {options.rows:,} unchanged pictures: {refresh['seconds']:.1f} s, of which starting"
            f" {refresh['start_seconds']:.1f} s; peak {refresh['peak_mb']:.0f} MB"
        )
    if options.memory:
        peaks = measure_memory(options.memory)
        figures["memory"] = peaks
        for size, peak in peaks:
            print(f"extracting {size:>7,} pictures: peak {peak:.0f} MB")
        print(f"ratio {peaks[1][1] / peaks[0][1]:.3f}")
    if options.json:
        Path(options.json).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
