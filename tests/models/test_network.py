"""What cannot be loaded, and what is said about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from imagesearch.errors import ModelError
from imagesearch.models.devices import choose_device, choose_precision
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Network, load_model
from imagesearch.models.tuning import normalises_batches

from .conftest import save_checkpoint


def load(folder: Path, task: Literal["features", "labels"] = "features") -> Network:
    return Network.load(find_checkpoint(str(folder)), task, device="cpu", precision="float32")


def refusal(folder: Path, task: Literal["features", "labels"] = "features") -> str:
    with pytest.raises(ModelError) as caught:
        load(folder, task)
    message = str(caught.value)
    assert "\n" not in message
    assert folder.name in message
    return message


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "mine", "vit")


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no config.json" in refusal(tmp_path / "empty")


def test_a_folder_without_weights(vit: Path) -> None:
    (vit / "model.safetensors").unlink()
    assert "has no weights (model.safetensors or pytorch_model.bin)" in refusal(vit)


def test_parts_of_weights_without_their_list(vit: Path) -> None:
    (vit / "model.safetensors").rename(vit / "model-00001-of-00002.safetensors")
    assert "without the file that lists them: model.safetensors.index.json" in refusal(vit)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged_weights(vit: Path, damage: str) -> None:
    file = vit / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes({"truncated": whole[: len(whole) // 2], "garbage": b"no weights" * 99, "empty": b""}[damage])
    assert "cannot be loaded" in refusal(vit)


def test_damaged_settings(vit: Path) -> None:
    (vit / "config.json").write_text("{ not json")
    assert refusal(vit)


def test_an_architecture_that_nobody_knows(vit: Path) -> None:
    (vit / "config.json").write_text(json.dumps({"model_type": "hologram"}))
    assert "hologram" in refusal(vit)


def test_no_image_processor(vit: Path) -> None:
    (vit / "preprocessor_config.json").unlink()
    assert "image processor" in refusal(vit)


def test_a_text_model(vit: Path) -> None:
    (vit / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ModelError):
        Embedder.of_network(load(vit))


def test_an_image_model_that_does_not_label(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path / "two-towers", "siglip")
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "siglip_text_model"
    (folder / "config.json").write_text(json.dumps(config))
    assert "its architecture does not label pictures" in refusal(folder, "labels")


@pytest.mark.parametrize("device", ["cuda:99", "cuda:1000"])
def test_a_device_that_is_not_there(vit: Path, device: str) -> None:
    with pytest.raises(ModelError, match=rf"model\.device = '{device}', but PyTorch .* sees only: .*cpu"):
        Network.load(find_checkpoint(str(vit)), "features", device=device)


def test_devices_and_precisions_without_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto") == "cpu"
    for missing in ("cuda", "cuda:0", "mps"):
        with pytest.raises(ModelError, match=missing):
            choose_device(missing)
    monkeypatch.setattr("imagesearch.models.devices._cpu_multiplies_bfloat16", lambda: False)
    assert choose_precision("auto", "cpu") is torch.float32
    monkeypatch.setattr("imagesearch.models.devices._cpu_multiplies_bfloat16", lambda: True)
    assert choose_precision("auto", "cpu") is torch.bfloat16
    assert choose_precision("float16", "cpu") is torch.float16


def test_devices_with_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("imagesearch.models.devices._may_have_accelerator", lambda: True)
    assert choose_device("auto") == "cuda"
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(ModelError, match=r"cuda:0, cuda:1, .*cpu"):
        choose_device("cuda:2")


def test_loading_says_nothing_on_the_terminal(vit: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (vit / "model.safetensors").touch()
    load(vit)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_processors_without_a_fixed_size_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    folder = save_checkpoint(tmp_path / "m", "clip")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings["do_center_crop"] = False
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    network = load(folder)
    with pytest.raises(ModelError, match="fixed resolution"):
        network.preprocess(Image.new("RGB", (90, 60)))


def test_a_processor_that_makes_other_pictures_than_the_network_takes(vit: Path) -> None:
    file = vit / "preprocessor_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "size": {"height": 48, "width": 48}}))
    with pytest.raises(ModelError, match=r"mine: its network fails on .* \(48\*48\) doesn't match"):
        Embedder.of_network(load(vit))


def test_convolutional_networks_for_grey_pictures(tmp_path: Path) -> None:
    """They are tried on a picture already when they are tuned."""
    from transformers import ResNetConfig, ResNetForImageClassification

    folder = save_checkpoint(tmp_path / "mine", "resnet")
    shape = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"}
    ResNetForImageClassification(ResNetConfig(**shape, num_channels=1)).save_pretrained(folder)
    with pytest.raises(ModelError, match=r"mine: its network fails on .* channel"):
        Embedder.of_network(load(folder))


def test_an_architecture_that_takes_no_pictures(vit: Path) -> None:
    from transformers import PerceiverConfig, PerceiverModel

    shape = {"num_latents": 4, "d_latents": 8, "d_model": 8, "num_blocks": 1, "num_self_attends_per_block": 1}
    heads = {"num_self_attention_heads": 1, "num_cross_attention_heads": 1}
    PerceiverModel(PerceiverConfig(**shape, **heads)).save_pretrained(vit)
    assert "makes no vectors of pictures" in refusal(vit)


def test_networks_that_transformers_has_as_a_backbone_alone(vit: Path) -> None:
    from transformers import HGNetV2Config, HGNetV2ForImageClassification

    stages = {"in": [8, 16, 16, 16], "mid": [8] * 4, "out": [16] * 4}
    shape = {f"stage_{part}_channels": channels for part, channels in stages.items()}
    depths = {"stage_num_blocks": [1] * 4, "stage_numb_of_layers": [1] * 4, "hidden_sizes": [16] * 4}
    config = HGNetV2Config(embedding_size=8, stem_channels=[3, 8, 8], **shape, **depths)
    HGNetV2ForImageClassification(config).save_pretrained(vit)
    network = load(vit)
    mine = Embedder.of_network(network, normalize=False)
    assert mine.fingerprint.pooling == "mean"
    with network.inference():
        plain = load_model(network.checkpoint, "features").model.eval()
        expected = plain(pixel_values=network.stack([network.blank])).feature_maps[-1].mean(dim=(2, 3)).numpy()
    assert np.allclose(mine.encode([network.blank]), expected, atol=1e-5)


def test_float32_whatever_the_file_holds(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """The bundled weights are stored as float16; computing in it would lose digits."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = save_checkpoint(tmp_path / "half", "vit")
    weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert {parameter.dtype for parameter in load(folder).model.parameters()} == {torch.float32}


