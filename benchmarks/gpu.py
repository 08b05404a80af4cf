"""Pictures per second on a GPU: from files, the network alone, decoding alone; and which of them limits.

    python benchmarks/gpu.py --pictures PHOTOS --batch 128 --json figures.json

A ViT-B/16 with random weights (its speed is that of a trained one), in the precision that ``auto`` chooses. The
sides take turns in one run; the best turn of each counts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.selection import open_embedder
from rivals import random_vit


def prepared(model: Embedder, files: Sequence[Path], threads: int, batch: int) -> Iterator[Any]:
    """Decoded and prepared in threads, in order."""

    def load(file: Path) -> Any:
        return model.preprocess(load_image(file, shortest=model.decode_side))

    return decode_ahead(files, load, max_workers=threads, ahead=4 * batch)


def measure(model: Embedder, files: Sequence[Path], threads: int, batch: int, turns: int) -> dict[str, float]:
    """Pictures per second of each side."""
    ready = list(prepared(model, files, threads, batch))

    def alone() -> None:
        for some in batches(ready, batch):
            model.encode(some)

    def decoding() -> None:
        for _ in prepared(model, files, threads, batch):
            pass

    def whole() -> None:
        for some in batches(prepared(model, files, threads, batch), batch):
            model.encode(some)

    sides: dict[str, Callable[[], None]] = {"network alone": alone, "decoding alone": decoding, "files": whole}
    best = dict.fromkeys(sides, float("inf"))
    for turn in range(turns + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn:  # the first one warms up
                best[name] = min(best[name], time.perf_counter() - started)
    return {name: len(files) / seconds for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, type=Path, help="a folder of pictures")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, or any other to try the script")
    parser.add_argument("--limit", type=int, default=1000, help="files")
    parser.add_argument("--repeat", type=int, default=4, help="how often each file is taken")
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--threads", type=int, nargs="+", default=[0])
    parser.add_argument("--layers", type=int, default=12, help="of the network")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    files = sorted(path for path in options.pictures.iterdir() if path.is_file())[: options.limit] * options.repeat
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = find_checkpoint(str(random_vit(Path(folder), options.layers)))
        model = open_embedder(checkpoint, RuntimeOptions(device=options.device, runtime="torch"))
        device = (
            torch.cuda.get_device_name(options.device) if options.device.startswith("cuda") else options.device
        )
        for batch in options.batch:
            for threads in options.threads:
                rates = measure(model, files, threads, batch, options.turns)
                limit = "decoding" if rates["decoding alone"] < rates["network alone"] else "the network"
                where = {"device": device, "batch": batch, "threads": threads or os.cpu_count()}
                row = {**where, **rates, "limit": limit}
                print(row, flush=True)
                rows.append(row)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
