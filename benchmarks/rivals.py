"""Files to vectors and to labels: this program beside plain Transformers, on the same files.

    python benchmarks/rivals.py --checkpoint starter --pictures PHOTOS --limit 64 --json figures.json

All sides take turns in one run, so that other programs disturb all alike; the best turn of each counts. The rivals
run in a process of their own. Sides:

original          open, Transformers' processor, model; one picture at a time, float32
pipeline          transformers.pipeline("image-feature-extraction"), in batches, float32
decode alone      our reading and preparation in threads, no network
RUNTIME alone     the network on pictures that lie prepared in memory: the bound
ours, RUNTIME     files to vectors: reading and preparation in threads ahead of the network
plain labels      Transformers' processor and model in batches, float32
labels, RUNTIME   files to labels; "agree" is the share of labels equal to plain Transformers'

The ratio is to the first side of its group.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.images.sources import load_image
from imagesearch.models import catalogue
from imagesearch.models.classifier import Classifier
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.export import GRAPH_RUNTIMES, is_installed
from imagesearch.models.runtimes.selection import open_classifier, open_embedder

BATCH = 32

Model = TypeVar("Model")


@dataclass
class Side:
    """One way to do the work; ``run`` gives its seconds, and labels if it makes any."""

    name: str
    group: str
    run: Callable[[], tuple[float, list[int] | None]]


def random_vit(folder: Path, layers: int = 12) -> Path:
    """A ViT-B/16, or a shallower one, with random weights: its speed is that of a trained one."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    ViTModel(ViTConfig(num_hidden_layers=layers)).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)
    return folder


def prepared(model: Embedder | Classifier, files: Sequence[Path]) -> Iterator[Any]:
    """Decoded and prepared in threads, in order."""
    side = model.decode_side
    return decode_ahead(files, lambda file: model.preprocess(load_image(file, shortest=side)), ahead=2 * BATCH)


@lru_cache
def plain(folder: Path, task: str) -> tuple[Any, Any]:
    """Processor and float32 model as the documentation of Transformers loads them."""
    import torch
    from transformers import AutoImageProcessor, AutoModel, AutoModelForImageClassification

    auto = AutoModel if task == "features" else AutoModelForImageClassification
    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return processor, auto.from_pretrained(folder, dtype=torch.float32).eval()


def original(folder: Path, files: Sequence[Path]) -> None:
    import torch

    processor, model = plain(folder, "features")
    for file in files:
        inputs = processor(images=Image.open(file).convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            model(**inputs)


def piped(folder: Path, files: Sequence[Path]) -> None:
    from transformers import pipeline

    processor, model = plain(folder, "features")
    extract = pipeline("image-feature-extraction", model=model, image_processor=processor, device="cpu")
    extract([str(file) for file in files], batch_size=BATCH, return_tensors=True)


def plain_labels(folder: Path, files: Sequence[Path]) -> list[int]:
    import torch

    processor, model = plain(folder, "labels")
    labels: list[int] = []
    for some in batches(files, BATCH):
        pictures = [Image.open(file).convert("RGB") for file in some]
        with torch.no_grad():
            labels += model(**processor(images=pictures, return_tensors="pt")).logits.argmax(-1).tolist()
    return labels


def timed(work: Callable[..., list[int] | None], *arguments: Any) -> tuple[float, list[int] | None]:
    """Seconds, and the labels if there are any."""
    started = time.perf_counter()
    answer = work(*arguments)
    return time.perf_counter() - started, answer


class Rivals:
    """Runs the other sides in a process of their own: what this program does to its own must not help them."""

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self._folder, self._files = folder, files
        self._process = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))

    def side(self, name: str, group: str, work: Callable[..., list[int] | None]) -> Side:
        self._process.submit(work, self._folder, self._files[:1]).result()  # loads the model
        return Side(name, group, lambda: self._process.submit(timed, work, self._folder, self._files).result())


