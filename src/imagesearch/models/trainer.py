"""Transformers' Trainer as :mod:`imagesearch.models.fine_tuning` uses it: a plan, and carrying it out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from imagesearch.errors import ModelError
from imagesearch.models.network import LoadedModel, quiet_transformers
from imagesearch.records import PlainValues, Progress, describe

Method = Literal["last", "lora", "full"]
METHODS: tuple[Method, ...] = ("last", "lora", "full")

# Usual for AdamW. Of a head that begins as the probe larger ones would undo it.
_RATES: dict[Method, float] = {"last": 1e-4, "lora": 5e-4, "full": 5e-5}
# Warming up takes this part of all steps.
_WEIGHT_DECAY, _WARM_UP, _LARGEST_GRADIENT = 0.05, 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Plan(PlainValues):
    """How to train.

    Attributes:
        method: which weights: those of the last block, low-rank additions to all layers (LoRA, Hu et al. 2021), or
            all; and always the head's.
        epochs: at most so many passes over the pictures.
        batch_size: pictures per step.
        learning_rate: the largest; 0: as is usual for the method.
        patience: epochs without a better validation loss after which to stop.
        several: whether pictures may have several labels.
        seed: of order, augmentation and new weights.
    """

    method: Method = "last"
    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 0.0
    patience: int = 3
    several: bool = False
    seed: int = 0


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
    sets: tuple[Any, Any],
    folder: Path,
    plan: Plan,
    *,
    device: str,
    progress: Progress,
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

    Raises:
        ModelError: the loss was no number before the first epoch was over.
        KeyboardInterrupt: before the first epoch was over.
    """
    from transformers import EarlyStoppingCallback, PrinterCallback

    trainer = _make_trainer(loaded, sets, folder, plan, device)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=plan.patience))
    trainer.add_callback(_watcher(sets[0], progress))
    folder.mkdir(parents=True, exist_ok=True)
    stopped = ""
    try:
        with quiet_transformers():
            trainer.train(resume_from_checkpoint=_last_whole(folder))
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


def _last_whole(folder: Path) -> str | None:
    """The last checkpoint that was written to its end; others, which a killed run left, are removed."""
    from transformers.trainer_utils import get_last_checkpoint

    while (last := get_last_checkpoint(str(folder))) is not None:
        if (Path(last) / "trainer_state.json").is_file():
            return str(last)
        shutil.rmtree(last)
    return None


def _arguments(folder: Path, plan: Plan, device: str) -> Any:
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        per_device_eval_batch_size=2 * plan.batch_size,
        learning_rate=plan.learning_rate or _RATES[plan.method],
        lr_scheduler_type="cosine",
        warmup_steps=_WARM_UP,
        weight_decay=_WEIGHT_DECAY,
        max_grad_norm=_LARGEST_GRADIENT,
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
    )


def _make_trainer(loaded: LoadedModel, sets: tuple[Any, Any], folder: Path, plan: Plan, device: str) -> Any:
    import torch
    from safetensors.torch import save_model
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
    from transformers import Trainer

    class _Trainer(Trainer):  # type: ignore[misc]
        """With targets per label, a weight per picture, and an end where the loss is no number."""

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **_: Any) -> Any:
            importance, targets = inputs.pop("importance"), inputs.pop("labels")
            outputs = model(**inputs)
            logits = outputs.logits.float()
            if plan.several:
                losses = binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
            else:
                losses = cross_entropy(logits, targets, reduction="none")
            loss = (losses * importance).sum() / importance.sum()
            if model.training and not torch.isfinite(loss):
                raise _NoNumberError(self.state.global_step + 1)
            return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

        def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
            targets = inputs["labels"]
            with torch.no_grad():
                loss, outputs = self.compute_loss(model, self._prepare_inputs(dict(inputs)), return_outputs=True)
            return loss.detach(), outputs["logits"].detach(), targets

        def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
            # Trainer writes weights by the names that checkpoints have, and reads them by those that modules have,
            # which differ for ViT and others: it would go on with none of them, and say so in a warning only.
            place = Path(output_dir or self.args.output_dir)
            place.mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.model), str(place / "model.safetensors"))

        def _issue_warnings_after_load(self, load_result: Any) -> None:
            if wrong := [*load_result.missing_keys, *load_result.unexpected_keys]:
                raise ModelError(
                    f"a checkpoint in {self.args.output_dir} is of another network ({wrong[0]}): delete it"
                )

    def accuracy(found: Any) -> dict[str, float]:
        logits, targets = found.predictions, found.label_ids
        if plan.several:
            return {"accuracy": float(((logits > 0) == (targets > 0)).all(axis=1).mean())}
        return {"accuracy": float((np.take_along_axis(targets, logits.argmax(1)[:, None], 1) > 0).mean())}

    training, validation = sets
    return _Trainer(
        loaded.model,
        _arguments(folder, plan, device),
        train_dataset=training,
        eval_dataset=validation,
        compute_metrics=accuracy,
    )


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
    """Training loss, validation loss and accuracy of each epoch."""
    epochs: dict[int, dict[str, float]] = {}
    for entry in log:
        row = epochs.setdefault(round(entry["epoch"]), {"epoch": float(round(entry["epoch"]))})
        for name, known in (("loss", "loss"), ("eval_loss", "validation_loss"), ("eval_accuracy", "accuracy")):
            if name in entry:
                row[known] = float(entry[name])
    return [row for _, row in sorted(epochs.items()) if "validation_loss" in row]
