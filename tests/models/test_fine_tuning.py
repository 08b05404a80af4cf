"""Fine-tuning of tiny networks: which weights change, going on after a kill, interruptions, bad losses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.models import fine_tuning
from imagesearch.models.fine_tuning import Examples, augmented, fine_tune, require_packages, run_network
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import LoadedModel
from imagesearch.models.new_head import load_with_new_head, set_head, write_checkpoint
from imagesearch.models.trainer import METHODS, Method, Plan

from ..conftest import draw_picture, skip_without

skip_without("accelerate", "peft")

LABELS = ("cat", "dog")
STEPS_PER_EPOCH = 3


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examples, Examples]:
    """Two kinds of drawings under noise: 24 to train with, 8 to validate with."""
    folder, random = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    paths = []
    for place in range(32):
        pixels = np.asarray(draw_picture(9 * (place % 2)), np.float32)
        noisy = (pixels + 40 * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
        paths.append(str(folder / f"{place}.png"))
        Image.fromarray(noisy).save(paths[-1])
    targets = np.eye(2, dtype=np.float32)[np.arange(32) % 2]
    return Examples(paths[:24], targets[:24]), Examples(paths[24:], targets[24:])


def read(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.fixture
def load(checkpoint: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    """A network whose head is the same whenever it is loaded."""

    def make(family: str) -> LoadedModel:
        loaded = load_with_new_head(find_checkpoint(str(checkpoint(family))), LABELS)
        dim = fine_tuning.find_head(loaded)[1].in_features
        weights = 0.01 * np.random.default_rng(0).standard_normal((2, dim))
        set_head(loaded, weights.astype(np.float32), np.zeros(2, np.float32))
        return loaded

    return make


def plan_of(method: Method, **options: Any) -> Plan:
    return Plan(method=method, **{"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, **options})


def weights_of(loaded: LoadedModel) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in loaded.model.state_dict().items()}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", ["vit_labels", "resnet"])
def test_what_is_trained_and_that_the_result_is_an_ordinary_checkpoint(
    family: str,
    method: Method,
    load: Callable[[str], LoadedModel],
    examples: tuple[Examples, Examples],
    tmp_path: Path,
) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    loaded = load(family)
    before = weights_of(loaded)
    done = fine_tune(loaded, examples, read, tmp_path / "checkpoints", plan_of(method), device="cpu")
    after = weights_of(loaded)
    assert after.keys() == before.keys()  # LoRA's additions are gone
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    first, head = next(iter(before)), next(name for name in before if name.startswith("classifier"))
    assert head in changed
    if method == "last":
        assert first not in changed
        assert done.trained < sum(weight.size for weight in before.values())
    elif method == "lora":
        assert not any("bias" in name and name not in changed and name.startswith("classifier") for name in before)
        assert any(name not in changed for name in before)
    assert not any("running" in name for name in changed)
    assert len(done.history) == done.epochs == 3
    assert done.history[-1]["loss"] < done.history[0]["loss"]
    (tmp_path / "out").mkdir()
    write_checkpoint(loaded, tmp_path / "out")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "out")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    paths = examples[1].paths
    with torch.inference_mode():
        theirs = model(**processor([read(path) for path in paths], return_tensors="pt")).logits.numpy()
    ours = run_network(loaded, paths, read, device="cpu").logits
    np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.abs(theirs).max())


class KilledError(Exception):
    pass


def killer(step: int) -> Callable[[str, int, int | None], None]:
    def progress(_: str, done: int, __: int | None) -> None:
        if done == step:
            raise KilledError

    return progress


@pytest.mark.parametrize("method", METHODS)
def test_a_killed_run_goes_on_to_the_same_result(
    method: Method, load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    whole = load("vit_labels")
    fine_tune(whole, examples, read, tmp_path / "whole", plan_of(method), device="cpu")
    folder = tmp_path / "killed"
    with pytest.raises(KilledError):
        fine_tune(
            load("vit_labels"),
            examples,
            read,
            folder,
            plan_of(method),
            device="cpu",
            progress=killer(STEPS_PER_EPOCH + 2),
        )
    assert [entry.name for entry in folder.iterdir()] == [f"checkpoint-{STEPS_PER_EPOCH}"]
    (folder / "checkpoint-99").mkdir()  # as a run that was killed while it wrote would leave it
    steps: list[int] = []
    resumed = load("vit_labels")
    fine_tune(
        resumed,
        examples,
        read,
        folder,
        plan_of(method),
        device="cpu",
        progress=lambda _, done, __: steps.append(done),
    )
    assert steps[0] == STEPS_PER_EPOCH + 1
    expected, found = weights_of(whole), weights_of(resumed)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_an_interruption_keeps_the_best_epoch(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    def interrupt(_: str, done: int, __: int | None) -> None:
        if done == STEPS_PER_EPOCH + 1:
            raise KeyboardInterrupt

    loaded, one = load("vit_labels"), load("vit_labels")
    found = fine_tune(loaded, examples, read, tmp_path / "a", plan_of("full"), device="cpu", progress=interrupt)
    assert found.stopped == "interrupted"
    assert found.epochs == 1
    with pytest.raises(KilledError):  # the first epoch of the same training, from its checkpoint
        fine_tune(
            one,
            examples,
            read,
            tmp_path / "b",
            plan_of("full"),
            device="cpu",
            progress=killer(STEPS_PER_EPOCH + 1),
        )
    from safetensors.numpy import load_file

    kept = load_file(tmp_path / "b" / f"checkpoint-{STEPS_PER_EPOCH}" / "model.safetensors")
    weights = weights_of(loaded)
    for name, expected in kept.items():
        np.testing.assert_allclose(weights[name], expected, atol=1e-6)


def test_an_interruption_before_the_first_epoch_is_one(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fine_tune(load("resnet"), examples, read, tmp_path, plan_of("full"), device="cpu", progress=interrupt)


def test_a_loss_that_is_no_number_ends_training_with_the_last_good_weights(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    import torch

    loaded = load("resnet")

    def spoil(_: str, done: int, __: int | None) -> None:
        if done == STEPS_PER_EPOCH + 1:
            with torch.no_grad():
                fine_tuning.find_head(loaded)[1].weight.fill_(float("nan"))

    found = fine_tune(loaded, examples, read, tmp_path, plan_of("full"), device="cpu", progress=spoil)
    assert found.stopped == f"the loss was no number at step {STEPS_PER_EPOCH + 2}"
    assert all(np.isfinite(weight).all() for weight in weights_of(loaded).values())


def test_a_loss_that_is_no_number_at_once(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    training, validation = examples
    spoilt = Examples(training.paths, training.targets * np.float32("nan"))
    with pytest.raises(ModelError, match="no number at step 1, before the first epoch"):
        fine_tune(load("resnet"), (spoilt, validation), read, tmp_path, plan_of("full"), device="cpu")


def test_training_ends_when_validation_gets_no_better(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    training, validation = examples
    contrary = Examples(validation.paths, 1 - validation.targets)
    plan = plan_of("full", epochs=12, patience=2)
    found = fine_tune(load("resnet"), (training, contrary), read, tmp_path, plan, device="cpu")
    assert found.stopped == "no better for 2 epochs"
    assert found.epochs < 12


def test_a_killed_run_has_as_much_patience_as_an_unbroken_one(
    load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    training, validation = examples
    contrary = training, Examples(validation.paths, 1 - validation.targets)
    plan = plan_of("full", epochs=12, patience=3)
    whole = fine_tune(load("resnet"), contrary, read, tmp_path / "whole", plan, device="cpu")
    assert whole.stopped
    dead = killer(STEPS_PER_EPOCH * (whole.epochs - 1) + 1)
    with pytest.raises(KilledError):
        fine_tune(load("resnet"), contrary, read, tmp_path / "killed", plan, device="cpu", progress=dead)
    resumed = fine_tune(load("resnet"), contrary, read, tmp_path / "killed", plan, device="cpu")
    assert (resumed.stopped, resumed.epochs) == (whole.stopped, whole.epochs)


@pytest.mark.parametrize("epochs", [2, 12])
def test_a_training_that_is_over_is_not_done_again(
    epochs: int, load: Callable[[str], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    """As when the disk was full when its result was to be written."""
    training, validation = examples
    contrary = training, Examples(validation.paths, 1 - validation.targets)
    one, again, steps = load("resnet"), load("resnet"), list[int]()
    plan = plan_of("full", epochs=epochs, patience=2)
    first = fine_tune(one, contrary, read, tmp_path, plan, device="cpu")
    second = fine_tune(again, contrary, read, tmp_path, plan, device="cpu", progress=lambda *_: steps.append(1))
    assert not steps
    assert (first.stopped, first.history) == (second.stopped, second.history)
    for name, expected in weights_of(one).items():
        np.testing.assert_array_equal(weights_of(again)[name], expected)


def test_augmentation_is_that_of_place_and_epoch() -> None:
    picture = draw_picture(3, (80, 60))
    one, same, other = (
        np.asarray(augmented(picture, np.random.default_rng(seed)).resize((32, 32))) for seed in (1, 1, 2)
    )
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    sizes = {augmented(picture, np.random.default_rng(seed)).size for seed in range(50)}
    assert all(0.45 * 80 * 60 <= width * height <= 80 * 60 for width, height in sizes)
    assert augmented(Image.new("RGB", (1, 1)), np.random.default_rng(0)).size == (1, 1)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install accelerate peft"):
        require_packages("lora")
    with pytest.raises(ModelError, match=r"pip install accelerate$"):
        require_packages("full")
