"""Transformers' Trainer as :mod:`imagesearch.models.fine_tuning` uses it: a plan, and carrying it out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError, UsageError
from imagesearch.models.network import LoadedModel, quiet_transformers
from imagesearch.models.objectives import Loss, NoNumberError, Score, is_for_retrieval, make_learner
from imagesearch.models.processes import SharedError, Team, needing_others
from imagesearch.models.training_batches import BatchSampler, class_batches, shuffled_batches
from imagesearch.records import PlainValues, Progress, describe

Method = Literal["last", "lora", "full"]
METHODS: tuple[Method, ...] = ("last", "lora", "full")

# Usual for AdamW. Of a head that begins as the probe larger ones would undo it.
_RATES: dict[Method, float] = {"last": 1e-4, "lora": 5e-4, "full": 5e-5}
# Warming up takes this part of all steps.
_WEIGHT_DECAY, _WARM_UP, _LARGEST_GRADIENT = 0.05, 0.1, 1.0
# What the Trainer logs, and what it is called here; an epoch counts once it was validated.
_LOGGED = {"loss": "loss", "eval_loss": "validation_loss", "eval_accuracy": "accuracy", "eval_mAP": "mAP"}
_VALIDATED = {"validation_loss", "mAP"}


@dataclass(frozen=True, slots=True)
class Plan(PlainValues):
    """How to train.

    Attributes:
        method: which weights: those of the last block, low-rank additions to all layers (LoRA, Hu et al. 2021), or
            all; and always the head's.
        epochs: at most so many passes over the pictures.
        loss: what becomes smaller; see :data:`~imagesearch.models.objectives.LOSSES`.
        batch_size: pictures per step, of all processes together.
        learning_rate: the largest; 0: as is usual for the method.
        patience: epochs without a better validation loss (of a loss for retrieval: mAP) after which to stop.
        several: whether pictures may have several labels.
        pooling: the setting ``model.pooling``: which vectors a loss for retrieval acts on.
        seed: of order, augmentation and new weights.
    """

    method: Method = "last"
    loss: Loss = "cross-entropy"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.0
    patience: int = 3
    several: bool = False
    pooling: str = "auto"
    seed: int = 0

    @property
    def is_for_retrieval(self) -> bool:
        """Whether the vectors that are searched are trained, and not the labels."""
        return is_for_retrieval(self.loss)


def check_rate(rate: float) -> None:
    """Refuse a learning rate that no optimiser takes.

    Raises:
        UsageError: it is below 0, or no finite number.
    """
    if not 0 <= rate < math.inf:
        raise UsageError(f"a learning rate of {rate:g}: must be a number above 0, or 0 for the usual one")


@dataclass(frozen=True, slots=True)
class Done:
    """What the Trainer did.

    Attributes:
        history: for each epoch training loss, validation loss and accuracy; or training loss and ``mAP``.
        stopped: why it ended early, or empty.
        at_once: how many pictures of a batch memory held at once.
    """

    history: list[dict[str, float]]
    stopped: str
    at_once: int


def run(
    loaded: LoadedModel,
    sets: tuple[Any, Any],
    folder: Path,
    plan: Plan,
    *,
    device: str,
    progress: Progress,
    score: Score | None = None,
    proxies: NDArray[np.float32] | None = None,
    team: Team | None = None,
) -> Done:
    """Train; afterwards the model has the weights of the best epoch.

    Args:
        loaded: the weights that require gradients are trained.
        sets: what to train with, and what to validate with: data sets of ``pixel_values``, ``labels`` (a target
            per class) and ``importance``; the first one is told its ``epoch``.
        folder: for checkpoints.
        plan: how.
        device: the device that was chosen.
        progress: told of the stage ``"train"``: steps.
        score: of vectors of pictures to validate with, which a loss for retrieval makes larger.
        proxies: where those of the loss begin, shape (classes, dim); None for a loss without.
        team: the processes that train together, all of which call this.

    Raises:
        ModelError: the loss was no number before the first epoch was over, a checkpoint cannot be written, memory
            does not hold a single picture, or another process ended.
        KeyboardInterrupt: before the first epoch was over.
    """
    from transformers import PrinterCallback

    from imagesearch.models.learning_trainer import LearningTrainer

    team = team or Team()
    module = loaded.model
    if score is not None:
        module = make_learner(loaded, plan.loss, pooling=plan.pooling, proxies=proxies, gather=team.rows)
    batches = _batch_sampler(sets[0], plan, team)
    arguments = _arguments(folder, plan, device, team)
    trainer = LearningTrainer(module, arguments, sets, batches, several=plan.several, score=score, team=team)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_patience(plan))
    trainer.add_callback(_watcher(sets[0], progress))
    folder.mkdir(parents=True, exist_ok=True)
    last = team.hand_out(_last_whole(folder) if team.is_first else None)
    try:
        stopped = "" if _is_over(trainer, last, plan) else _train(trainer, last, team)
    finally:
        if score is not None:
            module.searched.close()
    history = _history(trainer.state.log_history)
    if not stopped and trainer.state.epoch is not None and trainer.state.epoch < plan.epochs:
        stopped = f"no better for {plan.patience} epochs"
    return Done(history, stopped, trainer.at_once)


def _is_over(trainer: Any, last: str | None, plan: Plan) -> bool:
    """Whether a checkpoint is of a training that came to its end; then its best epoch is loaded."""
    from transformers import TrainerState

    if last is None:
        return False
    state = TrainerState.load_from_json(str(Path(last) / "trainer_state.json"))
    is_over = round(state.epoch or 0) >= plan.epochs or _is_stale(state, plan.patience)
    if is_over and Path(state.best_model_checkpoint or "").is_dir():
        trainer.state = state
        trainer._load_best_model()
        return True
    return False


def _is_stale(state: Any, patience: int) -> bool:
    """Whether the last so many epochs were no better than one before."""
    epochs = (state.global_step - (state.best_global_step or 0)) * state.epoch / state.global_step
    return bool(round(epochs) >= patience)


def _patience(plan: Plan) -> Any:
    """Ends training when epochs get no better.

    Transformers' own ``EarlyStoppingCallback`` counts anew in a run that goes on.
    """
    from transformers import TrainerCallback

    class _Patience(TrainerCallback):  # type: ignore[misc]
        def on_save(self, _: Any, state: Any, control: Any, **__: Any) -> None:
            if _is_stale(state, plan.patience):
                control.should_training_stop = True

    return _Patience()


def _train(trainer: Any, last: str | None, team: Team) -> str:
    """Train from a checkpoint on; why it ended early, or nothing.

    Raises:
        ModelError, KeyboardInterrupt: see :func:`run`.
    """
    stopped = ""
    try:
        with quiet_transformers(), _together(team):
            trainer.train(resume_from_checkpoint=last)
    except KeyboardInterrupt:
        if team.size > 1:  # the others may be anywhere
            raise
        stopped = "interrupted"
    except NoNumberError as error:
        stopped = str(error)
    if stopped:
        best = trainer.state.best_model_checkpoint
        if best is None and stopped == "interrupted":
            raise KeyboardInterrupt
        if best is None:
            kind = ModelError if team.is_first else SharedError
            raise kind(f"{stopped}, before the first epoch was over: lower the learning rate")
        trainer._load_best_model()
    return stopped


@contextmanager
def _together(team: Team) -> Iterator[None]:
    """A block that all processes are in at the same time, and leave together unless one of them fails.

    Raises:
        OtherProcessError: another one failed.
    """
    team.is_training = team.size > 1
    try:
        with needing_others():
            yield
    except NoNumberError:
        team.is_training = False
        raise
    team.is_training = False


def _batch_sampler(training: Any, plan: Plan, team: Team) -> BatchSampler:
    if plan.is_for_retrieval:
        batches = partial(class_batches, training.codes, plan.batch_size, plan.seed, balanced=training.is_balanced)
    else:
        batches = partial(shuffled_batches, len(training), plan.batch_size, plan.seed)
    return BatchSampler(batches, lambda: training.epoch, epochs=plan.epochs, rank=team.rank, processes=team.size)


def _last_whole(folder: Path) -> str | None:
    """The last checkpoint that was written to its end; others, which a killed run left, are removed."""
    from transformers.trainer_utils import get_last_checkpoint

    while (last := get_last_checkpoint(str(folder))) is not None:
        try:  # it is written last
            json.loads((Path(last) / "trainer_state.json").read_bytes())
            return str(last)
        except (OSError, ValueError):
            shutil.rmtree(last)
    return None


def _arguments(folder: Path, plan: Plan, device: str, team: Team) -> Any:
    import torch
    from transformers import TrainingArguments

    share = -(-plan.batch_size // team.size)
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=share,
        per_device_eval_batch_size=2 * share,
        learning_rate=plan.learning_rate or _RATES[plan.method],
        lr_scheduler_type="cosine",
        warmup_steps=_WARM_UP,
        weight_decay=_WEIGHT_DECAY,
        max_grad_norm=_LARGEST_GRADIENT,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_mAP" if plan.is_for_retrieval else "eval_loss",
        greater_is_better=plan.is_for_retrieval,
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        seed=plan.seed,
        data_seed=plan.seed,
        bf16=device.startswith("cuda") and torch.cuda.is_bf16_supported(),
        use_cpu=device == "cpu",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        # Which weights a network has no use for (tokens of masks) is found out once, and stays so.
        ddp_find_unused_parameters=False,
        ddp_static_graph=True,
    )
    # One process has one GPU; several are used by several processes, which Trainer's DataParallel is slower than.
    assert arguments.device
    vars(arguments)["_n_gpu"] = min(arguments.n_gpu, 1)
    return arguments


# What the Trainer calls what it measures, and what the progress line does.
_SHOWN = {"loss": "loss", "eval_loss": "validation loss", "eval_accuracy": "accuracy", "eval_mAP": "mAP"}


def _watcher(training: Any, progress: Progress) -> Any:
    """Tells the pictures which epoch it is, and the caller how far the training is."""
    from transformers import TrainerCallback

    said_so_far: dict[str, Any] = {}

    class _Watcher(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            training.epoch = round(state.epoch or 0)

        def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            progress("train", state.global_step, state.max_steps)

        def on_log(self, _: Any, state: Any, *__: Any, logs: Any = None, **___: Any) -> None:
            said = {**said_so_far, **(logs or {})}
            said_so_far.update(said)
            shown = [f"{label} {said[name]:.3f}" for name, label in _SHOWN.items() if name in said]
            if shown and state.epoch is not None:
                describe(progress, "train", f"epoch {round(state.epoch)}: {', '.join(shown)}")

    return _Watcher()


def _history(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Training loss, validation loss and accuracy of each epoch; or training loss and mAP."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in log:
        row = epochs.setdefault(round(entry["epoch"]), {"epoch": float(round(entry["epoch"]))})
        for name, known in _LOGGED.items():
            if name in entry:
                row[known] = float(entry[name])
    return [row for _, row in sorted(epochs.items()) if _VALIDATED & row.keys()]
