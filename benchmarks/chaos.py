"""Kill indexing again and again (``kill -9``), then look whether the collection is what it should be.

    python benchmarks/chaos.py --pictures 5000 --kills 20

Draws the pictures, indexes them into Milvus Lite in a process that is killed at random moments (while it starts,
encodes, commits or builds the index), lets a last one finish, and checks: no row is missing, none is double, none
has a wrong vector, and no more was encoded than the pictures once and one batch a kill. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from imagesearch import ImageSearch

BATCH = 32

# The indexing process: writes the number of pictures of every batch that the network gets.
CHILD = """
import sys
from imagesearch import ImageSearch

folder, uri, log, size = sys.argv[1:]
settings = {"milvus": {"uri": uri}, "extraction": {"batch_size": int(size)}}
with ImageSearch(settings) as images, open(log, "a") as counts:
    encode = images.embedder.encode

    def counting(batch):
        print(len(batch), file=counts, flush=True)  # before: work that is cut short was work all the same
        return encode(batch)

    images.embedder.encode = counting
    images.index(folder)
"""


@dataclass(frozen=True)
class Result:
    """What was seen."""

    pictures: int
    kills: int
    killed_while: dict[str, int]
    encoded: int
    allowed: int
    missing: int
    double: int
    wrong_vectors: int
    seconds: float

    @property
    def good(self) -> bool:
        """Whether everything is as it should be."""
        return self.encoded <= self.allowed and not (self.missing or self.double or self.wrong_vectors)


def draw(folder: Path, count: int) -> list[str]:
    """Pictures that differ: noise of few colours under random shapes; their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        place = folder / f"{number // 500:03d}" / f"{number:05d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        picture = small.resize((96, 96), Image.Resampling.BICUBIC)
        left, top, width, height = (int(value) for value in rng.integers(0, 48, 4))
        ImageDraw.Draw(picture).ellipse(
            (left, top, left + width + 8, top + height + 8), fill=tuple(rng.integers(0, 256, 3).tolist())
        )
        picture.save(place, quality=90)
        paths.append(str(place))
    return paths


def lines_of(file: Path) -> list[int]:
    """The batches that were encoded so far."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def run_and_kill(command: list[str], log: Path, chance: random.Random, batches: int) -> str:
    """Start the process and kill it at a random moment; returns what it was doing then.

    Args:
        batches: how many batches to let it encode at most.
    """
    before = len(lines_of(log))
    process = subprocess.Popen(command)
    if chance.random() < 0.3:  # anywhere, start-up included
        time.sleep(chance.uniform(0.0, 1.2))
    else:
        wanted, deadline = before + chance.randint(1, batches), time.monotonic() + 60
        while len(lines_of(log)) < wanted and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.002)
        time.sleep(chance.uniform(0.0, 0.05))  # in the middle of encoding or writing it
    finished = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    if finished:
        return "after the end"
    return "encoding" if len(lines_of(log)) > before else "starting or building the index"


def check(paths: list[str], uri: str) -> tuple[int, int, int]:
    """Numbers of missing rows, double rows, and rows whose vector is not their picture's."""
    with ImageSearch({"milvus": {"uri": uri}}) as images:
        collection = images.collection()
        rows = Counter(path for batch in collection.scan_columns(["path"]) for path in batch["path"])
        expected = dict(zip(paths, images.embed(paths), strict=True))
        wrong = 0
        for pictures, vectors in collection.scan_vectors():
            for picture, vector in zip(pictures, vectors, strict=True):
                wrong += picture.path not in expected or float(expected[picture.path] @ vector) < 0.9999
        searched = images.search(paths[0], k=1)[0]
        wrong += searched.path != paths[0]
    return len(set(paths) - set(rows)), sum(rows.values()) - len(rows), wrong


def run(pictures: int, kills: int, seed: int) -> Result:
    """The whole experiment in a temporary folder."""
    started = time.monotonic()
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        place = os.path.realpath(temporary)  # paths in a collection have no links
        folder, uri, log = Path(place, "pictures"), str(Path(place, "chaos.db")), Path(place, "encoded.txt")
        paths = draw(folder, pictures)
        command = [sys.executable, "-c", CHILD, str(folder), uri, str(log), str(BATCH)]
        moments: Counter[str] = Counter()
        for number in range(kills):
            moments[run_and_kill(command, log, chance, max(1, round(pictures / BATCH / kills)))] += 1
            print(f"kill {number + 1}: {sum(lines_of(log)):,} encoded so far", file=sys.stderr, flush=True)
        subprocess.run(command, check=True)
        missing, double, wrong = check(paths, uri)
        encoded = sum(lines_of(log))
    allowed = pictures + kills * BATCH
    seconds = time.monotonic() - started
    return Result(pictures, kills, dict(moments), encoded, allowed, missing, double, wrong, round(seconds, 1))


def main() -> None:
    """Parse the flags, run, print, and fail if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    options = parser.parse_args()
    result = run(options.pictures, options.kills, options.seed)
    for name, value in asdict(result).items():
        print(f"{name:<14} {value}")
    print("good" if result.good else "NOT GOOD")
    if options.json:
        Path(options.json).write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    sys.exit(not result.good)


if __name__ == "__main__":
    main()