def feature_sides(checkpoint: Checkpoint, files: Sequence[Path], rivals: Rivals) -> Iterator[Side]:
    """All ways from files to vectors."""
    yield rivals.side("original", "vectors", original)
    yield rivals.side("pipeline", "vectors", piped)
    for runtime in runtimes():
        ours = opened(partial(open_embedder, checkpoint, RuntimeOptions(runtime=runtime)), runtime)
        if ours is None:
            continue
        if runtime == "torch":

            def decode(ours: Embedder = ours) -> None:
                for _ in prepared(ours, files):
                    pass

            yield Side("decode alone", "vectors", partial(timed, decode))
        ready = list(prepared(ours, files))

        def alone(ours: Embedder = ours, ready: list[Any] = ready) -> None:
            for batch in batches(ready, ours.batch_size):
                ours.encode(batch)

        def whole(ours: Embedder = ours) -> None:
            for batch in batches(prepared(ours, files), ours.batch_size):
                ours.encode(batch)

        yield Side(f"{runtime} alone", "vectors", partial(timed, alone))
        yield Side(f"ours, {runtime}", "vectors", partial(timed, whole))


def label_sides(checkpoint: Checkpoint, files: Sequence[Path], rivals: Rivals) -> Iterator[Side]:
    """All ways from files to labels."""
    yield rivals.side("plain labels", "labels", plain_labels)
    for runtime in runtimes():
        ours = opened(partial(open_classifier, checkpoint, RuntimeOptions(runtime=runtime)), runtime)
        if ours is None:
            continue

        def whole(ours: Classifier = ours) -> list[int]:
            return [
                row[0].index
                for batch in batches(prepared(ours, files), ours.batch_size)
                for row in ours.predict(batch, 1)
            ]

        yield Side(f"labels, {runtime}", "labels", partial(timed, whole))


def runtimes() -> list[str]:
    """PyTorch and what is installed besides."""
    return ["torch", *(name for name in GRAPH_RUNTIMES if is_installed(name))]


def opened(load: Callable[[], Model], runtime: str) -> Model | None:
    """A model in a runtime; what cannot be run in it is said and left out."""
    started = time.perf_counter()
    try:
        model = load()
    except ModelError as error:
        print(f"{runtime}: left out: {error}")
        return None
    print(f"{runtime}: opened in {time.perf_counter() - started:.1f} s")
    return model


def measure(sides: Sequence[Side], pictures: int, turns: int) -> list[dict[str, Any]]:
    """Rates, ratios and agreement of all sides."""
    best = {side.name: float("inf") for side in sides}
    labels: dict[str, list[int]] = {}
    for _ in range(turns):
        for side in sides:
            seconds, answer = side.run()
            best[side.name] = min(best[side.name], seconds)
            if answer is not None:
                labels[side.name] = answer
    rows = []
    for side in sides:
        rival = next(other.name for other in sides if other.group == side.group)
        row = {"side": side.name, "pictures_per_second": pictures / best[side.name]}
        row["ratio"] = best[rival] / best[side.name]
        if side.name in labels:
            equal = sum(a == b for a, b in zip(labels[side.name], labels[rival], strict=True))
            row["agree"] = equal / pictures
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="starter", help="starter, vit-random, a folder or a hub name")
    parser.add_argument("--pictures", required=True, type=Path, help="a folder of pictures")
    parser.add_argument("--limit", type=int, default=128, help="pictures")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    files = sorted(path for path in options.pictures.iterdir() if path.is_file())
    files = files[:: max(1, len(files) // options.limit)][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        random = options.checkpoint == "vit-random"
        name = str(random_vit(Path(folder))) if random else catalogue.features_checkpoint(options.checkpoint)
        checkpoint = find_checkpoint(name)
        rivals = Rivals(checkpoint.folder, files)
        sides = list(feature_sides(checkpoint, files, rivals))
        if not random:
            try:
                sides += label_sides(checkpoint, files, rivals)
            except ModelError as error:
                print(f"no labels: {error}")
        rows = measure(sides, len(files), options.turns)
    print(f"\n{options.checkpoint}, {len(files)} pictures, {os.cpu_count()} cores, best of {options.turns} turns")
    print(f"{'side':20} {'pictures/s':>10} {'ratio':>7} {'agree':>7}")
    for row in rows:
        agree = f"{row['agree']:7.1%}" if "agree" in row else ""
        print(f"{row['side']:20} {row['pictures_per_second']:10.1f} {row['ratio']:7.2f} {agree}")
    if options.json:
        about = {"checkpoint": Path(options.checkpoint).name, "pictures": len(files), "cores": os.cpu_count()}
        options.json.write_text(json.dumps({**about, "sides": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
