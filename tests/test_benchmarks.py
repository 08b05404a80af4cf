"""The benchmarks are commands that can be started, and their page shows the figures that were kept."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "if __name__" in path.read_text(encoding="utf-8"))


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("everything", FOLDER / "everything.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_it_starts_and_is_on_the_page(script: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / script), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--json" in done.stdout or script == "everything.py"
    assert script in PAGE


def test_the_page_shows_what_was_measured(everything: ModuleType) -> None:
    made = PAGE.partition(everything.BEGIN)[2].partition(everything.END)[0]
    assert made.strip() == everything.render().strip() != ""
    assert {path.stem for path in everything.RESULTS.glob("*.json")} <= set(everything.SECTIONS)


def test_figures_that_were_not_measured_are_left_out(everything: ModuleType) -> None:
    row = {"rows": 10, "dim": 2, "name": "FAISS", "index": "FLAT", "p50": 1.0, "p95": 2.0, "recall_100": 0.5}
    header, _, line = everything.search([row]).splitlines()
    shown = dict(zip(header.split(" | "), line.split(" | "), strict=True))
    assert (shown["p50 ms"], shown["recall@100"], shown["cold s"]) == ("1.00", "0.500", "")


def test_every_step_names_a_script_and_flags_that_it_has(everything: ModuleType) -> None:
    for command in everything.commands("photos", "checkpoint", "before").values():
        text = (FOLDER / command[0]).read_text(encoding="utf-8")
        for flag in re.findall(r"--\w+", " ".join(command)):
            assert f'"{flag}"' in text, (command[0], flag)
