"""Heads of one's own: what they are given, and that what is written is an ordinary checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network
from imagesearch.models.new_head import POOLING, HeadInputs, load_with_new_head, set_head, write_checkpoint

# With a classification head, and backbones without one.
FAMILIES = (
    "vit",
    "vit_labels",
    "deit_labels",
    "beit_labels",
    "dinov2",
    "dinov2_labels",
    "convnext",
    "resnet",
    "mobilenet",
)
LABELS = ("cat", "dog", "red car")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_what_is_written_are_linear_in_what_heads_are_given(
    family: str, checkpoint: Callable[[str], Path], pictures: list[Image.Image], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    base = find_checkpoint(str(checkpoint(family)))
    inputs = HeadInputs(load_with_new_head(base, LABELS), device="cpu", precision="float32")
    given = inputs.encode([inputs.preprocess(picture) for picture in pictures])
    assert inputs.fingerprint.pooling == POOLING
    assert given.shape == (len(pictures), inputs.fingerprint.dim)
    random = np.random.default_rng(0)
    weights = random.standard_normal((3, given.shape[1])).astype(np.float32)
    bias = random.standard_normal(3).astype(np.float32)
    loaded = load_with_new_head(base, LABELS)
    set_head(loaded, weights, bias)
    write_checkpoint(loaded, tmp_path)
    model = AutoModelForImageClassification.from_pretrained(tmp_path)
    processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    assert model.config.id2label == dict(enumerate(LABELS))
    with torch.inference_mode():
        logits = model(**processor(pictures, return_tensors="pt")).logits.numpy()
    wanted = given @ weights.T + bias
    np.testing.assert_allclose(logits, wanted, atol=2e-3 * np.abs(wanted).max())


def test_the_vectors_that_are_searched_stay_as_they_are(
    checkpoint: Callable[[str], Path], pictures: list[Image.Image], tmp_path: Path
) -> None:
    base = find_checkpoint(str(checkpoint("resnet")))
    write_checkpoint(load_with_new_head(base, LABELS), tmp_path)
    before, after = (
        Embedder.of_network(Network.load(one, "features", device="cpu", precision="float32"))
        for one in (base, find_checkpoint(str(tmp_path)))
    )
    pixels = [before.preprocess(picture) for picture in pictures]
    np.testing.assert_allclose(before.encode(pixels), after.encode(pixels), atol=1e-6)


def test_several_labels_are_said_in_the_settings(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    base = find_checkpoint(str(checkpoint("resnet")))
    loaded = load_with_new_head(base, LABELS, several=True)
    write_checkpoint(loaded, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["problem_type"] == "multi_label_classification"


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_models_with_a_text_tower_are_refused(family: str, checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="has a text tower"):
        load_with_new_head(find_checkpoint(str(checkpoint(family))), LABELS)


def test_a_head_of_another_shape_is_refused(checkpoint: Callable[[str], Path]) -> None:
    loaded = load_with_new_head(find_checkpoint(str(checkpoint("resnet"))), LABELS)
    with pytest.raises(ModelError, match="has shape"):
        set_head(loaded, np.zeros((3, 5), np.float32), np.zeros(3, np.float32))


def test_texts_are_refused(checkpoint: Callable[[str], Path]) -> None:
    inputs = HeadInputs(load_with_new_head(find_checkpoint(str(checkpoint("resnet"))), LABELS), device="cpu")
    with pytest.raises(ModelError, match="no texts"):
        inputs.encode_texts(["a dog"])


def test_weights_that_do_not_fit_on_the_disk(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")  # not on Windows
    loaded = load_with_new_head(find_checkpoint(str(checkpoint("resnet"))), LABELS)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large"):
            write_checkpoint(loaded, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
