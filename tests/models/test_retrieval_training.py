"""Training vectors for retrieval: they find better, the head stays, and what is kept of a killed run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.learning.fine_tuned import mean_average_precision
from imagesearch.models.fine_tuning import Examples, fine_tune, require_packages, run_network
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import LoadedModel
from imagesearch.models.new_head import find_head, load_with_new_head
from imagesearch.models.objectives import LOSSES, Loss
from imagesearch.models.trainer import Plan

from ..conftest import draw_picture, skip_without
from .test_fine_tuning import KilledError, killer, read, weights_of

skip_without("accelerate", "peft", "pytorch_metric_learning")

CLASSES = 4
STEPS_PER_EPOCH = 3
RETRIEVAL = tuple(loss for loss in LOSSES if loss != "cross-entropy")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Examples, Examples]:
    """Four kinds of drawings under much noise: 48 to train with, 16 to validate with."""
    folder, random = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    paths = []
    for place in range(64):
        pixels = np.asarray(draw_picture(9 * (place % CLASSES)), np.float32)
        noisy = (pixels + 90 * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
        paths.append(str(folder / f"{place}.png"))
        Image.fromarray(noisy).save(paths[-1])
    targets = np.eye(CLASSES, dtype=np.float32)[np.arange(64) % CLASSES]
    return Examples(paths[:48], targets[:48]), Examples(paths[48:], targets[48:])


@pytest.fixture
def load(checkpoint: Callable[[str], Path]) -> Callable[[], LoadedModel]:
    def make() -> LoadedModel:
        import torch

        torch.manual_seed(0)
        return load_with_new_head(find_checkpoint(str(checkpoint("vit_labels"))), [str(n) for n in range(CLASSES)])

    return make


def plan_of(loss: Loss, **options: Any) -> Plan:
    return Plan(loss=loss, **{"method": "full", "epochs": 3, "batch_size": 16, "learning_rate": 3e-3, **options})


def train(loaded: LoadedModel, examples: tuple[Examples, Examples], folder: Path, plan: Plan, **more: Any) -> Any:
    return fine_tune(loaded, examples, read, folder, plan, device="cpu", score=mean_average_precision, **more)


def found_by(loaded: LoadedModel, examples: Examples) -> float:
    vectors = run_network(loaded, examples.paths, read, device="cpu", pooling="auto").vectors
    assert vectors is not None
    return mean_average_precision(vectors, examples.codes)


@pytest.mark.parametrize("loss", RETRIEVAL)
def test_vectors_find_better_and_the_head_is_left_alone(
    loss: Loss, load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    loaded = load()
    names, before = set(weights_of(loaded)), found_by(loaded, examples[1])
    head = find_head(loaded)[1].weight.detach().clone()
    done = train(loaded, examples, tmp_path / "checkpoints", plan_of(loss, epochs=5))
    best = max(epoch["mAP"] for epoch in done.history)
    assert best > before + 0.1
    assert found_by(loaded, examples[1]) == pytest.approx(
        best, abs=1e-3
    )  # the weights are those of the best epoch
    assert (find_head(loaded)[1].weight == head).all()
    assert set(weights_of(loaded)) == names  # proxies are gone


@pytest.mark.parametrize(
    ("loss", "method"), [("arcface", "lora"), ("proxy-anchor", "full"), ("contrastive", "last")]
)
def test_a_killed_run_goes_on_to_the_same_result(
    loss: Loss, method: Any, load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    plan = plan_of(loss, method=method)
    whole, resumed = load(), load()
    train(whole, examples, tmp_path / "whole", plan)
    with pytest.raises(KilledError):
        train(load(), examples, tmp_path / "killed", plan, progress=killer(STEPS_PER_EPOCH + 2))
    steps: list[int] = []
    train(resumed, examples, tmp_path / "killed", plan, progress=lambda _, done, __: steps.append(done))
    assert steps[0] == STEPS_PER_EPOCH + 1
    expected, found = weights_of(whole), weights_of(resumed)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize("loss", ["cross-entropy", "contrastive", "arcface"])
def test_a_batch_that_memory_does_not_hold_is_divided_and_the_result_is_the_same(
    loss: Loss, load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    import torch

    def refuse(_: Any, given: Any, named: Any) -> None:
        seen.append(len(named["pixel_values"]))
        if seen[-1] > 5 and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    whole, divided = load(), load()
    score = None if loss == "cross-entropy" else mean_average_precision
    plan, seen = plan_of(loss, epochs=2, learning_rate=1e-3), list[int]()
    for loaded, name in ((whole, "whole"), (divided, "divided")):
        if loaded is divided:
            handle = loaded.model.register_forward_pre_hook(refuse, with_kwargs=True)
        done = fine_tune(loaded, examples, read, tmp_path / name, plan, device="cpu", score=score)
        assert done.at_once == (16 if loaded is whole else 4)
    handle.remove()
    assert 16 in seen
    assert 8 in seen
    # Not weights: those whose true gradient is 0, such as biases of keys, follow rounding alone.
    expected, found = (run_network(loaded, examples[1].paths, read, device="cpu") for loaded in (whole, divided))
    np.testing.assert_allclose(found.inputs, expected.inputs, atol=1e-3 * np.abs(expected.inputs).max())
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-3 * np.abs(expected.logits).max())


def test_a_picture_that_memory_does_not_hold(
    load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate ...")

    loaded = load()
    loaded.model.register_forward_pre_hook(refuse)
    with pytest.raises(ModelError, match="memory does not hold the training of a single picture"):
        fine_tune(loaded, examples, read, tmp_path, plan_of("cross-entropy"), device="cpu")


def test_other_errors_of_a_network_are_not_taken_for_a_lack_of_memory(
    load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    loaded = load()
    loaded.model.register_forward_pre_hook(refuse)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fine_tune(loaded, examples, read, tmp_path, plan_of("cross-entropy"), device="cpu")


def test_a_loss_that_is_no_number_keeps_the_last_good_epoch(
    load: Callable[[], LoadedModel], examples: tuple[Examples, Examples], tmp_path: Path
) -> None:
    import torch

    loaded = load()

    def spoil(_: str, done: int, __: int | None) -> None:
        if done == STEPS_PER_EPOCH + 1:
            with torch.no_grad():
                next(loaded.model.parameters()).fill_(float("nan"))

    found = train(loaded, examples, tmp_path, plan_of("arcface"), progress=spoil)
    assert found.stopped == f"the loss was no number at step {STEPS_PER_EPOCH + 2}"
    assert found.epochs == 1
    assert all(np.isfinite(weight).all() for weight in weights_of(loaded).values())


def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_run_goes_on(
    load: Callable[[], LoadedModel],
    examples: tuple[Examples, Examples],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    plan, folder = plan_of("arcface"), tmp_path / "full"
    whole, resumed = load(), load()
    train(whole, examples, tmp_path / "whole", plan)
    save, saved = torch.save, list[str]()

    def fill(value: object, file: Any, **named: Any) -> None:
        if Path(str(file)).name == "optimizer.pt":
            saved.append(str(file))
            if len(saved) == 2:
                raise OSError(28, "No space left on device")
        save(value, file, **named)

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(
        ModelError, match=r"cannot write a checkpoint in .*: no space left on device; earlier ones"
    ):
        train(load(), examples, folder, plan)
    assert [entry.name for entry in folder.iterdir()] == [f"checkpoint-{STEPS_PER_EPOCH}"]
    train(resumed, examples, folder, plan)
    expected, found = weights_of(whole), weights_of(resumed)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_packages_of_the_losses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install accelerate pytorch-metric-learning"):
        require_packages("full", "arcface")
