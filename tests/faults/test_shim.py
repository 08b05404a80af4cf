"""The shim sees every byte that the database's libraries write, and fails or kills at the call that was chosen."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import writers
from .server import Answer, ForkServer
from .shim import ALL, Kind, Mode, compile_shim, why_not

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))

RUN = "tests.faults.writers:run"
WRITES_ONE_FILE = ["plain", "text", "low level", "within", "copied", "numpy", "parquet", "faiss"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    with ForkServer(compile_shim(tmp_path_factory.mktemp("shim")), writers.WARM) as started:
        yield started


def run(
    server: ForkServer, name: str, folder: Path, first: int = 0, mode: Mode = Mode.COUNT, **more: Any
) -> Answer:
    folder.mkdir()
    arguments = (name, str(folder), first, int(mode), int(more.get("kinds", ALL)), more.get("watched"))
    return server.run(RUN, *arguments, first=first)


def result_of(answer: Answer) -> dict[str, Any]:
    assert answer.trace == ""
    assert answer.result is not None
    return dict(answer.result)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.name != "there"}


@pytest.mark.parametrize("name", WRITES_ONE_FILE)
def test_every_byte_is_seen(server: ForkServer, tmp_path: Path, name: str) -> None:
    found = result_of(run(server, name, tmp_path / "place"))
    (size,) = sizes(tmp_path / "place").values()
    assert found["written"] == size > 0
    assert found["error"] == ""


def test_every_call_is_seen(server: ForkServer, tmp_path: Path) -> None:
    found = result_of(run(server, "folders", tmp_path / "place"))
    names = [name for name, _, _ in found["calls"]]
    assert names[:7] == ["mkdir", "open", "rename", "link", "symlink", "rename", "opendir"]
    assert sorted(names[7:]) == ["open", "rmdir", "unlink", "unlinkat", "unlinkat"]
    found = result_of(run(server, "sqlite", tmp_path / "database"))
    assert {"open", "pwrite", "fdatasync", "unlink"} <= {name for name, _, _ in found["calls"]}


@pytest.mark.parametrize("name", ["plain", "low level", "within", "parquet", "folders"])
def test_each_call_fails_once(server: ForkServer, tmp_path: Path, name: str) -> None:
    count = run(server, name, tmp_path / "counted").count
    assert count > 1
    for first in range(1, count + 1):
        answer = run(server, name, tmp_path / str(first), first, Mode.ONCE)
        assert result_of(answer)["error"] == "EIO", answer.call
        assert [call[2] for call in answer.result["calls"][: first - 1]] == [0] * (first - 1)
        assert answer.result["calls"][first - 1][2] != 0


@pytest.mark.parametrize("name", ["numpy", "faiss"])
def test_what_a_stream_writes_on_closing_can_fail_too(server: ForkServer, tmp_path: Path, name: str) -> None:
    """And neither of the two libraries says so: the file is just too short."""
    count = run(server, name, tmp_path / "whole").count
    for first in range(1, count):
        answer = run(server, name, tmp_path / str(first), first, Mode.ONCE)
        assert result_of(answer)["error"] != "", answer.call
    answer = run(server, name, tmp_path / "short", count, Mode.ONCE)
    assert result_of(answer)["error"] == ""
    (short,), (whole,) = sizes(tmp_path / "short").values(), sizes(tmp_path / "whole").values()
    assert 0 < short < whole


def test_a_full_disk_takes_half_of_a_write_and_no_more(server: ForkServer, tmp_path: Path) -> None:
    answer = run(server, "plain", tmp_path / "place", 2, Mode.SHORT)
    assert result_of(answer)["error"] == "ENOSPC"
    assert sizes(tmp_path / "place") == {"plain": 5120}


def test_from_then_on_the_disk_is_full(server: ForkServer, tmp_path: Path) -> None:
    answer = run(server, "copied", tmp_path / "place", 3, Mode.FULL)  # Python tries another way of copying
    assert result_of(answer)["error"] == "ENOSPC"
    answer = run(server, "copied", tmp_path / "other", 3, Mode.ONCE)
    assert result_of(answer)["error"] == ""
    answer = run(server, "copied", tmp_path / "dead", 3, Mode.DEAD)
    assert result_of(answer)["error"] == "EIO"


@pytest.mark.parametrize(
    ("mode", "left"),
    [(Mode.KILL_BEFORE, {"low": 0}), (Mode.KILL_WITHIN, {"low": 4000 + 3120}), (Mode.KILL_AFTER, {"low": 10240})],
)
def test_killed_at_a_write(server: ForkServer, tmp_path: Path, mode: Mode, left: dict[str, int]) -> None:
    answer = run(server, "low level", tmp_path / "place", 2, mode)
    assert answer.killed == signal.SIGKILL
    assert answer.result is None
    assert answer.call is not None
    assert (answer.call.name, Path(answer.call.path).name) == ("pwrite", "low")
    assert sizes(tmp_path / "place") == left


def test_only_the_chosen_kinds_count(server: ForkServer, tmp_path: Path) -> None:
    answer = run(server, "folders", tmp_path / "place", 2, Mode.ONCE, kinds=Kind.RENAME)
    assert result_of(answer)["error"] == "EIO"
    assert [call[:2] for call in answer.result["calls"]] == [["rename", "two"], ["rename", "two/other"]]


def test_only_what_is_below_the_folder_counts(server: ForkServer, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    answer = run(server, "plain", tmp_path / "place beside", 1, Mode.DEAD, watched=str(tmp_path / "place"))
    assert result_of(answer) == {"calls": [], "written": 0, "error": ""}


def test_a_child_that_hangs_is_ended(server: ForkServer) -> None:
    answer = server.run("time:sleep", 60, seconds=0.2)
    assert answer.timed_out
    assert answer.killed == signal.SIGKILL


def test_a_child_that_fails_is_told_of(server: ForkServer) -> None:
    answer = server.run("time:sleep", -1)
    assert "ValueError: sleep length must be non-negative" in answer.trace
    assert answer.raised[0] == "ValueError"
    assert server.run("time:sleep", 0).trace == ""
