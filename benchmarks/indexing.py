"""From files to rows in Milvus Lite, beside its slowest part alone.

    python benchmarks/indexing.py --pictures PHOTOS
    python benchmarks/indexing.py --pictures PHOTOS --enlarged 300
    python benchmarks/indexing.py --pictures PHOTOS --before FOLDER

decoding alone   reading, describing and preparing files in threads, as indexing does, without a network
network alone    the bundled model on pictures that lie prepared in memory
both             files to vectors: decoding in threads ahead of the network
indexing         ``ImageSearch.index`` into a new database, the model loaded: rows, vector index and all

All sides take turns in one run; the best turn of each counts. The ratio of indexing is to the slower of the first
two. Each of these keeps all cores busy by itself, so that on a CPU the parts add up: "one after the other" is what
decoding and network allow when neither waits. With --enlarged, the pictures are JPEG files of 12 megapixels, as a
telephone makes them. With --before, indexing by the program of an earlier commit (``git worktree add FOLDER REV``)
takes turns with this one's, both in new processes with the model loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from imagesearch import ImageSearch
from imagesearch.images.files import decode, describe, file_content, open_image
from imagesearch.images.find import find_pictures
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.models.embedder import Encoder
from measuring import run_script
from startup import make_graphs

SETTINGS = {"model": {"name": "starter"}}

# A new process; the database is opened, and what it needs imported, while the time runs.
INDEX = """
import sys, time
import numpy as np
from imagesearch import ImageSearch

folder, uri = sys.argv[1:]
with ImageSearch({"model": {"name": "starter"}, "milvus": {"uri": uri}}) as images:
    images.embed([np.zeros((64, 64, 3), np.uint8)])
    started = time.perf_counter()
    images.index(folder)
    print(time.perf_counter() - started)
"""


def prepared(model: Encoder, files: Sequence[Path]) -> Any:
    """What indexing's threads do with each file."""

    def load(file: Path) -> Any:
        with file_content(str(file)) as (data, status), open_image(data, str(file)) as image:
            describe(str(file), "", data, status, image)
            return model.preprocess(decode(image, str(file), model.decode_side))

    return decode_ahead(files, load, ahead=2 * model.batch_size)


def sides(model: Encoder, folder: Path, files: Sequence[Path]) -> dict[str, Callable[[], float]]:
    """Name of each side, and what runs it and gives its seconds."""
    ready = list(prepared(model, files))

    def timed(work: Callable[[], object]) -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    def encode(pictures: Any) -> None:
        for batch in batches(pictures, model.batch_size):
            model.encode(batch)

    def index() -> float:
        with (
            tempfile.TemporaryDirectory() as place,
            ImageSearch({**SETTINGS, "milvus": {"uri": str(Path(place, "library.db"))}}) as images,
        ):
            images.embedder.encode(ready[:1])
            return timed(lambda: images.index(folder))

    return {
        "decoding alone": lambda: timed(lambda: list(prepared(model, files))),
        "network alone": lambda: timed(lambda: encode(ready)),
        "both": lambda: timed(lambda: encode(prepared(model, files))),
        "indexing": index,
    }


def beside_before(folder: Path, count: int, turns: int, before: Path) -> dict[str, Any]:
    """Pictures per second of indexing now and before, and the ratio."""
    trees = {"now": None, "before": before}
    best = dict.fromkeys(trees, float("inf"))
    for tree in trees.values():
        make_graphs(tree)
    for _ in range(turns):
        for side, tree in trees.items():
            with tempfile.TemporaryDirectory() as place:
                printed = run_script(INDEX, folder, str(Path(place, "library.db")), tree=tree)
            best[side] = min(best[side], float(printed))
    return {
        "pictures_per_second": {side: count / best[side] for side in best},
        "ratio": best["before"] / best["now"],
    }


def enlarge(pictures: Path, count: int, place: Path) -> None:
    """Write the first ``count`` pictures of a folder to ``place``, stretched to 12 megapixels."""
    for number, path in enumerate(sorted(find_pictures(pictures))[:count]):
        load_image(path).resize((4000, 3000)).save(place / f"{number}.jpg", quality=88)


def measure(folder: Path, turns: int) -> dict[str, Any]:
    """Pictures per second of each side, and what they come to."""
    files = [Path(path) for path in find_pictures(folder)]
    make_graphs()
    with ImageSearch(SETTINGS) as images:
        every = sides(images.embedder, folder, files)
        best = dict.fromkeys(every, float("inf"))
        for _ in range(turns):
            for name, run in every.items():
                best[name] = min(best[name], run())
    rates = {name: len(files) / seconds for name, seconds in best.items()}
    slower = min(rates["decoding alone"], rates["network alone"])
    in_turn = 1 / (1 / rates["decoding alone"] + 1 / rates["network alone"])
    return {
        "pictures": len(files),
        "cores": os.cpu_count(),
        "pictures_per_second": rates,
        "one_after_the_other": in_turn,
        "ratio_to_slower": rates["indexing"] / slower,
        "ratio_to_one_after_the_other": rates["indexing"] / in_turn,
    }


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, type=Path, help="a folder of pictures")
    parser.add_argument("--enlarged", type=int, metavar="N", help="take N of them, enlarged to 12 megapixels")
    parser.add_argument("--before", type=Path, metavar="FOLDER", help="the source tree of an earlier commit")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if options.enlarged:
            enlarge(options.pictures, options.enlarged, Path(place))
        folder = Path(place) if options.enlarged else options.pictures
        figures = measure(folder, options.turns)
        if options.before:
            figures["beside_before"] = beside_before(folder, figures["pictures"], options.turns, options.before)
    for name, rate in figures["pictures_per_second"].items():
        print(f"{name:<16} {rate:7.0f} pictures/s")
    print(f"indexing is {figures['ratio_to_slower']:.2f} of the slower of the first two, and", end=" ")
    print(f"{figures['ratio_to_one_after_the_other']:.2f} of both, one after the other")
    if options.before:
        rates = figures["beside_before"]["pictures_per_second"]
        print(f"a new process: now {rates['now']:.0f}, before {rates['before']:.0f} pictures/s", end="; ")
        print(f"ratio {figures['beside_before']['ratio']:.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
