"""Find picture files below folders: each file once, whatever the order and overlap of the folders."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

from imagesearch.errors import UsageError
from imagesearch.records import Skipped

# One per line would fill a page.
EXTENSIONS = frozenset(
    ".apng .avif .bmp .dib .gif .heic .heif .hif .ico .j2c .j2k .jfif .jp2 .jpc .jpe .jpeg .jpf .jpg .jpx"  # noqa: SIM905
    " .mpo .pbm .pfm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
# What cameras write beside or instead of a JPEG, as LibRaw reads it.
RAW_EXTENSIONS = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf"  # noqa: SIM905
    " .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)

# Folders in which systems keep thumbnails and deleted files: Synology and QNAP, Windows, ext4.
SYSTEM_FOLDERS = ("@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")

_PICTURES = EXTENSIONS | RAW_EXTENSIONS


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files below a folder count.

    Attributes:
        include_hidden: whether names that begin with a dot do.
        exclude: shell patterns (``*``, ``?``, ``[abc]``) of what does not. A pattern without a slash is compared
            with the name of every file and folder, one with a slash with the path below the root.
    """

    include_hidden: bool = False
    exclude: tuple[str, ...] = SYSTEM_FOLDERS

    def admits(self, name: str, below_root: str) -> bool:
        """Whether a file or folder counts; ``below_root`` is its path from the root, with slashes.

        Examples:
            >>> Selection(exclude=("*.gif", "2019/raw")).admits("a.jpg", "2019/raw/a.jpg")
            True
            >>> Selection(exclude=("*.gif", "2019/raw")).admits("raw", "2019/raw")
            False
        """
        if name.startswith(".") and not self.include_hidden:
            return False
        return not _rules(self.exclude).match(name, below_root)


# Where the kernel shows its own state: files without end, and devices.
_SYSTEM = ("/proc", "/sys", "/dev")


class _Rules(NamedTuple):
    """Patterns made ready for comparison with millions of names: plain ones in a set, the others as one regex."""

    plain_names: frozenset[str]
    names: re.Pattern[str] | None
    paths: re.Pattern[str] | None

    def match(self, name: str, below_root: str) -> bool:
        name = os.path.normcase(name)
        return (
            name in self.plain_names
            or (self.names is not None and self.names.match(name) is not None)
            or (self.paths is not None and self.paths.match(os.path.normcase(below_root)) is not None)
        )


@lru_cache(maxsize=16)
def _rules(exclude: tuple[str, ...]) -> _Rules:
    stripped = [(os.path.normcase(pattern.strip("/")), "/" in pattern.rstrip("/")) for pattern in exclude]
    names = [pattern for pattern, is_path in stripped if not is_path]
    plain = frozenset(name for name in names if not set(name) & set("*?["))
    return _Rules(
        plain,
        _any_of([name for name in names if name not in plain]),
        _any_of([pattern for pattern, is_path in stripped if is_path]),
    )


def _any_of(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(fnmatch.translate, patterns))) if patterns else None


class FoundFile(NamedTuple):
    """A picture file as the file system describes it; nothing of it has been read.

    Attributes:
        path: absolute, with bytes that are not valid text kept as :func:`os.fsdecode` keeps them.
        root: the folder it was found under, or ``""`` if it was named by itself.
        size: bytes; -1 if the file system would not say.
        mtime_ns: time of last change, nanoseconds since 1970.
    """

    path: str
    root: str
    size: int
    mtime_ns: int


@lru_cache(maxsize=1)
def _system_devices() -> frozenset[int]:
    """Numbers of the file systems that hold no files but what the kernel makes up."""
    return frozenset(os.stat(path).st_dev for path in _SYSTEM if os.path.ismount(path))


