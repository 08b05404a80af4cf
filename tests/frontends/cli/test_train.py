"""``imagesearch train`` as somebody types it, on class folders of drawn pictures."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from imagesearch import training
from imagesearch.frontends.cli.app import app
from imagesearch.models import new_head

from ...conftest import draw_picture
from ...models.conftest import save_checkpoint
from ..conftest import Run

# All figures of a report are those of test_train_report.py.
pytestmark = pytest.mark.usefixtures("one_figure")

CLASSES = ("red", "blue <b>|x", "grün")


def draw_class(folder: Path, number: int, count: int, *, noise: float = 60, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng((number, seed))
    for place in range(count):
        pixels = np.asarray(draw_picture(7 * number), np.float32)
        noisy = (pixels + noise * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{place}.png")


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of twelve pictures, unlike enough within a class for the starter to call them different."""
    folder = tmp_path_factory.mktemp("classes")
    for number, name in enumerate(CLASSES):
        draw_class(folder / name, number, 12, noise=160)
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes without any difference: drawings, each put into one of them by chance."""
    folder = tmp_path_factory.mktemp("noise")
    for number, code in enumerate(np.random.default_rng(0).permutation(50) % 2):
        place = folder / ("one", "two")[code]
        place.mkdir(exist_ok=True)
        draw_picture(number).save(place / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(classes: Path, tmp_path_factory: pytest.TempPathFactory, runner: CliRunner) -> Path:
    """What ``imagesearch train --force`` made of the classes. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    result = runner.invoke(app, ["train", str(classes), "--out", str(folder), "--force"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.mark.parametrize("out", ["file/model", "x" * 300])
def test_what_cannot_be_written_is_known_before_training(
    run: Run, classes: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("file").touch()
    monkeypatch.setattr(training, "read_labelled", lambda *_, **__: pytest.fail("read"))
    done = run("train", classes, "--out", out)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("imagesearch: error: cannot write ")
    assert done.err.count("\n") == 1


@pytest.fixture
def mine(trained: Path) -> Path:
    """A copy of it, ``mine``, which may be changed."""
    return Path(shutil.copytree(trained, "mine"))


def test_train_classify_and_search_with_the_result(run: Run, classes: Path) -> None:
    done = run("train", classes, "--out", "my model", "--force", "--held-out", 0.25)
    assert done.code == 0
    assert re.search(r"kNN +k = \d+ +[01]\.\d{3}", done.out)
    assert re.search(r"probe +L2 [\d.e-]+ +[01]\.\d{3}", done.out)
    (usage,) = [line for line in done.err.splitlines() if line.startswith("use it: ")]
    assert shlex.split(usage)[3:] == ["classify", "--model", str(Path("my model").absolute()), "PICTURE"]
    assert not list(Path().glob("my model.*"))
    picture = classes / "grün" / "0.png"
    shown = run("classify", "--model", "my model", picture, "--json")
    (found,) = json.loads(shown.out)
    assert found["predictions"][0]["label"] == "grün"
    assert run("index", classes, "--model", "my model", "--uri", "x.db").code == 0
    (hit,) = json.loads(run("search", picture, "--model", "my model", "--uri", "x.db", "--json", "-k", 1).out)
    assert hit["path"] == str(picture)


def test_what_was_trained_is_listed(run: Run, classes: Path) -> None:
    assert json.loads(run("models", "--trained", "--json").out) == []
    assert run("train", classes, "--out", "mine", "--force").code == 0
    (found,) = json.loads(run("models", "--trained", "--json").out)
    report = json.loads(Path("mine", training.REPORT).read_text())
    assert found["folder"] == str(Path("mine").absolute())
    assert (found["base"], found["method"], found["classes"]) == ("starter", "probe", 3)
    assert found["accuracy"] == report["methods"][1]["accuracy"]["value"]
    shown = run("models")
    assert "./mine" in shown.out
    assert f"{found['accuracy']:.3f}" in shown.out
    assert all("preset" in one for one in json.loads(run("models", "--json").out))
    (header, row) = run("models", "--trained", "--csv").out.splitlines()
    assert header.startswith("folder,base,method")
    assert row.startswith(found["folder"])
    assert run("models", "--trained", "--words").code == 2
    assert run("models", "--trained", "--model", "mine").code == 2


def test_predictions_are_those_of_plain_transformers(run: Run, classes: Path, mine: Path) -> None:
    from transformers import pipeline

    pictures = sorted(classes.rglob("1*.png"))
    shown = run("classify", "--model", "mine", *pictures, "--json", "-k", 3)
    ours = {one["path"]: one["predictions"] for one in json.loads(shown.out)}
    classify = pipeline("image-classification", model="mine", device="cpu")
    for path in pictures:
        theirs = classify(str(path), top_k=3)
        assert [one["label"] for one in theirs] == [one["label"] for one in ours[str(path)]]
        scores = [one["score"] for one in ours[str(path)]]
        np.testing.assert_allclose([one["score"] for one in theirs], scores, atol=0.02)


def test_the_card_and_the_report(run: Run, classes: Path) -> None:
    done = run("train", classes, "--out", "mine", "--force", "--json")
    report = json.loads(done.out)
    assert json.loads(Path("mine", training.REPORT).read_text()) == report
    assert (report["pictures"], report["classes"]) == (36, 3)
    assert report["split"]["training"] + report["split"]["held_out"] == 36
    assert [one["name"] for one in report["methods"]] == ["kNN", "probe"]
    assert report["methods"][1]["gain"]["low"] <= report["methods"][1]["gain"]["high"]
    card = Path("mine", "README.md").read_text(encoding="utf-8")
    import yaml

    header = yaml.safe_load(card.split("---")[1])
    assert "base_model" not in header
    assert header["pipeline_tag"] == "image-classification"
    assert r"| blue \<b\>\|x |" in card


def test_the_card_names_a_base_of_the_hub(run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = training._find
    monkeypatch.setattr(training, "_find", lambda config: replace(find(config), name="me/base"))
    assert run("train", classes, "--out", "mine", "--force").code == 0
    assert 'base_model: "me/base"' in Path("mine", "README.md").read_text(encoding="utf-8").splitlines()


def test_again_nothing_is_encoded_and_the_result_is_the_same(
    run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = json.loads(run("train", classes, "--out", "one", "--force", "--json").out)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture is encoded again")

    monkeypatch.setattr("imagesearch.models.embedder.Embedder.encode", refuse)
    second = json.loads(run("train", classes, "--out", "two", "--force", "--json").out)
    assert second["cross_validation"] == first["cross_validation"]
    assert second["per_class"] == first["per_class"]


def test_noise_is_not_written_unless_forced(run: Run, noise: Path) -> None:
    """There is nothing to learn. Over some seeds, a probe that does no better must exist, and is not written."""
    for seed in range(6):
        done = run("train", noise, "--out", f"mine{seed}", "--json", "--seed", seed)
        report = json.loads(done.out)
        assert done.code == 0
        assert Path(f"mine{seed}").exists() == report["beats_baseline"] == report["written"]
        assert not report["is_sure"]
        if not report["beats_baseline"]:
            assert "did not beat the nearest neighbours" in done.err
            assert "nothing was written" in done.err
            forced = run("train", noise, "--out", f"mine{seed}", "--seed", seed, "--force")
            assert "written to" in forced.err
            assert "all the same" in forced.err
            assert Path(f"mine{seed}", "model.safetensors").is_file()
            return
    pytest.fail("a probe of noise beat the neighbours six times")


def test_several_labels_from_a_file(run: Run, classes: Path) -> None:
    from transformers import pipeline

    lines = ["path,label"]
    for number, name in enumerate(CLASSES):
        for path in sorted((classes / name).iterdir()):
            lines += [
                f'"{path}",{"warm" if number == 0 else "cold"}',
                f'"{path}",{"round" if number < 2 else "flat"}',
            ]
    lines.append("gone.png,warm")
    Path("labels.csv").write_text("\n".join(lines), encoding="utf-8")
    done = run("train", classes, "--labels", "labels.csv", "--out", "mine", "--force", "--json")
    report = json.loads(done.out)
    assert report["several"]
    assert report["classes"] == 4
    assert len(report["missing"]) == 1
    assert "labels of 1 path where no picture was found" in done.err
    assert "some pictures have several labels" in done.err
    assert json.loads(Path("mine/config.json").read_text())["problem_type"] == "multi_label_classification"
    said = pipeline("image-classification", model="mine", device="cpu")(str(classes / "red" / "0.png"))
    assert {one["label"] for one in said if one["score"] > 0.5} == {"warm", "round"}


def test_classes_with_one_picture_and_unreadable_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "some"
    for number, name in enumerate(("a", "b")):
        draw_class(folder / name, number, 8, noise=160)
    draw_class(folder / "alone", 5, 1)
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    draw_picture(3).save(folder / "nowhere.png")
    done = run("train", folder, "--out", "mine", "--force", "--json")
    report = json.loads(done.out)
    assert report["split"]["single"] == ["alone"]
    assert "alone" not in report["per_class"]
    assert report["unlabelled"] == 1
    assert [Path(one["path"]).name for one in report["skipped"]] == ["broken.png"]
    assert "1 class with a single picture" in done.err
    assert "1 file could not be read" in done.err
    assert "alone" in json.loads(Path("mine/config.json").read_text())["label2id"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ([("only", 6)], "only 'only', and at least two are needed"),
        ([("a", 1), ("b", 1)], "every class has a single picture"),
    ],
)
def test_too_few_classes(run: Run, tmp_path: Path, make: list[tuple[str, int]], said: str) -> None:
    for number, (name, count) in enumerate(make):
        draw_class(tmp_path / "few" / name, number, count, noise=160)
    done = run("train", tmp_path / "few", "--out", "mine")
    assert done.code == 1
    assert said in done.err
    assert not Path("mine").exists()


def test_labels_that_name_nothing(run: Run, classes: Path) -> None:
    Path("labels.csv").write_text("path,label\nx.png,a\ny.png,b\n")
    done = run("train", classes, "--labels", "labels.csv", "--out", "mine")
    assert done.code == 1
    assert "names none of the pictures" in done.err


def test_other_folders_are_not_replaced(run: Run, classes: Path) -> None:
    Path("mine").mkdir()
    Path("mine/precious.txt").write_text("x")
    done = run("train", classes, "--out", "mine", "--force")
    assert done.code == 1
    assert "was not made by 'imagesearch train'" in done.err
    assert Path("mine/precious.txt").read_text() == "x"


def test_a_result_among_the_pictures_is_no_class(run: Run, classes: Path, mine: Path) -> None:
    shutil.copytree(classes, "pictures")
    mine.rename("pictures/mine")
    assert list(Path("pictures/mine").rglob("*.png"))
    done = run("train", "pictures", "--out", "pictures/mine", "--force", "--json")
    assert json.loads(done.out)["classes"] == 3


def test_an_earlier_result_is_replaced_only_if_wanted(run: Run, classes: Path, mine: Path) -> None:
    (mine / training.REPORT).write_text("{}")
    done = run("train", classes, "--out", "mine")
    assert done.code == 1
    assert "holds an earlier result" in done.err
    assert run("train", classes, "--out", "mine", "--force").code == 0
    assert json.loads(Path("mine", training.REPORT).read_text())["classes"] == 3


def test_a_full_disk_leaves_the_earlier_result(
    run: Run, classes: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (mine / training.REPORT).read_text()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(new_head, "save_model", full)
    done = run("train", classes, "--out", "mine", "--force")
    assert done.code == 1
    assert "no space left on device" in done.err
    assert (mine / training.REPORT).read_text() == before
    assert not list(Path().glob("mine.*"))


def test_no_place_for_a_cache(run: Run, classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = run("train", classes, "--out", "mine")
    assert done.code == 1
    assert "cannot keep vectors in the cache folder" in done.err


@pytest.mark.parametrize("part", ["0", "1", "-1"])
def test_an_impossible_part(run: Run, classes: Path, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "read_labelled", lambda *_: pytest.fail("pictures were read first"))
    done = run("train", classes, "--held-out", part, "--out", "mine")
    assert done.code == 1
    assert "must be above 0 and below 1" in done.err


def test_fine_tuning_competes_with_the_probe(run: Run, classes: Path) -> None:
    pytest.importorskip("accelerate")
    options = ("--method", "last", "--epochs", 1, "--train-batch", 8, "--learning-rate", 0.001)
    done = run("train", classes, *options, "--out", "mine", "--force", "--json")
    assert done.code == 0
    report = json.loads(done.out)
    assert [one["name"] for one in report["methods"]] == ["kNN", "probe", "last"]
    assert len(report["histories"]["last"]) == 1
    assert report["methods"][2]["gain"] is not None
    assert report["best"] in ("probe", "last")
    assert Path("mine", "model.safetensors").is_file()
    cache = Path.home() / "cache" / "imagesearch" / "training"
    assert [entry for entry in cache.iterdir() if entry.is_dir() and entry.suffix != ".db"] == []


@pytest.mark.skipif(os.name != "posix", reason="names are text there")
def test_a_folder_that_no_model_can_have(run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "read_labelled", lambda *_: pytest.fail("pictures were read first"))
    done = run("train", classes, "--out", "caf\udce9")
    assert done.code == 1
    assert "its name is not UTF-8: choose --out" in done.err


def test_an_unknown_method(run: Run, classes: Path) -> None:
    done = run("train", classes, "--method", "lots", "--out", "mine")
    assert done.code == 1
    assert "must be one of probe, last, lora, full, all" in done.err


def test_fine_tuning_without_its_packages(run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagesearch.models.fine_tuning.importlib.util.find_spec", lambda _: None)
    done = run("train", classes, "--method", "lora", "--out", "mine")
    assert done.code == 1
    assert "pip install accelerate peft" in done.err


@pytest.mark.parametrize("family", ["vit", "dinov2_labels"])
def test_models_whose_heads_see_other_vectors_than_searches(
    run: Run, classes: Path, tmp_path: Path, family: str
) -> None:
    """A ViT's pooler is no part of its classifier; DINOv2's sees patches too. Predictions hold all the same."""
    from transformers import pipeline

    save_checkpoint(tmp_path / "base", family)
    done = run("train", classes, "--model", tmp_path / "base", "--out", "mine", "--force", "--json")
    assert json.loads(done.out)["methods"][1]["retrieval"] is None
    pictures = sorted(classes.rglob("2.png"))
    shown = run("classify", "--model", "mine", *pictures, "--json", "-k", 3)
    classify = pipeline("image-classification", model="mine", device="cpu")
    for one in json.loads(shown.out):
        theirs = classify(one["path"], top_k=3)
        assert [each["label"] for each in theirs] == [each["label"] for each in one["predictions"]]
    assert run("index", classes, "--model", "mine", "--uri", "x.db").code == 0


def test_a_model_with_a_text_tower_is_refused(run: Run, classes: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "base", "clip")
    done = run("train", classes, "--model", tmp_path / "base", "--out", "mine")
    assert done.code == 1
    assert "has a text tower" in done.err
