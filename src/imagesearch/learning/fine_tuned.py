"""Fine-tuning on the pictures to learn from, some of which only say when to stop, and what comes of it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.learning.calibration import best_temperature
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.logistic import Numbers
from imagesearch.learning.probe import fit_linear, importance_of
from imagesearch.learning.splits import Places, Relations, Split, split
from imagesearch.models.fine_tuning import Examples, Tuned, fine_tune, run_logits
from imagesearch.models.hub import Checkpoint
from imagesearch.models.new_head import divide_logits, load_with_new_head, set_head
from imagesearch.models.trainer import Plan
from imagesearch.records import Progress, no_progress
from imagesearch.stores.base import Vectors

if TYPE_CHECKING:
    from PIL import Image

# The part of the pictures to learn from that says when to stop, and how sure scores are.
_VALIDATION = 0.15


@dataclass(frozen=True, eq=False, slots=True)
class FineTuned:
    """A network that was trained further.

    Attributes:
        tuned: the network, its scores calibrated, and how it came about.
        logits: of the pictures set aside, shape (n, classes), calibrated.
        vectors: what its head is given of them, float32, shape (n, dim).
        temperature: what the logits were divided by.
    """

    tuned: Tuned
    logits: Numbers
    vectors: Vectors
    temperature: float


def fine_tune_on(
    labelled: LabelledPictures,
    parts: Split,
    plan: Plan,
    checkpoint: Checkpoint,
    *,
    groups: Places,
    l2: float,
    read: Callable[[str], Image.Image],
    folder: Path,
    balanced: bool = False,
    device: str = "auto",
    progress: Progress = no_progress,
) -> FineTuned:
    """Train a checkpoint further, beginning with a linear probe as its head.

    Args:
        labelled, parts: the pictures.
        plan, checkpoint: how to train, and what.
        groups: of related pictures.
        l2: strength of regularisation of the probe.
        read: reads a picture.
        folder: where folders with checkpoints may be made; one is left behind where training is interrupted, and
            the same call goes on from there.
        balanced: whether rare classes count as much as frequent ones.
        device: the setting ``model.device``.
        progress: told of the stage ``"train"``.

    Raises:
        ModelError, PictureError: see :func:`~imagesearch.models.fine_tuning.fine_tune`.
        UsageError: there are too few pictures to validate with.
    """
    learnt, validated = _inner_split(labelled, parts, groups, plan.seed)
    importance = importance_of(labelled.members[learnt]) if balanced else None
    loaded = load_with_new_head(checkpoint, labelled.names, several=plan.several)
    # Without the pictures to validate with, which would seem easier than they are.
    start = fit_linear(
        labelled.vectors[learnt], labelled.members[learnt], l2, several=plan.several, importance=importance
    )
    set_head(loaded, start.weights, start.bias)
    weights = None if importance is None else (importance / importance.mean()).astype(np.float32)
    examples = _examples(labelled, learnt, weights), _examples(labelled, validated, None)
    place = folder / _digest(examples, checkpoint, plan)
    tuned = fine_tune(loaded, examples, read, place, plan, device=device, progress=progress)
    if tuned.stopped != "interrupted":
        shutil.rmtree(place, ignore_errors=True)
    logits, _ = run_logits(loaded, examples[1].paths, read, device=device)
    temperature = best_temperature(logits, labelled.members[validated], several=plan.several)
    divide_logits(loaded, temperature)
    aside = [labelled.pictures[number].path for number in parts.held_out.tolist()]
    logits, vectors = run_logits(loaded, aside, read, device=device)
    return FineTuned(tuned, logits, vectors, temperature)


def _inner_split(labelled: LabelledPictures, parts: Split, groups: Places, seed: int) -> tuple[Places, Places]:
    """Places of the pictures to learn from and to validate with."""
    _, numbers = np.unique(groups[parts.training], return_inverse=True)
    relations = Relations(numbers.astype(np.int64), 0, 0, 0)
    inner = split(labelled.members[parts.training], relations, held_out=_VALIDATION, seed=seed)
    return parts.training[inner.training], parts.training[inner.held_out]


def _examples(labelled: LabelledPictures, places: Places, importance: NDArray[np.float32] | None) -> Examples:
    targets = labelled.members[places].astype(np.float32)
    if not labelled.is_multi_label:
        targets /= targets.sum(axis=1, keepdims=True)
    return Examples([labelled.pictures[place].path for place in places.tolist()], targets, importance)


def _digest(examples: tuple[Examples, Examples], checkpoint: Checkpoint, plan: Plan) -> str:
    """A name for checkpoints of this very training."""
    said = json.dumps([checkpoint.revision, plan.to_dict(), [list(part.paths) for part in examples]])
    digest = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=8)
    for part in examples:
        digest.update(part.targets.tobytes())
    return digest.hexdigest()
