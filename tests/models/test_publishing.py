"""Uploading what was trained: to a hub on loopback, by the hub's own client."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagesearch import load_config, training
from imagesearch.errors import UsageError
from imagesearch.frontends.cli.app import app
from imagesearch.models import hub as hub_module
from imagesearch.models.publishing import check_repository, shared_files

from ..conftest import draw_picture
from ..fake_hub import TOKEN, FakeHub


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name nobody shall learn, with class folders, one file that is none, and a model in it."""
    folder = tmp_path_factory.mktemp("private")
    for number in range(24):
        place = folder / "classes" / ("odd" if number % 2 else "even")
        place.mkdir(parents=True, exist_ok=True)
        draw_picture(number).save(place / f"{number}.png")
    shutil.copy(folder / "classes" / "odd" / "1.png", folder / "classes" / "odd" / "copy.png")
    (folder / "classes" / "odd" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    from imagesearch.models.catalogue import STARTER_FOLDER

    shutil.copytree(STARTER_FOLDER, folder / "base")
    config = load_config(environ={}, overrides={"model": {"name": str(folder / "base")}})
    request = training.Request(str(folder / "classes"), out=str(folder / "model"), force=True)
    found = training.train(config, request)
    assert found.skipped
    (folder / "model" / "report.html").write_text("pictures")
    return folder


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub().running() as running:
        yield running


# As a command in a process of its own, or in this one, which need not import PyTorch again.
Command = Callable[..., "subprocess.CompletedProcess[str]"]


def settings_of(hub: str, environ: dict[str, str]) -> dict[str, str]:
    # The other protocol, Xet, is the hub's secret; without it the client takes LFS.
    return {"HF_ENDPOINT": hub, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", **environ}


def in_a_process(*arguments: object, hub: str, **environ: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return subprocess.run(
        [sys.executable, "-m", "imagesearch", *map(str, arguments)],
        env=inherited | {"PYTHONWARNINGS": "error::UserWarning"} | settings_of(hub, environ),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def imagesearch(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command as :func:`in_a_process` does, in this one."""
    from huggingface_hub import close_session, constants

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)

    def run(*arguments: object, hub: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [str(argument) for argument in arguments]
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", DeprecationWarning)  # the client's, of its own libraries
            for name, value in settings_of(hub, environ).items():
                patch.setenv(name, value)
            # The hub's client has read these from the environment when it was imported.
            patch.setattr(constants, "ENDPOINT", hub)
            patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
            patch.setattr(constants, "HF_HUB_OFFLINE", "HF_HUB_OFFLINE" in environ)
            close_session()
            done = CliRunner().invoke(app, command)
            close_session()
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    return run


def push(
    private: Path, hub: str, *extra: str, by: Command = in_a_process, **environ: str
) -> subprocess.CompletedProcess[str]:
    return by("models", "--model", private / "model", "--push-to-hub", "club/mine", *extra, hub=hub, **environ)


def test_what_arrives_is_the_model_and_nothing_private(private: Path, hub: FakeHub) -> None:
    done = push(private, hub.address)
    assert done.returncode == 0, done.stderr
    assert f"uploaded to {hub.address}/club/mine" in done.stdout
    (created,) = hub.created
    assert (created["name"], created["organization"]) == ("mine", "club")
    assert hub.private == {"club/mine": True}
    assert hub.message == "Trained by imagesearch"
    assert set(hub.files) == {
        *("README.md", "config.json", "preprocessor_config.json", "model.safetensors", "training.json"),
    }
    assert hub.files["model.safetensors"] == (private / "model" / "model.safetensors").read_bytes()
    for name, content in hub.files.items():
        assert str(private).encode() not in content, name
        assert b"broken.png" not in content, name
        assert TOKEN.encode() not in content
    shared, whole = (
        json.loads(text) for text in (hub.files["training.json"], (private / "model/training.json").read_bytes())
    )
    assert shared["model"] == "base"
    assert shared["methods"] == whole["methods"]
    assert shared["split"]["identical"] == 2
    assert TOKEN not in done.stdout + done.stderr
    assert b"base_model" not in hub.files["README.md"]  # a folder of this machine is none of the hub's


def test_a_repository_that_everybody_sees_only_if_wanted(
    private: Path, hub: FakeHub, imagesearch: Command
) -> None:
    hub.private["club/mine"] = False
    done = push(private, hub.address, by=imagesearch)
    assert done.returncode == 1
    assert "'club/mine': it is there already, and everybody sees it; add --public" in done.stderr
    assert hub.files == {}
    assert push(private, hub.address, "--public", by=imagesearch).returncode == 0
    assert "model.safetensors" in hub.files
    assert hub.created == []


def test_what_arrived_can_be_used_and_is_listed(
    private: Path, hub: FakeHub, imagesearch: Command, tmp_path: Path
) -> None:
    from transformers import pipeline

    from imagesearch.models.trained import trained_models

    assert push(private, hub.address, "--public", by=imagesearch).returncode == 0
    assert hub.private == {"club/mine": False}
    (tmp_path / "down").mkdir()
    for name, content in hub.files.items():
        (tmp_path / "down" / name).write_bytes(content)
    picture = str(private / "classes" / "odd" / "1.png")
    here, there = (
        pipeline("image-classification", model=str(place), device="cpu")(picture)
        for place in (private / "model", tmp_path / "down")
    )
    assert here == there
    assert [one.base for one in trained_models(tmp_path)] == ["base"]


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ({"whoami": 401}, "refuses the token, which needs"),
        ({"create": 403}, "refuses the token, which needs"),
        ({"batch": 400}, "refused: "),
        ({"storage": 404}, "refused: "),
    ],
)
def test_a_hub_that_refuses(
    private: Path, hub: FakeHub, imagesearch: Command, refused: dict[str, int], said: str
) -> None:
    hub.refuse = refused
    done = push(private, hub.address, by=imagesearch)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("imagesearch: error")]
    assert f"cannot upload to 'club/mine': the Hugging Face hub ({hub.address}) " in line
    assert said in line
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr
    assert "signature" not in done.stderr
    assert hub.files == {}


def test_a_hub_that_is_not_there(private: Path, imagesearch: Command) -> None:
    with socket.socket() as reserved:  # bound and not listening: connections are refused
        reserved.bind(("127.0.0.1", 0))
        began = time.monotonic()
        done = push(private, f"http://127.0.0.1:{reserved.getsockname()[1]}", by=imagesearch)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert "does not answer" in done.stderr
    assert time.monotonic() - began < 20


def test_a_hub_that_is_silent(private: Path, imagesearch: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "_HUB_DEADLINE_SECONDS", 1.0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        began = time.monotonic()
        done = push(private, f"http://127.0.0.1:{listener.getsockname()[1]}", by=imagesearch)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert "did not answer in time" in done.stderr
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("repository", ["a/b/c", "", "a b", "--x", "/etc", "club/mine.git"])
def test_no_name_of_a_repository(repository: str) -> None:
    with pytest.raises(UsageError, match="is no name of a repository"):
        check_repository(repository)


class TestBeforeTraining:
    """An hour of training must not be lost to what could be known before it."""

    @pytest.fixture
    def train(self, private: Path, imagesearch: Command) -> Command:
        def run(
            repository: str, *, hub: str, by: Command = imagesearch, **environ: str
        ) -> subprocess.CompletedProcess[str]:
            command = ("train", private / "classes", "--out", "mine", "--force", "--push-to-hub", repository)
            return by(*command, hub=hub, **environ)

        return run

    def test_no_token(self, train: Command, hub: FakeHub, tmp_path: Path) -> None:
        done = train("club/mine", hub=hub.address, HF_TOKEN="", HF_HOME=str(tmp_path / "none"))
        assert done.returncode == 1
        assert "there is no token" in done.stderr
        assert hub.asked == []

    def test_switched_off(self, train: Command, hub: FakeHub) -> None:
        done = train("club/mine", hub=hub.address, HF_HUB_OFFLINE="1")
        assert done.returncode == 1
        assert "HF_HUB_OFFLINE" in done.stderr

    def test_somebody_elses(self, train: Command, hub: FakeHub) -> None:
        done = train("other/mine", hub=hub.address)
        assert done.returncode == 1
        assert "the token is for me, club, not for other" in done.stderr
        assert hub.created == []

    def test_a_token_that_may_only_read(self, train: Command, hub: FakeHub) -> None:
        hub.role = "read"
        done = train("mine", hub=hub.address)
        assert done.returncode == 1
        assert "the token may only read" in done.stderr

    def test_a_token_that_must_not_make_it(self, train: Command, hub: FakeHub) -> None:
        """Fine-grained ones do not say what they may do: only making the repository would tell."""
        hub.role, hub.refuse = "fineGrained", {"create": 403}
        done = train("mine", hub=hub.address)
        assert done.returncode == 1
        assert "refuses the token, which needs the right to write there" in done.stderr
        assert "upload it later: imagesearch models --push-to-hub me/mine --model" in done.stderr
        assert Path("mine/model.safetensors").is_file()

    def test_one_that_everybody_sees(self, train: Command, hub: FakeHub) -> None:
        hub.private["me/mine"] = False
        done = train("mine", hub=hub.address)
        assert done.returncode == 1
        assert "it is there already, and everybody sees it" in done.stderr
        assert not Path("mine").exists()

    def test_no_model_no_repository(self, imagesearch: Command, hub: FakeHub, tmp_path: Path) -> None:
        """There is nothing to learn; over some seeds, a probe that does no better than neighbours must exist."""
        for number in range(30):
            place = tmp_path / "noise" / ("one" if number * 7 % 30 < 15 else "two")
            place.mkdir(parents=True, exist_ok=True)
            draw_picture(number).save(place / f"{number}.png")
        for seed in range(6):
            command = ("train", tmp_path / "noise", "--out", f"mine{seed}", "--push-to-hub", f"mine{seed}")
            done = imagesearch(*command, "--seed", seed, hub=hub.address)
            assert done.returncode == 0, done.stderr
            assert (f"me/mine{seed}" in hub.private) == Path(f"mine{seed}").exists()
            if not Path(f"mine{seed}").exists():
                assert "nothing was uploaded, as no model was written" in done.stderr
                return
        pytest.fail("a probe of noise beat the neighbours six times")

    def test_training_and_uploading(self, train: Command, hub: FakeHub) -> None:
        done = train("mine", hub=hub.address, by=in_a_process)
        assert done.returncode == 0, done.stderr
        assert f"uploaded to {hub.address}/me/mine" in done.stderr
        assert hub.files["model.safetensors"] == Path("mine/model.safetensors").read_bytes()

    def test_an_upload_that_fails_leaves_the_model_and_says_how_to_go_on(
        self, train: Command, hub: FakeHub, imagesearch: Command
    ) -> None:
        hub.refuse = {"/commit/": 400}
        done = train("mine", hub=hub.address)
        assert done.returncode == 1
        assert Path("mine/model.safetensors").is_file()
        (line,) = [line for line in done.stderr.splitlines() if "upload it later: " in line]
        hub.refuse = {}
        later = imagesearch(*line.split("upload it later: imagesearch ")[1].split(), hub=hub.address)
        assert later.returncode == 0, later.stderr
        assert "model.safetensors" in hub.files


@pytest.mark.parametrize("arguments", [["--public"], ["--trained", "--push-to-hub", "x"], ["--push-to-hub", "x"]])
def test_flags_that_do_not_go_together(arguments: list[str], imagesearch: Command) -> None:
    done = imagesearch("models", *arguments, hub="http://127.0.0.1:9")
    assert done.returncode == 2


def test_a_folder_that_is_no_trained_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no model that 'imagesearch train' wrote"):
        shared_files(tmp_path)
