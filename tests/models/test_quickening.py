"""Networks made faster in PyTorch compute what they did before."""

from __future__ import annotations

import ctypes
import logging
import sys
import weakref
from typing import Any

import pytest

from imagesearch.models import quickening
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
    quickening.quicken(model, "cpu", (9, 9))
    assert not quickening.normalises_batches(model)
    assert torch.allclose(model(picture)[0], before, atol=1e-5)


@pytest.mark.parametrize("order", ["first second norm", "first norm second"])
def test_what_is_computed_in_another_order_is_put_back(order: str) -> None:
    """Registered behind the convolution, but with an activation in between, or behind another one."""
    import torch

    model = network(order)
    picture = torch.randn(2, 3, 9, 9)
    before = model(picture)[0]
    quickening.quicken(model, "cpu", (9, 9))
    assert quickening.normalises_batches(model)
    assert torch.allclose(model(picture)[0], before, atol=1e-5)


@pytest.mark.parametrize("platform", ["win32", "darwin", "linux"])
def test_without_glibc_nothing_happens(
    platform: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or object())
    quickening._c_library.cache_clear()
    with caplog.at_level(logging.DEBUG):
        quickening.keep_memory_mapped(network("first norm second"))
        quickening.release_memory()
    quickening._c_library.cache_clear()
    assert asked == ([None] if platform == "linux" else [])
    assert "not glibc" in caplog.text


def test_memory_is_kept_as_long_as_any_network_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self) -> None:
            self.thresholds: dict[int, int] = {}
            self.trimmed = 0

        def mallopt(self, which: int, size: int) -> int:
            self.thresholds[which] = size
            return 1

        def malloc_trim(self, _: int) -> None:
            self.trimmed += 1

    library = Library()
    monkeypatch.setattr(quickening, "_c_library", lambda: library)
    monkeypatch.setattr(quickening, "_on_cpu", weakref.WeakSet())
    one, other = network("first norm second"), network("first norm second")
    quickening.keep_memory_mapped(one)
    quickening.keep_memory_mapped(other)
    kept = dict(library.thresholds)
    del one
    quickening.release_memory()
    assert (library.thresholds, library.trimmed) == (kept, 1)
    del other
    quickening.release_memory()
    assert all(library.thresholds[which] < size for which, size in kept.items())
    assert library.trimmed == 2


def test_the_processor_is_chosen_without_asking_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0+cpu")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert choose_device("auto") == choose_device("cpu") == "cpu"
