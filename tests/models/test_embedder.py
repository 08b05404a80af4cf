"""Vectors: those of plain Transformers, the same everywhere, refused where they would be random."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from imagesearch import ImageSearch
from imagesearch.errors import ModelError
from imagesearch.models import catalogue
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network
from imagesearch.models.preprocessing import without_ends

from ..conftest import draw_picture
from .conftest import FAMILIES, save_checkpoint

Load = Callable[..., Embedder]

# The documented rule, written down a second time: what becomes of each family's output.
POOLING = {
    "vit": "pooler",
    "vit_labels": "cls",
    "deit_labels": "cls",
    "beit_labels": "pooler",
    "dinov2": "pooler",
    "dinov2_labels": "pooler",
    "swin": "pooler",
    "convnext": "pooler",
    "resnet": "pooler",
    "mobilenet": "pooler",
    "clip": "projection",
    "siglip": "projection",
    "siglip2": "projection",
}


# Too sensitive to rounding for bfloat16 unless it is asked for by name.
BATCH_NORMALISED = {"mobilenet", "resnet"}


def plain_transformers(folder: Path, pictures: list[Image.Image], pooling: str) -> NDArray[np.float32]:
    """One picture at a time, the way the Transformers documentation does it."""
    import torch
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for picture in pictures:
        inputs = processor(images=picture, return_tensors="pt")
        with torch.no_grad():
            if pooling == "projection":
                output = model.get_image_features(**inputs)
                vector = output if isinstance(output, torch.Tensor) else output.pooler_output
            else:
                output = model(**inputs)
                vector = output.pooler_output if pooling == "pooler" else output.last_hidden_state[:, 0]
        row = vector.numpy().reshape(-1)
        rows.append(row / np.linalg.norm(row))
    return np.stack(rows)


def encode(embedder: Embedder, pictures: list[Image.Image]) -> NDArray[np.float32]:
    return embedder.encode([embedder.preprocess(picture) for picture in pictures])


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_are_those_of_plain_transformers(
    family: str,
    checkpoint: Callable[[str], Path],
    embedder: Load,
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    expected = plain_transformers(checkpoint(family), pictures, POOLING[family])
    # Random networks that gave every picture the same vector would prove nothing.
    assert (expected @ expected.T).min() < 0.999
    exact = embedder(family)
    assert exact.fingerprint.pooling == POOLING[family]
    vectors = encode(exact, pictures)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(pictures), exact.fingerprint.dim) == expected.shape
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    assert cosines(vectors, expected).min() >= 0.9999
    for quick_here in (False, True):  # what "auto" does with and without hardware for bfloat16
        monkeypatch.setattr("imagesearch.models.devices._cpu_multiplies_bfloat16", lambda there=quick_here: there)
        quick = embedder(family, precision="auto")
        in_float32 = not quick_here or family in BATCH_NORMALISED
        assert quick.runtime.network.dtype is (torch.float32 if in_float32 else torch.bfloat16)
        assert quick.fingerprint.key == exact.fingerprint.key
        assert cosines(encode(quick, pictures), expected).min() >= 0.999, quick.runtime.network.dtype


@pytest.mark.parametrize("family", ["vit", "mobilenet", "clip"])
def test_the_batch_size_does_not_matter(family: str, embedder: Load, pictures: list[Image.Image]) -> None:
    model = embedder(family)
    together = encode(model, pictures)
    alone = np.concatenate([encode(model, [picture]) for picture in pictures])
    assert np.abs(together - alone).max() < 1e-5


def test_two_processes_give_identical_vectors_without_a_trained_pooler(
    checkpoint: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one, and this one, where PyTorch has drawn other random numbers before."""
    program = """
import sys, numpy as np
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network
network = Network.load(find_checkpoint(sys.argv[1]), "features", device="cpu", precision="float32")
model = Embedder.of_network(network)
ramp = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
print(model.fingerprint.to_json(), model.fingerprint.key, model.encode([ramp]).tobytes().hex())
"""
    arguments = ["-c", str(checkpoint("vit_labels"))]
    command = [sys.executable, "-c", program, *arguments[1:]]
    other = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    monkeypatch.setattr(sys, "argv", arguments)
    exec(program, {})
    assert capsys.readouterr().out == other
    assert '"pooling": "cls"' in other


