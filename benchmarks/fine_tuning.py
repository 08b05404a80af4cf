"""Pictures per second of fine-tuning by LoRA, beside a script that uses Transformers' Trainer as its manual shows.

    python benchmarks/fine_tuning.py --pictures PHOTOS --batch 64 --json figures.json

A ViT-B/16 with random weights (its speed is that of a trained one) learns labels by chance. Both sides train the
same low-rank additions, in bfloat16 where the device has it, and take turns; the time runs from the end of the
first step to the end of the last. The plain script reads pictures in as many processes as there are cores, and
does not augment them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imagesearch.images.sources import load_image
from imagesearch.models.fine_tuning import Examples, fine_tune
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.new_head import load_with_new_head
from imagesearch.models.trainer import Plan
from rivals import random_vit

CLASSES = ("one", "two")
# At least two steps, between whose ends the time is taken.
STEPS = 2


class Clock:
    """Pictures per second between the ends of the first step and of the last."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def tick(self, stage: str = "train", done: int = 0, total: int | None = None) -> None:  # noqa: ARG002
        """A step has ended; takes what a progress callback is given."""
        self._ends.append(time.perf_counter())

    def rate(self, batch: int) -> float:
        return batch * (len(self._ends) - 1) / (self._ends[-1] - self._ends[0])


def ours(checkpoint: Path, files: Sequence[Path], batch: int, device: str) -> float:
    """Pictures per second of what ``imagesearch train --method lora`` does."""
    loaded, clock = load_with_new_head(find_checkpoint(str(checkpoint)), CLASSES), Clock()
    targets = np.eye(2, dtype=np.float32)[np.arange(len(files)) % 2]
    pictures = Examples([str(file) for file in files], targets)
    few = Examples(pictures.paths[:2], targets[:2])
    plan = Plan(method="lora", epochs=1, batch_size=batch)
    with tempfile.TemporaryDirectory() as folder:
        fine_tune(loaded, (pictures, few), load_image, Path(folder), plan, device=device, progress=clock.tick)
    return clock.rate(batch)


class PlainPictures:
    """The data set of the plain script."""

    def __init__(self, checkpoint: Path, files: Sequence[Path]) -> None:
        from transformers import AutoImageProcessor

        self._processor, self._files = AutoImageProcessor.from_pretrained(checkpoint, backend="pil"), files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> dict[str, Any]:
        from PIL import Image

        with Image.open(self._files[place]) as image:
            pixels = self._processor(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": place % 2}


def plain(checkpoint: Path, files: Sequence[Path], batch: int, device: str) -> float:
    """Pictures per second of the plain script."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForImageClassification, Trainer, TrainerCallback, TrainingArguments

    clock = Clock()

    class Ticking(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    network = AutoModelForImageClassification.from_pretrained(checkpoint, num_labels=2)
    linear = [
        name
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear | torch.nn.Conv2d) and name != "classifier"
    ]
    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.05, target_modules=linear, modules_to_save=["classifier"]
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            dataloader_num_workers=min(os.cpu_count() or 1, 16),
            dataloader_drop_last=True,
            bf16=device.startswith("cuda") and torch.cuda.is_bf16_supported(),
            use_cpu=device == "cpu",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
        )
        pictures = PlainPictures(checkpoint, files)
        model = get_peft_model(network, config)
        Trainer(model, arguments, train_dataset=pictures, callbacks=[Ticking]).train()
    return clock.rate(batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", required=True, type=Path, help="a folder of pictures")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script")
    parser.add_argument("--limit", type=int, default=1000, help="files")
    parser.add_argument("--repeat", type=int, default=2, help="how often each file is taken")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--layers", type=int, default=12, help="of the network")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    files = sorted(path for path in options.pictures.iterdir() if path.is_file())[: options.limit] * options.repeat
    files = files[: len(files) // options.batch * options.batch]  # so that all steps are of one size
    if len(files) < STEPS * options.batch:
        parser.error(f"{len(files)} pictures are fewer than {STEPS} batches of {options.batch}")
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = random_vit(Path(folder), options.layers)
        sides: dict[str, Callable[[], float]] = {
            name: partial(side, checkpoint, files, options.batch, options.device)
            for name, side in (("imagesearch", ours), ("plain Trainer", plain))
        }
        rates: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(options.turns):
            for name, side in sides.items():
                rates[name].append(side())
    row = {"device": options.device, "layers": options.layers, "batch": options.batch, "pictures": len(files)}
    row |= {name: max(found) for name, found in rates.items()}
    print(row)
    if options.json:
        options.json.write_text(json.dumps([row], indent=2) + "\n")


if __name__ == "__main__":
    main()
