"""Does memory grow with the library? The peak of every command that reads pictures or rows, at two sizes.

    python benchmarks/memory.py --pictures 2000 20000 --rows 10000 100000

Commands that read pictures get one file under many names; those that read a library get synthetic rows in Milvus
Lite, which keeps vectors and index in memory. The bundled model's graphs are made beforehand.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from measuring import run_cli
from refresh import fill
from startup import make_graphs


def same_picture(folder: Path, count: int) -> Path:
    """A folder with one picture under many names, and that picture."""
    folder.mkdir()
    first = folder / "0.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((400, 300)).save(first)
    for number in range(1, count):
        os.link(first, folder / f"{number}.jpg")
    return first


def of_pictures(place: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    """Commands that read so many pictures."""
    folder, uri = place / "pictures", str(place / "library.db")
    same_picture(folder, count)
    yield "extract", ["extract", str(folder), "-o", str(place / "x")]
    yield (
        "build",
        ["build", "-f", f"{place}/x_features.npy", "-p", f"{place}/x_paths.txt", "--uri", f"{place}/built.db"],
    )
    yield "index", ["index", str(folder), "--uri", uri]
    yield "classify", ["classify", str(folder), "--json"]


def of_rows(place: Path, count: int) -> Iterator[tuple[str, list[str]]]:
    """Commands that read a library of so many rows."""
    folder, uri, parquet = place / "pictures", str(place / "library.db"), str(place / "library.parquet")
    query = same_picture(place / "query", 1)
    fill(folder, uri, count)
    yield "index again", ["index", str(folder), "--uri", uri]
    yield "search", ["search", str(query), "--uri", uri]
    yield "info", ["info", "--uri", uri]
    yield "copy", ["copy", "images_starter", "other", "--uri", uri]
    yield "export", ["export", parquet, "--uri", uri]
    yield "import", ["import", parquet, "--uri", str(place / "imported.db")]
    yield "migrate", ["migrate", "--to", str(place / "migrated.db"), "--uri", uri]


def main() -> None:
    """Parse the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, nargs=2, default=[2_000, 20_000], metavar=("FEW", "MANY"))
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 100_000], metavar=("FEW", "MANY"))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    make_graphs()
    figures: list[dict[str, object]] = []
    for kind, sizes in ((of_pictures, options.pictures), (of_rows, options.rows)):
        peaks: dict[str, list[float]] = {}
        for size in sizes:
            with tempfile.TemporaryDirectory() as place:
                for name, arguments in kind(Path(os.path.realpath(place)), size):
                    peaks.setdefault(name, []).append(run_cli(*arguments).peak_mb)
        for name, (few, many) in peaks.items():
            figures.append({"command": name, "sizes": sizes, "peak_mb": [few, many], "ratio": many / few})
            at_few, at_many = f"{sizes[0]:>7,}: {few:5.0f} MB", f"{sizes[1]:>8,}: {many:5.0f} MB"
            print(f"{name:<12} {at_few}  {at_many}  ratio {many / few:.2f}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
