"""The heads of classifiers: their rows, where logits are linear in the vector, or a refusal that says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.models import catalogue, heads
from imagesearch.models.embedder import Embedder
from imagesearch.models.heads import open_head
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network

LINEAR = {
    "vit_labels": "auto",
    "deit_labels": "cls",
    "beit_labels": "auto",
    "swin": "auto",
    "convnext": "auto",
    "resnet": "auto",
    "mobilenet": "auto",
}


@pytest.fixture
def named(checkpoint: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a family's checkpoint, its labels called "thing 0" and so on."""

    def copy(family: str) -> Path:
        folder = Path(shutil.copytree(checkpoint(family), tmp_path / family))
        settings = json.loads((folder / "config.json").read_text())
        names = settings.get("id2label") or {"0": "", "1": ""}
        settings["id2label"] = {number: f"thing {number}" for number in names}
        settings["label2id"] = {f"thing {number}": int(number) for number in names}
        (folder / "config.json").write_text(json.dumps(settings))
        return folder

    return copy


def refuse(*_: Any, **__: Any) -> Any:
    raise AssertionError("a network is loaded")


@pytest.mark.parametrize("family", LINEAR)
def test_prototypes_are_the_directions_of_plain_transformers_logits(
    family: str, named: Callable[[str], Path], pictures: list[Image.Image]
) -> None:
    """How logits differ between pictures is an inner product with the vector, but for the row's length."""
    import torch
    from transformers import AutoModelForImageClassification

    folder = named(family)
    checkpoint = find_checkpoint(str(folder))
    head = open_head(checkpoint, LINEAR[family])
    network = Network.load(checkpoint, "features", device="cpu", precision="float32")
    mine = Embedder.of_network(network, pooling=LINEAR[family], normalize=False)
    pixels = [network.preprocess(picture) for picture in pictures]
    vectors = mine.encode(pixels)
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(pixel_values=network.stack(pixels)).logits.numpy()
    assert head.labels == tuple(f"thing {number}" for number in range(logits.shape[1]))
    assert head.prototypes.dtype == np.float32
    assert head.prototypes.shape == (logits.shape[1], mine.fingerprint.dim)
    assert np.abs(np.linalg.norm(head.prototypes, axis=1) - 1).max() < 1e-5
    ours, theirs = (np.diff(values, axis=0) for values in (vectors @ head.prototypes.T, logits))
    lengths = (ours * theirs).sum(axis=0) / (ours * ours).sum(axis=0)
    assert (lengths > 0).all()
    assert np.abs(ours * lengths - theirs).max() < 1e-3 * np.ptp(theirs)


@pytest.mark.parametrize(
    ("family", "pooling", "reason"),
    [
        ("dinov2_labels", "auto", r"is not one linear layer on the vectors that are searched \(pooler\)"),
        ("vit_labels", "mean", r"is not one linear layer on the vectors that are searched \(mean\)"),
        ("mobilenet", "mean", None),  # its pooler is that mean
        ("vit", "auto", "it has no trained classification head"),
        ("dinov2", "auto", "it has no trained classification head"),
    ],
)
def test_others_are_refused_in_a_line(
    family: str, pooling: str, reason: str | None, named: Callable[[str], Path]
) -> None:
    checkpoint = find_checkpoint(str(named(family)))
    if reason is None:
        assert open_head(checkpoint, pooling).labels[0] == "thing 0"
        return
    with pytest.raises(
        ModelError, match=f"{family} cannot be searched by words: .*{reason}.*clip, siglip2"
    ) as raised:
        open_head(checkpoint, pooling)
    assert "\n" not in str(raised.value)


def test_labels_without_names_are_refused(checkpoint: Callable[[str], Path], named: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"its config\.json names no labels \(id2label\)"):
        open_head(find_checkpoint(str(checkpoint("swin"))), "auto")
    folder = named("vit_labels")
    (folder / "config.json").write_text((folder / "config.json").read_text().replace("thing ", "LABEL_"))
    with pytest.raises(ModelError, match="its labels are numbers without names"):
        open_head(find_checkpoint(str(folder)), "auto")


def test_what_was_found_out_is_remembered(named: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = (find_checkpoint(str(named(family))) for family in ("vit_labels", "dinov2_labels"))
    first = open_head(good, "auto")
    with pytest.raises(ModelError) as refused:
        open_head(bad, "auto")
    monkeypatch.setattr(heads, "Network", refuse)
    monkeypatch.setattr(heads, "load_model", refuse)
    for pooling in ("auto", "cls"):  # what auto turned out to be
        assert (open_head(good, pooling).prototypes == first.prototypes).all()
    for pooling in ("auto", "pooler"):
        with pytest.raises(ModelError) as again:
            open_head(bad, pooling)
        assert str(again.value) == str(refused.value)


@pytest.mark.parametrize("content", ["{ half", "[]", '{"key": 1}'])
def test_a_damaged_memory_is_made_anew(content: str, named: Callable[[str], Path]) -> None:
    checkpoint = find_checkpoint(str(named("vit_labels")))
    first = open_head(checkpoint, "auto")
    whole = heads._list().read_text()
    key = heads._key(checkpoint, "auto")
    heads._list().write_text(content.replace("key", key))
    assert (open_head(checkpoint, "auto").prototypes == first.prototypes).all()
    assert json.loads(heads._list().read_text())[key] == json.loads(whole)[key]


@pytest.mark.parametrize("form", ["bfloat16", "pickle", "shards"])
def test_rows_are_the_same_however_weights_are_kept(form: str, named: Callable[[str], Path]) -> None:
    import torch
    from transformers import AutoModelForImageClassification

    folder = named("vit_labels")
    expected = open_head(find_checkpoint(str(folder)), "auto").prototypes
    model = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
    (folder / "model.safetensors").unlink()
    if form == "bfloat16":  # NumPy has no such type
        model.to(torch.bfloat16).save_pretrained(folder)
    elif form == "pickle":
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    else:
        model.save_pretrained(folder, max_shard_size="30KB")
        assert len(list(folder.glob("model-*.safetensors"))) > 1
    found = open_head(find_checkpoint(str(folder)), "auto").prototypes
    assert np.abs(found - expected).max() <= (2**-8 if form == "bfloat16" else 0)


def test_the_bundled_model_is_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = find_checkpoint(catalogue.features_checkpoint("starter"))
    finding, pooling = heads._try(checkpoint, "auto")
    assert finding == heads._Finding(heads._BUNDLED)
    assert pooling == "pooler"
    monkeypatch.setattr(heads, "Network", refuse)
    head = open_head(checkpoint, "auto")
    assert head.prototypes.shape == (200, 320)
    assert head.labels[0] == "goldfish, Carassius auratus"
    assert head.model == "starter"


def test_a_head_that_is_not_what_config_says(named: Callable[[str], Path]) -> None:
    folder = named("vit_labels")
    open_head(find_checkpoint(str(folder)), "auto")
    settings = json.loads((folder / "config.json").read_text())
    settings["id2label"]["7"] = "one too many"
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError):
        open_head(find_checkpoint(str(folder)), "auto")