@dataclass(slots=True)
class Walk:
    """One walk over several roots; iterate over it once, then look at what it could not read.

    Symbolic links are followed. A folder is entered once, by its real path rather than through a link if both
    are below the roots; so loops end and overlapping roots give each file once. A root that is a link stands for
    the folder it points to. Folders that the kernel makes up (``/proc``) are entered only as roots. A raw file
    beside a processed one of the same name is left out.

    Attributes:
        roots: folders and single files, as absolute paths; folders without links.
        selection: what counts.
        missing: roots that cannot be read -> why.
        closed: folders below the roots that cannot be read.
        dangling: links below the roots to what is not there or closed to us, which may have been folders -> why.
    """

    roots: tuple[str, ...]
    selection: Selection = Selection()
    missing: dict[str, str] = field(default_factory=dict)
    closed: list[Skipped] = field(default_factory=list)
    dangling: dict[str, str] = field(default_factory=dict)
    _visited: set[tuple[int, int]] = field(default_factory=set)

    @classmethod
    def of(cls, roots: Iterable[str | os.PathLike[str]], selection: Selection = Selection()) -> Walk:
        """A walk over folders and files as a user named them."""
        return cls(tuple(dict.fromkeys(_resolved(os.fsdecode(root)) for root in roots)), selection)

    def __iter__(self) -> Iterator[FoundFile]:
        folders: list[str] = []
        named: set[str] = set()
        for root in self.roots:
            try:
                mode = os.stat(root).st_mode
            except (OSError, ValueError) as error:  # ValueError: an embedded null byte
                self.missing[root] = reason_of(error)
                continue
            if stat.S_ISDIR(mode):
                folders.append(root)
            else:
                named.add(root)
                yield _found(root, "")
        # Links come last, so that a folder is known by its real path if that is below a root too.
        pending = [(root, root) for root in reversed(folders)]
        links: list[tuple[str, str]] = []
        while pending or links:
            if not pending:
                pending, links = links[::-1], []
            folder, root = pending.pop()
            below: list[tuple[str, str]] = []
            for entry, is_folder in self._entries(folder, root):
                if is_folder:
                    (links if entry.is_symlink() else below).append((entry.path, root))
                elif entry.path not in named:
                    yield _found(entry, root)
            pending.extend(reversed(below))

    def _entries(self, folder: str, root: str) -> list[tuple[os.DirEntry[str], bool]]:
        """What counts in one folder, sorted by name, each with whether it is a folder."""
        try:
            status = os.stat(folder)
            key = (status.st_dev, status.st_ino)
            if key in self._visited and status.st_ino:  # some file systems number nothing
                return []
            self._visited.add(key)
            if folder != root and status.st_dev in _system_devices() and os.stat(root).st_dev != status.st_dev:
                self.closed.append(Skipped(folder, "belongs to the system and is no disk: not entered"))
                return []
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=attrgetter("name"))
        except OSError as error:
            if folder == root:
                self.missing[root] = reason_of(error)
            else:
                self.closed.append(Skipped(folder, reason_of(error), retryable=True))
            return []
        prefix = folder[len(os.path.join(root, "")) :].replace(os.sep, "/") + "/" if folder != root else ""
        admits = self.selection.admits
        found: list[tuple[os.DirEntry[str], bool]] = []
        some_raw = False
        for entry in entries:
            name = entry.name
            if not admits(name, prefix + name):
                continue
            extension = _extension(name)
            if self._is_folder(entry, extension):
                found.append((entry, True))
            elif extension in _PICTURES:
                found.append((entry, False))
                some_raw = some_raw or extension in RAW_EXTENSIONS
        return _without_doubles(found) if some_raw else found

    def _is_folder(self, entry: os.DirEntry[str], extension: str) -> bool:
        try:
            if entry.is_dir():
                return True
            if extension not in _PICTURES and entry.is_symlink():
                entry.stat()
        except OSError as error:
            self.dangling[entry.path] = reason_of(error)
        return False  # a picture's name that leads nowhere: reading it will say why


def find_pictures(root: str | os.PathLike[str], selection: Selection = Selection()) -> Iterator[str]:
    """Absolute paths of the pictures below one folder, or the path of one file (whatever its extension).

    Raises:
        UsageError: the root does not exist or cannot be read.
    """
    walk = Walk.of([root], selection)
    for found in walk:
        yield found.path
    for missing, reason in walk.missing.items():
        raise UsageError(f"cannot read {missing!r}: {reason}")


def list_of(*given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str | os.PathLike[str]]:
    """Paths, and those of lists of paths."""
    paths: list[str | os.PathLike[str]] = []
    for entry in given:
        paths += [entry] if isinstance(entry, (str, os.PathLike)) else entry
    return paths


