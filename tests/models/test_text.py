"""Texts: the vectors of plain Transformers, in the space of images, or a refusal that says why."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.errors import HubUnreachableError, ModelError
from imagesearch.models import hub
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network, load_text_tower
from imagesearch.models.pooling import features_of
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.export import is_installed
from imagesearch.models.runtimes.selection import open_embedder, open_text_embedder
from imagesearch.models.text import TEMPLATES, claims_text_tower, encode_queries, prompts_for

from .conftest import save_checkpoint, save_tokenizer
from .test_embedder import without_weights

TEXTS = ["a red car", "two dogs in the snow", "beach", " ".join(["a very long walk in the snow"] * 40)]
FLOAT32 = RuntimeOptions("cpu", "float32", "torch")
FAMILIES = ("clip", "siglip", "siglip2")


@pytest.fixture(scope="module")
def two_towers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint with a tokenizer. Not to be changed."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = save_checkpoint(tmp_path_factory.mktemp(family), family)
            save_tokenizer(made[family], family)
        return made[family]

    return folder


def load(folder: Path, **options: Any) -> Embedder:
    network = Network.load(find_checkpoint(str(folder)), "features", device="cpu", precision="float32")
    return Embedder.of_network(network, **options)


def plain_transformers(folder: Path, texts: list[str], family: str) -> NDArray[np.float32]:
    """As the documentation of each family does it: CLIP pads to the longest text, SigLIP to the full length."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    padding = True if family == "clip" else "max_length"
    inputs = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    with torch.no_grad():
        vectors: NDArray[np.float32] = model.get_text_features(**inputs).pooler_output.numpy()
    return vectors


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_plain_transformers(family: str, two_towers: Callable[[str], Path]) -> None:
    mine = load(two_towers(family))
    expected = plain_transformers(two_towers(family), TEXTS, family)
    vectors = mine.encode_texts(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), mine.fingerprint.dim) == expected.shape
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert cosines(vectors, expected).min() >= 0.999
    assert (
        vectors[0] @ vectors[1:].T
    ).max() < 0.999  # random networks that gave all texts one vector prove nothing


@pytest.mark.parametrize("family", FAMILIES)
def test_neither_case_nor_company_matters(family: str, two_towers: Callable[[str], Path]) -> None:
    mine = load(two_towers(family))
    together = mine.encode_texts(TEXTS)
    alone = np.concatenate([mine.encode_texts([text.upper()]) for text in TEXTS])
    assert cosines(together, alone).min() >= 0.9999


def test_length_is_a_setting_for_texts_too(two_towers: Callable[[str], Path]) -> None:
    raw = load(two_towers("clip"), normalize=False).encode_texts(TEXTS)
    assert np.abs(raw - plain_transformers(two_towers("clip"), TEXTS, "clip")).max() < 1e-4


def test_threads_share_a_tokenizer(two_towers: Callable[[str], Path]) -> None:
    mine = load(two_towers("clip"))
    expected = load(two_towers("clip")).encode_texts(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda number: mine.encode_texts([TEXTS[number % 4]])[0], range(32)))
    assert all(row @ expected[number % 4] > 0.9999 for number, row in enumerate(rows))


