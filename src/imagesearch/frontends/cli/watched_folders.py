"""Being told when pictures may have changed below some folders; the only module that knows watchfiles.

The system tells a thread of changes of files. Nobody tells of an unplugged disk, so every look compares the
folders themselves with those of the look before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue

import watchfiles

from imagesearch.images.find import EXTENSIONS, RAW_EXTENSIONS, Selection, Walk, below

# Milliseconds: how often the thread looks at what it was told, and how often polling looks at the files.
_STEP = 100
_POLL_EVERY = 2_000


class WatchedFolders:
    """Some folders (or single files), of which any may be missing, vanish and come back.

    Args:
        folders: as somebody named them.
        selection: which files below them count.
        apart: a folder of which no change counts.
        poll: look at the files every few seconds instead of being told.

    Attributes:
        roots: the folders, absolute and without links, as rows have them.
        missing: those that were not there at the last look.
    """

    def __init__(self, folders: Sequence[str], selection: Selection, apart: str | None, poll: bool) -> None:
        self.roots = Walk.of([os.path.expanduser(folder) for folder in folders], selection).roots
        self.missing: frozenset[str] = frozenset()
        self._selection, self._apart, self._poll = selection, apart, poll
        # SimpleQueue, because a signal's handler may put something in while this thread is taking something out.
        self._wake: SimpleQueue[None] = SimpleQueue()
        self._there: dict[str, tuple[int, int] | None] = {}
        self._watcher: _Watcher | None = None

    @property
    def failure(self) -> str:
        """Why the system cannot tell of changes; empty if it can."""
        return self._watcher.failure if self._watcher is not None else ""

    def look(self) -> bool:
        """Watch the folders that are there now; True if these are others than at the last look."""
        there = {root: _identity(root) for root in self.roots}
        ended = self._watcher is not None and not self._watcher.is_alive() and not self._watcher.failure
        if there == self._there and not ended:
            return False
        self._there = there
        self.missing = frozenset(root for root, identity in there.items() if identity is None)
        self.stop()
        watched = [root for root in self.roots if root not in self.missing]
        if watched:
            self._watcher = _Watcher(watched, self._matters, self._wake, self._poll)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for a change, or for :meth:`wake`; False if there was none in time."""
        with contextlib.suppress(Empty):
            self._wake.get(timeout=max(0.0, seconds))
            return True
        return False

    def wake(self) -> None:
        """End :meth:`wait`; a signal's handler may call this."""
        self._wake.put(None)

    def stop(self) -> None:
        """Watch no more, until the next :meth:`look`."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher = None

    def _matters(self, path: str) -> bool:
        if self._apart is not None and below(path, [self._apart]):
            return False
        return may_concern_pictures(path, self.roots, self._selection)


class _Watcher:
    """Tells, from a thread of its own, that something changed; it is watching when its constructor returns.

    Attributes:
        failure: why it could not begin; empty if it could, or if a folder had gone.

    Args:
        folders: what is watched.
        matters: asked whether a change of a path counts.
        wake: gets an item for changes, and when watching has ended by itself.
        poll: look at the files every few seconds instead of being told.
    """

    def __init__(
        self, folders: Sequence[str], matters: Callable[[str], bool], wake: SimpleQueue[None], poll: bool
    ) -> None:
        self.failure = ""
        self._folders, self._matters, self._wake, self._poll = folders, matters, wake, poll
        self._stopping = False
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        self._began.wait()

    def is_set(self) -> bool:
        """Whether it must stop: watchfiles asks its ``stop_event``, for the first time once it is watching."""
        self._began.set()
        return self._stopping

    def is_alive(self) -> bool:
        """Whether it still watches."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._thread.join()

    def _run(self) -> None:
        changes = watchfiles.watch(
            *self._folders,
            watch_filter=None,
            debounce=4 * _STEP,  # the main thread waits for quiet
            step=_STEP,
            stop_event=self,
            rust_timeout=0,  # with a timeout it forgets what arrives in that instant
            force_polling=self._poll or None,
            poll_delay_ms=_POLL_EVERY,
            ignore_permission_denied=True,
        )
        try:
            for batch in changes:
                if any(self._matters(path) for _, path in batch):
                    self._wake.put(None)
        except (OSError, RuntimeError) as error:
            # Once it is watching, a name that is no text ends it: a change like any other, after which the main
            # thread starts again. So does the end of a folder while we begin.
            if not self._began.is_set() and not isinstance(error, FileNotFoundError):
                self.failure = str(error)
            self._wake.put(None)
        finally:
            self._began.set()


def may_concern_pictures(path: str, roots: Sequence[str], selection: Selection) -> bool:
    """Whether a change of this path may change which pictures there are, or one of them.

    What is gone may have been a folder, whatever its name; so some changes count that turn out to be none.

    Args:
        path: absolute.
        roots: the watched folders and files.
        selection: what counts below them.
    """
    root = below(path, roots)
    if root is None or path == root:
        return True
    parts = os.path.relpath(path, root).split(os.sep)
    if not all(selection.admits(name, "/".join(parts[:depth])) for depth, name in enumerate(parts, start=1)):
        return False
    if os.path.splitext(path)[1].lower() in EXTENSIONS | RAW_EXTENSIONS:
        return True
    return os.path.isdir(path) or not os.path.lexists(path)


def _identity(root: str) -> tuple[int, int] | None:
    """What tells a folder from another one of its name; None if it is not there."""
    try:
        status = os.stat(root)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
