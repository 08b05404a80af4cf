"""``imagesearch watch``: real files and a real database, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest

from imagesearch.frontends.cli.watched_folders import WatchedFolders, may_concern_pictures
from imagesearch.images.find import Selection

from ...conftest import draw_picture
from ..conftest import Run

DEADLINE = 90.0  # seconds for one line; it comes within one or two unless the machine is very busy


class Watching:
    """A running ``imagesearch watch`` and what it has said."""

    def __init__(self, *arguments: object) -> None:
        program = [sys.executable, "-m", "imagesearch", "watch", "--debounce", "0.3", *map(str, arguments)]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        self._lines: Queue[str] = Queue()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines.put(line.rstrip("\n"))

    def wait_for(self, *texts: str) -> str:
        """Read on until each text has come in some line, of either stream; returns the last of these lines."""
        wanted, line = list(texts), ""
        deadline = time.monotonic() + DEADLINE
        while wanted:
            assert time.monotonic() < deadline, f"no line with {wanted} came: {self.said}"
            try:
                line = self._lines.get(timeout=0.2)
            except Empty:
                assert self.process.poll() is None, f"it ended: {self.said}"
                continue
            self.said.append(line)
            wanted = [text for text in wanted if text not in line]
        return line

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(timeout=DEADLINE)
        assert "Traceback" not in "\n".join(self.said)
        return code


@pytest.fixture
def watch() -> Iterator[Callable[..., Watching]]:
    started: list[Watching] = []

    def start(*arguments: object) -> Watching:
        started.append(Watching(*arguments))
        return started[-1]

    yield start
    for watching in started:
        watching.process.kill()
        watching.process.communicate()


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Eight pictures, five of them in the folder "trip"."""
    folder = tmp_path / "album"
    (folder / "trip").mkdir(parents=True)
    for number in range(8):
        draw_picture(number).save(folder / ("trip" if number < 5 else ".") / f"{number}.png")
    return folder


def paths(run: Run, query: Path, uri: object) -> set[str]:
    """All paths of a collection, by way of a search in this process."""
    return {hit["path"] for hit in json.loads(run("search", query, "-k", "50", "--uri", uri, "--json").out)}


def test_every_change_of_files_is_followed(
    watch: Callable[..., Watching], run: Run, album: Path, tmp_path: Path
) -> None:
    uri = tmp_path / "images.db"
    watching = watch(album, "--uri", uri)
    watching.wait_for("added 8, reused 0, removed 0, skipped 0", "watching")  # in either order
    draw_picture(20).save(album / "new.png")
    assert "added 1, reused 0, removed 0, skipped 0" in watching.wait_for("added")
    (album / "new.png").rename(album / "other name.png")
    assert "added 0, reused 1, removed 0, skipped 0" in watching.wait_for("added")
    (album / "trip").rename(album / "journey")
    assert "added 0, reused 5, removed 0, skipped 0" in watching.wait_for("added")
    (album / "7.png").unlink()
    assert "added 0, reused 0, removed 1, skipped 0" in watching.wait_for("added")
    (album / os.fsdecode(b"caf\xe9.jpg")).write_text("no picture")  # watchfiles cannot tell of such a name
    watching.wait_for("caf\\udce9.jpg: is not a picture", "added 0, reused 0, removed 0, skipped 1")
    assert watching.end() == 0
    expected = {"5.png", "6.png", "other name.png", *(f"journey/{number}.png" for number in range(5))}
    assert paths(run, album / "5.png", uri) == {str(album / name) for name in expected}


def test_a_folder_that_goes_and_comes_back(
    watch: Callable[..., Watching], run: Run, album: Path, tmp_path: Path
) -> None:
    uri = tmp_path / "images.db"
    watching = watch(album, "--uri", uri)
    watching.wait_for("watching")
    away = album.rename(tmp_path / "away")
    line = watching.wait_for("offline")
    assert line.startswith(f"offline: {album}: is not there")
    draw_picture(20).save(away / "new.png")
    away.rename(album)
    watching.wait_for("added 1, reused 0, removed 0", f"back: {album}")
    # The database is free while nothing changes: another process, this one, can search in it.
    assert len(paths(run, album / "5.png", uri)) == 9
    assert watching.end(signal.SIGINT) == 0
    assert sum("offline" in line for line in watching.said) == 1