@pytest.mark.skipif(not is_installed("openvino"), reason="no openvino here")
def test_beside_a_graph_for_images(two_towers: Callable[[str], Path], pictures: list[Image.Image]) -> None:
    found = find_checkpoint(str(two_towers("clip")))
    graph = open_embedder(found, RuntimeOptions("cpu", "float32", "openvino"))
    plain = open_embedder(found, RuntimeOptions("cpu", "float32", "torch"))
    assert np.allclose(graph.encode_texts(TEXTS), plain.encode_texts(TEXTS), atol=1e-5)
    scores = [
        model.encode([model.preprocess(p) for p in pictures]) @ model.encode_texts(TEXTS).T
        for model in (graph, plain)
    ]
    assert np.allclose(*scores, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_similarities_are_those_of_plain_transformers(
    family: str, two_towers: Callable[[str], Path], pictures: list[Image.Image]
) -> None:
    """Its logits are cosines, scaled and shifted."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = two_towers(family)
    mine = load(folder)
    tower = open_text_embedder(find_checkpoint(str(folder)), mine.fingerprint, FLOAT32)
    pixels = [mine.preprocess(picture) for picture in pictures]
    network = Network.load(find_checkpoint(str(folder)), "features", device="cpu", precision="float32")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    padding = True if family == "clip" else "max_length"
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=padding, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=network.stack(pixels), **tokens).logits_per_image
        bias = getattr(model, "logit_bias", torch.zeros(1))
        expected = ((logits - bias) / model.logit_scale.exp()).numpy()
    assert np.ptp(expected) > 0.1  # networks that find everything alike prove nothing
    assert np.abs(mine.encode(pixels) @ tower.encode(TEXTS).T - expected).max() <= 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_for_images_are_neither_needed_nor_there(
    family: str, two_towers: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(two_towers(family), tmp_path / "m"))
    fingerprint = load(folder).fingerprint
    expected = load(folder).encode_texts(TEXTS)
    for part in ("vision_model", "visual_projection")[: 2 if family == "clip" else 1]:
        without_weights(folder, part)
    monkeypatch.setattr(Network, "__init__", None)  # the whole network
    checkpoint = find_checkpoint(str(folder))
    loaded = load_text_tower(checkpoint)
    assert loaded is not None
    assert not [name for name, _ in loaded.model.named_parameters() if "vis" in name or "patch" in name]
    tower = open_text_embedder(checkpoint, fingerprint, FLOAT32)
    assert np.abs(tower.encode(TEXTS) - expected).max() <= 1e-6


def test_the_text_tower_of_siglip_2_for_any_resolution(tmp_path: Path) -> None:
    """Its pictures are of no fixed size, which this program does not take; but its class is another one."""
    import torch
    from transformers import Siglip2Config, Siglip2Model

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    shape = {"vocab_size": 60, "max_position_embeddings": 40, "projection_size": 32}
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(0)
    model = Siglip2Model(Siglip2Config(text_config=text | shape, vision_config=vision)).eval()
    model.save_pretrained(tmp_path)
    loaded = load_text_tower(find_checkpoint(str(tmp_path)))
    assert loaded is not None
    tokens = torch.tensor([[3, 5, 8, 49]])
    with torch.no_grad():
        expected = features_of(model.get_text_features(input_ids=tokens))
        assert torch.allclose(loaded.model(input_ids=tokens).pooler_output, expected, atol=1e-6)
    assert not loaded.missing


def test_a_projection_outside_the_text_tower_is_not_forgotten(tmp_path: Path) -> None:
    """Transformers has no class for AltCLIP's text tower with its projection: then the whole network is loaded."""
    from transformers import AltCLIPConfig, AltCLIPModel

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = text | {"image_size": 32, "patch_size": 8}
    config = AltCLIPConfig(
        text_config=text | {"vocab_size": 50, "project_dim": 16}, vision_config=vision, projection_dim=24
    )
    AltCLIPModel(config).save_pretrained(tmp_path)
    assert load_text_tower(find_checkpoint(str(tmp_path))) is None


def test_long_texts_fit_where_positions_begin_behind_the_padding(tmp_path: Path) -> None:
    """AltCLIP's text tower is a RoBERTa, and its tokenizer may allow more than there are positions."""
    from transformers import AltCLIPConfig, AltCLIPModel

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 1, "project_dim": 24}
    vision = shape | {"image_size": 32, "patch_size": 8}
    config = AltCLIPConfig(text_config=shape | text, vision_config=vision, projection_dim=24)
    AltCLIPModel(config).save_pretrained(save_checkpoint(tmp_path, "clip"))
    save_tokenizer(tmp_path, "clip")
    mine = load(tmp_path)
    assert np.isfinite(mine.encode_texts(["a very long walk in the snow " * 40])).all()


