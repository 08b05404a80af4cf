"""Transformers' Trainer as :mod:`imagesearch.models.fine_tuning` uses it."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesearch.errors import ModelError
from imagesearch.models.network import LoadedModel
from imagesearch.records import Progress

if TYPE_CHECKING:
    from imagesearch.models.fine_tuning import Plan

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """What the Trainer did.

    Attributes:
        history: for each epoch training loss, validation loss and accuracy.
        stopped: why it ended early, or empty.
    """

    history: list[dict[str, float]]
    stopped: str


class _NoNumberError(Exception):
    """The loss is no number.

    Attributes:
        step: where.
    """

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss was no number at step {step}")
        self.step = step


def run(
    loaded: LoadedModel,
    training: Any,
    validation: Any,
    folder: Path,
    plan: Plan,
    *,
    device: str,
    progress: Progress,
) -> Done:
    """Train; afterwards the model has the weights of the best epoch.

    Raises:
        ModelError: it ended before the first epoch did.
    """
    from transformers import EarlyStoppingCallback
    from transformers.trainer_utils import get_last_checkpoint

    trainer = _make_trainer(loaded, training, validation, folder, plan, device)
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=plan.patience))
    trainer.add_callback(_watcher(training, progress))
    folder.mkdir(parents=True, exist_ok=True)
    stopped = ""
    try:
        trainer.train(resume_from_checkpoint=_last_whole(folder, get_last_checkpoint))
    except KeyboardInterrupt:
        stopped = "interrupted"
    except _NoNumberError as error:
        stopped = str(error)
    if stopped:
        best = trainer.state.best_model_checkpoint
        if best is None and stopped == "interrupted":
            raise KeyboardInterrupt
        if best is None:
            raise ModelError(f"{stopped}, before the first epoch was over: lower the learning rate")
        trainer._load_best_model()
    history = _history(trainer.state.log_history)
    if not stopped and trainer.state.epoch is not None and trainer.state.epoch < plan.epochs:
        stopped = f"no better for {plan.patience} epochs"
    return Done(history, stopped)


def _last_whole(folder: Path, find: Any) -> str | None:
    """The last checkpoint that was written to its end; others, which a killed run left, are removed."""
    while (last := find(str(folder))) is not None:
        if (Path(last) / "trainer_state.json").is_file():
            return str(last)
        shutil.rmtree(last)
    return None


def _make_trainer(
    loaded: LoadedModel, training: Any, validation: Any, folder: Path, plan: Plan, device: str
) -> Any:
    import torch
    from transformers import Trainer, TrainingArguments

    from imagesearch.models.fine_tuning import optimiser_settings, rate_of

    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=2 * plan.batch_size,
        learning_rate=rate_of(plan),
        lr_scheduler_type="cosine",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
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
        **optimiser_settings(),
    )

    class _Trainer(Trainer):  # type: ignore[misc]
        """With targets per label, a weight per picture, and an end where the loss is no number."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            importance, targets = inputs.pop("importance"), inputs.pop("labels")
            outputs = model(**inputs)
            logits = outputs.logits.float()
            if plan.several:
                losses = torch.nn.functional.binary_cross_entropy_with_logits(
                    logits, targets, reduction="none"
                ).sum(1)
            else:
                losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
            loss = (losses * importance).sum() / importance.sum()
            if model.training and not torch.isfinite(loss):
                raise _NoNumberError(self.state.global_step + 1)
            return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

        def prediction_step(
            self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
        ) -> Any:
            targets = inputs["labels"]
            with torch.no_grad():
                loss, outputs = self.compute_loss(model, self._prepare_inputs(dict(inputs)), return_outputs=True)
            return loss.detach(), outputs["logits"].detach(), targets

    def accuracy(found: Any) -> dict[str, float]:
        logits, targets = found.predictions, found.label_ids
        if plan.several:
            return {"accuracy": float(((logits > 0) == (targets > 0)).all(axis=1).mean())}
        return {"accuracy": float((np.take_along_axis(targets, logits.argmax(1)[:, None], 1) > 0).mean())}

    return _Trainer(
        loaded.model, arguments, train_dataset=training, eval_dataset=validation, compute_metrics=accuracy
    )


def _watcher(training: Any, progress: Progress) -> Any:
    """Tells the pictures which epoch it is, and the caller how far the training is."""
    from transformers import TrainerCallback

    class _Watcher(TrainerCallback):  # type: ignore[misc]
        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            training.epoch = round(state.epoch or 0)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            progress("train", state.global_step, state.max_steps)

    return _Watcher()


def _history(log: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Training loss, validation loss and accuracy of each epoch."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in log:
        row = epochs.setdefault(round(entry["epoch"]), {"epoch": float(round(entry["epoch"]))})
        for name, known in (("loss", "loss"), ("eval_loss", "validation_loss"), ("eval_accuracy", "accuracy")):
            if name in entry:
                row[known] = float(entry[name])
    return [row for _, row in sorted(epochs.items()) if "validation_loss" in row]