def resolved_roots(folders: Iterable[str | os.PathLike[str]], may_be_offline: bool) -> list[str]:
    """Folders and files as paths, with ``~`` replaced.

    Args:
        may_be_offline: accept those that cannot be found.

    Raises:
        UsageError: a name is empty, or one cannot be found; names the first.
    """
    roots = [os.path.expanduser(os.fsdecode(folder)) for folder in folders]
    if "" in roots:  # such as an unset variable of a script, and not the working directory
        raise UsageError("the name of a folder is empty")
    for root in [] if may_be_offline else roots:
        try:
            os.stat(root)
        except (OSError, ValueError) as error:  # ValueError: an embedded null byte
            raise UsageError(f"cannot read {os.path.abspath(root)!r}: {reason_of(error)}") from error
    return roots


def below(path: str, folders: Iterable[str]) -> str | None:
    """The deepest of the folders that holds a path (or is it), or None.

    Examples:
        >>> below("/a/b/c.jpg", ["/a", "/a/b", "/a/bc"])
        '/a/b'
    """
    holders = [folder for folder in folders if path == folder or path.startswith(os.path.join(folder, ""))]
    return max(holders, key=len, default=None)


class Folders:
    """Some folders, to ask for many paths which one holds each: :func:`below`, but quick.

    Examples:
        >>> Folders(["/a", "/a/b", "/a/bc"]).holding("/a/b/c.jpg")
        '/a/b'
    """

    def __init__(self, folders: Iterable[str]) -> None:
        every = sorted(set(folders), key=len)
        self._named = frozenset(every)
        self._by_beginning = {os.path.join(folder, ""): folder for folder in every}
        self._known: dict[str, str | None] = {}

    def holding(self, path: str) -> str | None:
        """The deepest of the folders that holds a path (or is it), or None."""
        if path in self._named:
            return path
        beginning = path[: path.rfind(os.sep) + 1]
        if beginning not in self._known:
            self._known[beginning] = self._look_up(beginning)
        return self._known[beginning]

    def _look_up(self, beginning: str) -> str | None:
        while beginning:
            if beginning in self._by_beginning:
                return self._by_beginning[beginning]
            beginning = beginning[: beginning.rfind(os.sep, 0, -1) + 1]
        return None


def changed_ns(status: os.stat_result) -> int:
    """A file's time of last change in nanoseconds since 1970, as databases can hold it: in 64 bits.

    Clocks that went wrong leave times beyond, before 1677 and after 2262; those come out as the nearest that fits.
    """
    return max(-(1 << 63), min(status.st_mtime_ns, (1 << 63) - 1))


def is_gone(path: str) -> bool:
    """Whether there certainly is nothing of this name; False where the file system would not say.

    Examples:
        >>> is_gone("no/such/file")
        True
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        return False
    return False


def reason_of(error: OSError | ValueError) -> str:
    """Why the file system refused, in a few words."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def _resolved(root: str) -> str:
    try:
        path = os.path.realpath(root)
        if os.path.isfile(path):  # which may be a link itself, with a name of its own
            return os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(root))), os.path.basename(root))
        return path
    except (OSError, ValueError):  # a loop of links, an embedded null byte: the walk will say so
        return os.path.abspath(root)


def _found(entry: os.DirEntry[str] | str, root: str) -> FoundFile:
    path = entry if isinstance(entry, str) else entry.path
    try:
        status = os.stat(path) if isinstance(entry, str) else entry.stat()
    except OSError:
        return FoundFile(path, root, -1, 0)  # a link to nowhere, say; reading it will tell why
    return FoundFile(path, root, status.st_size, changed_ns(status))


def _without_doubles(entries: list[tuple[os.DirEntry[str], bool]]) -> list[tuple[os.DirEntry[str], bool]]:
    """What is left without raw files beside a processed picture of the same name."""
    processed = {
        _stem(entry.name) for entry, is_folder in entries if not is_folder and _extension(entry.name) in EXTENSIONS
    }
    return [
        (entry, is_folder)
        for entry, is_folder in entries
        if is_folder or _extension(entry.name) in EXTENSIONS or _stem(entry.name) not in processed
    ]


def _extension(name: str) -> str:
    """The extension of a file's name in small letters, with its dot; dots at the beginning begin none."""
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 and name[:dot].strip(".") else ""


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].lower()
