"""``imagesearch watch``: refresh a collection whenever something changes below its folders.

That something changed only says that it is time: what it was, the refresh finds out by itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.errors import ImageSearchError, StoreLockedError, StoreUnreachableError, UsageError
from imagesearch.frontends.cli.commands.index import offline_text
from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING, WHICH_FILES, Folders
from imagesearch.frontends.cli.options import opened, settings_from
from imagesearch.frontends.cli.output import make_console, note, print_line, print_skipped
from imagesearch.frontends.cli.progress import ProgressDisplay
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.text import counted

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console

    from imagesearch.config import Config
    from imagesearch.frontends.cli.watched_folders import WatchedFolders
    from imagesearch.images.find import Selection
    from imagesearch.reports import IndexReport
    from imagesearch.service import ImageSearch

# Seconds after which changes are read although new ones keep coming.
_LONGEST_WAIT = 30.0

# Seconds between two looks at the folders themselves.
_LOOK_EVERY = 2.0

# Seconds until another try where the database is in use, and where something else failed.
_RETRY_LOCKED = 1.0
_RETRY = 60.0

_WHEN_BACK = "it is refreshed when they are back; 'imagesearch index --prune' removes them"


Debounce = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=0.1, help="How long it has to be quiet before changes are read."),
]
Poll = Annotated[
    bool,
    typer.Option(
        "--poll", help="Look at the folders every few seconds: for network drives that tell of no changes."
    ),
]


@settings_from(*WHICH_FILES, *COLLECTION, *COMPUTING, "batch_size")
def watch(*, settings: Config, folders: Folders = None, debounce: Debounce = 2.0, poll: Poll = False) -> None:
    """Keep folders searchable while they change, until Ctrl-C or SIGTERM.

    Does what 'index' does, and again after every change, with one line for each time. The database is free in
    between, so other commands can use it.
    """
    out = make_console(sys.stdout)
    with opened(settings) as images:
        keep_current(images, folders or (), out, debounce=debounce, poll=poll)


def keep_current(
    images: ImageSearch, folders: Sequence[str], out: Console, *, debounce: float, poll: bool = False
) -> None:
    """Refresh the configured collection now and after every change, until SIGINT or SIGTERM.

    Args:
        folders: folders or single files; default: ``data.raw_dir``, or else all that were indexed before.
        out: gets one line for each refresh that changed something.
        debounce: seconds without a change after which changes are read.
        poll: look at the files every few seconds instead of being told of changes.

    Raises:
        ImageSearchError: the first refresh failed, other than for a database that is in use or does not answer.
        KeyboardInterrupt: it was told to stop a second time.
    """
    _Keeper(images, folders, out, debounce, poll).run()


class _StopError(Exception):
    """Raised between two batches, when it is time to end."""


class _Keeper:
    """What is watched, and what was told of it so far."""

    def __init__(
        self, images: ImageSearch, folders: Sequence[str], out: Console, debounce: float, poll: bool
    ) -> None:
        self._images = images
        self._out = out
        self._debounce = debounce
        self._poll = poll
        self._folders = self._watched(folders)
        self._stopping = False
        self._refreshed = False
        self._retry_at: float | None = None
        self._complaint = ""
        self._offline: set[str] = set()
        self._skipped = set(images.skipped())

    def _watched(self, folders: Sequence[str]) -> WatchedFolders:
        from imagesearch.frontends.cli.watched_folders import WatchedFolders

        # The database's own folders come and go with every refresh, which would lead to the next one.
        return WatchedFolders(folders, self._images.config.selection, _database_folder(self._images), self._poll)

    def run(self) -> None:
        """See :func:`keep_current`."""
        with self._stopped_by_signals():
            try:
                self._look()
                self._refresh()
                while not self._stopping:
                    self._wait()
                    if not self._stopping:
                        self._refresh()
            finally:
                self._folders.stop()
                self._images.release()

    @contextlib.contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            if self._stopping:
                raise KeyboardInterrupt  # told twice: at once, whatever is in flight
            self._stopping = True
            self._folders.wake()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self) -> None:
        """Return when it is quiet after a change, when it is time for another try, or when it is time to end."""
        first: float | None = None
        due = self._retry_at
        if due is None and self._folders.failure:
            due = time.monotonic() + _RETRY
        while not self._stopping:
            now = time.monotonic()
            if due is not None and now >= due:
                return
            changed = self._folders.wait(_LOOK_EVERY if due is None else min(_LOOK_EVERY, due - now))
            if self._look() or changed:
                now = time.monotonic()
                first = now if first is None else first
                due = min(now + self._debounce, first + _LONGEST_WAIT)

    def _look(self) -> bool:
        """Look after the folders themselves; True if others than before are there."""
        other = self._folders.look()
        if other and self._folders.failure:
            note(
                f"cannot be told of changes ({self._folders.failure}): looking once a minute instead, or every few"
                " seconds with --poll"
            )
        return other

    # --- refreshing ---

    def _refresh(self) -> None:
        try:
            report = self._index()
        except _StopError:
            return
        except ImageSearchError as error:
            if not self._refreshed and not isinstance(error, (StoreLockedError, StoreUnreachableError)):
                raise
            self._note_failure(error)
            return
        finally:
            self._images.release()  # others may use the database until the next change
        self._retry_at = None
        self._complaint = ""
        if report is not None:
            self._print(report)
        self._note_offline(report)
        if not self._refreshed:
            self._refreshed = True
            note(f"watching {_listed(self._folders.roots)}; Ctrl-C ends it")

    def _index(self) -> IndexReport | None:
        """Refresh what is there; None if there is nothing at all."""
        if not self._folders.roots:
            self._folders = self._watched(_known_folders(self._images))
            self._look()
        # A missing folder is offline if it has pictures, a mistake if it never had: at first we are told which.
        # Later it would only make the refresh of the others fail.
        watched = self._folders
        roots = [root for root in watched.roots if root not in watched.missing or not self._refreshed]
        if not roots:
            return None
        with ProgressDisplay() as display:

            def progress(stage: str, done: int, total: int | None) -> None:
                if self._stopping:
                    raise _StopError
                display(stage, done, total)

            try:
                return self._images.index(*roots, progress=progress)
            except UsageError:
                if _is_empty(roots, self._images.config.selection):
                    return None  # waiting for the first picture
                raise

    def _note_failure(self, error: ImageSearchError) -> None:
        """Say what went wrong, once, and when it is tried again."""
        locked = isinstance(error, StoreLockedError)
        self._retry_at = time.monotonic() + (_RETRY_LOCKED if locked else _RETRY)
        then = "waiting for it" if locked else "trying again after the next change, or in a minute"
        # The same trouble is not told again: of a locked database the process may be another one every second.
        kind = "locked" if locked else str(error)
        if kind != self._complaint:
            self._complaint = kind
            note(f"imagesearch: {error}; {then}" if locked else f"imagesearch: error: {error}; {then}")

    def _print(self, report: IndexReport) -> None:
        """One line on stdout if anything changed; what could not be read, as far as that is news, on stderr."""
        news = [skip for skip in report.skipped if skip not in self._skipped]
        self._skipped = set(report.skipped)
        print_skipped(news, "imagesearch info --skipped")
        if report.indexed or report.removed or news:
            numbers = (
                f"added {report.indexed - report.reused:,}, reused {report.reused:,}, removed {report.removed:,},"
                f" skipped {len(news):,}"
            )
            print_line(self._out, (f"{time.strftime('%Y-%m-%d %H:%M:%S')}  ", "dim"), (numbers, ""))

    def _note_offline(self, report: IndexReport | None) -> None:
        """Say, once, which folders have gone offline, and which are back."""
        offline = {
            root: f"offline: {root}: is not there; its pictures are kept in the collection: {_WHEN_BACK}"
            for root in self._folders.missing
        }
        offline |= {folder.root: offline_text(folder, _WHEN_BACK) for folder in (report.offline if report else ())}
        for root in sorted(offline.keys() - self._offline):
            note(offline[root])
        for root in sorted(self._offline - offline.keys()):
            note(f"back: {root}")
        self._offline = set(offline)


def _known_folders(images: ImageSearch) -> list[str]:
    """The configured folder, or else all that were indexed before.

    Raises:
        WrongUsageError: there are none.
    """
    if images.config.data.raw_dir is not None:
        return [os.fspath(images.config.data.raw_dir)]
    known = images.indexed_folders()
    if not known:
        raise WrongUsageError("name a folder of pictures (nothing has been indexed yet), or set data.raw_dir")
    return sorted(known)


def _database_folder(images: ImageSearch) -> str | None:
    address = images.config.database_address
    return address.place if address.is_local else None


def _is_empty(roots: Sequence[str], selection: Selection) -> bool:
    """Whether all roots can be read and hold no picture."""
    from imagesearch.images.find import Walk

    walk = Walk.of(roots, selection)
    return not any(True for _ in walk) and not walk.missing


def _listed(roots: Sequence[str]) -> str:
    return roots[0] if len(roots) == 1 else f"{counted(len(roots), 'folder')}"
