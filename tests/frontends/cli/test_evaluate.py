"""``imagesearch evaluate`` as somebody types it, on class folders of drawn pictures."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch import Config, UsageError, evaluating
from imagesearch.evaluating import Evaluation, ModelEvaluation, Request
from imagesearch.search.ranking import QUICK_METHODS

from ...conftest import draw_picture
from ..conftest import Run


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of six pictures: the same drawing under noise; a name of one needs escaping."""
    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for number, name in enumerate(("red", "blue <b>", "green")):
        (folder / name).mkdir()
        for place in range(6):
            pixels = np.asarray(draw_picture(7 * number), np.float32)
            noisy = (pixels + 60 * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / name / f"{place}.png")
    return folder


class Links(HTMLParser):
    """Addresses of a page, and its tags that were never opened or closed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.opened: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in ("meta", "img", "source"):
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag


def test_tuning_tries_methods_for_whole_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are another setting than the one that is written."""
    asked: list[Request] = []

    def evaluate(config: Config, request: Request, progress: object) -> Evaluation:
        asked.append(request)
        return Evaluation([ModelEvaluation("toy", None)])

    monkeypatch.setattr(evaluating, "evaluate", evaluate)
    with pytest.raises(UsageError, match="nothing was measured"):
        evaluating.tune(Config(), Request(views=("crops",)))
    assert [(one.methods, one.views) for one in asked] == [(QUICK_METHODS, ())]


def test_class_folders_as_json(run: Run, classes: Path, tmp_path: Path) -> None:
    done = run("evaluate", classes, "--json", "--rerank", "all", "-k", 5)
    assert done.code == 0
    (model,) = json.loads(done.out)["models"]
    labels = model["labels"]
    assert (labels["pictures"], labels["classes"], labels["queries"]) == (18, 3, 18)
    assert [one["method"] for one in labels["methods"]] == list(QUICK_METHODS)
    none = labels["methods"][0]["measures"]
    assert 0.5 < none["mAP"]["low"] <= none["mAP"]["value"] <= none["mAP"]["high"] <= 1
    assert set(labels["per_class"]) == {"red", "blue <b>", "green"}
    assert labels["methods"][1]["cost"]["milliseconds"] > 0
    assert model["copies"] is None
    assert list(tmp_path.rglob("*.db")) == []