def test_it_waits_for_a_database_in_use_and_for_the_first_picture(
    watch: Callable[..., Watching], tmp_path: Path
) -> None:
    """An empty folder beside the database that is watched too: what happens in there must not count."""
    uri, album = tmp_path / "library" / "images.db", tmp_path / "library"
    album.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(uri)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holding\n"
        watching = watch(album, "--uri", uri)
        assert str(holder.pid) in watching.wait_for("in use by process")
        assert watching.process.poll() is None
    finally:
        holder.communicate()  # the end of its input lets it end
    watching.wait_for("watching")
    draw_picture(1).save(album / "first.png")
    assert "added 1" in watching.wait_for("added")
    draw_picture(2).save(album / "second.png")
    assert "added 1" in watching.wait_for("added")
    assert watching.end() == 0
    assert sum("in use by process" in line for line in watching.said) == 1


_HOLDER = """
import sys
from imagesearch.records import Fingerprint
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec
database = DatabaseAddress.parse(sys.argv[1]).open()
database.create(CollectionSpec("other"), Fingerprint("toy", "1", "cls", (8, 8), 2))
print("holding", flush=True)
sys.stdin.read()
database.close()
"""


def test_polling_sees_changes_too(watch: Callable[..., Watching], album: Path, tmp_path: Path) -> None:
    watching = watch(album, "--uri", tmp_path / "images.db", "--poll")
    watching.wait_for("watching", "added 8")  # in either order
    (album / "trip").rename(album / "journey")
    assert "added 0, reused 5, removed 0" in watching.wait_for("added")
    assert watching.end() == 0


def test_mistakes_end_it_at_once(run: Run, tmp_path: Path, album: Path) -> None:
    for arguments, code in (
        ((tmp_path / "nowhere",), 1),
        ((), 2),
        ((album, "--debounce", "0"), 2),
        ((album, "--max-megapixels", "-1"), 2),
        ((album, "--model", "no/such/folder"), 1),
    ):
        ran = run("watch", *arguments, "--uri", tmp_path / "a.db")
        assert (ran.code, ran.out) == (code, ""), arguments
        assert "error" in ran.err.lower()


# --- which changes count ---


def test_which_paths_matter(tmp_path: Path) -> None:
    (tmp_path / "folder.v2").mkdir()
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".git").mkdir()
    selection = Selection(exclude=("@eaDir", "sub/raw"))

    def matters(name: str) -> bool:
        return may_concern_pictures(str(tmp_path / name), [str(tmp_path)], selection)

    assert matters("")
    assert all(map(matters, ("a.jpg", "A.JPG", "sub/a.heic", "raw/a.CR2", "folder.v2", "gone", "gone.v2")))
    assert not any(map(matters, ("notes.txt", ".a.jpg", ".git", ".git/gone", "@eaDir/a.jpg", "sub/raw/a.jpg")))
    assert may_concern_pictures("/of/a/single/file.xyz", ["/of/a/single/file.xyz"], selection)


def test_folders_that_are_replaced_are_seen(tmp_path: Path) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir()
    folders = WatchedFolders([str(here), str(tmp_path / "none")], Selection(), None, poll=False)
    try:
        assert folders.look()
        assert folders.missing == {str(tmp_path / "none")}
        assert not folders.look()
        here.rename(other)
        here.mkdir()
        assert folders.look()
        assert not folders.failure
        while folders.wait(0.2):  # what it was told of the folder it watched before
            pass
        (here / "a.jpg").touch()
        assert folders.wait(DEADLINE)
    finally:
        folders.stop()
