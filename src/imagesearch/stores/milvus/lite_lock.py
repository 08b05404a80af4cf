"""Owning a Milvus Lite database: a folder that one process at a time has open.

Milvus Lite keeps a lock on the file ``LOCK``; so do we, and other processes learn who holds it. What the operating
system and the libraries say about failed reads and writes is turned into this package's errors here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from imagesearch.errors import ImageSearchError, StoreError, StoreLockedError

# Beside Milvus Lite's own LOCK, for systems that cannot say who holds a lock (no /proc).
_OWNER_FILE = "imagesearch-owner.json"
_LOCK_FILE = "LOCK"

# What NumPy says of a full disk.
_SHORT_WRITE = re.compile(r"\b\d+ requested and \d+ written\b")

# Longest command line shown in a message.
_COMMAND_LENGTH = 120

_FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM)

# Rows are nobody else's business: a database is readable by its owner only.
_PRIVATE = 0o700


class FolderLock:
    """The lock on a database folder, taken by the constructor.

    Attributes:
        path: the folder, resolved.
        read_only: whether the file system or the permissions allow reading only.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        """Take it.

        Args:
            path: the folder, resolved.
            create: make the folder if it is not there.

        Raises:
            StoreLockedError: another process has it; names it.
            StoreError: the path cannot be such a database, or cannot be read.
        """
        self.path = path
        self.read_only = False
        if path.is_file():
            raise StoreError(
                f"{path} is a file: Milvus Lite 2.x kept a database in one file, which Milvus Lite 3 cannot read. "
                f"Name a new database and index the pictures again"
            )
        self._handle: int | None = None
        self._take(create)

    def take(self) -> None:
        """Take it again after :meth:`lend`; nothing happens if it was not lent.

        Raises:
            StoreLockedError: another process has taken it meanwhile.
        """
        if self._handle is None:
            self._take(create=False)

    def _take(self, create: bool) -> None:
        self._handle = self._open_file(create)
        try:
            self._lock(self._handle)
        except BaseException:
            self.lend()
            raise
        if not self.read_only:
            self._write_owner()

    def lend(self) -> None:
        """Give up the lock, but not the name: Milvus Lite takes the same lock itself."""
        if self._handle is not None:
            _unlock(self._handle)
        self.forget()

    def release(self) -> None:
        """Give it back."""
        with contextlib.suppress(OSError):  # the disk may be gone; a stale name does no harm
            if not self.read_only and _read_owner(self.path).get("pid") == os.getpid():
                (self.path / _OWNER_FILE).unlink(missing_ok=True)
        self.lend()

    def forget(self) -> None:
        """Close our copy of the handle without touching the lock: for a process made by ``fork``."""
        handle, self._handle = self._handle, None
        if handle is not None:
            with contextlib.suppress(OSError):
                os.close(handle)

    def locked(self) -> StoreLockedError:
        """The error that names the process which has it."""
        return _locked(self.path, _lock_holder(self.path))

    def _open_file(self, create: bool) -> int:
        file = self.path / _LOCK_FILE
        try:
            if create:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                if not self.path.exists():
                    self.path.mkdir(mode=_PRIVATE, exist_ok=True)
            return os.open(file, os.O_CREAT | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            if error.errno in (errno.EROFS, *_NO_PERMISSION) and file.exists():
                return self._open_read_only(file, error)
            raise self._cannot_open(error) from error

    def _open_read_only(self, file: Path, cause: OSError) -> int:
        """What cannot be written can still be searched."""
        self.read_only = True
        try:
            return os.open(file, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError:
            raise self._cannot_open(cause) from cause

    def _cannot_open(self, error: OSError) -> StoreError:
        # Of a file where a parent folder belongs, mkdir says that it exists.
        reason = os.strerror(errno.ENOTDIR) if isinstance(error, FileExistsError) else error.strerror or error
        return write_failure(error, self.path) or StoreError(f"cannot open the database {self.path}: {reason}")

    def _lock(self, handle: int) -> None:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise _locked(self.path) from error
            return
        import fcntl

        # Several processes may read what nobody can write.
        kind = fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self.locked() from error
        except OSError as error:  # some network and user-space file systems have no locks
            raise StoreError(
                f"the file system of {self.path} cannot lock files ({error.strerror}): put the database on"
                f" a local disk"
            ) from error

    def _write_owner(self) -> None:
        """Leave our name for other processes; a courtesy, so a full disk is no reason to stop."""
        owner = {"pid": os.getpid(), "command": _shortened(sys.orig_argv)}
        try:
            (self.path / _OWNER_FILE).write_text(json.dumps(owner), encoding="utf-8")
        except OSError as error:
            logging.getLogger(__name__).debug("cannot write %s: %s", _OWNER_FILE, error)


# --- failures in words ---


@contextlib.contextmanager
def translating(doing: str, path: Path) -> Iterator[None]:
    """Raise this package's errors in place of the operating system's and the libraries'.

    Args:
        doing: completes "could not ..." in messages.
        path: the database's folder.
    """
    try:
        yield
    except ImageSearchError:
        raise
    except MemoryError as error:
        raise StoreError(f"could not {doing}: there is not enough memory for the database {path}") from error
    except Exception as error:
        if not _is_expected(error):
            raise
        failure = write_failure(error, path)
        raise failure or StoreError(f"Milvus Lite at {path} could not {doing}: {_first_line(error)}") from error


def _is_expected(error: Exception) -> bool:
    """Whether the operating system, Arrow, FAISS or Milvus Lite raised this, and not a mistake of ours."""
    vendor = type(error).__module__.partition(".")[0]
    # FAISS raises RuntimeError, Arrow some ValueErrors of its own.
    return isinstance(error, (OSError, RuntimeError)) or vendor in ("pyarrow", "milvus_lite")


def write_failure(error: BaseException | str, path: Path) -> StoreError | None:
    """What to say about a failed write to the database's disk; None if the error is another one."""
    number = error.errno if isinstance(error, OSError) else None
    text = str(error)

    def is_one_of(*codes: int) -> bool:
        # FAISS tells the reason in words only.
        return number in codes or any(f"[Errno {code}]" in text or os.strerror(code) in text for code in codes)

    if is_one_of(*_FULL_DISK) or _SHORT_WRITE.search(text):
        return StoreError(
            f"cannot write to {path}: the disk is full or a quota is reached. Free some space and try again: "
            f"what was stored before is still there"
        )
    if is_one_of(*_NO_PERMISSION):
        return StoreError(f"cannot write to {path}: permission denied; it must be a writable folder")
    if is_one_of(errno.EROFS):
        return StoreError(f"cannot write to {path}: the file system is read-only; choose another place")
    return None


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _unlock(handle: int) -> None:
    """Give up a lock, also where a process that was forked just now has a copy of the handle."""
    if sys.platform != "win32":  # there, closing does it
        import fcntl

        with contextlib.suppress(OSError):  # closing gives it up as well
            fcntl.flock(handle, fcntl.LOCK_UN)


# --- who holds the lock ---


def _locked(path: Path, holder: int | None = None) -> StoreLockedError:
    """The error that names the process which has the database open."""
    owner = _read_owner(path)
    pid = holder or owner.get("pid")
    command = _command_of(pid) if isinstance(pid, int) else ""
    if not command and pid == owner.get("pid"):
        command = str(owner.get("command", ""))
    who = f"process {pid}" + (f" ({command})" if command else "") if pid else "another process"
    return StoreLockedError(
        f"the database {path} is in use by {who}: wait for it or stop it. Milvus Lite serves one process at "
        f"a time; to share one, keep it on a Milvus server"
    )


def _lock_holder(path: Path) -> int | None:
    """The process that holds a lock on the database, as Linux tells it; None if unknown."""
    try:
        inode = (path / _LOCK_FILE).stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        # "3: FLOCK  ADVISORY  WRITE 3185 fe:00:2146493 0 EOF"; waiters have "->" and no holder
        fields = line.split()
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            pid = int(fields[4])
            return pid if pid > 0 else None
    return None


def _command_of(pid: int) -> str:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return _shortened(os.fsdecode(raw).split("\0")[:-1])


def _shortened(command: Sequence[str]) -> str:
    """A command without the folder of its program, which says little and may be long."""
    program = [os.path.basename(part) for part in command[:1]]
    line = " ".join(shlex.join([*program, *command[1:]]).split())
    return line if len(line) <= _COMMAND_LENGTH else line[: _COMMAND_LENGTH - 1] + "…"


def _read_owner(path: Path) -> dict[str, object]:
    """What the owner file says; empty if there is none. It names a holder, it never is a lock."""
    try:
        owner = json.loads((path / _OWNER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}
