"""``imagesearch train`` for retrieval, and by several processes, as somebody types it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from imagesearch import training
from imagesearch.images import sources

from ...conftest import REPOSITORY, draw_picture, skip_without
from ...models.conftest import save_checkpoint
from ..conftest import Run

skip_without("accelerate", "pytorch_metric_learning")

# All figures of a report are those of test_train_report.py.
pytestmark = pytest.mark.usefixtures("one_figure")

TINY = ("--epochs", 2, "--train-batch", 8, "--learning-rate", 0.0005, "--held-out", 0.25)


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of sixteen drawings under so much noise that retrieval has something to gain."""
    folder, generator = tmp_path_factory.mktemp("classes"), np.random.default_rng(0)
    for number, name in enumerate(("a", "b", "c")):
        (folder / name).mkdir()
        for place in range(16):
            pixels = np.asarray(draw_picture(7 * number), np.float32)
            noisy = (pixels + 220 * generator.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{place}.png")
    return folder


def test_vectors_that_find_better_are_written_and_label_too(run: Run, classes: Path) -> None:
    from transformers import pipeline

    done = run("train", classes, "--loss", "arcface", "--method", "full", *TINY, "--out", "mine", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert report["measure"] == "mAP"
    assert report["best"] == "full"
    before, probe, tuned = report["methods"]
    gain = tuned["retrieval_gain"]
    assert gain["value"] == pytest.approx(tuned["retrieval"]["value"] - before["retrieval"]["value"])
    assert gain["low"] <= gain["value"] <= gain["high"]
    assert probe["retrieval_gain"] is None  # the probe leaves vectors as they are
    assert set(report["histories"]["full"][0]) == {"epoch", "loss", "mAP"}
    assert gain["value"] > 0
    assert report["written"]
    assert "beats the vectors of starter: mAP +" in done.err or "did better than the vectors" in done.err
    assert "gain in mAP" in Path("mine/README.md").read_text(encoding="utf-8")
    pictures = sorted(classes.rglob("1.png"))
    ours = json.loads(run("classify", "--model", "mine", *pictures, "--json").out)
    classify = pipeline("image-classification", model="mine", device="cpu")
    for one in ours:
        assert classify(one["path"])[0]["label"] == one["predictions"][0]["label"]
    assert run("index", classes, "--model", "mine", "--uri", "x.db").code == 0


def test_the_table_shows_what_retrieval_gains(run: Run, classes: Path) -> None:
    done = run("train", classes, "--loss", "contrastive", "--method", "last", *TINY, "--out", "mine", "--force")
    assert "gain in mAP" in done.out
    assert "gain in mAP" not in run("train", classes, "--out", "probe", "--force").out


def test_what_does_not_find_better_is_not_written(run: Run, classes: Path) -> None:
    """Steps that are too large leave vectors that find less."""
    options = ("--loss", "contrastive", "--method", "full", "--epochs", 1, "--learning-rate", 0.03)
    done = run("train", classes, *options, "--out", "mine", "--json")
    report = json.loads(done.out)
    assert not report["beats_baseline"]
    assert not report["written"]
    assert "did not beat the vectors of starter: mAP -" in done.err
    assert not Path("mine").exists()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each step of training."""
    import transformers

    taken: list[int] = []

    def count(self: Any, *given: Any, **options: Any) -> Any:
        taken.append(1)
        return step(self, *given, **options)

    step = transformers.Trainer.training_step
    monkeypatch.setattr(transformers.Trainer, "training_step", count)
    return taken


def test_force_writes_what_was_trained_before_without_training_again(
    run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    """And --balanced is another training, which begins anew."""
    command = ("train", classes, "--method", "full", *TINY, "--learning-rate", 1e-9, "--out", "mine")
    monkeypatch.setattr(training.Training, "beats_baseline", False)
    assert "--force" in run(*command).err
    assert not Path("mine").exists()
    steps.clear()
    assert "--force" in run(*command, "--balanced").err
    assert steps
    steps.clear()
    assert run(*command, "--force").code == 0
    assert (Path("mine") / "model.safetensors").is_file()
    assert steps == []


def test_a_picture_that_changed_in_its_place_is_another_training(
    run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch, steps: list[int]
) -> None:
    shutil.copytree(classes, "changing")
    command = ("train", "changing", "--method", "last", *TINY, "--epochs", 1, "--out", "mine")
    monkeypatch.setattr(training.Training, "beats_baseline", False)
    assert "--force" in run(*command).err
    steps.clear()
    for place in range(4):
        picture = Path("changing", "a", f"{place}.png")
        Image.open(picture).point(lambda value: value ^ 1).save(picture)
    assert "--force" in run(*command).err
    assert steps


def test_weights_that_are_no_numbers_after_the_last_step(run: Run, classes: Path) -> None:
    """No loss tells, as no step follows."""
    options = ("--loss", "proxy-anchor", "--method", "full", "--epochs", 1, "--learning-rate", 1)
    done = run("train", classes, *options, "--out", "mine", "--force")
    assert done.code == 1
    assert "the loss was no number at step 2, before the first epoch was over: lower the learning rate" in done.err
    assert not Path("mine").exists()


@pytest.mark.parametrize("family", ["vit_labels", "dinov2_labels"])
def test_models_whose_heads_see_other_vectors_than_searches(
    run: Run, classes: Path, tmp_path: Path, family: str
) -> None:
    """What is measured is what a search with the written model finds."""
    save_checkpoint(tmp_path / "base", family)
    options = ("--loss", "contrastive", "--method", "last", "--epochs", 1, "--train-batch", 16)
    done = run(
        "train",
        classes,
        "--model",
        tmp_path / "base",
        *options,
        "--out",
        "mine",
        "--force",
        "--json",
        "--held-out",
        0.5,
    )
    report = json.loads(done.out)
    assert report["methods"][2]["retrieval_gain"] is not None
    assert run("index", classes, "--model", "mine", "--uri", "x.db").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--loss", "arcface"), "say which weights, by --method last, lora, full or all"),
        (
            ("--loss", "triplet", "--method", "full"),
            "must be one of cross-entropy, contrastive, arcface, proxy-anchor",
        ),
        (("--loss", "arcface", "--method", "full", "--train-batch", 4), "need at least 8 (--train-batch)"),
        (("--method", "all", "--method", "nosuch"), "method 'nosuch': must be one of"),
        (("--method", "last", "--learning-rate", "nan"), "a learning rate of nan: must be a number above 0"),
        (("--method", "last", "--learning-rate", -1), "a learning rate of -1: must be a number above 0"),
    ],
)
def test_wrong_options(run: Run, classes: Path, options: tuple[object, ...], said: str) -> None:
    done = run("train", classes, *options, "--out", "mine")
    assert done.code == 1
    assert said in done.err
    assert not Path("mine").exists()


def test_several_labels_are_refused(run: Run, classes: Path) -> None:
    lines = [f'"{path}",{label}' for path in sorted(classes.rglob("*.png")) for label in (path.parent.name, "all")]
    Path("labels.csv").write_text("\n".join(["path,label", *lines]))
    options = ("--loss", "arcface", "--method", "full", "--labels", "labels.csv", "--out", "mine")
    done = run("train", classes, *options)
    assert done.code == 1
    assert "--loss arcface: pictures need one label each" in done.err


def test_classes_too_small_to_fine_tune(run: Run, classes: Path) -> None:
    """Once a picture of each was set aside, none is left to validate with."""
    for name in "ab":
        for place in range(2):
            Path("few", name).mkdir(parents=True, exist_ok=True)
            shutil.copy(classes / name / f"{place}.png", Path("few", name))
    done = run("train", "few", "--method", "last", "--out", "mine")
    assert done.code == 1
    assert "--method last: every class has only one of the pictures to learn from" in done.err


def test_classes_too_small_to_validate_retrieval(run: Run, classes: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "few" / name).mkdir(parents=True)
        for number in range(3):
            shutil.copy(classes / name / f"{number}.png", tmp_path / "few" / name)
    done = run("train", tmp_path / "few", "--loss", "arcface", "--method", "full", "--out", "mine")
    assert done.code == 1
    assert "no class has two pictures to validate retrieval with" in done.err


def checkpoints_in(folder: Path) -> set[str]:
    """Unlike ``rglob``, also while folders come and go."""
    inside = ((place, name) for place, names, _ in os.walk(folder) for name in names)
    return {os.path.join(place, name) for place, name in inside if name.startswith("checkpoint-")}


@pytest.mark.parametrize(
    ("options", "kills"),
    [
        # The quickest: a new process takes seconds to import what LoRA needs.
        pytest.param(("--method", "full", "--loss", "arcface"), 1, id="quick"),
        pytest.param(("--method", "lora"), 1, id="lora", marks=pytest.mark.slow),
        pytest.param(("--method", "lora", "--loss", "arcface"), 1, id="lora-arcface", marks=pytest.mark.slow),
    ],
)
def test_a_run_killed_at_any_moment_goes_on_to_the_same_model(
    run: Run,
    classes: Path,
    options: tuple[str, ...],
    kills: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    command = ("train", classes, *options, *TINY, "--force")
    program = [sys.executable, "-m", "imagesearch", *map(str, command), "--out", "killed"]
    assert run(*command, "--out", "whole").code == 0
    cache = tmp_path / "another"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    for _ in range(kills):
        killed = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        before = checkpoints_in(cache)
        while not checkpoints_in(cache) - before:  # not before it has got any further
            assert killed.poll() is None, "it was over before it could be killed"
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        killed.kill()
        killed.wait()
    assert run(*command, "--out", "killed").code == 0
    expected, found = (load_file(f"{name}/model.safetensors") for name in ("whole", "killed"))
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)


def test_a_picture_that_vanishes_in_the_middle(
    run: Run, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "classes"
    shutil.copytree(classes, folder)
    load, seen = sources.load_image, list[str]()

    def load_and_remove(path: str, **options: Any) -> Any:
        seen.append(path)
        if len(seen) == 10:  # all were indexed already
            for picture in folder.rglob("*.png"):
                picture.unlink()
        return load(path, **options)

    monkeypatch.setattr(sources, "load_image", load_and_remove)
    done = run("train", folder, "--method", "full", *TINY, "--out", "mine", "--force")
    assert done.code == 1
    assert re.search(r"imagesearch: error: '.*\.png': .*", done.err)
    assert not Path("mine").exists()


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "imagesearch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)


def test_two_processes_as_torchrun_starts_them(run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    options = ("train", classes, "--method", "full", *TINY, "--force", "--json")
    done = launched(*options, "--out", "two")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # one process alone prints
    single = json.loads(run(*options, "--out", "one").out)
    for theirs, ours in zip(report["histories"]["full"], single["histories"]["full"], strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    assert report["methods"][2]["retrieval"]["value"] == pytest.approx(
        single["methods"][2]["retrieval"]["value"], abs=1e-2
    )
    assert done.stderr.count("use it: imagesearch classify") == 1


def test_all_processes_end_with_what_the_first_one_says(classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY / "src"))
    done = launched("train", classes / "a", "--method", "full", "--out", "mine")
    assert done.returncode != 0
    assert done.stderr.count("imagesearch: error: labels from the names of sub-folders: none") == 1
    assert 'Traceback (most recent call last):\n  File "' not in done.stderr.split("ChildFailedError")[-1]