def test_the_choice_without_a_class_token_is_the_mean(tmp_path: Path, pictures: list[Image.Image]) -> None:
    """SigLIP's image tower alone has a pooler; without its weights nothing but positions is left."""
    import torch
    from transformers import SiglipVisionConfig, SiglipVisionModel
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = SiglipVisionConfig(**shape, image_size=32, patch_size=8, vision_use_head=False)
    model = SiglipVisionModel(config).eval()
    model.save_pretrained(tmp_path / "m")
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "m")
    mine = Embedder.of_network(
        Network.load(find_checkpoint(str(tmp_path / "m")), "features", device="cpu", precision="float32")
    )
    assert mine.fingerprint.pooling == "mean"
    pixels = mine.preprocess(pictures[0])
    with torch.no_grad():
        expected = model(mine.runtime.network.stack([pixels])).last_hidden_state.mean(1).numpy()
    assert cosines(mine.encode([pixels]), expected).min() >= 0.9999


def test_masked_autoencoders_see_the_whole_picture(tmp_path: Path, pictures: list[Image.Image]) -> None:
    """In Transformers, ViT-MAE hides three quarters of every picture at random, whatever it is used for."""
    import torch
    from transformers import ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {f"decoder_{name}": value for name, value in shape.items()}
    config = ViTMAEConfig(**shape, **decoder, image_size=32, patch_size=8, initializer_range=0.3)
    ViTMAEForPreTraining(config).save_pretrained(tmp_path / "m")
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "m")
    mine = Embedder.of_network(
        Network.load(find_checkpoint(str(tmp_path / "m")), "features", device="cpu", precision="float32")
    )
    pixels = [mine.preprocess(picture) for picture in pictures]
    seeing_all = ViTMAEModel.from_pretrained(tmp_path / "m", mask_ratio=0.0).eval()
    with torch.no_grad():
        expected = seeing_all(mine.runtime.network.stack(pixels)).last_hidden_state[:, 0].numpy()
    assert mine.fingerprint.pooling == "cls"
    assert cosines(mine.encode(pixels), expected).min() >= 0.9999
    assert np.allclose(mine.encode(pixels), mine.encode(pixels), atol=1e-6)


