"""Several processes train what a single one does, and end when one of them fails."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import ModelError
from imagesearch.models.processes import Team, launched_team

from ..conftest import REPOSITORY, draw_picture, skip_without
from .conftest import save_checkpoint
from .team_worker import ALL, CLASSES, PLANS, fail, train

skip_without("accelerate", "pytorch_metric_learning")

# Relative to the largest number: sums of gradients are rounded in another order.
TOLERANCE = 1e-3
# Processes that have imported what takes seconds to import: each is a copy of one that did.
FORKING = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
FORKING.set_forkserver_preload(
    ["torch", "accelerate", "transformers.trainer", "transformers.models.vit.modeling_vit"]
)
FAMILIES = ("vit_labels", "dinov2_labels")  # the latter has a token of masks, which labelling has no use for


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, random = tmp_path_factory.mktemp("team"), np.random.default_rng(0)
    for family in FAMILIES:
        save_checkpoint(folder / "checkpoints" / family, family)
        (folder / family).mkdir()
        for place in range(ALL):
            pixels = np.asarray(draw_picture(9 * (place % CLASSES)), np.float32)
            noisy = (pixels + 60 * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / family / f"{place}.png")
    return folder


@pytest.fixture(scope="module")
def trained_together(folder: Path) -> Path:
    """What two processes made of all plans."""
    checkpoints = [str(folder / "checkpoints" / family) for family in FAMILIES]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "tests.models.team_worker", str(folder), *checkpoints]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("family", "name"), [*((FAMILIES[0], name) for name in PLANS), (FAMILIES[1], next(iter(PLANS)))]
)
def test_two_processes_learn_what_one_does(trained_together: Path, family: str, name: str) -> None:
    together = np.load(trained_together / f"{family}-{name}.npz")
    checkpoint = str(trained_together / "checkpoints" / family)
    done, found = train(name, checkpoint, trained_together / family, Team())
    losses = [epoch["loss"] for epoch in done.history]
    np.testing.assert_allclose(together["losses"], losses, rtol=TOLERANCE)
    assert losses[0] != losses[1]
    np.testing.assert_allclose(together["found"], found, atol=TOLERANCE * np.abs(found).max())


def test_rows_of_all_processes_and_their_derivatives(trained_together: Path) -> None:
    found = np.load(trained_together / "rows.npz")
    assert found["rows"].tolist() == [[1, 1]] * 2 + [[2, 2]] * 3
    # Twice as large as a single process's, as the mean over two processes is taken afterwards.
    assert found["gradient"].tolist() == [[4, 4]] * 2


@pytest.mark.parametrize(
    ("how", "error", "rank"),
    [
        ("load", "ModelError: damaged", 0),
        ("load", "ModelError: damaged", 1),
        ("picture", "PictureError: 'x.png'", 0),
        ("bug", "RuntimeError: a bug", 1),
        # While they train all are alike.
        pytest.param("picture", "PictureError: 'x.png'", 1, marks=pytest.mark.slow),
        pytest.param("bug", "RuntimeError: a bug", 0, marks=pytest.mark.slow),
    ],
)
def test_one_that_fails_says_why_and_ends_the_others(
    folder: Path, tmp_path: Path, how: str, error: str, rank: int
) -> None:
    """Without a launcher, which would end them itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    family = folder / "checkpoints" / "vit_labels"
    files = [tmp_path / f"said by {number}" for number in range(2)]
    worlds = [os.environ | place | {"RANK": str(number), "LOCAL_RANK": str(number)} for number in range(2)]
    started = [
        FORKING.Process(target=fail, args=(world, file, rank, how, str(family), folder / "vit_labels"))
        for world, file in zip(worlds, files, strict=True)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(100)
        process.kill()  # unless it has ended
    said = [file.read_text(encoding="utf-8") for file in files]
    assert [process.exitcode for process in started] == [1, 1], said
    assert error in said[rank]
    is_told = how == "load" and rank == 0  # before they train, the others wait for the first one
    other = "FirstProcessError" if is_told else "OtherProcessError: another process of this training ended"
    assert other in said[1 - rank]
    assert "Traceback" not in "".join(said)


def test_what_a_launcher_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert launched_team() == Team(0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launched_team().is_first
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(ModelError, match="are no numbers"):
        launched_team()