class TestRawModels:
    """What training gets: everything as the checkpoint has it."""

    def test_it_can_be_trained(self, checkpoint: Callable[[str], Path]) -> None:
        import torch

        loaded = load_model(find_checkpoint(str(checkpoint("mobilenet"))), "labels")
        assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
        assert normalises_batches(loaded.model)  # nothing was folded
        loaded.model.train()
        pixels = torch.rand(2, 3, 32, 32)
        loaded.model(pixel_values=pixels, labels=torch.tensor([0, 1])).loss.backward()
        assert all(parameter.grad is not None for parameter in loaded.model.parameters())

    def test_what_the_checkpoint_lacks_is_known(self, checkpoint: Callable[[str], Path]) -> None:
        loaded = load_model(find_checkpoint(str(checkpoint("vit"))), "labels")
        assert loaded.missing == {"classifier.weight", "classifier.bias"}
        assert loaded.config is loaded.model.config

    def test_a_network_for_inference_is_made_of_it(self, checkpoint: Callable[[str], Path]) -> None:
        loaded = load_model(find_checkpoint(str(checkpoint("mobilenet"))), "features")
        network = Network(loaded, device="cpu", precision="float32")
        assert not any(parameter.requires_grad for parameter in network.model.parameters())
        assert not normalises_batches(network.model)
        assert not network.model.training
