"""Opening a Milvus Lite database: a folder that one process at a time owns.

Milvus Lite runs inside this process; pymilvus talks to it through a local port. What this module adds
is what they leave out: clear errors for a bad path, the name of the process that holds the lock, several
stores on one database, and giving the database back when the last of them is closed.
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
import threading
from importlib.util import find_spec
from pathlib import Path

from imagesearch.errors import StoreError, StoreLockedError
from imagesearch.stores.index_types import INDEX_TYPES

# Written beside Milvus Lite's own LOCK, for systems that cannot say who holds a lock (no /proc).
_OWNER_FILE = "imagesearch-owner.json"
_LOCK_FILE = "LOCK"

# What NumPy says of a full disk.
_SHORT_WRITE = re.compile(r"\b\d+ requested and \d+ written\b")

# Longest command line shown in a message.
_COMMAND_LENGTH = 120

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PERMISSION = (errno.EACCES, errno.EPERM)

_guard = threading.Lock()
_open_databases: dict[str, LiteDatabase] = {}


class LiteDatabase:
    """A Milvus Lite database that this process has open; made by :func:`open_lite`.

    After a failed write Milvus Lite must not go on: it may have put rows aside that only its log still holds,
    and its next flush would delete that log; or the log ends in half a record, behind which nothing is found
    again. Started anew, it reads the log up to the last whole record, that is every row it acknowledged.

    Attributes:
        path: the folder.
        address: where the engine listens; another one after each start.
        turn: held during each call, because Milvus Lite does not stand a write beside another call: rows that
            are being flushed are missed by whoever reads meanwhile.
        failed: whether a write failed, so that the engine has to be started anew.
        users: number of connections.
    """

    def __init__(self, path: Path, address: str) -> None:
        self.path = path
        self.address = address
        self.turn = threading.RLock()
        self.failed = False
        self.users = 0

    def restart(self) -> None:
        """Let go of the engine and start it anew, from what is on the disk."""
        from milvus_lite.server_manager import server_manager_instance

        server_manager_instance.release_server(str(self.path))
        self.address = _start(self.path)
        self.failed = False

    def close(self) -> None:
        """Give the database back once its last user has called this."""
        from milvus_lite.server_manager import server_manager_instance

        with _guard:
            self.users -= 1
            if self.users > 0 or _open_databases.pop(str(self.path), None) is None:
                return
            with contextlib.suppress(OSError):  # the disk may be gone; a stale name does no harm
                (self.path / _OWNER_FILE).unlink(missing_ok=True)
            server_manager_instance.release_server(str(self.path))


def open_lite(path: Path) -> LiteDatabase:
    """Open or create the database; every call must be paired with :meth:`LiteDatabase.close`.

    Raises:
        StoreLockedError: another process has it open; names it.
        StoreError: the path cannot be such a database, or cannot be written.
    """
    path = path.expanduser().resolve()
    with _guard:
        database = _open_databases.get(str(path))
        if database is None:
            _prepare_folder(path)
            _refuse_if_locked(path)  # before pymilvus is imported: the answer shall not wait for that
            silence()
            database = LiteDatabase(path, _start(path))
            _write_owner(path)
            _open_databases[str(path)] = database
        elif database.failed:
            database.restart()
        database.users += 1
        return database


def lite_version() -> str:
    """The installed Milvus Lite's version."""
    from importlib.metadata import version

    return version("milvus-lite")


def lite_index_types() -> list[str]:
    """The index types that Milvus Lite truly builds (it accepts any name, and fails only when used)."""
    names = [name for name, kind in INDEX_TYPES.items() if kind.lite]
    return names if find_spec("faiss") else [name for name in names if name in ("FLAT", "AUTOINDEX")]


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
        return StoreError(f"cannot write to {path}: permission denied; milvus.uri must be a writable folder")
    if is_one_of(errno.EROFS):
        return StoreError(f"cannot write to {path}: the file system is read-only; choose another milvus.uri")
    return None


def is_os_error(text: str) -> bool:
    """Whether Milvus Lite's message is about the operating system refusing it something."""
    return "[Errno " in text or os.strerror(errno.EIO) in text


def lite_folder(path: str, db_name: str, collection: str) -> Path:
    """Where Milvus Lite keeps a collection: its log in ``wal``, its rows and indexes in ``partitions``."""
    root = Path(path) if db_name == "default" else Path(path) / "databases" / db_name
    return root / "collections" / collection


def has_unindexed_rows(folder: Path, column: str, index_type: str) -> bool:
    """Whether Milvus Lite holds rows that no index covers, judged by the collection's files.

    It has no call that tells. Rows are covered once they are flushed from the log to a data file, and that
    file has an index file beside it.

    Args:
        folder: see :func:`lite_folder`.
        column: the indexed column.
        index_type: Milvus's name of the index type.
    """
    if any(file.stat().st_size for file in folder.glob("wal/wal_data_*.arrow")):
        return True
    ending = f".{column}.{index_type.lower()}.idx"
    indexes = {file.name.removesuffix(ending) for file in folder.glob(f"partitions/*/indexes/*{ending}")}
    return any(file.stem not in indexes for file in folder.glob("partitions/*/data/data_*.parquet"))


