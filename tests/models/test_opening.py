"""Runtimes: the same results in each, graphs that are kept and mistrusted, cold starts without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.config import ModelSettings
from imagesearch.errors import ModelError
from imagesearch.images.files import LARGE_PICTURES, load_picture
from imagesearch.models import catalogue, converting, exporting, graphs, opening
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.loading import Network
from imagesearch.models.opening import GRAPH_RUNTIMES, Running, open_classifier, open_embedder
from imagesearch.models.preparing import Pixels
from imagesearch.models.runtime import Runtime, TorchRuntime

from .conftest import save_checkpoint

GRAPHS = [
    pytest.param(name, marks=pytest.mark.skipif(not exporting.is_installed(name), reason=f"no {name} here"))
    for name in GRAPH_RUNTIMES
]

# A conversion takes seconds, so not every family in every runtime: the ways of pooling and the kinds of layers.
CONVERTED = [
    pytest.param(family, runtime, marks=pytest.mark.skipif(not exporting.is_installed(runtime), reason="not here"))
    for family, runtime in [
        *((family, "openvino") for family in ("vit_labels", "clip", "siglip", "swin", "convnext")),
        *((family, "onnx") for family in ("clip", "mobilenet")),
    ]
]


def cpu(runtime: str, precision: str = "float32") -> Running:
    return Running(device="cpu", precision=precision, runtime=runtime)


def encode(embedder: Embedder, pictures: list[Image.Image]) -> NDArray[np.float32]:
    return embedder.encode([embedder.prepare(picture) for picture in pictures])


def cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "graphs"


def manifests() -> list[Path]:
    return sorted(cache().glob("*/manifest.json"))


def spy_on_loading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions in which networks were loaded in PyTorch from now on."""
    loaded: list[str] = []
    original = Network.__init__

    def init(self: Network, checkpoint: Checkpoint, task: Any, **options: Any) -> None:
        loaded.append(options["precision"])
        original(self, checkpoint, task, **options)

    monkeypatch.setattr(Network, "__init__", init)
    return loaded


def test_the_settings_know_all_runtimes() -> None:
    assert get_args(ModelSettings.model_fields["runtime"].annotation) == ("auto", "torch", *GRAPH_RUNTIMES)


