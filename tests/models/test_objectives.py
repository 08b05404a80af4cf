"""Losses for retrieval: as their papers define them, on the vectors that are searched, in any memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import ModelError
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import LoadedModel, Network
from imagesearch.models.new_head import load_with_new_head, write_checkpoint
from imagesearch.models.objectives import Loss, SearchedVectors, class_means, make_learner
from imagesearch.models.pooling import unit_vectors
from imagesearch.models.processes import Team
from imagesearch.models.runtimes.export import trial_pictures

from ..conftest import skip_without

skip_without("pytorch_metric_learning")

CODES = np.array([0, 0, 1, 1, 1, 2, 2, 0])


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 6)).astype(np.float32)


@pytest.fixture
def proxies() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)


def measured(loss: Loss, vectors: np.ndarray, proxies: np.ndarray | None = None) -> float:
    import torch

    from imagesearch.models import objectives

    made = objectives._make_loss(loss, proxies)
    return float(made(torch.from_numpy(vectors), torch.from_numpy(CODES)).detach())


def test_contrastive_is_that_of_khosla(vectors: np.ndarray) -> None:
    cosines = unit_vectors(vectors).astype(np.float64) @ unit_vectors(vectors).T / 0.07
    expected = []
    for one in range(8):
        others = [other for other in range(8) if other != one]
        total = np.log(np.exp(cosines[one, others]).sum())
        expected.append(-np.mean([cosines[one, other] - total for other in others if CODES[other] == CODES[one]]))
    assert measured("contrastive", vectors) == pytest.approx(np.mean(expected), rel=1e-4)


def test_arcface_is_that_of_deng(vectors: np.ndarray, proxies: np.ndarray) -> None:
    angles = np.arccos(unit_vectors(vectors).astype(np.float64) @ unit_vectors(proxies).T)
    own = np.arange(3) == CODES[:, None]
    logits = 64 * np.cos(angles + np.deg2rad(28.6) * own)
    assert (angles[own] < np.pi - np.deg2rad(28.6)).all()
    highest = logits.max(axis=1)
    totals = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    assert measured("arcface", vectors, proxies) == pytest.approx((totals - logits[own]).mean(), rel=1e-4)


def test_proxy_anchor_is_that_of_kim(vectors: np.ndarray, proxies: np.ndarray) -> None:
    cosines = unit_vectors(vectors).astype(np.float64) @ unit_vectors(proxies).T
    own = np.arange(3) == CODES[:, None]
    pull = np.log1p((np.exp(-32 * (cosines - 0.1)) * own).sum(axis=0)).mean()
    push = np.log1p((np.exp(32 * (cosines + 0.1)) * ~own).sum(axis=0)).mean()
    assert measured("proxy-anchor", vectors, proxies) == pytest.approx(pull + push, rel=1e-4)


def test_proxies_begin_near_what_tells_the_classes_apart(vectors: np.ndarray) -> None:
    """As networks give them, vectors have much in common."""
    found = class_means(vectors + 5, CODES, 3)
    means = np.stack([unit_vectors(vectors + 5)[code == CODES].mean(axis=0) for code in range(3)])
    apart = unit_vectors(means - means.mean(axis=0))
    cosines = unit_vectors(found) @ apart.T
    assert (np.diag(cosines) > 0.95).all()
    assert (np.diag(cosines) < 0.9999).all()
    assert (cosines[~np.eye(3, dtype=bool)] < 0.2).all()


def test_a_proxy_on_its_vector_has_a_derivative() -> None:
    """A class of one picture, whose mean it is."""
    import torch

    from imagesearch.models import objectives

    vectors = torch.eye(3, 6, requires_grad=True)
    loss = objectives._make_loss("arcface", class_means(vectors.detach().numpy(), np.arange(3), 3))
    loss(vectors, torch.arange(3)).backward()
    assert vectors.grad is not None
    assert torch.isfinite(vectors.grad).all()


def labelled(checkpoint: Callable[[str], Path], family: str) -> LoadedModel:
    return load_with_new_head(find_checkpoint(str(checkpoint(family))), ("a", "b", "c"))


@pytest.mark.parametrize(
    "family",
    ["vit_labels", "deit_labels", "beit_labels", "dinov2_labels", "swin", "convnext", "resnet", "mobilenet"],
)
def test_trained_vectors_are_those_that_searches_with_the_result_use(
    checkpoint: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    import torch

    loaded = labelled(checkpoint, family)
    searched = SearchedVectors(loaded)
    write_checkpoint(loaded, tmp_path)
    network = Network.load(find_checkpoint(str(tmp_path)), "features", device="cpu", precision="float32")
    pictures = trial_pictures(network.preprocessor, 2)
    expected = Embedder.of_network(network, normalize=False).encode(pictures)
    with torch.inference_mode():
        loaded.model(pixel_values=network.stack(pictures))
    np.testing.assert_allclose(searched.take().numpy(), expected, atol=1e-4 * np.abs(expected).max())
    searched.close()


def test_a_pooling_that_the_result_would_not_have_is_refused(checkpoint: Callable[[str], Path]) -> None:
    import torch

    loaded = labelled(checkpoint, "vit_labels")
    searched = SearchedVectors(loaded, "pooler")
    with torch.inference_mode():
        loaded.model(pixel_values=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ModelError, match="gives no pooler_output"):
        searched.take()


@pytest.mark.parametrize("loss", ["contrastive", "proxy-anchor"])
def test_a_divided_batch_has_the_gradients_of_a_whole_one(checkpoint: Callable[[str], Path], loss: Loss) -> None:
    import torch

    gradients = []
    pixels = torch.randn(9, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for at_once in (9, 2):
        loaded = labelled(checkpoint, "vit_labels")
        proxies = np.eye(3, 32, dtype=np.float32) if loss == "proxy-anchor" else None
        learner = make_learner(loaded, loss, pooling="auto", proxies=proxies, gather=Team().rows)
        learner.at_once = at_once
        learner.train()
        learner(pixels, torch.arange(9) % 3).backward()
        gradients.append([weight.grad for weight in learner.parameters() if weight.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 10
    for whole, divided in zip(*gradients, strict=True):
        torch.testing.assert_close(divided, whole, atol=1e-5, rtol=1e-4)
