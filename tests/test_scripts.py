"""The original's four scripts: same names, same flags, from any folder, with or without an installed package."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from imagesearch.frontends import scripts

from .conftest import REPOSITORY

NAMES = ("run_feature_extraction", "build_milvus_index", "run_classification", "run_similarity_search")


@pytest.mark.parametrize("name", NAMES)
def test_scripts_run_without_installation(name: str) -> None:
    """-S hides site-packages' editable install: only the checkout beside the script is left, plus dependencies."""
    code = (
        "import sys, runpy, site;"
        "site.addsitedir = None;"
        f"sys.path += {[path for path in sys.path if path.endswith('-packages')]!r};"
        f"sys.argv = ['{name}.py', '--help'];"
        f"runpy.run_path({str(REPOSITORY / 'scripts' / f'{name}.py')!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--config" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_scripts_call_the_function_of_their_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(scripts, name, lambda: 7)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(REPOSITORY / "scripts" / f"{name}.py"), run_name="__main__")
    assert left.value.code == 7


def test_the_readmes_four_commands(picture_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").write_text("milvus: {uri: mine.db}\nsearch: {top_k: 2}\n")
    query = str(picture_folder / "3.png")
    assert scripts.run_feature_extraction(["-i", str(picture_folder), "-o", "processed/mine_vit"]) == 0
    assert Path("processed/mine_vit_features.npy").is_file()
    assert (
        scripts.build_milvus_index(["-f", "processed/mine_vit_features.npy", "-p", "processed/mine_vit_paths.txt"])
        == 0
    )
    capsys.readouterr()

    assert scripts.run_similarity_search(["-q", query, "-k", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert lines[0].split() == ["1", "1.000", query]
    assert len(lines) == 4
    assert scripts.run_similarity_search(["--query_image", query]) == 0
    assert len(capsys.readouterr().out.splitlines()[2:]) == 2  # search.top_k

    assert scripts.run_classification(["-i", query]) == 0
    label, confidence = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Predicted label: \S.*", label)
    assert re.fullmatch(r"Confidence: 0\.\d{4}", confidence)


def test_visualize_saves_a_figure_where_there_is_no_display(
    picture_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    Path("config.yaml").touch()
    assert scripts.run_classification(["-i", str(picture_folder / "1.png"), "--visualize"]) == 0
    assert "imagesearch-classify-1.png" in capsys.readouterr().err
    assert Path("imagesearch-classify-1.png").is_file()


@pytest.mark.parametrize("number", ["0", "-1", "many", "2.5"])
def test_a_number_of_results_that_is_none_is_a_line_of_the_script(
    number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        scripts.run_similarity_search(["-q", "gone.png", f"-k={number}"])
    assert left.value.code == 2
    assert "is not a whole number of at least 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "argv", "code"),
    [
        ("run_similarity_search", ["-q", "gone.png"], 1),
        ("run_similarity_search", ["-q", "gone.png", "--config", "none.yaml"], 2),
        ("run_classification", ["-i", "gone.png"], 1),
        ("run_classification", ["-i", "."], 1),
        ("run_feature_extraction", ["-i", "gone", "-o", "x"], 1),
        ("build_milvus_index", ["-f", "gone.npy", "-p", "gone.txt"], 1),
    ],
)
def test_bad_input_is_a_line_and_an_exit_code(
    name: str, argv: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").touch()
    assert getattr(scripts, name)(argv) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "error" in shown.err.lower()


def test_missing_flags_are_wrong_usage() -> None:
    for name in NAMES:
        with pytest.raises(SystemExit) as left:
            getattr(scripts, name)([])
        assert left.value.code == 2


def test_the_checkouts_settings_are_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = scripts._parser("")
    nothing, told = parser.parse_args([]), parser.parse_args(["--config", "mine.yaml"])
    assert scripts._config(nothing) == str(REPOSITORY / "config.yaml")
    assert scripts._config(told) == "mine.yaml"
    monkeypatch.setenv("IMAGESEARCH_CONFIG", "other.yaml")
    assert scripts._config(nothing) is None
    monkeypatch.delenv("IMAGESEARCH_CONFIG")
    Path("config.yaml").touch()
    assert scripts._config(nothing) is None
