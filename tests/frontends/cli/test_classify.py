"""``imagesearch classify``: labels to choose from, near pictures, a threshold, what becomes of pictures."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesearch import ImageSearch, Skipped, UsageError

from ...conftest import draw_picture
from ...models.conftest import save_checkpoint, save_tokenizer
from ..conftest import Run


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of drawings that look alike in each, by size and colour."""
    root = tmp_path_factory.mktemp("classes") / "drawings"
    for label, number in (("round", 0), ("square", 11)):
        (root / label).mkdir(parents=True)
        for place in range(4):
            draw_picture(number, (96 + place, 64 + place)).save(root / label / f"{label}{place}.png")
    return root


@pytest.fixture(scope="module")
def indexed(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds them. Not to be changed."""
    uri = tmp_path_factory.mktemp("database") / "images.db"
    with ImageSearch({"milvus": {"uri": str(uri)}}) as images:
        images.index(classes)
    return uri


@pytest.fixture
def own(indexed: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(indexed, tmp_path / "own.db"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A checkpoint with a text tower."""
    folder = save_checkpoint(tmp_path / "clip", "clip")
    save_tokenizer(folder, "clip")
    return folder


def tree(root: Path) -> dict[str, bytes]:
    return {os.fspath(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# --- which labels ---


def test_labels_to_choose_from(run: Run, classes: Path, tmp_path: Path) -> None:
    picture = classes / "round" / "round0.png"
    by_commas = run("classify", picture, "--labels", "teapot, goldfish,,dog ", "--json")
    assert by_commas.code == 0
    assert "200 labels" not in by_commas.err
    (found,) = json.loads(by_commas.out)
    assert {one["label"] for one in found["predictions"]} == {"teapot", "goldfish", "dog"}
    assert sum(one["score"] for one in found["predictions"]) == pytest.approx(1, abs=1e-5)
    (tmp_path / "labels.txt").write_text("\ufeffteapot\r\n\r\ngoldfish\r\ndog\r\n")
    assert run("classify", picture, "--labels", tmp_path / "labels.txt", "--json").out == by_commas.out


def test_unknown_labels(run: Run, classes: Path) -> None:
    ran = run("classify", classes, "--labels", "teapott,dog")
    assert (ran.code, ran.out) == (1, "")
    assert "starter does not know the label 'teapott'; the nearest words that it knows: teapot" in ran.err
    assert "names none" in run("classify", classes, "--labels", " , ").err


def test_any_words_with_a_text_tower(run: Run, classes: Path, model: Path) -> None:
    options = ("--model", model, "--labels", "a red car,zebras on the moon", "--json")
    (found,) = json.loads(run("classify", classes / "round" / "round0.png", *options).out)
    assert {one["label"] for one in found["predictions"]} == {"a red car", "zebras on the moon"}
    templated = run("classify", classes / "round" / "round0.png", *options, "--template", "art of {}")
    assert json.loads(templated.out)[0]["predictions"] != found["predictions"]
    assert "name the labels" in run("classify", classes, "--model", "clip").err


def test_a_threshold_leaves_out_labels(run: Run, classes: Path) -> None:
    options = (classes / "round" / "round0.png", "--labels", "teapot,dog,cat", "--threshold", "1")
    ran = run("classify", *options)
    assert ran.code == 0
    assert ran.out.splitlines() == [str(classes / "round" / "round0.png"), "  no label of at least 100%"]
    assert json.loads(run("classify", *options, "--json").out)[0]["predictions"] == []
    assert run("classify", *options, "--save", "figure").code == 0
    assert Path("figure.png").exists()
    assert run("classify", classes, "--threshold", "2").code == 2


def test_labels_of_near_pictures(run: Run, classes: Path, indexed: Path, tmp_path: Path) -> None:
    draw_picture(11, (120, 80)).save(tmp_path / "new.png")
    (found,) = json.loads(run("classify", tmp_path / "new.png", "--knn", "--uri", indexed, "--json").out)
    assert [one["label"] for one in found["predictions"]] == ["square", "round"]
    assert found["predictions"][0]["score"] > 0.6


def test_labels_of_a_column(run: Run, classes: Path, own: Path, tmp_path: Path) -> None:
    rows = [f"{path},{path.name[:1].upper()}" for path in classes.rglob("*.png")]
    (tmp_path / "kinds.csv").write_text("\n".join(["path,kind", *rows]))
    assert run("annotate", tmp_path / "kinds.csv", "--uri", own).code == 0
    options = ("--knn", "--by", "kind", "--neighbours", "3", "--uri", own, "--json")
    (found,) = json.loads(run("classify", classes / "round" / "round1.png", *options).out)
    assert [one["label"] for one in found["predictions"]] == ["R", "S"]
    ran = run("classify", classes, "--knn", "--by", "colour", "--uri", own)
    assert (ran.code, "columns: kind" in ran.err) == (1, True)


def test_near_pictures_of_another_model(run: Run, classes: Path, indexed: Path, model: Path) -> None:
    """--model names the model of the vectors, of which there is no collection."""
    ran = run("classify", classes, "--knn", "--uri", indexed, "--model", model)
    assert ran.code == 1
    assert "images_clip" in ran.err


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("a.png", "--by", "kind"),
        ("a.png", "--link"),
        ("a.png", "--sort-into", "x", "--link", "--move"),
        ("a.png", "--undo", "u.jsonl"),
        ("a.png", "--evaluate", "--store"),
        ("a.png", "--evaluate", "--save", "x.png"),
        ("a.png", "--store", "--knn", "--by", "label"),
        ("a.png", "--sort-into", ""),
        ("a.png", "--save", ""),
        ("a.png", "--evaluate", "--csv"),
        ("--undo", "u.jsonl", "--csv"),
        ("--undo", "u.jsonl", "--knn"),
    ],
)
def test_flags_that_do_not_go_together(run: Run, options: tuple[str, ...]) -> None:
    assert run("classify", *options).code == 2


def test_contradictions_are_told(run: Run) -> None:
    ran = run("classify", "a.png", "--knn", "--labels", "a,b")
    assert (ran.code, "choose one" in ran.err) == (1, True)
    assert "name some" in run("classify", "a.png", "--template", "a {}").err


# --- what becomes of the pictures ---


def test_labels_are_stored_and_found(run: Run, classes: Path, own: Path) -> None:
    options = ("--knn", "--uri", own, "--threshold", "0.5")
    ran = run("classify", classes, *options, "--store")
    assert ran.code == 0
    assert "label of 8 pictures stored in collection images_starter" in ran.err
    query = ("search", classes / "round" / "round0.png", "--uri", own, "--json")
    hits = json.loads(run(*query, "--filter", 'label == "square" and label_score > 0.5').out)
    assert sorted(Path(hit["path"]).parent.name for hit in hits) == ["square"] * 4
    assert all(set(hit["annotations"]) == {"label", "label_score"} for hit in hits)
    assert "8 pictures lost an earlier label" in run("classify", classes, *options[:-1], "1", "--store").err
    assert json.loads(run(*query, "--filter", "width > 0").out)[0]["annotations"] == {}


def test_pictures_that_are_not_indexed_are_counted(run: Run, own: Path, tmp_path: Path) -> None:
    draw_picture(3).save(tmp_path / "new.png")
    assert "1 picture not in the collection" in run("classify", tmp_path / "new.png", "--store", "--uri", own).err
    ran = run("classify", tmp_path / "new.png", "--store", "--uri", tmp_path / "none.db")
    assert (ran.code, "there is no collection" in ran.err) == (1, True)


@pytest.mark.parametrize("how", [None, "--link", "--move"])
def test_sorted_and_taken_back(run: Run, classes: Path, indexed: Path, tmp_path: Path, how: str | None) -> None:
    root = Path(shutil.copytree(classes, tmp_path / "drawings"))
    for path in root.rglob("*.png"):
        path.rename(root / path.name)
    (root / "broken.png").write_text("no picture")
    before = tree(root)
    options = ["--knn", "--uri", indexed, "--sort-into", tmp_path / "out", "--json"]
    ran = run("classify", root, *options, *([how] if how else []))
    assert ran.code == 1  # the broken one
    assert len(tree(tmp_path / "out" / "round")) == len(tree(tmp_path / "out" / "square")) == 4
    assert (len(tree(root)) == 9) == (how != "--move")
    filed = {one["path"]: one.get("filed") for one in json.loads(ran.out)}
    assert filed[str(root / "round0.png")] == str(tmp_path / "out" / "round" / "round0.png")
    assert filed[str(root / "broken.png")] is None
    (line,) = (line for line in ran.err.splitlines() if "--undo" in line)
    undone = run("classify", "--undo", line.rpartition(" ")[2], "--json")
    assert undone.code == 0
    assert sum(json.loads(undone.out)[name] for name in ("restored", "removed")) == 8
    assert tree(root) == before
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_taken_back_is_told(run: Run, classes: Path, indexed: Path, tmp_path: Path) -> None:
    ran = run("classify", classes / "round", "--knn", "--uri", indexed, "--sort-into", "out")
    Path("out/round/round0.png").write_text("retouched")
    undone = run("classify", "--undo", ran.err.splitlines()[-1].rpartition(" ")[2])
    assert undone.code == 1
    assert "round0.png: was changed since" in undone.err
    assert [line.split() for line in undone.out.splitlines()][1:] == [["removed", "3"], ["kept", "1"]]
    assert run("classify", "--undo", "nothing.jsonl").code == 1


def test_unsure_pictures_have_a_folder(run: Run, classes: Path, tmp_path: Path) -> None:
    assert run("classify", classes, "--threshold", "1", "--sort-into", "out").code == 0
    assert len(tree(tmp_path / "work" / "out" / "unsure")) == 8


# --- how right they are ---


def test_evaluate_leaves_pictures_out_of_their_own_votes(run: Run, classes: Path, indexed: Path) -> None:
    ran = run("classify", classes, "--evaluate", "--knn", "--uri", indexed, "--json", "--threshold", "0.4")
    found = json.loads(ran.out)
    assert (ran.code, found["pictures"], found["classes"], found["unknown"]) == (0, 8, 2, [])
    assert found["accuracy"]["value"] == 1
    assert found["calibration_error"] == pytest.approx(1 - found["confidence"])
    assert sum(one["hits"] for one in found["bins"]) == 8


def test_evaluate_prints_a_reliability_table(run: Run, classes: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(classes, tmp_path / "d"))
    (root / "round").rename(root / "teapot")
    (root / "square").rename(root / "nobody knows")
    (root / "teapot" / "broken.png").write_text("no picture")
    ran = run("classify", root, "--evaluate", "--threshold", "0.9")
    lines = [line.split() for line in ran.out.splitlines() if line.strip()]
    assert ran.code == 0
    assert lines[0] == ["pictures", "4", "of", "1", "classes"]
    assert ["not", "readable", "1"] in lines
    assert lines[-1][:3] == ["90%", "to", "100%"]
    assert "nobody knows" in ran.err
    ran = run("classify", classes / "round", "--evaluate")
    assert (ran.code, "no pictures in sub-folders" in ran.err) == (1, True)
    assert "--labels" in run("classify", root, "--evaluate", "--labels", "dog,cat").err


# --- Python ---


def test_options_of_the_python_class(classes: Path, indexed: Path) -> None:
    with ImageSearch({"milvus": {"uri": str(indexed)}}) as images:
        (first, second) = images.classify(classes / "round" / "round0.png", nearest=True)
        assert (first.label, second.label) == ("round", "square")
        found = images.classify_all([classes / "gone.png"], labels=("dog", "cat"), threshold=0.9)
        assert [type(result) for _, result in found] == [Skipped]
        with pytest.raises(UsageError, match="threshold"):
            images.classify(classes / "round" / "round0.png", threshold=7)
        with pytest.raises(TypeError):
            images.classify(classes / "round" / "round0.png", colour="red")


def test_pictures_are_labelled_as_they_come(classes: Path) -> None:
    asked: list[Path] = []

    def pictures() -> Iterator[Path]:
        for _ in range(1000):
            asked.append(classes / "round" / "round0.png")
            yield asked[-1]

    with ImageSearch({"extraction": {"batch_size": 4}}) as images:
        next(images.classify_all(pictures(), labels=("dog", "cat")))
        assert len(asked) < 40
