"""The demo: variants of the query come first, and it can be run again."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from imagesearch.frontends.cli import samples
from imagesearch.frontends.cli.commands import demo

from ..conftest import Run


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "PHOTOGRAPHS", ("rocket.jpg", "coffee.png", "chelsea.png"))
    monkeypatch.setattr(demo, "RESULTS", 8)


@pytest.mark.usefixtures("few_samples")
def test_demo_shows_the_querys_own_variants_first(run: Run) -> None:
    pytest.importorskip("skimage")
    Path("config.yaml").write_text("model: {name: no/such/model}\n")  # the demo has settings of its own
    first = run("demo", "--folder", "show")
    assert first.code == 0
    assert "18 pictures indexed" in first.out
    similar = next(line for line in first.out.splitlines() if line.startswith("Most similar"))
    assert similar.startswith("Most similar to rocket.jpg: rocket.jpg (1.000)")
    assert similar.count("rocket") == 5
    for name in ("search.png", "classification.png"):
        assert str(Path("show", name).absolute()) in first.out
        with Image.open(Path("show", name)) as figure:
            assert len(figure.convert("RGB").resize((64, 64)).getcolors(4096) or []) > 300
    again = run("demo", "--folder", "show")
    assert again.code == 0
    assert "0 pictures indexed, 18 unchanged" in again.out


def test_demo_without_scikit_image_says_what_to_install(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ran = run("demo")
    assert ran.code == 1
    assert "pip install scikit-image" in ran.err


def test_samples_download_nothing_and_import_nothing(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    before = {name for name in sys.modules if name.startswith(("skimage.data", "pooch"))}
    made = samples.make_samples(tmp_path / "pictures")
    assert len(made) == 6 * len(samples.PHOTOGRAPHS)
    assert all(path.is_file() for path in made)
    assert {name for name in sys.modules if name.startswith(("skimage.data", "pooch"))} == before
    assert not list((tmp_path / "pictures").glob(".*"))


def test_a_wrong_flag_is_one_line(run: Run) -> None:
    ran = run("demo", "--device", "gpu")
    assert ran.code == 2
    assert "model.device = 'gpu'" in ran.err
    assert "Traceback" not in ran.err
