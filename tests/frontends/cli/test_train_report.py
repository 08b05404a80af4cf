"""The report of a training: complete in itself, harmless whatever classes and files are called."""

from __future__ import annotations

import base64
import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch import load_config, training
from imagesearch.frontends.training_page import write_training_page

from ...conftest import draw_picture
from ..conftest import Run
from ..test_sheet import Page
from .test_train import CLASSES

EVIL = "<img src=x onerror=alert(1)>$.png"


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawings, each put into one of three classes by chance, so that there are mistakes."""
    folder = tmp_path_factory.mktemp("classes")
    for number, code in enumerate(np.random.default_rng(0).permutation(60) % 3):
        place = folder / CLASSES[code]
        place.mkdir(exist_ok=True)
        draw_picture(number).save(place / f"{number}{EVIL}")
    return folder


def addresses(page: Page) -> list[str]:
    keys = ("src", "srcset", "href")
    return [value for _, attributes in page.elements for key in keys if (value := attributes.get(key))]


def test_it_is_in_the_folder_of_the_model(run: Run, classes: Path) -> None:
    done = run("train", classes, "--out", "mine", "--force")
    assert f"report written to {Path('mine/report.html').absolute()}" in done.err
    assert done.code == 0
    page = Page(Path("mine/report.html"))
    assert {one.partition(":")[0] for one in addresses(page)} == {"data", "file"}
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.elements}
    assert "default-src 'none'" in page.html
    assert "<b>" not in page.html
    assert "onerror=alert(1)>" not in page.html
    for said in ("Worst mistakes", "confused most often", "Retrieval", "3 classes", "taken for", "blue <b>|x"):
        assert said in page.text
    figures = Path("mine/figures")
    names = {path.name for path in figures.iterdir()}
    assert names == {"methods.png", "confusion.png", "classes.png", "reliability.png"}
    for name in names:
        with Image.open(Path("mine/figures", name)) as figure:
            assert figure.width > 500
    light = {f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in figures.iterdir()}
    dark = {attributes["srcset"] for tag, attributes in page.elements if tag == "source"}
    assert light <= set(addresses(page))
    assert len(dark) == len(light)
    assert not dark & light


@pytest.mark.usefixtures("one_figure")
def test_it_is_written_where_the_model_is_not(run: Run, classes: Path) -> None:
    """Of noise the neighbours know as much; which seed shows that is found out."""
    for seed in range(6):
        done = run("train", classes, "--out", f"mine{seed}", "--seed", seed, "--html", "page")
        assert done.code == 0
        page = Page(Path("page.html"))
        assert ("Nothing was written" in page.text or "nothing was written" in page.text) != Path(
            f"mine{seed}"
        ).exists()
        if not Path(f"mine{seed}").exists():
            assert "report written to page.html" in done.err
            return
    pytest.fail("a probe of noise beat the neighbours six times")


def test_learning_curves_and_retrieval_of_what_was_fine_tuned(run: Run, classes: Path) -> None:
    pytest.importorskip("accelerate")
    options = ("--method", "last", "--epochs", 1, "--train-batch", 8)
    assert run("train", classes, *options, "--out", "mine", "--force").code == 0
    names = {path.name for path in Path("mine/figures").iterdir()}
    assert {"curves-last.png", "retrieval.png"} <= names
    assert "after: last" in Page(Path("mine/report.html")).text


@pytest.mark.usefixtures("one_figure")
def test_pictures_that_vanished_are_named(classes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for path in (classes / name).iterdir():
            os.link(path, folder / name / path.name)
    request = training.Request(str(folder), out=str(tmp_path / "out"), force=True)
    found = training.train(load_config(environ={}), request)
    for path in folder.rglob("*.png"):
        path.unlink()
    page = Page(write_training_page(found, tmp_path / "page.html", 100))
    wrong = int((found.examination.truth != found.examination.predictions).any(axis=1).sum())
    assert wrong > 0
    missing = [attributes for _, attributes in page.elements if attributes.get("class") == "picture missing"]
    assert len(missing) == wrong


def test_several_labels(run: Run, classes: Path) -> None:
    lines = ["path,label"]
    for number, name in enumerate(CLASSES):
        for path in sorted((classes / name).iterdir()):
            lines += [f'"{path}",{"warm" if number == 0 else "cold"}', f'"{path}",{number % 2}']
    Path("labels.csv").write_text("\n".join(lines), encoding="utf-8")
    assert run("train", classes, "--labels", "labels.csv", "--out", "mine", "--force").code == 0
    page = Page(Path("mine/report.html"))
    assert "4 classes" in page.text
    assert "confused" not in page.text
    assert not Path("mine/figures/confusion.png").exists()


@pytest.mark.usefixtures("one_figure")
def test_a_page_that_cannot_be_written(run: Run, classes: Path) -> None:
    Path("file").write_text("x")
    done = run("train", classes, "--out", "mine", "--force", "--html", "file/page.html")
    assert done.code == 1
    assert "cannot write 'file/page.html'" in done.err
    assert Path("mine/model.safetensors").is_file()


def test_the_progress_line_tells_loss_and_accuracy(classes: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")

    class Watcher:
        def __init__(self) -> None:
            self.said: list[str] = []

        def __call__(self, stage: str, done: int, total: int | None) -> None:
            pass

        def describe(self, stage: str, text: str) -> None:
            self.said.append(f"{stage} {text}")

    request = training.Request(str(classes), out=str(tmp_path / "out"), methods=("last",), epochs=2, batch_size=8)
    watcher = Watcher()
    found = training.train(load_config(environ={}), request, watcher)
    last = found.histories["last"][-1]
    measured = f"validation loss {last['validation_loss']:.3f}, accuracy {last['accuracy']:.3f}"
    assert watcher.said[-1] == f"train epoch 2: loss {last['loss']:.3f}, {measured}"


@pytest.mark.usefixtures("one_figure")
def test_a_full_disk_leaves_the_model(run: Run, classes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    done = run("train", classes, "--out", "mine", "--force")
    assert done.code == 1
    assert "no space left on device" in done.err
    assert len(list(Path("mine").glob("model.safetensors"))) == 1
    assert run("models", "--trained", "--csv").out.count("mine") == 1