def _prepare_folder(path: Path) -> None:
    """Make sure that the path is a folder or can become one."""
    if path.is_file():
        raise StoreError(
            f"{path} is a file: Milvus Lite 2.x kept a database in one file, which Milvus Lite 3 cannot read. "
            f"Set milvus.uri to a new path and index the pictures again"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        # Opened for writing here, so that a read-only folder is found out before anything starts.
        os.close(os.open(path / _LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o644))
    except OSError as error:
        raise write_failure(error, path) or StoreError(
            f"cannot open the database {path}: {error.strerror or error}; check milvus.uri"
        ) from error


def _start(path: Path) -> str:
    """Start Milvus Lite on the folder and return its local address."""
    # Rows that are not in a file yet; half of Milvus Lite's own bound. Writing them out takes several times as
    # much memory: importing 100,000 rows needed 2.2 GB, and needs 1.4 GB so, in the same time.
    os.environ.setdefault("MILVUS_LITE_MEMTABLE_MEMORY_LIMIT_BYTES", str(64 << 20))
    from milvus_lite.server_manager import server_manager_instance

    _silence_faiss()
    catcher = _Catcher()
    logger = logging.getLogger("milvus_lite.server_manager")
    # start_and_get_uri logs what went wrong and returns None: take the exception from the log record.
    logger.addHandler(catcher)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        address = server_manager_instance.start_and_get_uri(str(path))
    finally:
        logger.removeHandler(catcher)
        logger.setLevel(level)
        logger.propagate = propagate
    if address is not None:
        return str(address)
    error = catcher.error
    if type(error).__name__ == "DataDirLockedError":
        raise _locked(path)
    failure = write_failure(error, path) if error else None
    raise failure or StoreError(f"cannot open the database {path}: {error or 'Milvus Lite did not start'}")


class _Catcher(logging.Handler):
    """Keeps the exception of the last record."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.error = record.exc_info[1]


def _silence_faiss() -> None:
    """Stop FAISS from writing "WARNING clustering 10 points ..." to stderr for every small segment.

    It has no switch for it, only this field of each index: the number of points per cell below which
    it warns. (Too many cells for few rows are avoided by `MilvusStore`, see `_fewer_cells` there.)
    """
    if find_spec("faiss") is None:
        return
    import faiss

    for name in ("IndexIVFFlat", "IndexIVFScalarQuantizer"):
        kind = getattr(faiss, name)
        if getattr(kind, "_imagesearch_quiet", False):
            continue
        original = kind.__init__

        def quiet(self: object, *args: object, _original: object = original) -> None:
            _original(self, *args)  # type: ignore[operator]
            self.cp.min_points_per_centroid = 1  # type: ignore[attr-defined]

        kind.__init__ = quiet
        kind._imagesearch_quiet = True


def silence() -> None:
    """Keep pymilvus and Milvus Lite from logging tracebacks of errors that we translate."""
    import pymilvus  # noqa: F401  (its import configures its loggers, so it has to come first)

    for name in ("pymilvus", "milvus_lite"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


# --- who holds the lock ---


def _refuse_if_locked(path: Path) -> None:
    """Raise if another process holds the database (Milvus Lite itself would only log a traceback)."""
    if sys.platform == "win32":
        return  # no flock there; Milvus Lite's own refusal is translated by `_start`
    import fcntl

    handle = os.open(path / _LOCK_FILE, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _lock_holder(path)
        if holder != os.getpid():  # our own process, outside this package: Milvus Lite shares it
            raise _locked(path, holder) from error
    except OSError as error:  # some network and user-space file systems have no locks
        raise StoreError(
            f"the file system of {path} cannot lock files ({error.strerror}): put milvus.uri on a local disk"
        ) from error
    finally:
        os.close(handle)


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
        f"a time; to share a database, set milvus.uri to a Milvus server"
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
    return _shortened(shlex.join(os.fsdecode(raw).split("\0")[:-1]))


def _shortened(command: str) -> str:
    line = " ".join(command.split())
    return line if len(line) <= _COMMAND_LENGTH else line[: _COMMAND_LENGTH - 1] + "…"


def _write_owner(path: Path) -> None:
    """Leave our name for other processes; a courtesy, so a full disk is no reason to stop."""
    owner = {"pid": os.getpid(), "command": _shortened(shlex.join(sys.orig_argv))}
    try:
        (path / _OWNER_FILE).write_text(json.dumps(owner), encoding="utf-8")
    except OSError as error:
        logging.getLogger(__name__).debug("cannot write %s: %s", _OWNER_FILE, error)


def _read_owner(path: Path) -> dict[str, object]:
    """What the owner file says; empty if there is none. It names a holder, it never is a lock."""
    try:
        owner = json.loads((path / _OWNER_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}