class TestFaithful:
    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize(("family", "runtime"), CONVERTED)
    def test_vectors(
        self, family: str, runtime: str, checkpoint: Callable[[str], Path], pictures: list[Image.Image]
    ) -> None:
        found = find_checkpoint(str(checkpoint(family)))
        plain = open_embedder(found, cpu("torch"))
        graph = open_embedder(found, cpu(runtime))
        assert not isinstance(graph.runtime, TorchRuntime)
        assert graph.fingerprint == plain.fingerprint
        assert graph.decode_side == plain.decode_side
        expected = encode(plain, pictures)
        for number in (1, len(pictures)):
            vectors = encode(graph, pictures[:number])
            assert vectors.dtype == np.float32
            assert (vectors * expected[:number]).sum(axis=1).min() >= 0.9999

    @pytest.mark.parametrize("runtime", ["torch", *GRAPHS])
    @pytest.mark.parametrize("precision", ["auto", "float32"])
    def test_the_bundled_model_on_photographs(self, runtime: str, precision: str, photos: Path) -> None:
        """The bound that is promised: a cosine of 0.999 to plain Transformers in float32."""
        import torch
        from transformers import AutoImageProcessor, AutoModel

        folder = catalogue.STARTER_FOLDER
        pictures = [load_picture(path) for path in sorted(photos.iterdir())[::20]]
        inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=pictures, return_tensors="pt")
        with torch.no_grad():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
            expected = torch.nn.functional.normalize(model(**inputs).pooler_output.flatten(1)).numpy()
        mine = open_embedder(find_checkpoint(str(folder)), cpu(runtime, precision))
        assert (encode(mine, pictures) * expected).sum(axis=1).min() >= 0.999

    @pytest.mark.parametrize("runtime", ["torch", *GRAPHS])
    def test_labels_of_photographs(
        self, runtime: str, photos: Path, mobilenet: Path, plain_labels: list[int]
    ) -> None:
        mine = open_classifier(find_checkpoint(str(mobilenet)), cpu(runtime, "auto"))
        files = sorted(photos.iterdir())[:: 1000 // len(plain_labels)]
        batch = [mine.prepare(load_picture(path)) for path in files]
        labels = [
            best.index for start in range(0, len(batch), 50) for (best,) in mine.predict(batch[start:][:50], 1)
        ]
        assert np.mean(np.array(labels) == plain_labels) >= 0.995

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_labels_and_their_probabilities(
        self, runtime: str, checkpoint: Callable[[str], Path], pictures: list[Image.Image]
    ) -> None:
        found = find_checkpoint(str(checkpoint("vit_labels")))
        plain, graph = open_classifier(found, cpu("torch")), open_classifier(found, cpu(runtime))
        assert graph.labels == plain.labels
        rows = zip(*(model.predict([model.prepare(p) for p in pictures]) for model in (plain, graph)), strict=True)
        for expected, mine in rows:
            assert [p.label for p in mine] == [p.label for p in expected]
            assert np.allclose([p.score for p in mine], [p.score for p in expected], atol=1e-4)

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_pictures_that_transformers_prepares(
        self, runtime: str, tmp_path: Path, pictures: list[Image.Image]
    ) -> None:
        folder = save_checkpoint(tmp_path / "odd", "clip")
        file = folder / "preprocessor_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"hologram": 1}))
        found = find_checkpoint(str(folder))
        plain = open_embedder(found, cpu("torch"))
        assert plain.prepare(pictures[0]).dtype == np.float32
        for _ in ("made", "from the cache"):
            mine = open_embedder(found, cpu(runtime))
            assert (encode(mine, pictures) * encode(plain, pictures)).sum(axis=1).min() >= 0.9999


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions that can be tampered with, and that need not import PyTorch first."""
    monkeypatch.setattr(opening, "convert", converting.convert_here)


@pytest.fixture(scope="module")
def plain_labels(photos: Path, mobilenet: Path) -> list[int]:
    """What plain Transformers says of 200 photographs."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(mobilenet, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(mobilenet, dtype=torch.float32).eval()
    labels: list[int] = []
    files = sorted(photos.iterdir())[::5]
    for start in range(0, len(files), 25):
        inputs = processor(images=[load_picture(path) for path in files[start : start + 25]], return_tensors="pt")
        with torch.no_grad():
            labels += model(**inputs).logits.argmax(-1).tolist()
    return labels


class TestChoice:
    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    def test_a_runtime_that_is_not_installed(
        self, runtime: str, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
    ) -> None:
        there = importlib.util.find_spec
        monkeypatch.setattr(
            importlib.util,
            "find_spec",
            lambda name, *more: None if name in ("openvino", "onnxruntime") else there(name, *more),
        )
        found = find_checkpoint(str(checkpoint("vit")))
        with pytest.raises(ModelError, match=rf"pip install 'imagesearch\[{runtime}\]'"):
            open_embedder(found, cpu(runtime))
        assert isinstance(open_embedder(found, cpu("auto")).runtime, TorchRuntime)

    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_what_a_runtime_cannot_do(self, runtime: str, checkpoint: Callable[[str], Path]) -> None:
        found = find_checkpoint(str(checkpoint("vit")))
        with pytest.raises(ModelError, match=r"on CPUs only, not on model\.device = 'cuda'"):
            open_embedder(found, Running(device="cuda", runtime=runtime))
        with pytest.raises(ModelError, match=r"model\.precision = 'float16' \(allowed: auto, float32"):
            open_embedder(found, cpu(runtime, "float16"))

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_a_network_that_cannot_be_converted(
        self, runtime: str, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("no such operator: hologram\nand a long story")

        monkeypatch.setattr(exporting, "_program", fail)
        found = find_checkpoint(str(checkpoint("vit")))
        with pytest.raises(ModelError, match=r"cannot run .*: no such operator: hologram;.*torch"):
            open_embedder(found, cpu(runtime))
        loaded = spy_on_loading(monkeypatch)
        with pytest.raises(ModelError, match="hologram"):
            open_embedder(found, cpu(runtime))
        assert loaded == []  # remembered: not tried again

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_an_unfaithful_graph_is_not_used(
        self, runtime: str, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
    ) -> None:
        monkeypatch.setattr(exporting, "_COSINE", 1.1)
        with pytest.raises(ModelError, match="differ from PyTorch's"):
            open_embedder(find_checkpoint(str(checkpoint("vit"))), cpu(runtime))
        (manifest,) = manifests()
        assert [path.name for path in manifest.parent.iterdir()] == ["manifest.json"]

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize(
        ("setting", "able", "noise", "chosen"),
        [
            ("auto", True, 0.01, "bfloat16"),  # cosine 0.99995
            ("auto", True, 0.04, "float32"),  # cosine 0.9992: not enough for rounding
            ("auto", False, 0.01, "float32"),
            ("float32", True, 0.01, "float32"),
        ],
    )
    def test_bfloat16_where_the_hardware_has_it_and_it_is_exact_enough(
        self,
        setting: str,
        able: bool,
        noise: float,
        chosen: str,
        monkeypatch: pytest.MonkeyPatch,
        checkpoint: Callable[[str], Path],
    ) -> None:
        if not exporting.is_installed("openvino"):
            pytest.skip("no openvino here")
        start = exporting.start

        class Rounded:
            def __init__(self, runtime: Runtime) -> None:
                self.runtime = runtime

            def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
                outputs = self.runtime.run(batch)
                errors = np.random.default_rng(0).standard_normal(outputs.shape, dtype=np.float32)
                errors *= noise / np.linalg.norm(errors, axis=1, keepdims=True)
                return outputs + errors * np.linalg.norm(outputs, axis=1, keepdims=True)

        def started(name: Any, folder: Path, precision: str) -> Any:
            runtime = start(name, folder, "float32")
            return Rounded(runtime) if precision == "bfloat16" else runtime

        monkeypatch.setattr(exporting, "start", started)
        monkeypatch.setattr("imagesearch.models.devices._cpu_multiplies_bfloat16", lambda: able)
        open_embedder(find_checkpoint(str(checkpoint("resnet"))), cpu("openvino", setting))
        (manifest,) = manifests()
        assert json.loads(manifest.read_text())["manifest"]["precision"] == chosen

    def test_how_results_are_compared(self) -> None:
        one = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        assert exporting.difference(one, one, labels=False) is None
        assert exporting.difference(one, one * 5, labels=False) is None
        assert "0.000" in str(exporting.difference(one, one[::-1], labels=False))
        assert exporting.difference(one * np.nan, one, labels=False)
        assert "probabilities" in str(exporting.difference(one, one * 5, labels=True))
        assert exporting.difference(one, one + 1e-4, labels=True) is None

    @pytest.mark.parametrize(
        ("speed", "torch_speed", "better"),
        [(5.5, 5.0, False), (6.0, 5.0, True), (500.0, 500.0, True), (400.0, 500.0, False)],
    )
    def test_the_rule(self, speed: float, torch_speed: float, better: bool) -> None:
        """A graph costs disk, and saves time at every start."""
        manifest = graphs.Manifest(None, "float32", speed, torch_speed)
        assert opening._is_better(manifest, asked_for=False) == better
        assert opening._is_better(manifest, asked_for=True)
        failed = graphs.Manifest(None, "float32", 0.0, 0.0, "no such operator: hologram")
        assert not opening._is_better(failed, asked_for=True)

    @pytest.mark.parametrize(
        ("first", "second", "converted"),
        [(2.0, 9.0, ["openvino"]), (0.5, 2.0, ["openvino", "onnx"]), (0.0, 2.0, ["openvino", "onnx"])],
    )
    def test_the_next_runtime_is_tried_only_where_the_first_is_no_good(
        self,
        first: float,
        second: float,
        converted: list[str],
        checkpoint: Callable[[str], Path],
        pictures: list[Image.Image],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        if not all(exporting.is_installed(name) for name in GRAPH_RUNTIMES):
            pytest.skip("not all runtimes are here")
        made: list[str] = []

        def convert(source: Any, precision: str, name: str, folder: Path) -> graphs.Manifest:
            made.append(name)
            speed = first if name == "openvino" else second
            return graphs.Manifest(None, "float32", 1000 * speed, 1000.0, None if speed else "no such operator")

        started: list[str] = []
        there = open_embedder(find_checkpoint(str(checkpoint("vit"))), cpu("torch"))
        monkeypatch.setattr(opening, "start", lambda name, *_: started.append(name) or there.runtime)
        monkeypatch.setattr(opening, "convert", convert)
        monkeypatch.setattr(opening, "EXPORT_AFTER", 1)
        mine = open_embedder(find_checkpoint(str(checkpoint("vit"))), cpu("auto"))
        for _ in range(3):
            encode(mine, pictures)
        assert made == converted
        assert started == converted[-1:]


class TestUpgrade:
    @pytest.fixture(autouse=True)
    def one_graph_runtime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not exporting.is_installed("openvino"):
            pytest.skip("no openvino here")
        monkeypatch.setattr(opening, "GRAPH_RUNTIMES", ("openvino",))
        # Tiny networks are as quick in PyTorch; whether a graph is worth it is not the question here.
        monkeypatch.setattr(opening, "_NO_SLOWER", 0.0)
        monkeypatch.setattr(opening, "_WORTH_IT", 0.0)

    def test_a_search_does_not_pay_for_it_and_a_folder_does(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = find_checkpoint(str(checkpoint("mobilenet")))
        mine = open_embedder(found, cpu("auto", "auto"))
        first = encode(mine, pictures)
        assert not cache().exists()
        for _ in range(opening.EXPORT_AFTER // len(pictures) + 1):
            last = encode(mine, pictures)
        assert len(manifests()) == 1
        assert (first * last).sum(axis=1).min() >= 0.999
        loaded = spy_on_loading(monkeypatch)
        again = open_embedder(found, cpu("auto", "auto"))
        assert np.abs(encode(again, pictures) - last).max() < 1e-5
        assert again.fingerprint == mine.fingerprint
        assert loaded == []

    def test_after_an_accident_pytorch_goes_on(
        self,
        checkpoint: Callable[[str], Path],
        pictures: list[Image.Image],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def convert(*_: Any) -> graphs.Manifest:
            raise ModelError("the conversion was struck by lightning")

        monkeypatch.setattr(opening, "convert", convert)
        monkeypatch.setattr(opening, "EXPORT_AFTER", 1)
        found = find_checkpoint(str(checkpoint("vit")))
        mine = open_embedder(found, cpu("auto"))
        before, after = encode(mine, pictures), encode(mine, pictures)
        assert np.array_equal(before, after)
        assert caplog.messages == ["the conversion was struck by lightning; PyTorch goes on"]
        assert manifests() == []
        with pytest.raises(ModelError, match="lightning"):
            open_embedder(found, cpu("openvino"))

    def test_a_large_network_waits_longer(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opening, "EXPORT_AFTER", 1)
        monkeypatch.setattr(opening, "_PARAMETERS_A_SECOND", 1.0)
        mine = open_embedder(find_checkpoint(str(checkpoint("resnet"))), cpu("auto"))
        for _ in range(3):
            encode(mine, pictures)
        assert not cache().exists()

    @pytest.mark.usefixtures("in_this_process")
    def test_what_was_found_slower_is_not_made_again(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opening, "_NO_SLOWER", np.inf)
        monkeypatch.setattr(opening, "_WORTH_IT", np.inf)
        monkeypatch.setattr(opening, "EXPORT_AFTER", 1)
        found = find_checkpoint(str(checkpoint("vit")))
        mine = open_embedder(found, cpu("auto"))
        before, after = encode(mine, pictures), encode(mine, pictures)
        assert np.array_equal(before, after)
        assert len(manifests()) == 1
        assert isinstance(open_embedder(found, cpu("auto")).runtime, TorchRuntime)

    def test_no_large_picture_is_decoded_meanwhile(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside: list[bool] = []

        def convert(*_: Any) -> graphs.Manifest:
            inside.append(LARGE_PICTURES._inside is threading.current_thread())
            return graphs.Manifest(None, "float32", 0.0, 0.0, "an experiment")

        monkeypatch.setattr(opening, "convert", convert)
        monkeypatch.setattr(opening, "EXPORT_AFTER", 1)
        mine = open_embedder(find_checkpoint(str(checkpoint("vit"))), cpu("auto"))
        for _ in range(3):
            encode(mine, pictures)
        assert inside == [True]
        assert LARGE_PICTURES._inside is None

    @pytest.mark.usefixtures("in_this_process")
    def test_unit_length_and_pooling_are_settings_still(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image]
    ) -> None:
        found = find_checkpoint(str(checkpoint("vit")))
        unit = open_embedder(found, cpu("openvino"))
        raw = open_embedder(found, cpu("openvino"), normalize=False)
        assert len(manifests()) == 1
        assert not raw.fingerprint.normalized
        lengths = np.linalg.norm(encode(raw, pictures), axis=1, keepdims=True)
        assert np.abs(lengths - 1).max() > 0.1
        assert np.allclose(encode(raw, pictures) / lengths, encode(unit, pictures), atol=1e-5)
        mean = open_embedder(found, cpu("openvino"), pooling="mean")
        assert mean.fingerprint.pooling == "mean"
        assert len(manifests()) == 2


@pytest.mark.usefixtures("in_this_process")
class TestKeeping:
    @pytest.fixture
    def open_again(self, checkpoint: Callable[[str], Path]) -> Callable[[], Embedder]:
        if not exporting.is_installed("openvino"):
            pytest.skip("no openvino here")
        found = find_checkpoint(str(checkpoint("resnet")))
        return lambda: open_embedder(found, cpu("openvino"))

    @pytest.mark.parametrize("damage", ["truncated", "refused by the library"])
    def test_a_damaged_graph_is_made_anew(
        self, damage: str, open_again: Callable[[], Embedder], pictures: list[Image.Image]
    ) -> None:
        expected = encode(open_again(), pictures)
        (manifest,) = manifests()
        graph = manifest.parent / "graph.xml"
        whole = graph.read_bytes()
        graph.write_bytes(whole[: len(whole) // 2])
        if damage == "refused by the library":  # whole by its manifest
            content = json.loads(manifest.read_text())
            content["files"]["graph.xml"] = graphs._digest(graph)
            manifest.write_text(json.dumps(content))
        assert np.allclose(encode(open_again(), pictures), expected, atol=1e-6)
        assert graph.stat().st_size == pytest.approx(len(whole), rel=0.01)

    def test_a_cache_that_cannot_be_written(
        self,
        open_again: Callable[[], Embedder],
        pictures: list[Image.Image],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        embedder: Callable[..., Embedder],
    ) -> None:
        (tmp_path / "file").write_text("where a folder should be")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        expected = encode(embedder("resnet"), pictures)
        assert (encode(open_again(), pictures) * expected).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("runtime", GRAPHS)
def test_a_cold_start_loads_neither_torch_nor_transformers(
    runtime: str, checkpoint: Callable[[str], Path], picture_folder: Path
) -> None:
    folder = str(checkpoint("mobilenet"))
    found = find_checkpoint(folder)
    vector = encode(open_embedder(found, cpu(runtime)), [load_picture(picture_folder / "0.png")])[0]
    label = open_classifier(found, cpu(runtime)).predict(
        [open_classifier(found, cpu(runtime)).prepare(load_picture(picture_folder / "0.png"))], 1
    )
    program = """
import json, sys
from imagesearch import ImageSearch
name, runtime, picture = sys.argv[1:]
images = ImageSearch({"model": {"name": name, "runtime": runtime, "precision": "float32", "device": "cpu"}})
(vector,) = images.embed([picture])
print(json.dumps([vector.tolist(), images.classify(picture, 1)[0].label, sorted(sys.modules)]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, folder, runtime, str(picture_folder / "0.png")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    cold, cold_label, modules = json.loads(run.stdout)
    assert not {"torch", "transformers", "onnx", "onnxscript"} & set(modules)
    assert np.allclose(cold, vector, atol=1e-5)
    assert cold_label == label[0][0].label
