"""Labels that somebody names: the scores of Transformers' own pipeline, or those of part of a head."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch import ImageSearch, LabelOptions
from imagesearch.errors import ModelError, UsageError
from imagesearch.models.candidates import ChosenLabels, Logits, ZeroShotClassifier, labels_by_text
from imagesearch.models.classifier import Classifier
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.network import Network
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.selection import open_embedder
from imagesearch.models.text import TEMPLATES

from . import conftest
from .conftest import save_checkpoint, save_tokenizer

FAMILIES = ("clip", "siglip", "siglip2")
LABELS = ("cat", "a red car", "two dogs in the snow", "beach", "teapot")
# The pipeline's own.
TEMPLATE = "This is a photo of {}."


@pytest.fixture(scope="module")
def two_towers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint with a tokenizer that lowers the case, as Google's do. Not to be changed."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            with pytest.MonkeyPatch.context() as patch:  # SigLIP's length, to which the pipeline pads its texts
                patch.setitem(conftest._TEXT, "max_position_embeddings", 64)
                made[family] = save_checkpoint(tmp_path_factory.mktemp(family), family, seed=1)
                save_tokenizer(made[family], family)
            file = made[family] / "tokenizer.json"
            settings = json.loads(file.read_bytes())
            file.write_text(json.dumps(settings | {"normalizer": {"type": "Lowercase"}}))
        return made[family]

    return folder


def zero_shot(folder: Path, labels: tuple[str, ...] = LABELS, *templates: str) -> ZeroShotClassifier:
    checkpoint = find_checkpoint(str(folder))
    embedder = open_embedder(checkpoint, RuntimeOptions("cpu", "float32", "torch"))
    return ZeroShotClassifier(embedder, Logits.of(checkpoint), labels, templates)


def scores(labeller: Any, pictures: list[Image.Image]) -> list[dict[str, float]]:
    found = labeller.predict([labeller.preprocess(picture) for picture in pictures], top=99)
    for predictions in found:
        assert [one.score for one in predictions] == sorted((one.score for one in predictions), reverse=True)
        assert all(labeller.labels[one.index] == one.label for one in predictions)
    return [{one.label: one.score for one in predictions} for predictions in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_those_of_transformers_own_pipeline(
    family: str, two_towers: Callable[[str], Path], pictures: list[Image.Image]
) -> None:
    from transformers import pipeline

    folder = two_towers(family)
    theirs = pipeline("zero-shot-image-classification", model=str(folder), device="cpu")
    expected = [
        {one["label"]: one["score"] for one in theirs(picture, candidate_labels=list(LABELS))}
        for picture in pictures
    ]
    mine = scores(zero_shot(folder, LABELS, TEMPLATE), pictures)
    for own, other in zip(mine, expected, strict=True):
        assert own == pytest.approx(other, abs=1e-5)
        assert np.ptp(list(own.values())) > 1e-3  # networks that find everything alike prove nothing
        if family == "clip":
            assert sum(own.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_sentences_are_averaged_as_in_the_paper(
    family: str, two_towers: Callable[[str], Path], pictures: list[Image.Image]
) -> None:
    """The mean of unit vectors, scaled to unit length (Radford et al. 2021, section 3.1.4)."""
    import torch
    from transformers import AutoModel

    folder = two_towers(family)
    mine = zero_shot(folder)
    embedder = open_embedder(find_checkpoint(str(folder)), RuntimeOptions("cpu", "float32", "torch"))
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    images = embedder.encode([embedder.preprocess(picture) for picture in pictures])
    every = embedder.encode_texts([template.format("cat") for template in TEMPLATES])
    cat = every.mean(axis=0)
    cosines = images @ (cat / np.linalg.norm(cat))
    found = scores(mine, pictures)
    if family == "clip":
        car = embedder.encode_texts(["a red car"])[0]  # no noun phrase: as it is
        expected = np.exp((cosines - images @ car) * model.logit_scale.exp().item())
        assert [one["cat"] / one["a red car"] for one in found] == pytest.approx(expected.tolist(), rel=1e-3)
    else:
        logits = cosines * model.logit_scale.exp().item() + model.logit_bias.item()
        assert [one["cat"] for one in found] == pytest.approx((1 / (1 + np.exp(-logits))).tolist(), abs=1e-5)


def test_the_service_chooses_by_text(two_towers: Callable[[str], Path], pictures: list[Image.Image]) -> None:
    settings = {"name": str(two_towers("clip")), "precision": "float32", "runtime": "torch"}
    direct = scores(zero_shot(two_towers("clip"), LABELS, TEMPLATE), pictures)
    with ImageSearch({"model": settings}) as images:
        own = images.classify_all(pictures, top=9, labels=LABELS, templates=(TEMPLATE,))
        assert [{one.label: one.score for one in found} for _, found in own] == [
            pytest.approx(each, abs=1e-5) for each in direct
        ]
    with ImageSearch({"model": {**settings, "name": "starter", "classifier": settings["name"]}}) as images:
        (first,) = images.classify(pictures[0], top=1, labels=LABELS, templates=(TEMPLATE,))
        assert first.score == pytest.approx(max(direct[0].values()), abs=1e-5)


@pytest.mark.parametrize(("kind", "tolerance"), [("bfloat16", 0.02), ("pickle", 1e-6)])
def test_the_scale_is_read_from_any_file(
    kind: str, tolerance: float, two_towers: Callable[[str], Path], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModel

    folder = Path(shutil.copytree(two_towers("siglip"), tmp_path / "m"))
    expected = Logits.of(find_checkpoint(str(folder)))
    assert (expected.each_alone, expected.bias != 0, expected.scale != 1) == (True, True, True)
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16 if kind == "bfloat16" else torch.float32)
    (folder / "model.safetensors").unlink()
    if kind == "bfloat16":
        model.save_pretrained(folder)
    else:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    found = Logits.of(find_checkpoint(str(folder)))
    assert found.scale == pytest.approx(expected.scale, rel=tolerance)
    assert found.bias == pytest.approx(expected.bias, rel=tolerance)


def test_align_has_a_temperature_in_place_of_a_scale(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text('{"model_type": "align"}')
    save_file({"temperature": torch.tensor(0.05)}, tmp_path / "model.safetensors")
    assert Logits.of(Checkpoint("align", tmp_path, "1")).scale == pytest.approx(20)
    save_file({"temperature": torch.tensor(0.0)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="has no logit_scale"):
        Logits.of(Checkpoint("align", tmp_path, "1"))


def test_a_sigmoid_does_not_overflow() -> None:
    logits = Logits(1e4, 0.0, each_alone=True)
    with np.errstate(all="raise"):
        assert logits.scores(np.array([[-1.0, 0.0, 1.0]], np.float32)).tolist() == [[0.0, 0.5, 1.0]]


class TestRefusals:
    def test_a_template_without_a_gap(self, two_towers: Callable[[str], Path]) -> None:
        with pytest.raises(UsageError, match=r"'a photo': has no \{\} where the label"):
            zero_shot(two_towers("clip"), LABELS, "a photo")

    def test_one_label_has_nothing_beside_it(self, two_towers: Callable[[str], Path]) -> None:
        with pytest.raises(UsageError, match="1 named, and at least 2"):
            zero_shot(two_towers("clip"), ("cat",))
        assert zero_shot(two_towers("siglip"), ("cat",)).labels == ("cat",)

    def test_no_scale(self, checkpoint: Callable[[str], Path]) -> None:
        with pytest.raises(ModelError, match="has no logit_scale"):
            Logits.of(find_checkpoint(str(checkpoint("vit"))))

    def test_templates_for_a_head(self, checkpoint: Callable[[str], Path]) -> None:
        with (
            ImageSearch({"model": {"name": str(checkpoint("vit_labels"))}}) as images,
            pytest.raises(UsageError, match="templates are sentences"),
        ):
            images.classify("x.jpg", labels=("class 1", "class 2"), templates=("a {}",))

    @pytest.mark.parametrize(
        "options",
        [
            {"threshold": 1.5},
            {"neighbours": 0},
            {"templates": ("a {}",)},
            {"labels": ("a", "a")},
            {"labels": ("a", " ")},
            {"labels": "cat,dog"},
            {"labels": ("a", "b"), "templates": "a {}"},
            {"labels": ("a", "b"), "nearest": True},
        ],
    )
    def test_options_that_make_no_sense(self, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            LabelOptions(**options).check()


# --- part of a head ---


class Fixed:
    """A runtime that gives these logits for every picture."""

    device = "cpu"

    def __init__(self, logits: list[float]) -> None:
        self._logits = np.array(logits, np.float32)

    def run(self, batch: Any) -> np.ndarray:
        return np.tile(self._logits, (len(batch), 1))


KNOWN = ("Maltese dog, Maltese", "husky dog", "hotdog, hot dog", "teapot", "tabby, tabby cat")


def head(labels: tuple[str, ...], temperature: float = 1.0, several: bool = False) -> ChosenLabels:
    shares = np.array([0.1, 0.2, 0.3, 0.15, 0.25])
    preprocessor = Network.__new__(Network)  # never asked
    runtime: Any = Fixed(np.log(shares).tolist())
    classifier = Classifier(preprocessor, runtime, KNOWN, temperature, several)  # type: ignore[arg-type]
    return ChosenLabels(classifier, labels, "mine")


def chosen(*labels: str, temperature: float = 1.0) -> dict[str, float]:
    (found,) = head(labels, temperature).predict([np.zeros(1)], top=9)  # type: ignore[list-item]
    return {one.label: round(one.score, 5) for one in found}


def test_labels_share_what_is_theirs() -> None:
    assert chosen("teapot", "tabby") == {"tabby": 0.625, "teapot": 0.375}


def test_a_kind_has_the_sum_of_its_labels() -> None:
    assert chosen("dog", "cat") == {"dog": round(0.6 / 0.85, 5), "cat": round(0.25 / 0.85, 5)}


def test_what_is_named_more_exactly_does_not_count_twice() -> None:
    assert chosen("dog", "husky", "hot dog") == {"hot dog": 0.5, "husky": round(1 / 3, 5), "dog": round(1 / 6, 5)}


def test_of_several_labels_a_kind_is_as_probable_as_its_most_probable_one() -> None:
    (found,) = head(("dog", "cat"), several=True).predict([np.zeros(1)], top=9)  # type: ignore[list-item]
    shares = {one.label: one.score for one in found}
    assert shares == pytest.approx({"dog": 0.3 / 1.3, "cat": 0.25 / 1.25}, abs=1e-6)


def test_the_temperature_counts() -> None:
    assert chosen("teapot", "tabby", temperature=0.5) == {
        "tabby": round(0.25**2 / (0.25**2 + 0.15**2), 5),
        "teapot": round(0.15**2 / (0.25**2 + 0.15**2), 5),
    }


def test_unknown_labels_are_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"mine does not know the label 'teapt'; the nearest .*teapot.*clip"):
        head(("teapt", "dog"))
    with pytest.raises(UsageError, match="nor anything like it"):
        head(("xylophone", "dog"))


def test_two_names_of_one_label_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'tabby( cat)?' and 'tabby( cat)?' mean the same"):
        head(("tabby", "tabby cat"))
    with pytest.raises(UsageError, match="at least 2"):
        head(("tabby",))


def test_a_head_on_two_towers_has_its_own_labels(two_towers: Callable[[str], Path], tmp_path: Path) -> None:
    """CLIP, fine-tuned as a classifier: its settings speak of a text tower, which is not there."""
    folder = Path(shutil.copytree(two_towers("clip"), tmp_path / "m"))
    assert labels_by_text(find_checkpoint(str(folder)))
    settings = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["CLIPForImageClassification"]}))
    assert not labels_by_text(find_checkpoint(str(folder)))
