"""Networks made faster in PyTorch compute what they did before."""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import weakref
from typing import Any

import pytest

from imagesearch.models import tuning
from imagesearch.models.devices import choose_device


def network(order: str) -> Any:
    """Two convolutions around a normalisation as registered; computed in this order."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 4, 3, padding=1)
            self.norm = torch.nn.BatchNorm2d(4)
            self.second = torch.nn.Conv2d(4, 4, 3)

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:
            states = pixel_values
            for name in order.split():
                states = getattr(self, name)(states).relu()
            return (states,)

    torch.manual_seed(0)
    made = Network().eval().requires_grad_(False)
    made.norm.running_var.uniform_(0.5, 2)
    made.norm.running_mean.uniform_(-1, 1)
    return made


def test_normalisation_goes_into_the_convolution_before_it() -> None:
    import torch

    class Sequential(torch.nn.Sequential):
        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor]:  # type: ignore[override]
            return (super().forward(pixel_values),)

    parts = network("first norm second")
    model = Sequential(parts.first, parts.norm, parts.second).eval()
    picture = torch.randn(2, 3, 9, 9)
    before = model(picture)[0]
    tuning.tune_for_inference(model, "cpu", (9, 9))
    assert not tuning.normalises_batches(model)
    assert torch.allclose(model(picture)[0], before, atol=1e-5)


@pytest.mark.parametrize("order", ["first second norm", "first norm second"])
def test_what_is_computed_in_another_order_is_put_back(order: str) -> None:
    """Registered behind the convolution, but with an activation in between, or behind another one."""
    import torch

    model = network(order)
    picture = torch.randn(2, 3, 9, 9)
    before = model(picture)[0]
    tuning.tune_for_inference(model, "cpu", (9, 9))
    assert tuning.normalises_batches(model)
    assert torch.allclose(model(picture)[0], before, atol=1e-5)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has no networks yet, and whose owner has allowed nothing."""
    monkeypatch.setattr(tuning, "_on_cpu", weakref.WeakSet())
    monkeypatch.setattr(tuning, "_may_tune_process", threading.Event())


def tuned() -> Any:
    model = network("first norm second")
    tuning.tune_for_inference(model, "cpu", (9, 9))
    return model


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_without_glibc_nothing_happens(
    platform: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = tuned()
    asked: list[object] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or object())
    tuning._c_library.cache_clear()
    with caplog.at_level(logging.DEBUG):
        tuning.keep_freed_memory()
        tuning.release_memory()
    tuning._c_library.cache_clear()
    del model
    assert asked == ([None] if platform == "linux" else [])
    assert "not glibc" in caplog.text


class CLibrary:
    """What glibc is asked for."""

    def __init__(self) -> None:
        self.thresholds: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, which: int, size: int) -> int:
        self.thresholds[which] = size
        return 1

    def malloc_trim(self, _: int) -> None:
        self.trimmed += 1


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("allowed", ["before", "after"])
def test_memory_is_kept_as_long_as_any_network_needs_it(allowed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = CLibrary()
    monkeypatch.setattr(tuning, "_c_library", lambda: library)
    if allowed == "before":
        tuning.keep_freed_memory()
        assert library.thresholds == {}  # there is no network yet
    one, other = tuned(), tuned()
    if allowed == "after":
        tuning.keep_freed_memory()
    kept = dict(library.thresholds)
    del one
    tuning.release_memory()
    assert (library.thresholds, library.trimmed) == (kept, 1)
    del other
    tuning.release_memory()
    assert all(library.thresholds[which] < size for which, size in kept.items())
    assert library.trimmed == 2


@pytest.mark.usefixtures("process")
def test_the_process_is_left_as_it_is_unless_its_owner_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    library = CLibrary()
    monkeypatch.setattr(tuning, "_c_library", lambda: library)
    model = tuned()
    del model
    tuning.release_memory()
    assert (library.thresholds, library.trimmed) == ({}, 0)


def test_the_processor_is_chosen_without_asking_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
