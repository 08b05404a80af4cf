"""Conversions in a process of their own: what comes of it, and what becomes of one that dies."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import ModelError
from imagesearch.models.hub import find_checkpoint
from imagesearch.models.runtimes import conversion, export
from imagesearch.models.runtimes.conversion import Source, convert


@pytest.fixture
def source(checkpoint: Callable[[str], Path]) -> Source:
    return Source(find_checkpoint(str(checkpoint("resnet"))), "features", "auto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "graph"
    folder.mkdir()
    return folder


def answering(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(conversion, "_PROGRAM", f"import json, os, sys; sys.stdin.read(); {program}")


@pytest.mark.skipif(not export.is_installed("openvino"), reason="no openvino here")
def test_the_graph_does_what_the_network_does(source: Source, folder: Path) -> None:
    manifest = convert(source, "float32", "openvino", folder)
    assert manifest.problem is None
    plain = source.load("float32", "cpu")
    assert manifest.description == plain.description
    graph = export.load_graph("openvino", folder, manifest.precision, "features")
    pictures = export.trial_pictures(plain.preprocessor, 3)
    assert np.allclose(graph.run(pictures), plain.runtime.run(pictures), rtol=1e-3, atol=1e-4)


def test_what_is_wrong_with_the_checkpoint_is_said_and_not_remembered(source: Source, folder: Path) -> None:
    gone = dataclasses.replace(source.checkpoint, folder=folder / "gone")
    with pytest.raises(ModelError, match="gone"):
        convert(dataclasses.replace(source, checkpoint=gone), "float32", "openvino", folder)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(("signal", "reason"), [("SIGSEGV", "segmentation fault"), ("SIGABRT", "aborted")])
def test_a_crash_is_remembered_and_leaves_nothing(
    signal: str, reason: str, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "graph.xml").write_text("half a graph")
    answering(
        monkeypatch,
        f"print('warnings.warn(', file=sys.stderr); import signal; os.kill(os.getpid(), signal.{signal})",
    )
    manifest = convert(source, "float32", "openvino", folder)
    assert manifest.problem == f"the converter crashed ({reason})"
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        pytest.param(
            f"import signal; os.kill(os.getpid(), signal.{signal})",
            reason,
            marks=pytest.mark.skipif(sys.platform == "win32", reason="no signals there"),
        )
        for signal, reason in (("SIGKILL", "memory runs out"), ("SIGTERM", "exit status -15"))
    ]
    + [
        ("sys.exit('a bug')", "a bug"),
        ("print(json.dumps({'error': 'not enough memory'}))", "not enough memory"),
    ],
)
def test_an_accident_is_not_remembered(
    program: str, reason: str, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, program)
    with pytest.raises(ModelError, match=reason):
        convert(source, "float32", "openvino", folder)


def test_a_full_disk_is_one(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "print(json.dumps({'disk': [28, 'No space left on device']}))")
    with pytest.raises(OSError, match="No space left") as caught:
        convert(source, "float32", "openvino", folder)
    assert caught.value.errno == 28


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_it_does_not_outlive_who_wants_it(tmp_path: Path) -> None:
    """The process between us and the conversion is killed while the latter works."""
    work = "import time; from imagesearch.models.runtimes import conversion as c; import threading, os;"
    work += " threading.Thread(target=c._end_with, args=(os.getppid(),), daemon=True).start(); time.sleep(60)"
    parent = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]]);"
    parent += " print(p.pid, flush=True); time.sleep(60)"
    killed = subprocess.Popen([sys.executable, "-c", parent, work], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    child = int(killed.stdout.readline())
    time.sleep(2)  # until it knows its parent
    killed.kill()
    killed.wait()
    deadline = time.monotonic() + 20
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(child)


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_imported_from_the_working_directory(
    source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    (folder / "json.py").write_text("raise SystemExit('imported from here')")
    gone = dataclasses.replace(source.checkpoint, folder=folder / "gone")
    with pytest.raises(ModelError, match="gone"):
        convert(dataclasses.replace(source, checkpoint=gone), "float32", "openvino", folder)


def test_a_program_without_a_python_does_it_itself(
    source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(conversion, "convert_here", lambda *order: asked.append(order))
    monkeypatch.setattr(sys, "executable", None)
    convert(source, "float32", "openvino", folder)
    assert asked == [(source, "float32", "openvino", folder)]


def test_one_that_never_ends(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(conversion, "_SECONDS", 0.2)
    assert "took more than" in str(convert(source, "float32", "openvino", folder).problem)


def test_what_it_says_is_there_for_the_curious(
    source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, "print('a long story', file=sys.stderr); sys.exit('no such operator: hologram')")
    with caplog.at_level(logging.DEBUG), pytest.raises(ModelError, match="no such operator: hologram"):
        convert(source, "float32", "openvino", folder)
    assert "a long story" in caplog.text
