"""A Trainer of Transformers' that minimises :mod:`~imagesearch.models.objectives`, in whatever memory there is.

A batch that memory does not hold is divided, and the gradients of its parts are added up; so what is learnt stays
the same. (``TrainingArguments.auto_find_batch_size`` takes smaller batches instead, and so learns something else.)

Importing this module imports PyTorch and Transformers: it is imported once there is something to train.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from safetensors import SafetensorError
from safetensors.torch import save_model
from transformers import Trainer, TrainingArguments, default_data_collator

from imagesearch.errors import ModelError
from imagesearch.models.hub import first_line
from imagesearch.models.objectives import PROXY_RATE, NoNumberError, Score, label_losses
from imagesearch.models.processes import Team
from imagesearch.models.training_batches import BatchSampler, Loader

# A disk with less space is full.
_NOTHING = 1 << 20


class LearningTrainer(Trainer):  # type: ignore[misc]
    """Trains the weights of a network that require gradients.

    Attributes:
        at_once: how many pictures of a batch memory held at once; 0 before the first one.
    """

    def __init__(
        self,
        module: Any,
        arguments: TrainingArguments,
        sets: tuple[Any, Any],
        sampler: BatchSampler,
        *,
        several: bool,
        score: Score | None,
        team: Team,
    ) -> None:
        """Put it together.

        Args:
            module: a network with a head; or with ``score`` a result of
                :func:`~imagesearch.models.objectives.make_learner`.
            arguments: of Transformers.
            sets: see :func:`~imagesearch.models.trainer.run`.
            sampler: which pictures are in which batch.
            several: whether pictures may have several labels.
            score: what vectors are judged by; None: labels are learnt.
            team: the processes that train together.
        """
        training, validation = sets
        super().__init__(
            module, arguments, train_dataset=training, eval_dataset=validation, compute_metrics=self._quality
        )
        self.at_once = 0
        self._module, self._sampler = module, sampler
        self._several, self._score, self._team = several, score, team

    def get_train_dataloader(self) -> Any:
        # Not by accelerate, which would fill the last batch up with pictures a second time.
        return Loader(self.train_dataset, self._sampler, default_data_collator)

    def create_optimizer(self, model: Any = None) -> Any:
        is_new = self.optimizer is None
        optimizer = super().create_optimizer(model)
        proxies = [] if self._score is None else list(self._module.loss.parameters())
        if is_new and proxies:
            own = {id(weight) for weight in proxies}
            for group in optimizer.param_groups:
                group["params"] = [weight for weight in group["params"] if id(weight) not in own]
            rate = PROXY_RATE * self.args.learning_rate
            optimizer.add_param_group({"params": proxies, "weight_decay": 0.0, "lr": rate})
        return optimizer

    def training_step(self, model: Any, inputs: Any, *_: Any) -> Any:
        inputs = self._prepare_inputs(inputs)
        count = len(inputs["labels"])
        self.at_once = self.at_once or max(self.args.per_device_train_batch_size, count)
        self._scale = self._team.size / self._team.total(inputs["importance"].sum())
        generators = _random_states()
        while True:
            try:
                return self._add_gradients(model, inputs)
            except RuntimeError as error:  # so it is freed what the failed step holds, when this block ends
                if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
                    raise
                self._take_less(min(self.at_once, count))
            model.zero_grad(set_to_none=True)
            clear_device_cache(garbage_collection=True)
            _set_random_states(generators)

    def _take_less(self, count: int) -> None:
        """Halve what is computed at once.

        Raises:
            ModelError: that cannot be done.
        """
        if self._team.size > 1:  # the others have done their part of this step already
            raise ModelError(
                f"memory does not hold {count} pictures per process: choose a smaller --train-batch, or start"
                " more processes"
            )
        if count == 1:
            raise ModelError("memory does not hold the training of a single picture: choose method last or lora")
        self.at_once = -(-count // 2)

    def _add_gradients(self, model: Any, inputs: dict[str, Any]) -> Any:
        """One batch's gradients; the loss."""
        if self._score is not None:
            self._module.at_once = self.at_once
            return super().training_step(model, inputs)
        cut = {name: values.split(self.at_once) for name, values in inputs.items()}
        parts = (dict(zip(cut, values, strict=True)) for values in zip(*cut.values(), strict=True))
        return sum(super(LearningTrainer, self).training_step(model, part) for part in parts)

    def compute_loss(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        pixels, targets = inputs["pixel_values"], inputs["labels"]
        if self._score is not None:
            loss = model(pixels, targets.argmax(1))
        else:
            losses = label_losses(model(pixel_values=pixels).logits.float(), targets, several=self._several)
            loss = (losses * inputs["importance"]).sum() * self._scale
        if self._team.total((~torch.isfinite(loss)).float()) > 0:
            raise NoNumberError(self.state.global_step + 1)
        return loss

    def prediction_step(self, model: Any, inputs: Any, *_: Any, **__: Any) -> Any:
        """What a head or a search is given; losses are computed of all pictures together."""
        inputs = self._prepare_inputs(inputs)
        parts = inputs["pixel_values"].split(self.at_once or len(inputs["pixel_values"]))
        with torch.no_grad(), self.compute_loss_context_manager():
            found = [model(part) if self._score is not None else model(pixel_values=part).logits for part in parts]
        return None, torch.cat(found).float(), inputs["labels"]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ARG002
        # Trainer writes weights by the names that checkpoints have, and reads them by those that modules have,
        # which differ for ViT and others: it would go on with none of them, and say so in a warning only.
        place = Path(output_dir or self.args.output_dir)
        place.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(place / "model.safetensors"))

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        try:
            super()._save_checkpoint(*given, **named)
        except (OSError, RuntimeError, SafetensorError) as error:
            folder = Path(self.args.output_dir)
            reason = _why_not_written(folder, error)
            # Half of it would only take space; those before it are whole.
            shutil.rmtree(folder / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            raise ModelError(
                f"cannot write a checkpoint in {folder}: {reason}; earlier ones are kept: run the same command"
                " again to go on"
            ) from error

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        if wrong := [*load_result.missing_keys, *load_result.unexpected_keys]:
            raise ModelError(
                f"a checkpoint in {self.args.output_dir} is of another network ({wrong[0]}): delete it"
            )

    def _quality(self, found: Any) -> dict[str, float]:
        """How good the network is for the pictures to validate with."""
        given, targets = found.predictions, found.label_ids
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(given, axis=1)
        if not np.isfinite(lengths).all():  # the last step of an epoch spoilt the weights, and no loss has told
            raise NoNumberError(self.state.global_step)
        if self._score is not None:
            return {"mAP": self._score(given, targets.argmax(1))}
        loss = label_losses(torch.from_numpy(given), torch.from_numpy(targets), several=self._several).mean()
        if self._several:
            right = ((given > 0) == (targets > 0)).all(axis=1)
        else:
            right = np.take_along_axis(targets, given.argmax(1)[:, None], 1) > 0
        return {"loss": float(loss), "accuracy": float(right.mean())}


def _random_states() -> list[Any]:
    """Of what dropout draws from."""
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_random_states(states: list[Any]) -> None:
    torch.set_rng_state(states[0])
    if states[1:]:
        torch.cuda.set_rng_state_all(states[1:])


def _why_not_written(folder: Path, error: Exception) -> str:
    """A few words: PyTorch and safetensors do not say that a disk is full."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    with contextlib.suppress(OSError):  # where the folder is gone, the error itself says enough
        if shutil.disk_usage(folder).free < _NOTHING:
            return "no space left on device"
    return first_line(error)
