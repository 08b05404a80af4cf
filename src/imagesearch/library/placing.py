"""Files given names without ever overwriting another: copied, moved, and with numbers where a name is taken."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import shutil
from collections.abc import Iterator

# What a file's name may have on nearly every system, in bytes.
MAX_NAME = 255
# Files are read and written in parts of this many bytes.
PART = 1 << 20


def numbered_names(name: str, prefix: str = "") -> Iterator[str]:
    """A file's name behind a prefix, then the same with numbers; never too long for a file system.

    Examples:
        >>> list(itertools.islice(numbered_names("a.jpg"), 3))
        ['a.jpg', 'a-2.jpg', 'a-3.jpg']
    """
    stem, ending = os.path.splitext(name)
    for number in itertools.count(1):
        tail = ending if number == 1 else f"-{number}{ending}"
        while stem and len(os.fsencode(f"{prefix}{stem}{tail}")) > MAX_NAME:
            stem = stem[:-1]
        yield f"{prefix}{stem}{tail}"


def copy_content(source: str, part: str, *, durable: bool = False) -> str:
    """Copy content, times and permissions to a file that is not there yet.

    Args:
        durable: wait until it is on the disk.

    Returns:
        BLAKE2b of the content, hexadecimal, as :func:`digest_of` gives it.

    Raises:
        FileExistsError: it is there.
        OSError: one of them cannot be read or written.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(source, "rb") as reading, open(part, "xb") as writing:
        while read := reading.read(PART):
            digest.update(read)
            writing.write(read)
        if durable:
            writing.flush()
            os.fsync(writing.fileno())
    with contextlib.suppress(OSError):  # a file system without them
        shutil.copystat(source, part)
    return digest.hexdigest()


def digest_of(path: str) -> str:
    """BLAKE2b-128 of a file's content, hexadecimal: :func:`imagesearch.images.files.content_hash`, part by part.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as reading:
        while read := reading.read(PART):
            digest.update(read)
    return digest.hexdigest()


def move_file(source: str, target: str, part: str, *, reserve: bool = True) -> None:
    """Move a file to a name that is not taken, also to another disk.

    At every moment one of the two names has all of it. If it ends half-way, both may be there.

    Args:
        part: a name beside the target, for what is copied between disks.
        reserve: see :func:`give_name`.

    Raises:
        FileExistsError: the target is there.
        OSError: it cannot be moved; then it is where it was.
    """
    try:
        give_name(source, target, reserve=reserve)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        try:
            copy_content(source, part, durable=True)
            give_name(part, target, reserve=reserve)
        except BaseException:
            remove_if_there(part)
            raise
    try:
        remove_if_there(source)
    except OSError:
        os.unlink(target)
        raise
    remove_if_there(part)


def give_name(path: str, target: str, *, reserve: bool = True) -> None:
    """Give a file another name, which must not be taken, on the same disk; the old one may stay beside it.

    Args:
        reserve: where there are no hard links, take the name with an empty file first, so that nobody else can; a
            process that is killed just then leaves that. Without it, one who takes the name in the same moment
            loses.

    Raises:
        FileExistsError: the target is there.
        OSError: with ``errno.EXDEV``: it lies on another disk; or it cannot be done.
    """
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EXDEV, errno.ENOENT, errno.ENOTDIR):
            raise
        _give_name_without_links(path, target, reserve=reserve)


def _give_name_without_links(path: str, target: str, *, reserve: bool) -> None:
    if reserve:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    elif os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    try:
        os.replace(path, target)
    except OSError:
        if reserve:
            os.unlink(target)
        raise


def remove_if_there(path: str) -> None:
    """Remove a file.

    Raises:
        OSError: it is there, and cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def make_link(source: str, target: str | os.PathLike[str]) -> bool:
    """Make a symbolic link, or else a hard one; whether it is symbolic.

    Raises:
        FileExistsError: the target is there.
        OSError: neither kind of link can be made.
    """
    try:
        os.symlink(source, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # Windows without the right to, FAT
        os.link(source, target)
        return False
    return True
