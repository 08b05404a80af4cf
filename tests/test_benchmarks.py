"""The benchmarks are commands that can be started, and their page shows the figures that were kept."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import draw_picture

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if "if __name__" in path.read_text(encoding="utf-8"))

# What makes each of them quick; four still take most of a minute, and ``everything.py`` has a test of its own.
TINY = {
    "chaos.py": "--pictures 40 --kills 1",
    "compare.py": "--base HEAD --pictures 4 --turns 1 --tolerance 1000",
    "damaged.py": "",
    "faults.py": "--first 1 --kills 1 --operations rename --workers 1",
    "fine_tuning.py": "--pictures PICTURES --device cpu --repeat 1 --batch 4 --layers 1 --turns 1",
    "gpu.py": "--pictures PICTURES --device cpu --limit 2 --repeat 1 --batch 2 --layers 1 --turns 1",
    "indexing.py": "--pictures PICTURES --turns 1",
    "labelling.py": "--pictures PICTURES --classes 2 --seeds 1 --batch 1",
    "learning.py": "--probe 60 8 3 --turns 1",
    "mcp_server.py": "--rows 50 --turns 0",
    "memory.py": "--pictures 4 8 --rows 50 100",
    "near_identical.py": "--pictures PICTURES",
    "plain.py": f"--plain {shlex.quote(sys.executable)} --pictures PICTURES --turns 1",
    "refresh.py": "--rows 100 --repeat 1",
    "rivals.py": "--pictures PICTURES --limit 4 --turns 1",
    "serving.py": "--pictures PICTURES --clients 2 --seconds 0.3",
    "search.py": "--rows 500 --queries 5",
    "startup.py": "--rows 50 --turns 0",
    "text.py": "--layers 1 --rows 50 --turns 0",
    "threads.py": "--seconds 1 --threads 2",
}
SLOW = {"damaged.py", "memory.py", "plain.py", "rivals.py"}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(8):
        draw_picture(number).save(folder / f"{number}.jpg")
    return folder


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


@pytest.mark.parametrize(
    "script", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(TINY)]
)
def test_it_runs_on_little(
    script: str, pictures: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if script == "compare.py" and not (FOLDER.parent / ".git").exists():
        pytest.skip("compares commits of a git repository")
    if script == "faults.py" and sys.platform != "linux":
        pytest.skip("faults are injected with LD_PRELOAD")
    flags = shlex.split(TINY[script].replace("PICTURES", shlex.quote(str(pictures))))
    command = [sys.executable, str(FOLDER / script), *flags, "--json", str(tmp_path / "figures.json")]
    # Converted models are kept from one to the next; and modules are compiled once, where all find them.
    world = dict(os.environ, PYTHONPYCACHEPREFIX="")
    world["XDG_CACHE_HOME"] = str(tmp_path_factory.getbasetemp().parent / "cache-of-benchmarks")
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, env=world)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "figures.json").read_text())


def test_learning_compares_methods_on_class_folders(pictures: Path, tmp_path: Path) -> None:
    for number in range(24):
        place = tmp_path / "classes" / "abc"[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        draw_picture(number).save(place / f"{number}.png")
    flags = ["--folders", str(tmp_path / "classes"), "--classes", "2", "3", "--method", "probe", "--turns", "1"]
    command = [sys.executable, str(FOLDER / "learning.py"), *flags, "--probe", "60", "8", "3"]
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "figures.json")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())["folders"]
    assert [(one["pictures"], one["classes"]) for one in found] == [(16, 2), (24, 3)]
    assert done.stdout.count("| probe | L2 ") == 2


def test_everything_keeps_figures_and_writes_tables(
    everything: ModuleType, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"Above.\n{everything.BEGIN}\nold\n{everything.END}\nBelow.\n", encoding="utf-8")
    monkeypatch.setattr(everything, "README", page)
    monkeypatch.setattr(everything, "RESULTS", tmp_path / "results")
    steps = {"refresh": ["refresh.py", *TINY["refresh.py"].split()]}
    monkeypatch.setattr(everything, "commands", lambda *_: steps)
    monkeypatch.setattr(sys, "argv", ["everything.py", "--pictures", str(pictures), "--only", "refresh"])
    everything.main()
    above, _, below = page.read_text(encoding="utf-8").partition(everything.SECTIONS["refresh"][0])
    assert above.startswith("Above.")
    assert "| 100 | " in below
    assert below.endswith("Below.\n")


def test_every_benchmark_has_a_quick_run() -> None:
    assert {*TINY, "everything.py"} == set(SCRIPTS)


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
    for command in everything.commands("photos", "checkpoint", "before", "python").values():
        text = (FOLDER / command[0]).read_text(encoding="utf-8")
        for flag in re.findall(r"--\w+", " ".join(command)):
            assert f'"{flag}"' in text, (command[0], flag)
