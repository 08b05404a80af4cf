"""Files and folders, replaced as a whole: a full disk or a killed process leaves the previous one as it was."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


class Replacement:
    """The next content of a file: written beside it under a temporary name, then renamed.

    Attributes:
        final: the file to be replaced, or created.
        temporary: where to write; named after the process, so that two of them do not write one file.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.temporary = final.with_name(f"{final.name}.{os.getpid()}.tmp")

    def commit(self) -> None:
        """Put it in place; what was there is gone.

        Raises:
            OSError: it cannot be renamed.
        """
        os.replace(self.temporary, self.final)

    def discard(self) -> None:
        """Remove the temporary file, if it is there; the final one stays as it is."""
        with contextlib.suppress(OSError):  # after commit() it is not there
            self.temporary.unlink()


@contextlib.contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A temporary file to write, which replaces the final one if the block ends without an error.

    Raises:
        OSError: it cannot be renamed.
    """
    replacement = Replacement(final)
    try:
        yield replacement.temporary
        replacement.commit()
    finally:
        replacement.discard()


@contextlib.contextmanager
def replacing_folder(final: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of another one if the block ends without an error.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    fresh, former = _beside(final, "tmp"), _beside(final, "old")
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if final.exists():
            final.rename(former)
        fresh.rename(final)
    except OSError:
        if former.exists() and not final.exists():
            former.rename(final)
        raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def require_place(folder: Path) -> None:
    """Find out, before long work for it is done, whether :func:`replacing_folder` can make a folder.

    Raises:
        OSError: it cannot.
    """
    with contextlib.suppress(FileNotFoundError):
        os.lstat(_beside(folder, "tmp"))  # the name may be too long, or lead through a file or a closed folder
    parent = next(above for above in folder.parents if os.path.lexists(above))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(parent))


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f"{folder.name}.{os.getpid()}.{kind}")
