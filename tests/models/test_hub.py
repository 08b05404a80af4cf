"""From a name to a folder: the hub's cache, and a hub that does not answer."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesearch.errors import HubUnreachableError, ModelError
from imagesearch.models import hub
from imagesearch.models.embedder import Embedder
from imagesearch.models.hub import find_checkpoint, is_here
from imagesearch.models.network import Network

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def fill(cache: Path, checkpoint: Path, name: str = "org/name") -> Path:
    """Put a checkpoint into the cache the way a download does: blobs, links to them, and a reference."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    for folder in (snapshot, home / "blobs", home / "refs"):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    for file in checkpoint.iterdir():
        shutil.copy(file, home / "blobs" / f"blob-{file.name}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"blob-{file.name}")
    return snapshot


class TestCache:
    def test_a_filled_cache_needs_no_network(
        self, cache: Path, no_network: None, checkpoint: Callable[[str], Path]
    ) -> None:
        fill(cache, checkpoint("vit"))
        assert is_here("org/name")
        found = find_checkpoint("org/name")
        assert (found.name, found.revision) == ("org/name", COMMIT)
        vectors = Embedder.of_network(Network.load(found, "features", device="cpu", precision="float32"))
        assert vectors.fingerprint.model == "org/name"
        assert vectors.fingerprint.revision == COMMIT

    def test_copies_for_other_frameworks_may_stay_on_the_hub(
        self, cache: Path, no_network: None, checkpoint: Callable[[str], Path]
    ) -> None:
        """The hub's client remembers a repository's listing, of which we download a part."""
        snapshot = fill(cache, checkpoint("vit"))
        listing = {name: {"size": 1, "blob_id": "0"} for name in ("config.json", "tf_model.h5")}
        trees = snapshot.parent.parent / "trees"
        trees.mkdir()
        (trees / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": listing}))
        assert find_checkpoint("org/name").folder == snapshot

    def test_a_commit_can_be_asked_for(self, cache: Path, checkpoint: Callable[[str], Path]) -> None:
        snapshot = fill(cache, checkpoint("vit"))
        assert find_checkpoint("org/name", COMMIT).folder == snapshot

    @pytest.mark.parametrize("lacking", ["config.json", "preprocessor_config.json", "model.safetensors"])
    def test_an_interrupted_download_is_not_complete(
        self, cache: Path, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, lacking: str
    ) -> None:
        snapshot = fill(cache, checkpoint("vit"))
        (snapshot / lacking).unlink()
        assert not is_here("org/name")
        monkeypatch.setattr(hub, "_download", lambda name, revision: Path("downloaded"))
        assert find_checkpoint("org/name").folder == Path("downloaded")

    def test_a_link_to_a_missing_blob_is_not_complete(
        self, cache: Path, checkpoint: Callable[[str], Path]
    ) -> None:
        snapshot = fill(cache, checkpoint("vit"))
        (snapshot / "model.safetensors").resolve().unlink()
        assert not is_here("org/name")

    def test_every_shard_counts(self, cache: Path, checkpoint: Callable[[str], Path]) -> None:
        snapshot = fill(cache, checkpoint("vit"))
        (snapshot / "model.safetensors").unlink()
        shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
        index = {"weight_map": {"a": shards[0], "b": shards[1]}}
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
        (snapshot / shards[0]).touch()
        assert not is_here("org/name")
        (snapshot / shards[1]).touch()
        assert is_here("org/name")
        (snapshot / "model.safetensors.index.json").write_text("{ half")
        assert not is_here("org/name")

    def test_an_empty_cache_has_nothing(self, cache: Path, no_network: None) -> None:
        assert not is_here("google/vit-base-patch16-224")

    def test_local_folders_are_here_when_whole(self, checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
        assert is_here(str(checkpoint("clip")))
        (tmp_path / "empty").mkdir()
        assert not is_here(str(tmp_path / "empty"))


def test_a_folder_that_the_file_system_does_not_show(no_network: None) -> None:
    with pytest.raises(ModelError, match=r"no model folder at 'x+': file name too long"):
        find_checkpoint("x" * 300)
    assert not is_here("x" * 300)


@pytest.mark.parametrize(
    "name",
    ["./mine", "../mine", "/nowhere/mine", "a/b/c", "mine/", "-x", "a--b/c", "org/na me", "~/mine", "", "a..b"],
)
def test_names_that_are_neither_folder_nor_hub_name(name: str, cache: Path, no_network: None) -> None:
    with pytest.raises(ModelError, match=r"no model folder at .* nor a hub name") as caught:
        find_checkpoint(name)
    assert not isinstance(caught.value, HubUnreachableError)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["model.safetensors", "pytorch_model.bin", "tf_model.h5"], ["model.safetensors"]),
        (["pytorch_model.bin", "flax_model.msgpack", "onnx/model.onnx"], ["pytorch_model.bin"]),
        (
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
            [
                "model-00001-of-00002.safetensors",
                "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ],
        ),
    ],
)
def test_one_set_of_weights_is_downloaded(files: list[str], expected: list[str]) -> None:
    settings = ["config.json", "preprocessor_config.json", "processor_config.json"]
    assert sorted(hub._wanted("x", [*files, *settings, "README.md"])) == sorted([*expected, *settings])


def test_a_tokenizer_is_downloaded_where_there_is_one() -> None:
    tokenizer = ["tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "spiece.model"]
    tokenizer += ["special_tokens_map.json"]
    files = ["config.json", "model.safetensors", *tokenizer, "onnx/tokenizer.json", "generation_config.json"]
    assert sorted(hub._wanted("x", files)) == sorted(["config.json", "model.safetensors", *tokenizer])


def test_a_repository_without_weights() -> None:
    with pytest.raises(ModelError, match="no PyTorch weights"):
        list(hub._wanted("org/x", ["README.md", "flax_model.msgpack"]))


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts connections and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def ask(**environ: str) -> tuple[str, float]:
    """Look for a checkpoint in a fresh process; what it says, and how many seconds the search took."""
    program = """
import time
import huggingface_hub.hf_api  # not counted: a slow disk is not the hub's fault
from imagesearch.errors import HubUnreachableError
from imagesearch.models.hub import find_checkpoint
started = time.monotonic()
try:
    find_checkpoint("org/not-here")
except HubUnreachableError as error:
    print(error)
print(time.monotonic() - started)
"""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    *lines, seconds = run.stdout.splitlines()
    assert len(lines) == 1, run.stdout + run.stderr
    return lines[0], float(seconds)


def assert_says_what_to_do(message: str) -> None:
    assert "'org/not-here' is not on this machine" in message
    for way_out in ("--model starter", "a local folder", "fill the cache", "hf download org/not-here"):
        assert way_out in message


class TestUnreachable:
    def test_nobody_listens(self) -> None:
        with socket.socket() as reserved:  # bound and not listening: connections are refused
            reserved.bind(("127.0.0.1", 0))
            message, seconds = ask(HF_ENDPOINT=f"http://127.0.0.1:{reserved.getsockname()[1]}")
        assert_says_what_to_do(message)
        assert "did not answer" in message
        assert seconds < 5

    @pytest.mark.parametrize("way", ["HF_ENDPOINT", "HTTPS_PROXY"])
    def test_silence(self, silent: str, way: str) -> None:
        message, seconds = ask(**{way: silent})
        assert_says_what_to_do(message)
        assert seconds < 9

    def test_switched_off(self) -> None:
        message, seconds = ask(HF_HUB_OFFLINE="1")
        assert_says_what_to_do(message)
        assert "HF_HUB_OFFLINE" in message
        assert seconds < 2

    def test_an_address_that_is_never_found(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Looking up a name has no time limit of its own."""
        from huggingface_hub import HfApi

        monkeypatch.setattr(hub, "_HUB_DEADLINE_SECONDS", 0.2)
        monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: time.sleep(5))
        with pytest.raises(HubUnreachableError, match="did not answer in time"):
            find_checkpoint("org/not-here")

    def test_no_room_for_the_download(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import HfApi

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(HfApi, "model_info", full)
        with pytest.raises(ModelError, match=r"No space left on device.*HF_HOME"):
            find_checkpoint("org/not-here")

    def test_bugs_are_not_called_network_trouble(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import HfApi

        monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: {}["bug"])
        with pytest.raises(KeyError):
            find_checkpoint("org/not-here")