def test_several_vectors_of_a_picture_are_refused(tmp_path: Path) -> None:
    """FLAVA's projection is of every token."""
    from transformers import FlavaConfig, FlavaModel
    from transformers.models.flava.image_processing_pil_flava import FlavaImageProcessorPil

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = FlavaConfig(
        text_config=shape | {"vocab_size": 50},
        image_config=shape | {"image_size": 32, "patch_size": 8},
        multimodal_config=shape,
        hidden_size=16,
        projection_dim=8,
    )
    FlavaModel(config).save_pretrained(tmp_path / "m")
    FlavaImageProcessorPil(
        size={"height": 32, "width": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path / "m")
    network = Network.load(find_checkpoint(str(tmp_path / "m")), "features", device="cpu", precision="float32")
    with pytest.raises(ModelError, match="m makes no single vector of a picture"):
        Embedder.of_network(network)


class TestPoolingByHand:
    @pytest.mark.parametrize("family", ["vit", "clip", "beit_labels"])
    def test_class_token(self, family: str, embedder: Load, pictures: list[Image.Image]) -> None:
        import torch

        model = embedder(family, pooling="cls")
        network = model.runtime.network
        tower = network.model.vision_model if family == "clip" else network.model
        with torch.no_grad():
            states = tower(pixel_values=network.stack([model.preprocess(p) for p in pictures])).last_hidden_state
        assert cosines(encode(model, pictures), states[:, 0].numpy()).min() >= 0.9999
        assert model.fingerprint.pooling == "cls"

    @pytest.mark.parametrize("family", ["vit", "convnext", "siglip"])
    def test_mean_over_positions(self, family: str, embedder: Load, pictures: list[Image.Image]) -> None:
        import torch

        model = embedder(family, pooling="mean")
        network = model.runtime.network
        tower = network.model.vision_model if family == "siglip" else network.model
        with torch.no_grad():
            states = tower(pixel_values=network.stack([model.preprocess(p) for p in pictures])).last_hidden_state
        by_hand = states.flatten(2).mean(2) if states.ndim == 4 else states.mean(1)
        assert cosines(encode(model, pictures), by_hand.numpy()).min() >= 0.9999

    def test_pooler(self, embedder: Load, pictures: list[Image.Image]) -> None:
        assert np.array_equal(
            encode(embedder("vit", pooling="pooler"), pictures), encode(embedder("vit"), pictures)
        )
        assert embedder("clip", pooling="pooler").fingerprint.pooling == "projection"

    @pytest.mark.parametrize(
        ("family", "pooling", "expected"),
        [
            ("vit_labels", "pooler", "has no trained pooler"),
            ("convnext", "cls", "has no class token"),
            ("siglip", "cls", "has no class token"),
        ],
    )
    def test_refusals(self, family: str, pooling: str, expected: str, embedder: Load) -> None:
        with pytest.raises(ModelError, match=rf"model\.pooling = '{pooling}': .* {expected} \(allowed: auto, "):
            embedder(family, pooling=pooling)

    def test_other_poolings_are_other_fingerprints(self, embedder: Load) -> None:
        keys = {embedder("vit", pooling=how).fingerprint.key for how in ("pooler", "cls", "mean")}
        assert len(keys) == 3

    def test_vectors_as_the_network_gives_them(self, embedder: Load, pictures: list[Image.Image]) -> None:
        raw = embedder("vit", normalize=False)
        lengths = np.linalg.norm(encode(raw, pictures), axis=1)
        assert np.abs(lengths - 1).min() > 0.01
        assert raw.fingerprint.key != embedder("vit").fingerprint.key
        assert cosines(encode(raw, pictures), encode(embedder("vit"), pictures)).min() > 0.9999


def without_weights(folder: Path, part: str) -> Path:
    """Remove all weights whose name holds ``part`` from a checkpoint."""
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if part not in name}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


class TestMissingWeights:
    @pytest.mark.parametrize("pooling", ["auto", "cls", "mean"])
    def test_a_network_with_holes_is_refused(self, tmp_path: Path, pooling: str) -> None:
        folder = without_weights(save_checkpoint(tmp_path / "m", "vit"), "layernorm_after")
        network = Network.load(find_checkpoint(str(folder)), "features", device="cpu")
        with pytest.raises(ModelError, match=r"lacks 4 of the network's weights .*layernorm_after.*random"):
            Embedder.of_network(network, pooling=pooling)

    def test_an_image_tower_with_holes_is_refused(self, tmp_path: Path) -> None:
        folder = without_weights(save_checkpoint(tmp_path / "m", "clip"), "visual_projection")
        with pytest.raises(ModelError, match="visual_projection"):
            Embedder.of_network(Network.load(find_checkpoint(str(folder)), "features", device="cpu"))

    def test_the_text_tower_may_be_missing(self, tmp_path: Path) -> None:
        folder = without_weights(save_checkpoint(tmp_path / "m", "clip"), "text_model")
        assert (
            Embedder.of_network(
                Network.load(find_checkpoint(str(folder)), "features", device="cpu")
            ).fingerprint.dim
            == 24
        )

    def test_a_classifier_made_of_two_towers_has_its_image_tower(self, tmp_path: Path) -> None:
        """CLIPForImageClassification keeps neither the text tower nor the projections."""
        folder = without_weights(save_checkpoint(tmp_path / "m", "clip"), "text")
        network = Network.load(find_checkpoint(str(without_weights(folder, "visual_projection"))), "features")
        expected = network.model.vision_model
        mine = Embedder.of_network(network, normalize=False)
        assert mine.fingerprint.pooling == "pooler"
        pixels = mine.preprocess(draw_picture(0, (40, 40)))
        with network.inference():
            vectors = expected(pixel_values=network.stack([pixels])).pooler_output.float().numpy()
        assert np.allclose(mine.encode([pixels]), vectors, atol=1e-5)
        with pytest.raises(ModelError, match="has no text tower"):
            mine.encode_texts(["a cat"])


