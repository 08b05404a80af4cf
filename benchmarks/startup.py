"""What it takes to search from a cold shell, beside the bare imports and the loading of the model.

    python benchmarks/startup.py --rows 10000

Each side is a process of its own; they take turns, and the best turn of each counts. The collection has synthetic
rows in Milvus Lite; the model is the bundled one, with its graph made beforehand (see ``model.runtime``).

nothing          ``python -c pass``
help             ``imagesearch --help``
bare             imports of what a search needs from others, and the model loaded from its graph
search           ``imagesearch search``, the ratio is to "bare"
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from imagesearch import ImageSearch
from refresh import fill

BARE = """
import numpy, PIL.Image, pillow_heif, pydantic, typer, yaml, pymilvus
from milvus_lite.server_manager import server_manager_instance
from imagesearch import ImageSearch
ImageSearch().embedder
"""


def seconds(command: list[str]) -> tuple[float, str]:
    """How long a process runs, and what it says on stderr."""
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stderr


def make_graphs() -> None:
    """Let the bundled model run often enough, for vectors and for labels, for its graphs to be made and kept."""
    blank = [np.zeros((64, 64, 3), np.uint8)] * 200
    with ImageSearch({"model": {"name": "starter"}}) as images:
        images.embed(blank)
        list(images.classify_all(blank))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    make_graphs()
    with tempfile.TemporaryDirectory() as place:
        uri, query = str(Path(place, "library.db")), Path(place, "query.jpg")
        fill(Path(place, "pictures"), uri, options.rows)
        noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((1600, 1200)).save(query)
        run = [sys.executable, "-m", "imagesearch"]
        commands = {
            "nothing": [sys.executable, "-c", "pass"],
            "help": [*run, "--help"],
            "bare": [sys.executable, "-c", BARE],
            "search": [*run, "search", str(query), "--uri", uri],
        }
        best = dict.fromkeys(commands, float("inf"))
        for _ in range(options.turns):
            for name, command in commands.items():
                best[name] = min(best[name], seconds(command)[0])
        stages = seconds([*commands["search"], "--timings"])[1].strip().splitlines()[-1]
    for name, value in best.items():
        print(f"{name:<8} {value:6.2f} s")
    ratio = best["search"] / best["bare"]
    print(f"search is {ratio:.2f} times the bare imports and model\n{stages}")
    if options.json:
        figures = {"rows": options.rows, "seconds": best, "ratio": ratio, "stages": stages}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