class TestPrompts:
    @pytest.mark.parametrize(
        "text",
        ["a red car", "my cat", "two dogs", "a dog that runs on grass", "rote Äpfel", "photo: cat", "3 cats"],
    )
    def test_sentences_and_other_languages_are_taken_literally(self, text: str) -> None:
        assert prompts_for(f" {text} ") == (text,)

    def test_a_noun_phrase_is_asked_for_in_every_sentence(self) -> None:
        assert prompts_for("School  bus") == tuple(template.format("School bus") for template in TEMPLATES)
        assert len(set(TEMPLATES)) == len(TEMPLATES) > 1

    @pytest.mark.parametrize("normalized", [True, False])
    def test_their_directions_are_averaged(self, normalized: bool, two_towers: Callable[[str], Path]) -> None:
        mine = load(two_towers("clip"), normalize=normalized)
        vectors = encode_queries(mine.encode_texts, ["beach", "a red car", "snow"], normalized=normalized)
        every = mine.encode_texts(prompts_for("snow"))
        lengths = np.linalg.norm(every, axis=1)
        mean = (every / lengths[:, None]).sum(axis=0)
        expected = mean / np.linalg.norm(mean) * lengths.mean()
        assert vectors.shape == (3, mine.fingerprint.dim)
        assert vectors.dtype == np.float32
        assert np.abs(vectors[2] - expected).max() < 1e-5
        assert np.abs(vectors[1] - mine.encode_texts(["a red car"])[0]).max() < 1e-5


class TestRefusals:
    @pytest.mark.parametrize("family", ["vit", "mobilenet"])
    def test_no_text_tower(
        self, family: str, checkpoint: Callable[[str], Path], embedder: Callable[..., Embedder]
    ) -> None:
        with pytest.raises(ModelError, match=r"has no text tower .*--model clip"):
            embedder(family).encode_texts(["a cat"])

    def test_images_in_another_space(self, two_towers: Callable[[str], Path]) -> None:
        with pytest.raises(ModelError, match=r"\(pooling 'cls'\) .*model\.pooling at auto"):
            load(two_towers("clip"), pooling="cls").encode_texts(["a cat"])

    def test_an_untrained_text_tower(self, two_towers: Callable[[str], Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(two_towers("clip"), tmp_path / "m"))
        without_weights(folder, "text_projection")
        with pytest.raises(ModelError, match=r"lacks 1 weights of its text tower .*text_projection.*random"):
            load(folder).encode_texts(["a cat"])

    def test_no_tokenizer(self, checkpoint: Callable[[str], Path]) -> None:
        with pytest.raises(ModelError, match=r"has no tokenizer for texts \(none of tokenizer\.json, "):
            load(checkpoint("clip")).encode_texts(["a cat"])

    def test_a_damaged_tokenizer(self, two_towers: Callable[[str], Path], tmp_path: Path) -> None:
        folder = Path(shutil.copytree(two_towers("clip"), tmp_path / "m"))
        (folder / "tokenizer.json").write_text("{ half")
        with pytest.raises(ModelError, match="cannot load its tokenizer"):
            load(folder).encode_texts(["a cat"])


def test_a_classifier_made_of_two_towers_claims_no_text_tower(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, "clip")
    assert claims_text_tower(find_checkpoint(str(folder)))
    settings = (folder / "config.json").read_text()
    (folder / "config.json").write_text(settings.replace('"CLIPModel"', '"CLIPForImageClassification"'))
    assert not claims_text_tower(find_checkpoint(str(folder)))


def test_a_tokenizer_does_not_change_who_a_checkpoint_is(
    checkpoint: Callable[[str], Path], two_towers: Callable[[str], Path]
) -> None:
    assert find_checkpoint(str(checkpoint("clip"))).revision == find_checkpoint(str(two_towers("clip"))).revision


def test_one_that_stayed_on_the_hub_is_fetched(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions downloaded none."""
    snapshot = Path(shutil.copytree(checkpoint("clip"), tmp_path / "0123"))
    asked: list[tuple[str, str | None]] = []

    def download(name: str, revision: str | None) -> Path:
        asked.append((name, revision))
        save_tokenizer(snapshot, "clip")
        return snapshot

    monkeypatch.setattr(hub, "_download", download)
    for _ in range(2):
        hub.require_tokenizer(hub.Checkpoint("org/name", snapshot, "0123"))
    assert asked == [("org/name", "0123")]


def test_one_that_stayed_on_the_hub_and_no_hub(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the network for pictures that is missing."""
    snapshot = Path(shutil.copytree(checkpoint("clip"), tmp_path / "0123"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="org/name is on this machine, but not its tokenizer"):
        hub.require_tokenizer(hub.Checkpoint("org/name", snapshot, "0123"))
