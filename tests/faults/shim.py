"""The shim (``shim.c``): compiled when it is needed, and told what to do by the process that it is loaded into."""

from __future__ import annotations

import ctypes
import enum
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")

# Lengths of the texts in an entry of the log.
_CALL, _PATH = 24, 228


class Kind(enum.IntFlag):
    """Which calls count; see ``shim.c``."""

    WRITE = 1
    SYNC = 2
    RENAME = 4
    UNLINK = 8
    OPEN = 16


ALL = Kind.WRITE | Kind.SYNC | Kind.RENAME | Kind.UNLINK | Kind.OPEN


class Mode(enum.IntEnum):
    """What happens at the chosen call, and afterwards; see ``shim.c``."""

    COUNT = 0
    ONCE = 1
    FULL = 2
    SHORT = 3
    DEAD = 4
    KILL_BEFORE = 5
    KILL_AFTER = 6
    KILL_WITHIN = 7


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was counted.

    Attributes:
        number: from 1.
        name, path: of the function, and of its file or folder.
        error: ``errno`` with which it was made to fail, or 0.
    """

    number: int
    name: str
    path: str
    error: int

    def __str__(self) -> str:
        failed = f" ({os.strerror(self.error)})" if self.error else ""
        return f"call {self.number}: {self.name} {self.path}{failed}"


def why_not() -> str | None:
    """Why the shim cannot be used here, or None if it can."""
    if sys.platform != "linux":
        return f"file calls can be replaced on Linux only, not on {sys.platform}"
    if platform.libc_ver()[0] != "glibc":
        return "the C library is not glibc"
    if shutil.which("cc") is None:
        return "there is no C compiler (cc)"
    return None


def compile_shim(folder: Path) -> Path:
    """Compile it into a folder; what to put into ``LD_PRELOAD``.

    Raises:
        subprocess.CalledProcessError: the compiler refuses.
    """
    library = folder / "shim.so"
    options = ["-shared", "-fPIC", "-O2", "-Wall", "-Werror"]
    subprocess.run(["cc", *options, "-o", str(library), str(_SOURCE), "-ldl", "-lpthread"], check=True)
    return library


class Shim:
    """The shim in this process.

    Raises:
        AttributeError: this process was started without it.
    """

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.faults_arm.argtypes = (ctypes.c_char_p, *[ctypes.c_int] * 3)
        self._library.faults_bytes.restype = ctypes.c_long

    def arm(self, folder: Path, first: int = 0, mode: Mode = Mode.COUNT, kinds: Kind = ALL) -> None:
        """Begin to count.

        Args:
            folder: calls for what is below it count.
            first: number of the call at which it happens, from 1.
            mode: what happens.
            kinds: other calls do not count.

        Raises:
            ValueError: the folder's path is too long.
        """
        if self._library.faults_arm(os.fsencode(os.path.realpath(folder)), first, mode, kinds):
            raise ValueError(f"{folder} is too long a path")

    def disarm(self) -> None:
        """Let all calls pass uncounted."""
        self._library.faults_disarm()

    @property
    def count(self) -> int:
        """Calls counted since :meth:`arm`, by this process or a forked child, which may be dead by now."""
        return int(self._library.faults_count())

    @property
    def written(self) -> int:
        """Bytes that counted calls wrote."""
        return int(self._library.faults_bytes())

    def call(self, number: int) -> Call | None:
        """One of the calls that were counted; None if it was not, or its entry was not kept."""
        name, path = ctypes.create_string_buffer(_CALL), ctypes.create_string_buffer(_PATH)
        error = self._library.faults_entry(number, name, path)
        if error < 0:
            return None
        return Call(number, name.value.decode(), os.fsdecode(path.value), error)

    def calls(self) -> list[Call]:
        """All calls that were counted, as far as they were kept."""
        found = (self.call(number) for number in range(1, self.count + 1))
        return [call for call in found if call is not None]
