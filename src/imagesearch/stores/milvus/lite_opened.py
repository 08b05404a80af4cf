"""Database folders that this process has open, each once; and leaving them to the parent after a fork."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
from pathlib import Path

from imagesearch.errors import StoreError
from imagesearch.stores.milvus import lite_schema
from imagesearch.stores.milvus.lite_lock import FolderLock
from imagesearch.stores.milvus.lite_reader import Reader
from imagesearch.stores.milvus.lite_session import PlainFolder
from imagesearch.stores.milvus.lite_table import Table

STAGING = ".database-staging"  # Milvus Lite's own, emptied by whoever opens the database


class OpenedFolder:
    """A database folder that this process has open."""

    def __init__(self, path: Path, *, create: bool) -> None:
        self.lock = FolderLock(path, create=create)
        self.turn = threading.RLock()
        self.users = 0
        self.plain = PlainFolder(self.lock)
        self._tables: dict[tuple[Path, bool], tuple[Table, Reader]] = {}
        self._prepared = self.lock.read_only

    def prepare(self) -> None:
        """Make the folders that Milvus Lite expects, and remove what a crash left in one of them."""
        if not self._prepared:
            path = self.lock.path
            for folder in (path / "collections", path / "databases", path / STAGING):
                folder.mkdir(exist_ok=True)
            _empty(path / STAGING)
            self._prepared = True

    def take_lock(self) -> None:
        """Take the lock again where Milvus Lite had it and was closed."""
        if not self.plain.is_open:
            self.lock.take()

    def table(self, folder: Path, *, read_only: bool = False) -> tuple[Table, Reader]:
        """A collection's table; opened now if need be, and again after a failed write."""
        read_only = read_only or self.lock.read_only
        there = self._tables.get((folder, read_only))
        if there is not None and there[0].failed:
            self.forget(folder)
            there = None
        if there is None:
            schema = lite_schema.read_schema(folder.name, folder)
            table = Table(folder, schema, read_only=read_only)
            there = self._tables[folder, read_only] = (table, Reader(table))
        return there

    def forget(self, folder: Path) -> None:
        """Close a collection's table without writing anything; it is opened again when needed."""
        for read_only in (False, True):
            there = self._tables.pop((folder, read_only), None)
            if there is not None:
                there[0].close()
        self.plain.let_go()
        self.take_lock()

    def close(self) -> None:
        """Close everything and give the folder back."""
        for (folder, read_only), (table, _) in list(self._tables.items()):
            if not (table.failed or read_only) and (folder / lite_schema.NAME).exists():
                try:
                    table.flush()
                except OSError as error:  # the rows are in the log
                    logging.getLogger(__name__).debug("%s: %s", folder, error)
            self.forget(folder)
        self.plain.let_go()
        self.lock.release()


_guard = threading.Lock()  # taken inside a turn, never the other way round
_folders: dict[Path, OpenedFolder] = {}
_used = False  # whether this process, or the one that it was forked from, has opened any
_forked = False


def _after_fork() -> None:
    """Leave to the parent what is the parent's."""
    global _guard, _forked  # noqa: PLW0603 - state of the process
    _guard = threading.Lock()
    _forked = _used
    for opened in _folders.values():
        opened.lock.forget()
    _folders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Whether this process was made by ``fork`` after its parent had opened a database."""
    return _forked


def forked(path: Path) -> StoreError:
    """The error for using one all the same."""
    return StoreError(
        f"the database {path} cannot be used in a process made by fork, because the one that made it uses"
        " Milvus Lite: start processes by 'spawn', or open databases in one of them only"
    )


def borrow(path: Path, *, create: bool) -> OpenedFolder:
    """The open folder at a path, opened if nobody has it open; to be given back.

    Raises:
        StoreLockedError: another process has it.
        StoreError: it cannot be opened.
    """
    global _used  # noqa: PLW0603 - state of the process
    with _guard:
        folder = _folders.get(path)
        if folder is None:
            folder = _folders[path] = OpenedFolder(path, create=create)
        folder.users += 1
        _used = True
        return folder


def give_back(folder: OpenedFolder) -> None:
    """Close a folder if nobody else uses it, once the call that is running in it has ended."""
    with folder.turn, _guard:
        folder.users -= 1
        if not folder.users:
            _folders.pop(folder.lock.path, None)
            folder.close()


def _empty(folder: Path) -> None:
    """Delete what is in a folder, as far as possible."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                entry.unlink()
