"""The moods of ``imagesearch watch``: trouble, waiting, stopping, played to it by a scripted library."""

from __future__ import annotations

import io
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesearch.config import config_of
from imagesearch.errors import StoreError, StoreLockedError, StoreUnreachableError, UsageError
from imagesearch.frontends.cli.commands import watch
from imagesearch.frontends.cli.output import make_console
from imagesearch.records import Progress, Skipped
from imagesearch.reports import IndexReport, OfflineRoot


class Library:
    """Stands for :class:`imagesearch.ImageSearch`: each refresh is the next step of a script."""

    def __init__(self, folder: Path, *script: Callable[[Progress], IndexReport]) -> None:
        self.config = config_of({"milvus": {"uri": str(folder / "images.db")}})
        self.script = list(script)
        self.roots: list[tuple[str, ...]] = []
        self.released = 0

    def skipped(self) -> list[Skipped]:
        return []

    def release(self) -> None:
        self.released += 1

    def index(self, *roots: str, progress: Progress) -> IndexReport:
        self.roots.append(roots)
        return self.script.pop(0)(progress)


def report(indexed: int = 0, **more: Any) -> IndexReport:
    return IndexReport(
        found=indexed, indexed=indexed, unchanged=0, skipped=(), collection="c", seconds=0.1, **more
    )


def succeeds(indexed: int = 0, **more: Any) -> Callable[[Progress], IndexReport]:
    return lambda progress: report(indexed, **more)


def fails(error: Exception) -> Callable[[Progress], IndexReport]:
    def step(progress: Progress) -> IndexReport:
        raise error

    return step


def is_stopped(progress: Progress) -> IndexReport:
    """A refresh in whose first batch SIGTERM comes."""
    signal.raise_signal(signal.SIGTERM)
    progress("encode", 1, 10)
    raise AssertionError("it went on after it was told to stop")


def is_stopped_twice(progress: Progress) -> IndexReport:
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
    raise AssertionError("it went on after it was told twice to stop")


@pytest.fixture
def keep(monkeypatch: pytest.MonkeyPatch) -> Callable[[Library, Path], str]:
    """Run it with a short minute; returns what it printed on stdout."""
    monkeypatch.setattr(watch, "_RETRY", 0.05)
    monkeypatch.setattr(watch, "_RETRY_LOCKED", 0.05)

    def run(library: Library, *folders: Path) -> str:
        out = io.StringIO()
        before = signal.getsignal(signal.SIGTERM)
        names = [str(folder) for folder in folders]
        watch.keep_current(library, names, make_console(out), debounce=0.05)  # type: ignore[arg-type]
        assert signal.getsignal(signal.SIGTERM) is before
        return out.getvalue()

    return run


def test_a_failing_refresh_is_told_once_and_tried_again(
    keep: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = StoreError("the disk is full")
    library = Library(tmp_path, succeeds(3), fails(full), fails(full), succeeds(2, removed=1), is_stopped)
    (tmp_path / "a").mkdir()
    stop_noise = threading.Thread(target=_touch_until, args=(tmp_path / "a", library), daemon=True)
    stop_noise.start()
    lines = keep(library, tmp_path / "a").splitlines()
    stop_noise.join()
    assert [line.split("  ")[1] for line in lines] == [
        "added 3, reused 0, removed 0, skipped 0",
        "added 2, reused 0, removed 1, skipped 0",
    ]
    err = capsys.readouterr().err
    assert err.count("the disk is full") == 1
    assert "trying again" in err
    assert library.released >= 5  # after every refresh, whatever became of it


def _touch_until(folder: Path, library: Library) -> None:
    """Change something until the script has been played."""
    number = 0
    while library.script:
        number += 1
        (folder / f"{number}.jpg").touch()
        time.sleep(0.05)


@pytest.mark.parametrize("error", [StoreLockedError("in use"), StoreUnreachableError("no answer")])
def test_at_first_it_waits_for_the_database(
    keep: Callable[..., str], tmp_path: Path, error: StoreError, capsys: pytest.CaptureFixture[str]
) -> None:
    library = Library(tmp_path, fails(error), fails(error), succeeds(), is_stopped)
    (tmp_path / "a").mkdir()
    threading.Thread(target=_touch_until, args=(tmp_path / "a", library), daemon=True).start()
    assert keep(library, tmp_path / "a") == ""
    assert capsys.readouterr().err.count(str(error)) == 1


@pytest.mark.parametrize("error", [UsageError("cannot read"), StoreError("of another metric")])
def test_at_first_other_errors_end_it(keep: Callable[..., str], tmp_path: Path, error: Exception) -> None:
    (tmp_path / "a.jpg").touch()
    library = Library(tmp_path, fails(error))
    with pytest.raises(type(error), match=str(error)):
        keep(library, tmp_path)
    assert library.released


def test_told_to_stop_it_ends_after_the_batch_and_told_twice_at_once(
    keep: Callable[..., str], tmp_path: Path
) -> None:
    assert keep(Library(tmp_path, is_stopped), tmp_path) == ""
    with pytest.raises(KeyboardInterrupt):
        keep(Library(tmp_path, is_stopped_twice), tmp_path)


def test_what_was_skipped_and_offline_before_is_no_news(
    keep: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, worse = Skipped("/a/bad.jpg", "is not a picture"), Skipped("/a/worse.jpg", "is empty")
    offline = (OfflineRoot("/disk", "is empty", 7),)

    def step(*skipped: Skipped) -> Callable[[Progress], IndexReport]:
        return lambda progress: IndexReport(len(skipped), 0, 0, skipped, "c", 0.1, offline=offline)

    library = Library(tmp_path, step(bad), step(bad), step(bad, worse), succeeds(), is_stopped)
    (tmp_path / "a").mkdir()
    threading.Thread(target=_touch_until, args=(tmp_path / "a", library), daemon=True).start()
    lines = keep(library, tmp_path / "a").splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["1", "1"]
    err = capsys.readouterr().err
    assert err.count("skipped /a/bad.jpg") == err.count("skipped /a/worse.jpg") == 1
    assert err.count("offline: /disk: is empty; 7 missing pictures kept") == 1
    assert err.count("back: /disk") == 1


def test_one_missing_folder_does_not_hinder_the_others(keep: Callable[..., str], tmp_path: Path) -> None:
    here, gone = tmp_path / "here", tmp_path / "gone"
    here.mkdir()
    gone.mkdir()

    def goes(progress: Progress) -> IndexReport:
        gone.rmdir()
        return report()

    library = Library(tmp_path, goes, is_stopped)
    assert keep(library, here, gone) == ""
    assert library.roots == [(str(here), str(gone)), (str(here),)]


def test_changes_during_a_refresh_lead_to_another(keep: Callable[..., str], tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()

    def changes(progress: Progress) -> IndexReport:
        (folder / "during.jpg").touch()
        return report(1)

    library = Library(tmp_path, changes, is_stopped)
    assert len(keep(library, folder).splitlines()) == 1
    assert library.script == []


def test_without_being_told_it_looks_once_a_minute(
    keep: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def watch(*_: object, **__: object) -> Iterator[object]:
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setattr("watchfiles.watch", watch)
    library = Library(tmp_path, succeeds(1), succeeds(), succeeds(2), is_stopped)
    assert len(keep(library, tmp_path).splitlines()) == 2
    err = capsys.readouterr().err
    assert err.count("cannot be told of changes (OS file watch limit reached): looking once a minute") == 1
