"""Conversions in a process of their own: what comes of it, and what becomes of one that dies."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imagesearch.models import converting, exporting
from imagesearch.models.converting import Source, convert
from imagesearch.models.hub import find_checkpoint


@pytest.fixture
def source(checkpoint: Callable[[str], Path]) -> Source:
    return Source(find_checkpoint(str(checkpoint("resnet"))), "features", "auto")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "graph"
    folder.mkdir()
    return folder


def answering(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(converting, "_PROGRAM", f"import json, os, sys; sys.stdin.read(); {program}")


@pytest.mark.skipif(not exporting.is_installed("openvino"), reason="no openvino here")
def test_the_graph_does_what_the_network_does(source: Source, folder: Path) -> None:
    manifest = convert(source, "float32", "openvino", folder)
    assert manifest.problem is None
    plain = source.load("float32", "cpu")
    assert manifest.description == plain.description
    graph = exporting.start("openvino", folder, manifest.precision)
    pictures = exporting.trial_pictures(plain.preparer, 3)
    assert np.allclose(graph.run(pictures), plain.runtime.run(pictures), rtol=1e-3, atol=1e-4)


def test_a_checkpoint_that_is_gone_meanwhile(source: Source, folder: Path) -> None:
    gone = dataclasses.replace(source.checkpoint, folder=folder / "gone")
    manifest = convert(dataclasses.replace(source, checkpoint=gone), "float32", "openvino", folder)
    assert "the conversion failed: imagesearch.errors.ModelError" in str(manifest.problem)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize(("signal", "reason"), [("SIGSEGV", "exit status -11"), ("SIGABRT", "exit status -6")])
def test_a_crash_is_remembered_and_leaves_nothing(
    signal: str, reason: str, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "graph.xml").write_text("half a graph")
    answering(monkeypatch, f"import signal; os.kill(os.getpid(), signal.{signal})")
    manifest = convert(source, "float32", "openvino", folder)
    assert manifest.problem == f"the conversion failed: {reason}"
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import signal; os.kill(os.getpid(), signal.SIGKILL)", "memory runs out"),
        ("print(json.dumps({'error': 'No space left on device'}))", "No space left"),
    ],
)
def test_no_room_is_nothing_to_remember(
    program: str, reason: str, source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, program)
    with pytest.raises(OSError, match=reason):
        convert(source, "float32", "openvino", folder)


def test_one_that_never_ends(source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "import time; time.sleep(60)")
    monkeypatch.setattr(converting, "_SECONDS", 0.2)
    assert "took more than" in str(convert(source, "float32", "openvino", folder).problem)


def test_what_it_says_is_there_for_the_curious(
    source: Source, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, "print('a long story', file=sys.stderr); sys.exit('no such operator: hologram')")
    with caplog.at_level(logging.DEBUG):
        manifest = convert(source, "float32", "openvino", folder)
    assert manifest.problem == "the conversion failed: no such operator: hologram"
    assert "a long story" in caplog.text
