"""What the teachers say of every view of every training picture, computed once.

Two teachers come from one ImageNet classifier (a tool of the training only; nothing of it is in the result):

* the classifier as it is: its pooled embedding, which knows a thousand kinds of things;
* the same tuned on the 200 labels: its logits, which know the task.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from training.augment import crops, cut, normalise
from training.data import Pictures
from training.precision import mixed
from training.recipe import Recipe

# The teacher's own preprocessing.
MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Lessons:
    """The teachers' answers.

    Attributes:
        embeddings: float16, shape (pictures, views, dim), of the untuned teacher.
        centre: float32, shape (dim,), their mean.
        logits: float16, shape (pictures, views, 200), of the tuned teacher.
        concepts_weight, concepts_bias: the untuned teacher's classifier, (1000, dim) and (1000,).
    """

    embeddings: torch.Tensor
    centre: torch.Tensor
    logits: torch.Tensor
    concepts_weight: torch.Tensor
    concepts_bias: torch.Tensor


def prepare(
    folder: Path,
    pictures: Pictures,
    validation: Pictures,
    wnids: list[str],
    recipe: Recipe,
    log: Callable[[str], None] = print,
) -> Lessons:
    """Tune the second teacher and collect both teachers' answers.

    Args:
        folder: the classifier as a Hugging Face folder; its config lists ``wnids`` in the order of its classes.
        pictures, validation: on the device where the work is to be done.
        wnids: the 200 classes.
    """
    from transformers import AutoModelForImageClassification

    device = pictures.images.device
    first = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    own = list(first.config.wnids)
    rows = [own.index(wnid) for wnid in wnids]
    offset = first.classifier.out_features - len(own)  # some checkpoints have a background class first
    weight, bias = first.classifier.weight.detach().clone(), first.classifier.bias.detach().clone()
    first = first.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    embeddings = _answers(
        lambda x: first.mobilenet_v2(x).pooler_output.flatten(1), pictures, recipe, recipe.teacher_size, log
    )
    tuned = _tune(first, [row + offset for row in rows], weight, bias, pictures, validation, recipe, log)
    logits = _answers(tuned, pictures, recipe, recipe.tune_size, log)
    centre = embeddings[:, 0].float().mean(0)
    return Lessons(embeddings, centre, logits, weight.to(device), bias.to(device))


def _answers(
    teacher: Callable[[torch.Tensor], torch.Tensor],
    pictures: Pictures,
    recipe: Recipe,
    size: int,
    log: Callable[[str], None],
) -> torch.Tensor:
    """The teacher's output for all views: float16, shape (pictures, views, dim)."""
    device, count = pictures.images.device, len(pictures.images)
    started, parts = time.monotonic(), []
    with torch.inference_mode():
        for view in range(recipe.views):
            rows = []
            for start in range(0, count, 1024):
                indices = torch.arange(start, min(start + 1024, count), device=device)
                windows = crops(indices, torch.full_like(indices, view), recipe)
                x = normalise(cut(pictures.images[indices], windows, size), MEAN, STD)
                with mixed(device):
                    rows.append(teacher(x.contiguous(memory_format=torch.channels_last)).half())
            parts.append(torch.cat(rows))
            log(f"view {view + 1} of {recipe.views} at {size} px, {time.monotonic() - started:.0f} s")
    return torch.stack(parts, dim=1).clone()


def _tune(
    first: Any,
    rows: list[int],
    weight: torch.Tensor,
    bias: torch.Tensor,
    pictures: Pictures,
    validation: Pictures,
    recipe: Recipe,
    log: Callable[[str], None],
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Train all of the classifier's weights on the labels; batch norm stays as it is."""
    device, count = pictures.images.device, len(pictures.images)
    batch = min(512, count)
    head = torch.nn.Linear(weight.shape[1], len(rows)).to(device)
    with torch.no_grad():
        head.weight.copy_(weight[rows])
        head.bias.copy_(bias[rows])
    body = first.mobilenet_v2.requires_grad_(True)

    def teacher(x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = head(body(x).pooler_output.flatten(1))
        return logits

    steps = recipe.tune_epochs * (count // batch)
    optimiser = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=recipe.tune_lr, weight_decay=0.02)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    for step in range(steps):
        if step % (count // batch) == 0:
            order = torch.randperm(count, generator=generator, device=device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.tune_lr * min(1, step / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
        start = step % (count // batch) * batch
        indices = order[start : start + batch]
        views = torch.randint(0, 1000, (batch,), generator=generator, device=device)
        x = cut(
            pictures.images[indices], crops(indices, views, recipe), recipe.tune_size, mirror=1 - 2.0 * (views % 2)
        )
        with mixed(device):
            logits = teacher(normalise(x, MEAN, STD).contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), pictures.labels[indices], label_smoothing=0.1)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
        optimiser.step()
        if step % 200 == 0:
            log(f"tuning step {step} of {steps}: loss {loss.item():.3f}")
    body.requires_grad_(False)
    log(f"tuned teacher: validation top-1 {_accuracy(teacher, validation, recipe):.4f}")
    return teacher


def _accuracy(teacher: Callable[[torch.Tensor], torch.Tensor], validation: Pictures, recipe: Recipe) -> float:
    right, device = 0, validation.images.device
    with torch.inference_mode(), mixed(device):
        for start in range(0, len(validation.images), 1024):
            images = validation.images[start : start + 1024]
            windows = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(len(images), 4)
            x = normalise(cut(images, windows, recipe.tune_size), MEAN, STD)
            answers = teacher(x.contiguous(memory_format=torch.channels_last)).argmax(1)
            right += int((answers == validation.labels[start : start + 1024]).sum())
    return right / len(validation.images)
