"""Hits as files for other programs: copied or linked into a folder, or their paths alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.output import note
from imagesearch.frontends.text import counted, printable
from imagesearch.images.find import reason_of
from imagesearch.library.placing import make_link, numbered_names
from imagesearch.records import Hit

# Copies are read and written in parts of this many bytes.
_PART = 1 << 20


class Delivered(NamedTuple):
    """What became of a hit.

    Attributes:
        source: its path.
        target: the new file or link; None if there is none.
        action: ``"copied"``, ``"linked"`` or ``"hard-linked"``; without a target, what was wrong.
    """

    source: str
    target: Path | None
    action: str


def copy_hits(hits: Sequence[Hit], folder: str | os.PathLike[str]) -> list[Delivered]:
    """Copy the files of hits into a folder, under names that begin with their ranks.

    A file that is there is never overwritten: the next one of that name gets a number. What cannot be copied is
    told in the result and holds up nothing.

    Args:
        folder: made if it is missing.

    Raises:
        UsageError: it cannot be made, or is no folder.
    """
    return _deliver(hits, folder, _copy)


def link_hits(hits: Sequence[Hit], folder: str | os.PathLike[str]) -> list[Delivered]:
    """The same with symbolic links or, where the system has or permits none, hard links.

    Raises:
        UsageError: see :func:`copy_hits`.
    """
    return _deliver(hits, folder, _link)


def report_delivery(delivered: Sequence[Delivered], folder: str | os.PathLike[str]) -> bool:
    """Say on stderr what was done and what was not.

    Returns:
        Whether every hit arrived.
    """
    failed = [item for item in delivered if item.target is None]
    for item in failed:
        note(f"{item.source}: {item.action}")
    for action in dict.fromkeys(item.action for item in delivered if item.target):
        number = sum(item.action == action for item in delivered)
        note(f"{counted(number, 'picture')} {action} to {os.fspath(folder)}")
    return not failed


def print_paths(hits: Iterable[Hit], *, null: bool = False, stream: BinaryIO | None = None) -> None:
    r"""Print nothing but paths, as the bytes that they are on disk.

    On a terminal, control characters in them are shown as escapes, unless ``null`` is asked for.

    Args:
        null: end each with a zero byte, for ``xargs -0``; default: with a line end, which a name may hold, too.
        stream: default: stdout.
    """
    shown = stream is None and not null and sys.stdout.isatty()
    if stream is None:
        sys.stdout.flush()
        stream = sys.stdout.buffer
    for hit in hits:
        path = printable(hit.path).encode() if shown else os.fsencode(hit.path)
        stream.write(path + (b"\0" if null else b"\n"))
    stream.flush()


def _deliver(
    hits: Sequence[Hit], folder: str | os.PathLike[str], place: Callable[[str, Path], str]
) -> list[Delivered]:
    """Give every file to ``place(source, target)``, which says what it did."""
    into = Path(folder).expanduser()
    try:
        into.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {os.fspath(into)!r}: {reason_of(error)}") from error
    digits = max(2, *(len(str(hit.rank)) for hit in hits)) if hits else 2
    return [_deliver_one(os.path.abspath(hit.path), into, f"{hit.rank:0{digits}}-", place) for hit in hits]


def _deliver_one(source: str, into: Path, prefix: str, place: Callable[[str, Path], str]) -> Delivered:
    try:
        if not os.path.isfile(source):
            os.stat(source)  # says why
            return Delivered(source, None, "is not a regular file")
        for name in numbered_names(os.path.basename(source), prefix):
            with contextlib.suppress(FileExistsError):
                return Delivered(source, into / name, place(source, into / name))
    except OSError as error:
        return Delivered(source, None, reason_of(error))
    raise AssertionError("the names are without end")


def _copy(source: str, target: Path) -> str:
    """Copy content, times and permissions; a copy that fails half-way is removed.

    Raises:
        FileExistsError: the target is there.
        OSError: one of them cannot be read or written.
    """
    with open(source, "rb") as reading, target.open("xb") as writing:
        try:
            shutil.copyfileobj(reading, writing, _PART)
        except BaseException:
            writing.close()
            target.unlink(missing_ok=True)
            raise
    with contextlib.suppress(OSError):  # a file system without them
        shutil.copystat(source, target)
    return "copied"


def _link(source: str, target: Path) -> str:
    return "linked" if make_link(source, target) else "hard-linked"
