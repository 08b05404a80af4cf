"""Checkpoints from strangers: nothing of them is run, and what they say costs neither time nor memory."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from imagesearch import ImageSearch
from imagesearch.errors import ModelError, ModelMismatchError
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.runtimes.base import RuntimeOptions
from imagesearch.models.runtimes.selection import open_embedder

pytestmark = pytest.mark.timeout(60)

TORCH = RuntimeOptions("cpu", "float32", "torch")
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@pytest.fixture
def evil(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint to be spoiled."""
    return Path(shutil.copytree(checkpoint("vit"), tmp_path / "evil"))


def change(folder: Path, name: str, **values: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def refused(folder: Path, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as raised:
        open_embedder(find_checkpoint(str(folder)), TORCH)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("config.json", {"num_hidden_layers": 10**7}, "more layers"),
        ("config.json", {"stages": [{"depths": [2, 10**9]}]}, "more layers"),
        ("config.json", {"hidden_size": 10**7}, "shapes"),
        ("config.json", {"hidden_size": -4}, "cannot be loaded"),
        ("config.json", {"id2label": {str(number): "x" * 99 for number in range(200_000)}}, "16 MB"),
        ("preprocessor_config.json", {"size": {"height": 10**6, "width": 10**6}}, "pixels a side"),
        ("preprocessor_config.json", {"size": 0}, "pixels a side"),
        ("preprocessor_config.json", {"image_std": [float("nan")] * 3}, "not a number"),
        ("preprocessor_config.json", {"resample": 99}, "no such filter"),
    ],
)
def test_settings_that_no_model_has(evil: Path, name: str, values: dict[str, Any], reason: str) -> None:
    change(evil, name, **values)
    refused(evil, reason)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe", b""])
def test_settings_that_are_not_json(evil: Path, content: bytes) -> None:
    (evil / "config.json").write_bytes(content)
    refused(evil, "config.json is not JSON")


@needs_pipes
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("model.safetensors", "no weights"),
        ("config.json", "no config.json"),
        ("preprocessor_config.json", "not a file"),
    ],
)
def test_a_pipe_is_not_waited_for(evil: Path, name: str, reason: str) -> None:
    (evil / name).unlink()
    os.mkfifo(evil / name)
    refused(evil, reason)


@pytest.mark.parametrize("header", [2**60, 10**9, 5])
def test_damaged_safetensors(evil: Path, header: int) -> None:
    (evil / "model.safetensors").write_bytes(struct.pack("<Q", header) + b"{" * 1000)
    refused(evil, "model.safetensors is damaged")


class _Runs:
    """A pickle that runs a command when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_runs_code_is_refused_without_running_it(evil: Path, tmp_path: Path) -> None:
    (evil / "model.safetensors").unlink()
    (evil / "pytorch_model.bin").write_bytes(pickle.dumps(_Runs(tmp_path / "ran")))
    refused(evil, "cannot be loaded")
    assert not (tmp_path / "ran").exists()


def test_weights_that_grow_when_they_are_unpacked_are_refused(evil: Path) -> None:
    (evil / "model.safetensors").unlink()
    with zipfile.ZipFile(evil / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(100 * 2**20))
    refused(evil, "larger when unpacked")


@pytest.mark.parametrize("answer", ["y\n" * 9, ""])
def test_code_beside_the_weights_is_not_run_whatever_the_terminal_says(
    evil: Path, tmp_path: Path, answer: str
) -> None:
    change(evil, "config.json", model_type="evil", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    mark = tmp_path / "ran"
    (evil / "evil.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Evil: pass\n")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    done = subprocess.run(
        [sys.executable, "-m", "imagesearch", "classify", str(tmp_path / "a.png"), "--model", str(evil)],
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "such code is not run" in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()


class TestIdentity:
    def test_networks_that_differ_in_one_weight_are_two(self, evil: Path) -> None:
        """Versions before looked at three megabytes of the weights only."""
        weights = evil / "model.safetensors"
        whole = bytearray(weights.read_bytes())
        whole += bytes(8 * 2**20 - len(whole))  # as large as networks are
        weights.write_bytes(whole)
        one = find_checkpoint(str(evil))
        whole[2 * 2**20] ^= 1
        weights.write_bytes(whole)
        other = find_checkpoint(str(evil))
        assert one.earlier_revisions == other.earlier_revisions
        assert one.revision != other.revision

    def test_vectors_of_two_such_networks_are_not_mixed(
        self, evil: Path, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, picture_folder: Path
    ) -> None:
        from imagesearch.models import hub

        monkeypatch.setattr(hub, "_sample", lambda file: b"the same")
        other = Path(shutil.copytree(evil, evil.parent / "other" / "evil"))
        weights = other / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
        milvus = {"uri": str(evil.parent / "one.db"), "collection_name": "one"}
        with ImageSearch({"milvus": milvus, "model": {"name": str(evil)}}) as images:
            images.index(picture_folder)
        with ImageSearch({"milvus": milvus, "model": {"name": str(other)}}) as images:
            with pytest.raises(ModelMismatchError):
                images.index(picture_folder)
            with pytest.raises(ModelMismatchError):
                images.search(picture_folder / "0.png")

    def test_a_collection_of_an_earlier_version_goes_on(self, evil: Path) -> None:
        embedder = open_embedder(find_checkpoint(str(evil)), TORCH)
        now = embedder.fingerprint
        earlier = dataclasses.replace(now, revision=now.earlier_revisions[0], earlier_revisions=())
        assert now.is_comparable(earlier)
        assert earlier.is_comparable(now)
        assert "earlier" not in now.to_json()


def test_the_first_use_may_be_from_eight_threads(checkpoint: Callable[[str], Path]) -> None:
    program = f"""
import threading
from imagesearch import ImageSearch
from PIL import Image
problems, vectors = [], []
start = threading.Barrier(8)

def use():
    start.wait()
    try:
        with ImageSearch({{"model": {{"name": {str(checkpoint("vit"))!r}, "runtime": "torch"}}}}) as images:
            vectors.append(images.embed([Image.new("RGB", (40, 30), "red")]).tobytes())
    except BaseException as error:
        problems.append(repr(error))

threads = [threading.Thread(target=use) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert not problems, problems
assert len(set(vectors)) == 1 and len(vectors) == 8
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr[-2000:]) == (0, "")
