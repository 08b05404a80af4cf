"""Runtimes: the same results in each, graphs that are kept and mistrusted, cold starts without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache as cache_calls
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imagesearch.config import ModelSettings
from imagesearch.errors import ModelError
from imagesearch.images.sources import load_image
from imagesearch.models import catalogue
from imagesearch.models.digests import file_digest
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import Checkpoint, find_checkpoint
from imagesearch.models.network import LoadedModel, Network
from imagesearch.models.preprocessing import Pixels
from imagesearch.models.runtimes import cache, conversion, export, openvino, selection
from imagesearch.models.runtimes.base import Runtime, RuntimeOptions
from imagesearch.models.runtimes.selection import (
    GRAPH_RUNTIMES,
    open_classifier,
    open_embedder,
    optimize,
    worth_optimizing,
)
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.records import Fingerprint

from ..conftest import save_checkpoint

GRAPHS = [
    pytest.param(name, marks=pytest.mark.skipif(not export.is_installed(name), reason=f"no {name} here"))
    for name in GRAPH_RUNTIMES
]

# A conversion takes seconds, so not every family in every runtime: the ways of pooling and the kinds of layers.
CONVERTED = [
    pytest.param(family, runtime, marks=pytest.mark.skipif(not export.is_installed(runtime), reason="not here"))
    for family, runtime in [
        *((family, "openvino") for family in ("vit_labels", "clip", "siglip", "swin", "convnext")),
        *((family, "onnx") for family in ("clip", "mobilenet")),
    ]
]


def cpu(runtime: str, precision: str = "float32") -> RuntimeOptions:
    return RuntimeOptions(device="cpu", precision=precision, runtime=runtime)


def encode(embedder: Embedder, pictures: list[Image.Image]) -> NDArray[np.float32]:
    return embedder.encode([embedder.preprocess(picture) for picture in pictures])


def cache_folder() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("imagesearch") / "graphs"


def manifests() -> list[Path]:
    return sorted(cache_folder().glob("*/manifest.json"))


def spy_on_loading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions in which networks were loaded in PyTorch from now on."""
    loaded: list[str] = []
    original = Network.__init__

    def init(self: Network, model: LoadedModel, **options: Any) -> None:
        loaded.append(options["precision"])
        original(self, model, **options)

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

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", ["torch", *GRAPHS])
    @pytest.mark.parametrize("precision", ["auto", "float32"])
    def test_the_bundled_model_on_photographs(self, runtime: str, precision: str, photos: Path) -> None:
        """The bound that is promised: a cosine of 0.999 to plain Transformers in float32."""
        import torch
        from transformers import AutoImageProcessor, AutoModel

        folder = catalogue.STARTER_FOLDER
        pictures = [load_image(path) for path in sorted(photos.iterdir())[::20]]
        inputs = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=pictures, return_tensors="pt")
        with torch.no_grad():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
            expected = torch.nn.functional.normalize(model(**inputs).pooler_output.flatten(1)).numpy()
        mine = open_embedder(find_checkpoint(str(folder)), cpu(runtime, precision))
        assert (encode(mine, pictures) * expected).sum(axis=1).min() >= 0.999

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", ["torch", *GRAPHS])
    @pytest.mark.parametrize("photographs", [66, pytest.param(200, marks=pytest.mark.slow)])
    def test_labels_of_photographs(
        self, runtime: str, photographs: int, photos: Path, mobilenet: Path, plain_labels: PlainLabels
    ) -> None:
        """Rounding may decide between two labels that are as probable, in one of 200."""
        mine = open_classifier(find_checkpoint(str(mobilenet)), cpu(runtime, "auto"))
        batch = [mine.preprocess(load_image(path)) for path in every(photos, photographs)]
        labels = [
            best.index for start in range(0, len(batch), 50) for (best,) in mine.predict(batch[start:][:50], 1)
        ]
        assert len(labels) == photographs
        assert np.sum(np.array(labels) != plain_labels(photographs)) <= 1

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_labels_and_their_probabilities(
        self, runtime: str, checkpoint: Callable[[str], Path], pictures: list[Image.Image]
    ) -> None:
        found = find_checkpoint(str(checkpoint("vit_labels")))
        plain, graph = open_classifier(found, cpu("torch")), open_classifier(found, cpu(runtime))
        assert graph.labels == plain.labels
        rows = zip(
            *(model.predict([model.preprocess(p) for p in pictures]) for model in (plain, graph)), strict=True
        )
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
        assert plain.preprocess(pictures[0]).dtype == np.float32
        for _ in ("made", "from the cache"):
            mine = open_embedder(found, cpu(runtime))
            assert (encode(mine, pictures) * encode(plain, pictures)).sum(axis=1).min() >= 0.9999


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions that can be tampered with, and that neither import PyTorch first nor time graphs for long."""
    monkeypatch.setattr(selection, "convert", conversion.convert_here)
    monkeypatch.setattr(export, "_TRIAL_SECONDS", 0.0)


PlainLabels = Callable[[int], list[int]]


def every(photos: Path, number: int) -> list[Path]:
    """So many of a thousand photographs, from the first to the last."""
    return sorted(photos.iterdir())[:: 1000 // number][:number]


@pytest.fixture(scope="module")
def plain_labels(photos: Path, mobilenet: Path) -> PlainLabels:
    """What plain Transformers says of a number of photographs."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(mobilenet, backend="pil")
    model = AutoModelForImageClassification.from_pretrained(mobilenet, dtype=torch.float32).eval()

    @cache_calls
    def labels_of(number: int) -> list[int]:
        labels: list[int] = []
        files = every(photos, number)
        for start in range(0, number, 25):
            inputs = processor(images=[load_image(path) for path in files[start:][:25]], return_tensors="pt")
            with torch.no_grad():
                labels += model(**inputs).logits.argmax(-1).tolist()
        return labels

    return labels_of


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
        with pytest.raises(ModelError, match=rf"pip install {runtime}"):
            open_embedder(found, cpu(runtime))
        assert isinstance(open_embedder(found, cpu("auto")).runtime, TorchRuntime)

    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_what_a_runtime_cannot_do(self, runtime: str, checkpoint: Callable[[str], Path]) -> None:
        found = find_checkpoint(str(checkpoint("vit")))
        with pytest.raises(ModelError, match=r"on CPUs only, not on model\.device = 'cuda'"):
            open_embedder(found, RuntimeOptions(device="cuda", runtime=runtime))
        with pytest.raises(ModelError, match=r"model\.precision = 'float16' \(allowed: auto, float32"):
            open_embedder(found, cpu(runtime, "float16"))

    @pytest.mark.usefixtures("in_this_process")
    @pytest.mark.parametrize("runtime", GRAPHS)
    def test_a_network_that_cannot_be_converted(
        self, runtime: str, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("no such operator: hologram\nand a long story")

        monkeypatch.setattr(export, "_program", fail)
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
        monkeypatch.setattr(export, "_COSINE", 1.1)
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
        if not export.is_installed("openvino"):
            pytest.skip("no openvino here")
        start = export.load_graph

        class Rounded:
            def __init__(self, runtime: Runtime) -> None:
                self.runtime = runtime

            def run(self, batch: Sequence[Pixels]) -> NDArray[np.float32]:
                outputs = self.runtime.run(batch)
                errors = np.random.default_rng(0).standard_normal(outputs.shape, dtype=np.float32)
                errors *= noise / np.linalg.norm(errors, axis=1, keepdims=True)
                return outputs + errors * np.linalg.norm(outputs, axis=1, keepdims=True)

        def started(name: Any, folder: Path, precision: str, task: Any) -> Any:
            runtime = start(name, folder, "float32", task)
            return Rounded(runtime) if precision == "bfloat16" else runtime

        monkeypatch.setattr(export, "load_graph", started)
        monkeypatch.setattr(openvino, "multiplies_bfloat16", lambda: able)
        open_embedder(find_checkpoint(str(checkpoint("resnet"))), cpu("openvino", setting))
        (manifest,) = manifests()
        assert json.loads(manifest.read_text())["manifest"]["precision"] == chosen

    def test_how_results_are_compared(self) -> None:
        one = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
        assert export.difference(one, one, labels=False) is None
        assert export.difference(one, one * 5, labels=False) is None
        assert "0.000" in str(export.difference(one, one[::-1], labels=False))
        assert export.difference(one * np.nan, one, labels=False)
        assert "probabilities" in str(export.difference(one, one * 5, labels=True))
        assert export.difference(one, one + 1e-4, labels=True) is None

    @pytest.mark.parametrize(
        ("speed", "torch_speed", "better"),
        [(5.5, 5.0, False), (6.0, 5.0, True), (500.0, 500.0, True), (400.0, 500.0, False)],
    )
    def test_the_rule(self, speed: float, torch_speed: float, better: bool) -> None:
        """A graph costs disk, and saves time at every start."""
        manifest = cache.Manifest(None, "float32", speed, torch_speed)
        assert selection._is_better(manifest, asked_for=False) == better
        assert selection._is_better(manifest, asked_for=True)
        failed = cache.Manifest(None, "float32", 0.0, 0.0, "no such operator: hologram")
        assert not selection._is_better(failed, asked_for=True)

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
        if not all(export.is_installed(name) for name in GRAPH_RUNTIMES):
            pytest.skip("not all runtimes are here")
        made: list[str] = []

        def convert(source: Any, precision: str, name: str, folder: Path) -> cache.Manifest:
            made.append(name)
            speed = first if name == "openvino" else second
            return cache.Manifest(None, "float32", 1000 * speed, 1000.0, None if speed else "no such operator")

        started: list[str] = []
        found = find_checkpoint(str(checkpoint("vit")))
        there = open_embedder(found, cpu("torch"))
        monkeypatch.setattr(selection, "load_graph", lambda name, *_: started.append(name) or there.runtime)
        monkeypatch.setattr(selection, "convert", convert)
        for _ in range(2):
            assert optimize(found, "features", cpu("auto"))
        monkeypatch.setattr(Fingerprint, "from_json", lambda _: there.fingerprint)
        open_embedder(found, cpu("auto"))
        assert made == converted
        assert started == converted[-1:]


class TestOptimizing:
    @pytest.fixture(autouse=True)
    def one_graph_runtime(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if not export.is_installed("openvino"):
            pytest.skip("no openvino here")
        monkeypatch.setattr(selection, "GRAPH_RUNTIMES", ("openvino",))
        # Tiny networks are as quick in PyTorch; whether a graph is worth it is not the question here.
        monkeypatch.setattr(selection, "_NO_SLOWER", 0.0)
        monkeypatch.setattr(selection, "_WORTH_IT", 0.0)

    def test_what_was_made_is_used_and_starts_without_pytorch(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = find_checkpoint(str(checkpoint("mobilenet")))
        plain = open_embedder(found, cpu("auto", "auto"))
        first = encode(plain, pictures)
        assert not cache_folder().exists()
        told: list[tuple[str, int, int | None]] = []
        assert optimize(found, "features", cpu("auto", "auto"), progress=lambda *step: told.append(step))
        assert told == [("optimize", 0, 1), ("optimize", 1, 1)]
        assert len(manifests()) == 1
        loaded = spy_on_loading(monkeypatch)
        again = open_embedder(found, cpu("auto", "auto"))
        assert (first * encode(again, pictures)).sum(axis=1).min() >= 0.999
        assert again.fingerprint == plain.fingerprint
        assert loaded == []

    def test_it_is_done_once(self, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []

        def convert(source: Any, precision: str, name: str, folder: Path) -> cache.Manifest:
            made.append(name)
            return cache.Manifest(None, "float32", 2.0, 1.0)

        monkeypatch.setattr(selection, "convert", convert)
        found = find_checkpoint(str(checkpoint("vit")))
        told: list[tuple[str, int, int | None]] = []
        for _ in range(2):
            assert optimize(found, "features", cpu("auto"), progress=lambda *step: told.append(step))
        assert made == ["openvino"]
        assert len(told) == 2  # all of them the first time

    def test_nothing_to_do_where_pytorch_was_asked_for(self, checkpoint: Callable[[str], Path]) -> None:
        assert not optimize(find_checkpoint(str(checkpoint("vit"))), "features", cpu("torch"))
        assert not cache_folder().exists()

    @pytest.mark.usefixtures("in_this_process")
    def test_labels_have_a_graph_of_their_own(self, checkpoint: Callable[[str], Path]) -> None:
        found = find_checkpoint(str(checkpoint("vit_labels")))
        assert optimize(found, "labels", cpu("auto"), pooling="cls")
        assert not isinstance(open_classifier(found, cpu("auto")).runtime, TorchRuntime)
        assert isinstance(open_embedder(found, cpu("auto")).runtime, TorchRuntime)

    def test_an_accident_is_an_error_and_pytorch_goes_on(
        self,
        checkpoint: Callable[[str], Path],
        pictures: list[Image.Image],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def convert(*_: Any) -> cache.Manifest:
            raise ModelError("the conversion was struck by lightning")

        monkeypatch.setattr(selection, "convert", convert)
        found = find_checkpoint(str(checkpoint("vit")))
        before = encode(open_embedder(found, cpu("auto")), pictures)
        with pytest.raises(ModelError, match="lightning"):
            optimize(found, "features", cpu("auto"))
        assert np.array_equal(encode(open_embedder(found, cpu("auto")), pictures), before)
        assert manifests() == []
        with pytest.raises(ModelError, match="lightning"):
            open_embedder(found, cpu("openvino"))

    @pytest.mark.usefixtures("in_this_process")
    def test_what_was_found_slower_is_not_made_again(
        self, checkpoint: Callable[[str], Path], pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(selection, "_NO_SLOWER", np.inf)
        monkeypatch.setattr(selection, "_WORTH_IT", np.inf)
        found = find_checkpoint(str(checkpoint("vit")))
        before = encode(open_embedder(found, cpu("auto")), pictures)
        assert not optimize(found, "features", cpu("auto"))
        assert len(manifests()) == 1
        monkeypatch.setattr(selection, "convert", pytest.fail)
        assert not optimize(found, "features", cpu("auto"))
        after = open_embedder(found, cpu("auto"))
        assert isinstance(after.runtime, TorchRuntime)
        assert np.array_equal(before, encode(after, pictures))

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


class TestWorthIt:
    """A search does not pay for a conversion, and a folder does; a larger network needs a larger one."""

    @pytest.mark.parametrize(
        ("parameters", "dtype", "fewest"),
        [
            (1_000_000, "float32", 64),  # converted in a second
            (5_400_000, "float16", 64),  # the bundled model
            (86_000_000, "float32", 427),  # ViT-B/16: 29 s
            (300_000_000, "bfloat16", 1568),
        ],
    )
    def test_by_size(self, parameters: int, dtype: str, fewest: int, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"dtype": dtype}))
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.truncate(parameters * (4 if dtype == "float32" else 2))
        (tmp_path / "pytorch_model.bin").write_bytes(bytes(99))  # not what is loaded
        found = Checkpoint("mine", tmp_path, "1")
        assert worth_optimizing(found, fewest)
        assert not worth_optimizing(found, fewest - 1)

    def test_the_bundled_model(self) -> None:
        found = find_checkpoint(catalogue.features_checkpoint("starter"))
        assert [worth_optimizing(found, images) for images in (1, 63, 64)] == [False, False, True]

    def test_a_folder_without_settings(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="mine: cannot read its settings"):
            worth_optimizing(Checkpoint("mine", tmp_path, "1"), 100)


@pytest.mark.usefixtures("in_this_process")
class TestKeeping:
    @pytest.fixture
    def open_again(self, checkpoint: Callable[[str], Path]) -> Callable[[], Embedder]:
        if not export.is_installed("openvino"):
            pytest.skip("no openvino here")
        found = find_checkpoint(str(checkpoint("resnet")))
        return lambda: open_embedder(found, cpu("openvino"))

    @pytest.mark.parametrize("damage", ["truncated", "refused by the library"])
    def test_a_damaged_graph_is_made_again(
        self, damage: str, open_again: Callable[[], Embedder], pictures: list[Image.Image]
    ) -> None:
        expected = encode(open_again(), pictures)
        (manifest,) = manifests()
        graph = manifest.parent / "graph.xml"
        whole = graph.read_bytes()
        graph.write_bytes(whole[: len(whole) // 2])
        if damage == "refused by the library":  # whole by its manifest
            content = json.loads(manifest.read_text())
            content["files"]["graph.xml"] = file_digest(graph)
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


@pytest.mark.usefixtures("in_this_process")  # not the start, which finds what was converted
@pytest.mark.parametrize("runtime", GRAPHS)
def test_a_cold_start_loads_neither_torch_nor_transformers(
    runtime: str, checkpoint: Callable[[str], Path], picture_folder: Path
) -> None:
    folder = str(checkpoint("mobilenet"))
    found = find_checkpoint(folder)
    vector = encode(open_embedder(found, cpu(runtime)), [load_image(picture_folder / "0.png")])[0]
    label = open_classifier(found, cpu(runtime)).predict(
        [open_classifier(found, cpu(runtime)).preprocess(load_image(picture_folder / "0.png"))], 1
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
