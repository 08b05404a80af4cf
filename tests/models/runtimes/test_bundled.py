"""The bundled model's graph: what PyTorch gives, without PyTorch, from the first search on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.models import catalogue
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.network import Task
from imagesearch.models.runtimes import bundled, export
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.bundled import has_bundled_graph
from imagesearch.models.runtimes.conversion import Source
from imagesearch.models.runtimes.selection import open_classifier, open_embedder
from imagesearch.models.runtimes.torch import TorchRuntime

from ...conftest import draw_picture

pytestmark = pytest.mark.skipif(not export.is_installed("openvino"), reason="no openvino here")

STARTER = catalogue.STARTER_FOLDER
OPENVINO, TORCH = (RuntimeOptions("cpu", "float32", runtime) for runtime in ("openvino", "torch"))


@pytest.fixture(autouse=True)
def known_precision() -> None:
    """Instead of the one that all other tests have: here it is found out each time."""


@pytest.mark.parametrize("task", ["features", "labels"])
def test_it_gives_what_pytorch_gives(task: Task) -> None:
    open_model = open_embedder if task == "features" else open_classifier
    model, exact = (open_model(find_checkpoint(str(STARTER)), options) for options in (OPENVINO, TORCH))
    pictures = [model.preprocess(draw_picture(number)) for number in range(32)]
    outputs, expected = model.runtime.run(pictures), exact.runtime.run(pictures)
    assert export.difference(outputs, expected, 0.99999, labels=task == "labels") is None
    if task == "features":
        assert model.fingerprint == exact.fingerprint
    else:
        assert model.labels == exact.labels


def test_it_was_made_of_the_weights_beside_it() -> None:
    checkpoint = find_checkpoint(str(STARTER))
    assert has_bundled_graph(Source(checkpoint, "features", "auto"), "openvino")
    assert bundled._about()["features"]["revision"] == checkpoint.revision  # type: ignore[index]


@pytest.mark.parametrize("change", ["weights", "pooling", "runtime", "folder"])
def test_it_is_for_nothing_else(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, pooling = STARTER, "auto"
    if change == "weights":  # somebody trained the model again, and forgot the graph
        copy = Path(shutil.copytree(STARTER, tmp_path / "starter"))
        about = copy / "graph" / "about.json"
        about.write_text(json.dumps({**json.loads(about.read_text()), "weights": "0"}))
        monkeypatch.setattr(catalogue, "STARTER_FOLDER", copy)
        folder = copy
    if change == "folder":
        folder = Path(shutil.copytree(STARTER, tmp_path / "mine"))
    if change == "pooling":
        pooling = "mean"
    source = Source(find_checkpoint(str(folder)), "features", pooling)
    assert not has_bundled_graph(source, "onnx" if change == "runtime" else "openvino")


def test_where_openvino_fails_pytorch_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("illegal instruction")

    monkeypatch.setattr(bundled, "load_graph", fails)
    for _ in range(2):  # what was found out is remembered
        embedder = open_embedder(find_checkpoint(str(STARTER)), RuntimeOptions("cpu", "float32"))
        assert isinstance(embedder.runtime, TorchRuntime)


PROGRAM = """
import sys
from imagesearch import ImageSearch
with ImageSearch({"milvus": {"uri": "photos.db"}}) as images:
    images.index("pictures")
    assert images.search("pictures/0.png", k=1)[0].path.endswith("0.png")
    assert images.classify("pictures/0.png")
heavy = [name for name in ("torch", "transformers", "onnxruntime") if name in sys.modules]
assert not heavy, heavy
"""


@pytest.mark.parametrize("cache", ["empty", "not to be written to"])
def test_no_pytorch_is_imported_from_the_first_run_on(cache: str, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "pictures"
    folder.mkdir()
    for number in range(3):
        draw_picture(number).save(folder / f"{number}.png")
    environment = dict(os.environ)
    if cache != "empty":
        (tmp_path / "file").touch()
        environment["XDG_CACHE_HOME"] = str(tmp_path / "file")
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr


def test_vectors_in_the_precision_of_this_machine_are_close_to_exact_ones() -> None:
    pictures = [draw_picture(number) for number in range(16)]
    with ImageSearch() as images, ImageSearch({"model": {"precision": "float32", "runtime": "torch"}}) as exact:
        ours, theirs = images.embed(pictures), exact.embed(pictures)
    assert float(np.einsum("ij,ij->i", ours, theirs).min()) > 0.9995


def test_pictures_of_all_sizes() -> None:
    with ImageSearch() as images:
        vectors = images.embed([Image.new("RGB", size, "red") for size in ((1, 1), (3000, 10), (64, 64))])
    assert np.isfinite(vectors).all()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signals here")
def test_signals_do_no_harm_after_networks_are_gone() -> None:
    """Each OpenVINO core sets another stack for signals, and the one that was there before when it goes."""
    program = """
import gc, signal
from imagesearch.models import catalogue
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.selection import open_classifier, open_embedder
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
options, starter = RuntimeOptions("cpu", "float32", "openvino"), find_checkpoint(str(catalogue.STARTER_FOLDER))
for _ in range(2):
    first, second = open_embedder(starter, options), open_classifier(starter, options)
    del first
    gc.collect()
    del second
    gc.collect()
    signal.raise_signal(signal.SIGUSR1)
assert came == [1, 1]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