class TestOddPictures:
    @pytest.mark.parametrize("family", ["vit", "clip", "convnext", "mobilenet"])
    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 50), (50, 3), (4, 3)])
    def test_tiny_ones(self, family: str, size: tuple[int, int], embedder: Load) -> None:
        """Three rows or columns could be taken for three channels."""
        model = embedder(family)
        small = encode(model, [Image.new("RGB", size, (200, 40, 90))])
        large = encode(model, [Image.new("RGB", (64, 64), (200, 40, 90))])
        assert cosines(small, large).min() > 0.999

    @pytest.mark.parametrize("size", [(2, 60_000), (60_000, 2)])
    def test_long_strips_do_not_need_gigabytes(self, embedder: Load, size: tuple[int, int]) -> None:
        import tracemalloc

        model = embedder("clip")
        strip = Image.new("RGB", size, (10, 200, 10))
        middle = (size[0] // 2, size[1] // 2)
        strip.paste((250, 0, 0), (max(0, middle[0] - 8), max(0, middle[1] - 8), middle[0] + 8, middle[1] + 8))
        tracemalloc.start()
        vectors = encode(model, [strip])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 5e6
        # What counts is the centre, as with any other picture.
        assert cosines(vectors, encode(model, [Image.new("RGB", (40, 40), (250, 0, 0))])).min() > 0.99

    def test_ordinary_panoramas_are_not_touched(self) -> None:
        panorama = Image.linear_gradient("L").resize((600, 40)).convert("RGB")
        assert without_ends(panorama) is panorama


class TestStarter:
    def test_it_is_what_the_catalogue_says(self, starter: Embedder) -> None:
        spec = catalogue.PRESETS["starter"]
        assert starter.fingerprint.dim == spec.dim
        assert starter.fingerprint.input_size == (spec.input_size, spec.input_size)
        assert starter.fingerprint.model == "starter"
        parameters = sum(p.numel() for p in starter.runtime.network.model.parameters()) / 1e6
        assert parameters == pytest.approx(spec.parameters, abs=0.1)

    def test_a_picture_is_closest_to_its_own_variants(self, starter: Embedder, photos: Path) -> None:
        some = [Image.open(path).convert("RGB") for path in sorted(photos.iterdir())[::100]]
        changed = [
            p.crop((p.width // 20, p.height // 20, p.width * 19 // 20, p.height * 19 // 20)).resize((200, 150))
            for p in some
        ]
        scores = encode(starter, some) @ encode(starter, changed).T
        assert (scores.argmax(axis=1) == np.arange(len(some))).all()

    def test_its_card_says_what_it_is(self) -> None:
        card = (catalogue.STARTER_FOLDER / "README.md").read_text(encoding="utf-8")
        for word in ("Apache-2.0", "320", "64"):
            assert word.lower() in card.lower()


def test_path_picture_and_array_agree(picture_folder: Path, starter: Embedder) -> None:
    images = ImageSearch({"model": {"precision": "float32", "device": "cpu"}}, embedder=starter)
    path = picture_folder / "0.png"
    with Image.open(path) as opened:
        pixels = np.asarray(opened.convert("RGB"))
        vectors = images.embed([str(path), path, opened, pixels])
    assert all(np.array_equal(vectors[0], row) for row in vectors)
    assert images.embed([]).shape == (0, 320)


def test_a_moved_checkpoint_keeps_its_identity(tmp_path: Path, embedder: Load, checkpoint: Any) -> None:
    shutil.copytree(checkpoint("vit"), tmp_path / "elsewhere")
    moved = find_checkpoint(str(tmp_path / "elsewhere"))
    assert moved.revision == embedder("vit").fingerprint.revision
    other = save_checkpoint(tmp_path / "other", "vit", seed=1)
    assert find_checkpoint(str(other)).revision != moved.revision
