"""Labelling with a model whose pictures may have several labels: each label has a probability of its own."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from imagesearch import training
from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.service import ImageSearch

from ..conftest import Run
from ..web.serving import serving
from .test_train import draw_class

KINDS = {"red": ("warm", "round"), "blue": ("cold", "round"), "green": ("cold", "flat")}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with two labels each, and a model that learnt them."""
    place = tmp_path_factory.mktemp("several")
    with (place / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "label"))
        for number, (name, labels) in enumerate(KINDS.items()):
            draw_class(place / "pictures" / name, number, 10, noise=160)
            for path in sorted((place / "pictures" / name).iterdir()):
                writer.writerows((path, label) for label in labels)
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("DATA", "CACHE"):
            patch.setenv(f"XDG_{kind}_HOME", str(place / kind))
        files = {"labels": str(place / "labels.csv"), "out": str(place / "model"), "force": True}
        training.train(config_of({}), training.Request(str(place / "pictures"), **files))
    return place


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of other runtimes compute a little less exactly."""
    monkeypatch.setenv("IMAGESEARCH_MODEL__RUNTIME", "torch")


def expected(place: Path, picture: Path) -> dict[str, float]:
    """What Transformers says."""
    from transformers import pipeline

    said = pipeline("image-classification", model=str(place / "model"), device="cpu")(str(picture), top_k=4)
    return {one["label"]: one["score"] for one in said}


def test_scores_are_those_of_transformers(run: Run, place: Path) -> None:
    for picture in sorted((place / "pictures").rglob("3.png")):
        theirs = expected(place, picture)
        assert sum(theirs.values()) > 1.5
        shown = run("classify", "--model", place / "model", picture, "--json")
        ours = {one["label"]: one["score"] for one in json.loads(shown.out)[0]["predictions"]}
        assert ours == pytest.approx(theirs, abs=1e-5)
        assert list(ours) == list(theirs)


def test_the_server_and_the_class_say_the_same(place: Path, tmp_path: Path) -> None:
    picture = place / "pictures" / "red" / "3.png"
    model = {"name": str(place / "model"), "runtime": "torch"}
    images = ImageSearch(config_of({"model": model, "milvus": {"uri": str(tmp_path / "x.db")}}))
    theirs = expected(place, picture)
    assert {one.label: one.score for one in images.classify(picture)} == pytest.approx(theirs, abs=1e-5)
    images.index(place / "pictures" / "red")
    with serving(create_app(Backend(images, cache=tmp_path / "thumbnails"))) as server:
        sent = server.send("/api/v1/classify/image", {"image": ("3.png", picture.read_bytes())}, top="4")
    found = {one["label"]: one["score"] for one in sent.json()["predictions"]}
    assert found == pytest.approx(theirs, abs=1e-4)


def test_a_threshold_keeps_as_many_labels_as_are_probable(run: Run, place: Path) -> None:
    options = ("--model", place / "model", "--threshold", 0.5, "--json")
    counts = set()
    for picture in sorted((place / "pictures").rglob("[12].png")):
        (found,) = json.loads(run("classify", *options, picture).out)
        theirs = {label for label, score in expected(place, picture).items() if score >= 0.5}
        assert {each["label"] for each in found["predictions"]} == theirs
        counts.add(len(theirs))
    assert max(counts) >= 2


def test_some_of_its_labels(run: Run, place: Path) -> None:
    """Others than these do not change what is probable; and one alone is a question that can be asked."""
    picture = place / "pictures" / "red" / "3.png"
    theirs = expected(place, picture)
    for labels in (("warm", "flat"), ("warm",)):
        options = ("--model", place / "model", "--labels", ",".join(labels))
        (found,) = json.loads(run("classify", *options, picture, "--json").out)
        ours = {one["label"]: one["score"] for one in found["predictions"]}
        assert ours == pytest.approx({label: theirs[label] for label in labels}, abs=1e-5)


def test_stored_and_sorted_by_the_most_probable(run: Run, place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "pictures", tmp_path / "copy")
    uri = tmp_path / "x.db"
    assert run("index", tmp_path / "copy", "--uri", uri).code == 0
    options = ("--model", place / "model", "--uri", uri, "--store", "--sort-into", tmp_path / "sorted")
    done = run("classify", tmp_path / "copy", *options, "--json")
    assert done.code == 0
    for one in json.loads(done.out):
        assert Path(one["filed"]).parent.name == one["predictions"][0]["label"]
        assert one["predictions"][0]["label"] in KINDS[Path(one["path"]).parent.name]
