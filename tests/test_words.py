"""Words from the configured networks to hits, and what is loaded on the way."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imagesearch import ImageSearch, ModelError, UsageError, load_config
from imagesearch.models.heads import Head
from imagesearch.models.network import Network
from imagesearch.models.runtimes import selection
from imagesearch.models.runtimes.export import is_installed
from imagesearch.networks import Networks
from imagesearch.records import Fingerprint
from imagesearch.search.query import Query, SearchOptions

from .models.conftest import checkpoint, save_checkpoint, save_tokenizer  # noqa: F401 - a fixture

# A search by a word in a process of its own, and which heavy libraries it imported.
SEARCH = """
import json, sys
from imagesearch import ImageSearch
from imagesearch.networks import Networks
from imagesearch.search.alternatives import best_of

with ImageSearch({"milvus": {"uri": sys.argv[1]}}) as images:
    collection, networks = images.collection(), Networks(images.config)
    assert networks.fingerprint(collection.fingerprint) == collection.fingerprint
    (query,) = networks.words(sys.argv[2:], collection.fingerprint)
    hits = best_of(collection.search(query.vectors, 3), collection.spec.metric, 3)
heavy = {"torch", "transformers", "openvino", "onnxruntime", "huggingface_hub"} & set(sys.modules)
print(json.dumps([query.meaning, [[hit.picture.path, hit.score] for hit in hits], sorted(heavy)]))
"""


@pytest.mark.skipif(not is_installed("openvino"), reason="without it, the bundled model runs in PyTorch")
def test_the_bundled_model_is_asked_for_words_without_pytorch(picture_folder: Path, tmp_path: Path) -> None:
    uri = str(tmp_path / "a.db")
    with ImageSearch({"milvus": {"uri": uri}}) as images:
        images.index(picture_folder)
        rows, vectors = next(images.collection().scan_vectors())
    run = subprocess.run(
        [sys.executable, "-c", SEARCH, uri, "Goldfishs"], capture_output=True, text=True, check=True
    )
    meaning, hits, heavy = json.loads(run.stdout)
    assert heavy == []
    assert meaning == "Goldfishs: goldfish, Carassius auratus"
    from safetensors.numpy import load_file

    from imagesearch.models.catalogue import STARTER_FOLDER

    weight = load_file(STARTER_FOLDER / "model.safetensors")["classifier.1.weight"][0].astype(np.float32)
    scores = vectors @ (weight / np.linalg.norm(weight))
    best = sorted(zip(scores.tolist(), [row.path for row in rows], strict=True), reverse=True)[:3]
    assert [path for path, _ in hits] == [path for _, path in best]
    assert np.allclose([score for _, score in hits], [score for score, _ in best], atol=1e-5)


def networks_of(folder: Path | str, **model: Any) -> Networks:
    return Networks(load_config(overrides={"model": {"name": str(folder), "device": "cpu", **model}}))


def test_a_classifier_by_its_own_head_whatever_labels_pictures(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "m", "vit_labels")
    networks = networks_of(folder, precision="float32", runtime="torch", classifier="starter")
    fingerprint = networks.embedder().fingerprint
    one, all_of_them = networks.words(["class 3", "class"], fingerprint)
    assert one.labels == ("class 3",)
    assert one.vectors.shape == (1, fingerprint.dim)
    assert all_of_them.vectors.shape == (7, fingerprint.dim)
    with pytest.raises(UsageError, match="does not know 'sunset'"):
        networks.words(["sunset"], fingerprint)
    assert networks.known_words() == tuple(f"class {number}" for number in range(7))


def test_a_text_query_loads_the_text_tower_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_checkpoint(tmp_path / "m", "clip")
    save_tokenizer(folder, "clip")
    options = {"precision": "float32", "runtime": "torch"}
    embedder = networks_of(folder, **options).embedder()
    literal = embedder.encode_texts(["a red car"])
    networks = networks_of(folder, **options)

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the network for pictures is loaded")

    monkeypatch.setattr(selection, "open_embedder", refuse)
    monkeypatch.setattr(Network, "__init__", refuse)
    fingerprint = networks.fingerprint(embedder.fingerprint)
    first = networks.words(["a red car"], fingerprint)[0]
    shutil.rmtree(folder)
    again = networks.words(["a red car"], fingerprint)[0]  # loaded once
    for query in (first, again):
        assert np.abs(query.vectors - literal).max() < 1e-6
        assert query.labels == ()


def test_which_models_understand_free_text(tmp_path: Path) -> None:
    assert networks_of("clip").known_words() is None  # nothing is downloaded to find out
    assert networks_of(save_checkpoint(tmp_path / "m", "siglip")).known_words() is None
    with pytest.raises(ModelError, match="cannot be searched by words: it has no trained classification head"):
        networks_of(tmp_path / "m", pooling="mean").known_words()


@pytest.mark.parametrize("preset", ["vit", "dinov2"])
def test_labels_of_another_network_say_nothing_of_these_vectors(preset: str) -> None:
    fingerprint = Fingerprint(preset, "r", "cls", (224, 224), 768)
    with pytest.raises(
        ModelError, match=f"{preset} cannot be searched by words: its labels come from another"
    ) as it:
        networks_of(preset).words(["dog"], fingerprint)
    assert "clip, siglip2" in str(it.value)


def test_a_model_that_was_given_encodes_texts_itself() -> None:
    class Given:
        fingerprint = Fingerprint("mine", "r", "cls", (8, 8), 2)

        def encode_texts(self, texts: list[str]) -> np.ndarray:
            return np.array([[3.0, 4.0]] * len(texts), np.float32)

    networks = Networks(load_config(), Given())  # type: ignore[arg-type]
    (query,) = networks.words(["sunset"], Given.fingerprint)
    assert np.allclose(query.vectors, [[0.6, 0.8]])


def test_rankings_look_at_the_labels_of_a_linear_head_if_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = networks_of(save_checkpoint(tmp_path / "m", "vit_labels"), precision="float32", runtime="torch")
    fingerprint = networks.embedder().fingerprint
    assert networks.label_axes(fingerprint) is None  # seven labels for more numbers than three times seven
    monkeypatch.setattr(Head, "can_rank", True)
    networks = networks_of(tmp_path / "m", precision="float32", runtime="torch")
    axes = networks.label_axes(fingerprint)
    assert axes is not None
    assert axes.shape == (7, fingerprint.dim)
    words = np.concatenate(
        [word.vectors for word in networks.words([f"class {number}" for number in range(7)], fingerprint)]
    )
    assert np.allclose(axes, words - words.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("family", ["dinov2", "dinov2_labels", "clip"])
def test_other_models_have_no_labels_to_look_at_and_are_asked_once(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = networks_of(save_checkpoint(tmp_path / "m", family), precision="float32", runtime="torch")
    fingerprint = networks.embedder().fingerprint
    if family != "dinov2_labels":  # one look at config.json is enough
        monkeypatch.setattr(Networks, "_open_head", refuse)
    assert networks.label_axes(fingerprint) is None
    monkeypatch.setattr(Networks, "_open_head", refuse)
    assert networks.label_axes(fingerprint) is None


def refuse(*_: object) -> None:
    raise AssertionError("the head is looked for again")


@pytest.mark.skipif(not is_installed("openvino"), reason="without it, the bundled model runs in PyTorch")
def test_the_default_ranking_orders_by_labels(picture_folder: Path, tmp_path: Path) -> None:
    """The answer of the program is the order of the formula, on what it has stored."""
    with ImageSearch({"milvus": {"uri": str(tmp_path / "a.db")}}) as images:
        images.index(picture_folder)
        collection = images.collection()
        axes = images.networks.label_axes(collection.fingerprint)
        records, vectors = next(collection.scan_vectors())
        asked = records[0]
        (found,) = images.answer([Query.stored(asked.path)], SearchOptions(k=len(records), rerank="labels"))
        with_words = Query.stored(asked.path) + Query.words("goldfish")
        (mixed,) = images.answer([with_words], SearchOptions(k=5))
    assert axes is not None
    assert axes.shape == (200, 320)
    said = vectors.astype(np.float64) @ axes.T
    said /= np.linalg.norm(said, axis=1, keepdims=True)
    closeness = said @ said[0] + vectors @ vectors[0]
    expected = [records[place].path for place in np.argsort(-closeness, kind="stable")]
    assert [hit.path for hit in found.hits] == [asked.path, *(path for path in expected if path != asked.path)]
    assert len(mixed.hits) == min(5, len(records))
