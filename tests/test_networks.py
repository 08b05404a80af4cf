"""The configured networks: loaded once, whoever asks first, and optimised where that pays."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imagesearch import ImageSearch, ModelError, load_config
from imagesearch.models.runtimes import selection
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.networks import Networks

from .models.conftest import save_checkpoint


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> Networks:
    """The bundled model's, as if no graph came with it."""
    monkeypatch.setattr(selection, "has_bundled_graph", lambda *_: False)
    return Networks(load_config(overrides={"model": {"device": "cpu"}}))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is optimised from now on, while in truth nothing is."""
    calls: list[Any] = []

    def optimize(checkpoint: Any, task: str, options: Any, *, pooling: str, progress: Any) -> bool:
        calls.append(task)
        return True

    monkeypatch.setattr(selection, "optimize", optimize)
    return calls


@pytest.mark.parametrize("kind", ["embedder", "classifier"])
def test_the_first_use_from_eight_threads_loads_once(
    kind: str, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    original = getattr(selection, f"open_{kind}")
    monkeypatch.setattr(selection, f"open_{kind}", lambda *a, **b: loaded.append(a) or original(*a, **b))
    with ThreadPoolExecutor(8) as pool:
        models = list(pool.map(lambda _: getattr(networks, kind)(), range(8)))
    assert len(loaded) == 1
    assert len(set(map(id, models))) == 1


def test_eight_threads_with_a_network_each(tmp_path: Path) -> None:
    """Transformers loads under settings of the whole process, such as its default precision."""
    folder = save_checkpoint(tmp_path / "m", "vit")
    config = load_config(overrides={"model": {"name": str(folder), "device": "cpu", "runtime": "torch"}})
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: Networks(config).embedder().fingerprint.key, range(8)))
    assert len(set(keys)) == 1


def test_few_images_do_not_pay_for_it(networks: Networks, asked: list[Any]) -> None:
    networks.embedder_for(63)
    assert asked == []
    networks.embedder_for(64)
    networks.optimize_for(64, "labels")
    assert asked == ["features", "labels"]


def test_pytorch_makes_way_for_a_graph(
    networks: Networks, asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = networks.embedder()
    assert isinstance(before.runtime, TorchRuntime)
    assert networks.optimize("features")
    after = networks.embedder()
    assert after is not before
    monkeypatch.setattr(after, "runtime", SimpleNamespace(device="cpu"))
    assert networks.optimize("features")
    assert networks.embedder() is after  # runs in a graph already


def test_a_network_that_was_given_stays(starter: Any, asked: list[Any]) -> None:
    with ImageSearch(embedder=starter) as images:
        assert not images.optimize()
        images.networks.optimize_for(1_000_000, "features")
        assert images.embedder is starter
    assert asked == []


def test_an_accident_ends_no_job(
    networks: Networks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def optimize(*_: Any, **__: Any) -> bool:
        raise ModelError("the conversion was struck by lightning")

    monkeypatch.setattr(selection, "optimize", optimize)
    with pytest.raises(ModelError, match="lightning"):
        networks.optimize("features")
    assert isinstance(networks.embedder_for(64).runtime, TorchRuntime)
    assert caplog.messages == ["the conversion was struck by lightning; PyTorch goes on"]
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("job", ["index", "extract"])
def test_a_folder_is_reason_enough(
    job: str, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    told: list[int] = []

    def worth(_: Any, images: int) -> bool:
        told.append(images)
        return True

    monkeypatch.setattr(selection, "worth_optimizing", worth)
    settings = {"milvus": {"uri": str(tmp_path / "a.db")}, "model": {"device": "cpu"}}
    with ImageSearch(settings) as images:
        run: Callable[[], Any] = {
            "index": lambda: images.index(picture_folder),
            "extract": lambda: images.extract(picture_folder, tmp_path / "f"),
        }[job]
        run()
        if job == "index":
            run()  # nothing to encode
    assert told == [6]
    assert asked == ["features"]
