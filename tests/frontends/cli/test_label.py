"""``imagesearch label`` as somebody types it, by lines and by keys."""

from __future__ import annotations

import csv
import io
import json
import os
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imagesearch.frontends.cli.app import app
from imagesearch.frontends.cli.keys import Keys

from ...conftest import draw_picture
from ..conftest import Ran, Run

Answer = Callable[..., Ran]


@pytest.fixture
def answer(runner: CliRunner, run: Run, picture_folder: Path) -> Answer:
    """Index six pictures; then answer with these lines."""
    assert run("index", picture_folder, "--uri", "photos.db").code == 0

    def answered(lines: str, *arguments: object) -> Ran:
        done = runner.invoke(app, ["label", "--uri", "photos.db", *map(str, arguments)], input=lines)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    return answered


def test_lines_are_answers_and_a_later_run_goes_on(answer: Answer, run: Run) -> None:
    first = answer("cat\n2\ns\nu\n=7\nzebra\nq\n", "--labels", "cat,dog")
    assert first.code == 0
    assert "4 of 6 pictures labelled" in first.out
    assert "\nskipped\n" in first.out
    assert "taken back" in first.out
    shown = answer("", "--json")
    labels = json.loads(shown.out)["labels"]
    assert labels == {"7": 1, "cat": 1, "dog": 1, "zebra": 1}
    rest = answer("cat\n" * 10)
    assert "nothing is left to label" in rest.out
    assert "6 of 6 pictures labelled" in rest.out
    found = run("search", "cat", "--uri", "photos.db", "--filter", 'label == "cat"', "--json")
    assert found.code == 0, found.err
    assert len(json.loads(found.out)) == 3


def test_keys_mean_what_is_shown_also_where_labels_are_called_like_keys(answer: Answer) -> None:
    answer("1\ns\n2\n=1\nq\n", "--labels", "0,1,s")
    assert json.loads(answer("", "--json").out)["labels"] == {"0": 1, "1": 2}


def test_names_of_one_character_that_are_no_keys(answer: Answer) -> None:
    done = answer("猫\nx\n犬\ny\nq\n", "--labels", "x,猫")
    assert "'y' stands for no label here" in done.out
    assert json.loads(answer("", "--json").out)["labels"] == {"x": 1, "犬": 1, "猫": 1}


def test_what_stands_for_nothing_is_asked_again(answer: Answer) -> None:
    done = answer("x\n\nu\ncat\nq\n", "--labels", "cat")
    assert "'x' stands for no label here" in done.out
    assert "nothing to take back" in done.out
    assert "1 of 6 pictures labelled" in done.out


def test_next_prints_and_changes_nothing(answer: Answer) -> None:
    answer("cat\ndog\n")
    shown = answer("", "--next", 3, "--json")
    asked = json.loads(shown.out)
    assert len(asked) == 3
    assert {one["label"] for one in asked[0]["suggestions"]} == {"cat", "dog"}
    bare = answer("", "--next", 3, "--paths").out.splitlines()
    assert bare == [one["path"] for one in asked]
    rows = list(csv.DictReader(answer("", "--next", 3, "--csv").out.splitlines()))
    assert [row["path"] for row in rows] == bare
    assert rows[0]["suggestion"] in ("cat", "dog")
    assert "suggestion" in answer("", "--next", 3).out
    assert json.loads(answer("", "--json").out)["labelled"] == 2


def test_train_learns_from_what_was_labelled(answer: Answer, run: Run, picture_folder: Path) -> None:
    assert answer("", "--export", "labels.csv").code == 1
    answer("=a\n=b\n" * 3)
    done = answer("", "--export", "labels.csv")
    assert f"imagesearch train {picture_folder} --labels {Path('labels.csv').absolute()}" in done.err
    trained = run("train", picture_folder, "--labels", "labels.csv", "--out", "mine", "--force", "--json")
    assert trained.code == 0
    assert (json.loads(trained.out)["pictures"], json.loads(trained.out)["classes"]) == (6, 2)


def test_training_is_proposed_in_a_folder_that_was_indexed_only(
    answer: Answer, run: Run, picture_folder: Path
) -> None:
    answer("=a\n" * 6)
    done = answer("", "--export", "my labels.csv")
    place = Path("my labels.csv").absolute()
    assert shlex.split(done.err.split("written: ")[1])[1:] == [
        "train",
        str(picture_folder),
        "--labels",
        str(place),
    ]
    other = Path("other pictures")
    other.mkdir()
    draw_picture(99).save(other / "one.png")
    assert run("index", other, "--uri", "photos.db").code == 0
    answer("=b\n")
    done = answer("", "--export", "labels.csv")
    assert "7 files with labels written" in done.err
    assert "imagesearch train" not in done.err  # which would read all that lies beside both folders
    done = answer("", "--export", "labels.csv", "--under", other)
    assert f"train '{other.resolve()}' --labels" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--paths",), "are for --next"),
        (("--csv",), "are for --next"),
        (("--next", 2, "--paths", "--json"), "exclude each other"),
        (("--export", "x.csv", "--next", 2), "stands alone"),
        (("--labels", " , "), "names none"),
        (("--under", "elsewhere"), "no pictures below"),
        (("--collection", "other"), "no collection 'other'"),
    ],
)
def test_wrong_usage(answer: Answer, arguments: tuple[object, ...], message: str) -> None:
    done = answer("", *arguments)
    assert done.code in (1, 2)
    assert message in done.err


def test_a_full_disk_at_export_leaves_the_old_file(answer: Answer) -> None:
    answer("=a\n")
    Path("there").mkdir()
    done = answer("", "--export", "there/missing/labels.csv")
    assert done.code == 1
    assert "cannot write 'there/missing/labels.csv'" in done.err
    assert not list(Path("there").iterdir())


def test_a_name_that_is_not_finished_is_none() -> None:
    typed = iter(["ca\x04dog\n", "cow"])  # Ctrl-D, and the end
    keys = Keys(lambda: next(typed, ""), io.StringIO())
    assert [keys.line("label: ") for _ in range(3)] == ["", "dog", ""]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_one_key_per_label_in_a_terminal(answer: Answer, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "imagesearch", "label", "--uri", "photos.db", "--labels", "cat,dog"]
    world = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=world)
    os.close(theirs)
    shown = bytearray()

    def until(text: str) -> None:
        end = time.monotonic() + 30
        while text.encode() not in shown:
            assert select.select([ours], [], [], end - time.monotonic())[0], shown.decode(errors="replace")
            shown.extend(os.read(ours, 4096))

    steps = {
        b"1": "-> cat",
        b"2": "-> dog",
        b"\r": "-> ",
        "nlöwe\n".encode(): "-> löwe",
        b"\x1b[A": "",
        b"u": "back",
    }
    for keys, reply in steps.items():
        until("another label")
        if reply:
            shown.clear()
        os.write(ours, keys)
        until(reply)
    until("another label")
    os.write(ours, b"q")
    until("3 of 6 pictures labelled")
    assert process.wait(20) == 0
    os.close(ours)
    assert json.loads(answer("", "--json").out)["labelled"] == 3