def test_tables_figure_and_page(run: Run, classes: Path) -> None:
    done = run("evaluate", classes, "--save", "figure.png", "--html", "page.html", "--index")
    assert done.code == 0
    assert "18 of 18 pictures asked for the others of their class (3 classes)" in done.out
    assert re.search(r"mAP +[01]\.\d{3} +[01]\.\d{3} to [01]\.\d{3}", done.out)
    assert "index FLAT of 18 pictures against exact search" in done.out
    with Image.open("figure.png") as figure:
        assert figure.width > 500
    text = Path("page.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert not links.opened
    assert all(address.startswith("data:image/") for address in links.addresses)
    assert len(links.addresses) > 12 * 10  # the worst queries with what they found
    assert "blue &lt;b&gt;" in text
    assert "<b>" not in text


def test_long_names_of_classes_cut_no_numbers(run: Run, classes: Path, tmp_path: Path) -> None:
    shutil.copytree(classes, tmp_path / "copy")
    (tmp_path / "copy" / "green").rename(tmp_path / "copy" / ("g" * 210))
    done = run("evaluate", tmp_path / "copy", "--rerank", "none")
    assert done.code == 0
    assert "precision@10" in done.out
    assert "…" not in done.out
    done = run("train", tmp_path / "copy", "--out", tmp_path / "model", "--force")
    assert done.code == 0
    assert re.search(r"g{100,} +\d +[01]\.\d{3} +[01]\.\d{3} +[01]\.\d{3}", done.out)
    assert "…" not in done.out


def test_without_labels_copies_must_find_their_originals(run: Run, classes: Path) -> None:
    done = run("evaluate", classes / "red", "--json", "--originals", 2)
    (model,) = json.loads(done.out)["models"]
    assert model["labels"] is None
    assert model["copies"]["originals"] == 2
    names = {one["distortion"] for one in model["copies"]["levels"]}
    assert {"JPEG", "white noise", "Gaussian blur", "fading", "crop", "rotation", "mirror", "screenshot"} <= names


def test_the_configured_collection_with_a_file_of_labels(run: Run, classes: Path, tmp_path: Path) -> None:
    uri = tmp_path / "images.db"
    assert run("index", classes, "--uri", uri).code == 0
    lines = [f"{path},{path.stem[-1] in '012'}" for path in sorted(classes.rglob("*.png"))]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    done = run("evaluate", "--uri", uri, "--labels", tmp_path / "labels.csv", "--json")
    (model,) = json.loads(done.out)["models"]
    assert set(model["labels"]["per_class"]) == {"True", "False"}


def test_two_models_side_by_side(run: Run, classes: Path, mobilenet: Path) -> None:
    done = run("evaluate", classes, "--compare", f"starter,{mobilenet}", "--rerank", "none", "--json")
    found = json.loads(done.out)
    assert len(found["models"]) == 2
    (comparison,) = found["comparisons"].values()
    values = [model["labels"]["methods"][0]["measures"]["mAP"]["value"] for model in found["models"]]
    assert comparison["mAP"]["value"] == pytest.approx(values[0] - values[1])


class TestTuning:
    def test_a_sure_gain_is_written_and_nothing_else_changes(self, run: Run, classes: Path) -> None:
        before = "# mine\nsearch:\n  # results\n  top_k: 7  # seven\n\nmodel:\n  name: starter\n"
        Path("config.yaml").write_text(before)
        done = run("evaluate", classes, "--tune", "--json")
        found = json.loads(done.out)
        after = Path("config.yaml").read_text()
        if found["written"] is None:  # whether the gain is sure depends on the machine's arithmetic
            assert after == before
            assert "search.rerank stays feedback+labels" in done.err
        else:
            line = f"  rerank: {found['choice']['method']}\n"
            assert after == before.replace("search:\n", f"search:\n{line}")
            assert found["choice"]["gain"]["low"] > 0
            assert str(Path("config.yaml").absolute()) in done.err

    def test_it_excludes_other_methods(self, run: Run, classes: Path) -> None:
        done = run("evaluate", classes, "--tune", "--rerank", "expand")
        assert (done.code, done.out) == (2, "")
        assert "--tune tries all ranking methods" in done.err


def test_mistakes_are_one_line(run: Run, classes: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ((classes, "--rerank", "shuffle"), "no ranking method 'shuffle'"),
        ((tmp_path / "none",), "none"),
        ((classes, "--labels", "none.csv"), "none.csv"),
        ((classes / "red", "--labels", classes / "red" / "0.png"), "0.png"),
        ((classes, "--compare", "starter,starter"), "each once"),
        (("--uri", tmp_path / "none.db"), "there is no collection"),
    ):
        done = run("evaluate", *arguments)
        assert done.code in (1, 2)
        assert done.out == ""
        assert expected in done.err.splitlines()[-1]


def test_options_that_would_do_nothing(run: Run, classes: Path) -> None:
    assert "there is no ranking" in run("evaluate", classes, "--rerank", "all", "--rerank", "x").err
    assert "views = 'x'" in run("evaluate", classes, "--views", "all", "--views", "x").err
    assert "cannot read labels" in run("evaluate", classes, "--labels", "").err
    assert run("evaluate", "--exclude", "red").code == 2
    assert run("evaluate", "--include-hidden").code == 2


def test_the_time_of_a_ranking_is_a_share_of_the_whole_query(run: Run, classes: Path) -> None:
    (model,) = json.loads(run("evaluate", classes, "--rerank", "expand", "--json").out)["models"]
    assert model["encode_ms"] > 0
    (model,) = json.loads(run("evaluate", classes, "--rerank", "none", "--json").out)["models"]
    assert model["encode_ms"] is None


def test_labels_by_their_names(run: Run, tmp_path: Path) -> None:
    for name, start in (("goldfish", 0), ("n02099601_school_bus", 3), ("nothing it knows", 6)):
        (tmp_path / name).mkdir()
        for number in range(start, start + 3):
            draw_picture(number).save(tmp_path / name / f"{number}.png")
    (model,) = json.loads(run("evaluate", tmp_path, "--words", "--rerank", "none", "--json").out)["models"]
    assert model["words"]["words"] == 2
    assert model["unknown"] == ["nothing it knows"]
    assert 0 < model["words"]["mean_average_precision"] <= 1
    shown = run("evaluate", tmp_path, "--words", "--rerank", "none").out
    assert "2 labels asked for by their names" in shown
    assert "1 label that the model does not know, such as 'nothing it knows'" in shown


def test_confidence_with_half_of_the_labels_absent(run: Run, classes: Path, tmp_path: Path) -> None:
    few = run("evaluate", classes, "--confidence", "--rerank", "none")
    assert few.code == 1
    assert len(few.err.splitlines()) == 1
    assert "classes" in few.err
    random = np.random.default_rng(0)
    for label in range(12):
        (tmp_path / str(label)).mkdir()
        base = np.asarray(draw_picture(label), np.float32)
        for number in range(12):
            noisy = (base + 30 * random.standard_normal(base.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(tmp_path / str(label) / f"{number}.png")
    (model,) = json.loads(run("evaluate", tmp_path, "--confidence", "--rerank", "none", "--json").out)["models"]
    sure = model["confidence"]
    assert len(sure["trials"]) == 5
    assert 0 <= sure["false_alarms"] <= 1
    assert 0 <= sure["calibration_error"] <= 1
