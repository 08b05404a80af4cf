"""Fine-tuning on the pictures to learn from, some of which only say when to stop, and what comes of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.calibration import best_temperature
from imagesearch.learning.label_sets import LabelledPictures
from imagesearch.learning.logistic import Linear, Numbers
from imagesearch.learning.metrics import average_precision_of_scores
from imagesearch.learning.probe import fit_linear, fit_validated, importance_of
from imagesearch.learning.splits import Places, Relations, Split, split
from imagesearch.models.fine_tuning import Examples, Reader, Tuned, fine_tune, run_network
from imagesearch.models.hub import Checkpoint
from imagesearch.models.new_head import divide_logits, load_with_new_head, set_head
from imagesearch.models.pooling import unit_vectors
from imagesearch.models.processes import Team, follow
from imagesearch.models.trainer import Plan
from imagesearch.records import Progress, no_progress
from imagesearch.stores.base import Vectors

# The part of the pictures to learn from that says when to stop, and how sure scores are.
_VALIDATION = 0.15


@dataclass(frozen=True, eq=False, slots=True)
class FineTuned:
    """A network that was trained further.

    Attributes:
        tuned: the network, its scores calibrated, and how it came about.
        logits: of the pictures set aside, shape (n, classes), calibrated.
        inputs: what its head is given of them, float32, shape (n, dim).
        vectors: what searches use of them, shape (n, dim), if they were trained.
        folder: of checkpoints, from which the same training would end at once.
    """

    tuned: Tuned
    logits: Numbers
    inputs: Vectors
    vectors: Vectors | None
    folder: Path


@dataclass(frozen=True, eq=False, slots=True)
class _Task:
    """What all processes of a training need to know."""

    examples: tuple[Examples, Examples]
    names: Sequence[str]
    start: Linear
    plan: Plan
    folder: Path


def fine_tune_on(
    labelled: LabelledPictures,
    parts: Split,
    plan: Plan,
    checkpoint: Checkpoint,
    *,
    groups: Places,
    l2: float,
    read: Reader,
    folder: Path,
    balanced: bool = False,
    device: str = "auto",
    progress: Progress = no_progress,
    team: Team | None = None,
) -> FineTuned:
    """Train a checkpoint further, beginning with a linear probe as its head.

    Args:
        labelled, parts: the pictures.
        plan, checkpoint: how to train, and what.
        groups: of related pictures.
        l2: strength of regularisation of the probe.
        read: reads a picture.
        folder: where folders with checkpoints may be made; one is left behind, and the same call goes on from
            there.
        balanced: whether rare classes count as much as frequent ones.
        device: the setting ``model.device``.
        progress: told of the stage ``"train"``.
        team: the processes that train together; the others call :func:`help_fine_tune`.

    Raises:
        ModelError, PictureError: see :func:`~imagesearch.models.fine_tuning.fine_tune`.
        UsageError: there are too few pictures to validate with.
    """
    learnt, validated = _inner_split(labelled, parts, groups, plan)
    importance = importance_of(labelled.members[learnt]) if balanced else None
    # Without the pictures to validate with, which would seem easier than they are.
    start = fit_linear(
        labelled.vectors[learnt], labelled.members[learnt], l2, several=plan.several, importance=importance
    )
    weights = None if importance is None else (importance / importance.mean()).astype(np.float32)
    examples = _examples(labelled, learnt, weights), _examples(labelled, validated, None)
    contents = [labelled.pictures[place].content_hash for place in (*learnt, *validated)]
    task = _Task(examples, labelled.names, start, plan, folder / _digest(examples, contents, checkpoint, plan))
    (team or Team()).hand_out(task)
    tuned = _carry_out(task, checkpoint, read, device=device, progress=progress, team=team)
    run = partial(run_network, tuned.loaded, read=read, device=device)
    judged = run(examples[1].paths)
    if plan.is_for_retrieval:
        fitted, _ = fit_validated(
            (run(examples[0].paths).inputs, labelled.members[learnt]),
            (judged.inputs, labelled.members[validated]),
            importance=importance,
        )
        set_head(tuned.loaded, fitted.weights, fitted.bias)
    else:
        temperature = best_temperature(judged.logits, labelled.members[validated], several=plan.several)
        divide_logits(tuned.loaded, temperature)
    aside = [labelled.pictures[number].path for number in parts.held_out.tolist()]
    found = run(aside, pooling=plan.pooling if plan.is_for_retrieval else None)
    return FineTuned(tuned, found.logits, found.inputs, found.vectors, task.folder)


def help_fine_tune(team: Team, find: Callable[[], Checkpoint], *, read: Reader, device: str = "auto") -> None:
    """In every process but the first: train along with :func:`fine_tune_on`, until the first one is done.

    Args:
        team: the processes.
        find: finds the checkpoint.
        read, device: see :func:`fine_tune_on`.

    Raises:
        FirstProcessError: the first process failed.
        OtherProcessError: another one ended.
        ModelError, PictureError: see :func:`~imagesearch.models.fine_tuning.fine_tune`.
    """
    follow(team, lambda task: _carry_out(task, find(), read, device=device, progress=no_progress, team=team))


def _carry_out(
    task: _Task, checkpoint: Checkpoint, read: Reader, *, device: str, progress: Progress, team: Team | None
) -> Tuned:
    plan = task.plan
    loaded = load_with_new_head(checkpoint, task.names, several=plan.several)
    set_head(loaded, task.start.weights, task.start.bias)
    score = mean_average_precision if plan.is_for_retrieval else None
    return fine_tune(
        loaded, task.examples, read, task.folder, plan, device=device, progress=progress, score=score, team=team
    )


def mean_average_precision(vectors: Vectors, codes: Places) -> float:
    """Of pictures each asked for the others of its class, by cosine; those that are alone in theirs do not count.

    Args:
        vectors: shape (n, dim).
        codes: their classes, shape (n,).
    """
    units = unit_vectors(np.asarray(vectors, np.float32))
    others = ~np.eye(len(units), dtype=bool)
    cosines = (units @ units.T)[others].reshape(len(units), -1)
    same = (codes[:, None] == codes)[others].reshape(len(units), -1)
    return float(np.nanmean(average_precision_of_scores(cosines, same)))


def _inner_split(labelled: LabelledPictures, parts: Split, groups: Places, plan: Plan) -> tuple[Places, Places]:
    """Places of the pictures to learn from and to validate with.

    Raises:
        UsageError: too few to validate with.
    """
    _, numbers = np.unique(groups[parts.training], return_inverse=True)
    relations = Relations(numbers.astype(np.int64), 0, 0, 0)
    members = labelled.members[parts.training]
    part = _VALIDATION
    if plan.is_for_retrieval:  # of most classes two, so that one can be asked for the other
        part = float(np.clip(2 / np.median(members.sum(axis=0)), part, 0.5))
    try:
        inner = split(members, relations, held_out=part, seed=plan.seed)
    except UsageError as error:
        raise UsageError(
            f"--method {plan.method}: every class has only one of the pictures to learn from, or copies of one,"
            " so that none can say when to stop; classes need some more"
        ) from error
    counts = members[inner.held_out].sum(axis=0)
    if plan.is_for_retrieval and ((counts > 1).sum() < 1 or (counts > 0).sum() < 2):
        raise UsageError(
            f"--loss {plan.loss}: no class has two pictures to validate retrieval with; classes need some more"
        )
    return parts.training[inner.training], parts.training[inner.held_out]


def _examples(labelled: LabelledPictures, places: Places, importance: NDArray[np.float32] | None) -> Examples:
    targets = labelled.members[places].astype(np.float32)
    if not labelled.is_multi_label:
        targets /= targets.sum(axis=1, keepdims=True)
    return Examples([labelled.pictures[place].path for place in places.tolist()], targets, importance)


def _digest(
    examples: tuple[Examples, Examples], contents: Sequence[str], checkpoint: Checkpoint, plan: Plan
) -> str:
    """A name for checkpoints of this very training."""
    paths = [list(part.paths) for part in examples]
    said = json.dumps([checkpoint.revision, plan.to_dict(), paths, contents])
    digest = hashlib.blake2b(said.encode("utf-8", "surrogateescape"), digest_size=8)
    for part in examples:
        digest.update(part.targets.tobytes())
        if part.importance is not None:
            digest.update(part.importance.tobytes())
    return digest.hexdigest()
