"""How files are written by what the database is made of; each function writes some bytes, to try the shim."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .shim import ALL, Kind, Mode, Shim

_DATA = bytes(range(256)) * 40


def _plain(folder: Path) -> None:
    with open(folder / "plain", "wb") as stream:
        stream.write(_DATA)


def _text(folder: Path) -> None:
    (folder / "text").write_text("0123456789" * 100)


def _low_level(folder: Path) -> None:
    handle = os.open(folder / "low", os.O_WRONLY | os.O_CREAT)
    try:
        os.pwrite(handle, _DATA[4000:], 4000)
        os.write(handle, _DATA[:2000])
        os.writev(handle, [_DATA[2000:3000], _DATA[3000:4000]])
        os.fsync(handle)
    finally:
        os.close(handle)


def _within(folder: Path) -> None:
    """Relative to a folder's descriptor, and through a duplicate of the file's."""
    place = os.open(folder, os.O_RDONLY)
    handle = os.open("within", os.O_WRONLY | os.O_CREAT, dir_fd=place)
    other = os.dup(handle)
    try:
        os.write(other, _DATA)
        os.fdatasync(other)
    finally:
        for opened in (place, handle, other):
            os.close(opened)


def _copied(folder: Path) -> None:
    """What is there from the beginning (see :func:`run`) into a new file."""
    shutil.copyfile(folder / "there", folder / "copied")


def _numpy(folder: Path) -> None:
    with open(folder / "numpy.npy", "wb") as stream:
        np.save(stream, np.arange(5000, dtype=np.float32))


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"number": list(range(3000))}), folder / "by_arrow.parquet")


def _faiss(folder: Path) -> None:
    import faiss

    index = faiss.IndexFlatL2(8)
    index.add(np.zeros((700, 8), np.float32))
    faiss.write_index(index, str(folder / "by_faiss"))


def _sqlite(folder: Path) -> None:
    connection = sqlite3.connect(folder / "by_sqlite")
    try:
        connection.execute("create table numbers (number integer)")
        connection.executemany("insert into numbers values (?)", [(number,) for number in range(2000)])
        connection.commit()
    finally:
        connection.close()


def _folders(folder: Path) -> None:
    (folder / "one").mkdir()
    (folder / "one" / "file").touch()
    (folder / "one").rename(folder / "two")
    os.link(folder / "two" / "file", folder / "again")
    os.symlink("again", folder / "link")
    os.replace(folder / "again", folder / "two" / "other")
    os.listdir(folder)
    (folder / "link").unlink()
    shutil.rmtree(folder / "two")


WRITERS: dict[str, Callable[[Path], None]] = {
    "plain": _plain,
    "text": _text,
    "low level": _low_level,
    "within": _within,
    "copied": _copied,
    "numpy": _numpy,
    "parquet": _parquet,
    "faiss": _faiss,
    "sqlite": _sqlite,
    "folders": _folders,
}

# Imported before the first fork.
WARM = ("faiss", "pandas", "pyarrow.parquet", "sqlite3", __name__)


def run(
    name: str, folder: str, first: int = 0, mode: int = 0, kinds: int = int(ALL), watched: str | None = None
) -> dict[str, Any]:
    """Let one of them write into a folder with the shim armed; tells the calls, and the error that it raised.

    Args:
        watched: arm the shim for this folder instead.
    """
    shim, error = Shim(), ""
    Path(folder, "there").write_bytes(_DATA)
    shim.arm(Path(watched or folder), first, Mode(mode), Kind(kinds))
    try:
        WRITERS[name](Path(folder))
    except (OSError, RuntimeError, sqlite3.Error) as raised:
        error = f"{type(raised).__name__}: {raised}"
        if isinstance(raised, OSError) and raised.errno:
            error = errno.errorcode[raised.errno]
    finally:
        shim.disarm()
    calls = [[call.name, os.path.relpath(call.path, folder), call.error] for call in shim.calls()]
    return {"calls": calls, "written": shim.written, "error": error}
