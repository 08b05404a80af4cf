"""Train the starter model.

    python -m training.data ../shared/data/tiny_imagenet packed
    python -m training.train --data packed --teacher ../shared/models/mobilenet_v2_imagenet --out run

Stops after --minutes (if given) and goes on from ``run/checkpoint.pt`` when started again with the same flags; the
random numbers of a step depend on its number alone, so where it was interrupted makes no difference. Writes
``run/log.csv``, and at the end ``run/model``, a Hugging Face folder.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import time
from pathlib import Path
from typing import Any

import torch

from training import data, student, teachers
from training.augment import crops, normalise, student_view
from training.precision import mixed
from training.recipe import Recipe

COLUMNS = [
    "step",
    "seen",
    "seconds",
    "lr",
    "loss",
    "label",
    "tuned",
    "embedding",
    "concept",
    "relation",
    "val_top1",
]


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine."""
    warm = max(1, int(steps * recipe.warmup))
    if step < warm:
        return recipe.lr * (step + 1) / warm
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Training:
    """Everything that a checkpoint holds, and the step."""

    def __init__(
        self, recipe: Recipe, train: data.Pictures, lessons: teachers.Lessons, names: list[str], wnids: list[str]
    ) -> None:
        self.recipe, self.train, self.lessons = recipe, train, lessons
        self.device = train.images.device
        torch.manual_seed(recipe.seed)
        model = student.Student(recipe, names, wnids, lessons.embeddings.shape[-1])
        # PyTorch documents memory_format, but its annotations lack it.
        self.model: student.Student = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.train()
        self.forward = torch.compile(self.model) if self.device.type == "cuda" else self.model
        decayed = [p for p in self.model.parameters() if p.ndim > 1]
        others = [p for p in self.model.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.SGD(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=True,
        )
        self.average = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.step_number, self.seconds = 0, 0.0
        self.steps_an_epoch = len(train.images) // recipe.batch
        self.steps = recipe.epochs * self.steps_an_epoch
        self._order: tuple[int, torch.Tensor] | None = None

    def step(self) -> dict[str, torch.Tensor]:
        """One batch; returns the terms of the loss."""
        recipe, number = self.recipe, self.step_number
        rate = learning_rate(number, self.steps, recipe)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        generator = torch.Generator(self.device).manual_seed(recipe.seed * 1_000_003 + number)
        indices = self._batch(number)
        views = torch.randint(0, recipe.views, (len(indices),), generator=generator, device=self.device)
        x = student_view(self.train.images[indices], crops(indices, views, recipe), recipe, generator)
        x = normalise(x, student.MEAN, student.STD).contiguous(memory_format=torch.channels_last)
        with mixed(self.device):
            outputs = self.forward(x)
        terms = student.losses(
            outputs,
            self.train.labels[indices],
            self.lessons.embeddings[indices, views],
            self.lessons.logits[indices, views],
            self.lessons,
            recipe,
        )
        loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        self.optimiser.step()
        self._average()
        self.step_number += 1
        return {"loss": loss.detach(), **{name: term.detach() for name, term in terms.items()}}

    def _batch(self, number: int) -> torch.Tensor:
        epoch, position = divmod(number, self.steps_an_epoch)
        if self._order is None or self._order[0] != epoch:
            generator = torch.Generator(self.device).manual_seed(self.recipe.seed * 7_919 + epoch)
            self._order = epoch, torch.randperm(len(self.train.images), generator=generator, device=self.device)
        start = position * self.recipe.batch
        return self._order[1][start : start + self.recipe.batch]

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step_number) / (10 + self.step_number))
        ours, theirs = [], []
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                ours.append(self.average[key])
                theirs.append(value)
            else:
                self.average[key].copy_(value)
        torch._foreach_lerp_(ours, theirs, 1 - decay)

    @torch.no_grad()
    def accuracy(self, pictures: data.Pictures) -> float:
        """Top-1 of the averaged weights."""
        now = {key: value.clone() for key, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        self.model.eval()
        right = 0
        for start in range(0, len(pictures.images), 1000):
            x = pictures.images[start : start + 1000].float() / 255
            x = normalise(x, student.MEAN, student.STD).contiguous(memory_format=torch.channels_last)
            right += int((self.model(x)[1].argmax(1) == pictures.labels[start : start + 1000]).sum())
        self.model.load_state_dict(now)
        self.model.train()
        return right / len(pictures.images)

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "step": self.step_number,
            "seconds": self.seconds,
            "recipe": dataclasses.asdict(self.recipe),
        }
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it was made with other numbers.
        """
        state = torch.load(path, map_location=self.device, weights_only=True)
        if state["recipe"] != dataclasses.asdict(self.recipe):
            raise ValueError(f"{path} was made with another recipe; choose another --out")
        self.model.load_state_dict(state["model"])
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.step_number, self.seconds = state["step"], state["seconds"]


def run(
    training: Training, validation: data.Pictures, out: Path, minutes: float, stop_at: int, log_every: int = 50
) -> None:
    """Train until the end, ``stop_at`` steps, or the time is over; log as it goes."""
    started, before = time.monotonic(), training.seconds
    sums: dict[str, Any] = {}
    with (out / "log.csv").open("a", newline="", encoding="utf-8") as file:
        log = csv.DictWriter(file, COLUMNS)
        if training.step_number == 0:
            log.writeheader()
        while training.step_number < min(stop_at, training.steps):
            for name, value in training.step().items():
                sums[name] = sums.get(name, 0.0) + value
            number = training.step_number
            if number % log_every == 0:
                training.seconds = before + time.monotonic() - started
                means = {name: float(value) / log_every for name, value in sums.items()}
                sums = {}
                if not math.isfinite(means["loss"]):
                    raise RuntimeError(
                        f"the loss is {means['loss']} between steps {number - log_every} and {number}"
                    )
                last = number == training.steps or number % (10 * training.steps_an_epoch) < log_every
                row = {
                    "step": number,
                    "seen": number * training.recipe.batch,
                    "seconds": round(training.seconds, 1),
                    "lr": f"{learning_rate(number - 1, training.steps, training.recipe):.5f}",
                    **{name: f"{value:.4f}" for name, value in means.items()},
                    "val_top1": f"{training.accuracy(validation):.4f}" if last else "",
                }
                log.writerow(row)
                file.flush()
                if last:
                    print(row, flush=True)
                if time.monotonic() - started > minutes * 60:
                    break
    training.seconds = before + time.monotonic() - started
    training.save(out / "checkpoint.pt")


def main() -> None:
    """Parse the flags, prepare the lessons once, train, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of python -m training.data")
    parser.add_argument(
        "--teacher", type=Path, required=True, help="an ImageNet classifier as a Hugging Face folder"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="stop after this time; start again to go on"
    )
    parser.add_argument(
        "--stop-at", type=int, default=2**31, help="stop at this step, with the schedule of the whole"
    )
    parser.add_argument("--share", type=float, default=1.0, help="use this share of the pictures")
    for name in ("epochs", "views", "tune_epochs", "batch"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(Recipe(), name))
    options = parser.parse_args()
    recipe = Recipe().replace(
        epochs=options.epochs, views=options.views, tune_epochs=options.tune_epochs, batch=options.batch
    )
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    wnids, names = data.classes(options.data)
    train = _on(data.load(options.data, "train", options.share), device)
    validation = _on(data.load(options.data, "val", options.share), device)
    print(f"{len(train.images)} training pictures on {device}", flush=True)
    cache = options.out / "lessons.pt"
    if cache.is_file():
        lessons = teachers.Lessons(**torch.load(cache, map_location=device, weights_only=True))
    else:
        lessons = teachers.prepare(
            options.teacher, train, validation, wnids, recipe, log=lambda line: print(line, flush=True)
        )
        torch.save({field.name: getattr(lessons, field.name) for field in dataclasses.fields(lessons)}, cache)
    training = Training(recipe, train, lessons, names, wnids)
    if (options.out / "checkpoint.pt").is_file():
        training.resume(options.out / "checkpoint.pt")
    run(training, validation, options.out, options.minutes, options.stop_at)
    print(f"step {training.step_number} of {training.steps}, {training.seconds:.0f} s of training", flush=True)
    student.export(
        {key: value.cpu() for key, value in training.average.items()}, recipe, names, wnids, options.out / "model"
    )


def _on(pictures: data.Pictures, device: torch.device) -> data.Pictures:
    return data.Pictures(pictures.images.to(device), pictures.labels.to(device))


if __name__ == "__main__":
    main()
