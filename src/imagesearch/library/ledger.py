"""The ledger: which files were skipped, why, and whether another try can help; and which folders are depleted.

It is kept beside the collection as lines of JSON. A file that certainly cannot be read (damaged, too large) is not
tried again while it, and what decides about it, stay the same; so the ledger is also what makes a second run over
a folder with many broken files quick. Losing it costs that, and perhaps pictures of a disk in whose place another
one is (see :attr:`Ledger.depleted`).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from imagesearch.atomic import replacing
from imagesearch.errors import StoreError
from imagesearch.images.find import FoundFile, below, reason_of
from imagesearch.records import Skipped

# The key of lines that are about a folder.
_DEPLETED = "depleted"


@dataclass(frozen=True, slots=True)
class Entry:
    """One skipped file.

    Attributes:
        path, reason, retryable: see :class:`Skipped`.
        size, mtime_ns: the file's, when it was tried.
        reader: what else decided: see ``ReadOptions.conditions``. (The field's name is the key on disk.)
    """

    path: str
    reason: str
    retryable: bool
    size: int
    mtime_ns: int
    reader: str

    @property
    def skipped(self) -> Skipped:
        """The file, as reports name it."""
        return Skipped(self.path, self.reason, self.retryable)


class Ledger:
    """The skipped files of one collection.

    Args:
        file: where it is kept; None: in memory only.

    Attributes:
        depleted: folders that lost most of their pictures at once, as where one disk is plugged in for another,
            and were not whole again since: what is missing there stays in the collection until it is back, or is
            pruned. Rows alone do not tell: once those of the other disk are the most, few seem to be lost.

    Raises:
        StoreError: the file is there, but cannot be read.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._entries: dict[str, Entry] = {}
        self.depleted: frozenset[str] = frozenset()
        self._changed = False
        if file is not None:
            self._read(file)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Skipped]:
        """What was skipped, sorted by path."""
        return (self._entries[path].skipped for path in sorted(self._entries))

    def __contains__(self, path: object) -> bool:
        return path in self._entries

    def could_be_retried(self, path: str) -> bool:
        """Whether a file was skipped for a reason that may be gone by now."""
        entry = self._entries.get(path)
        return entry is not None and entry.retryable

    def settled(self, file: FoundFile, conditions: str) -> Skipped | None:
        """What the ledger says of a file if another try cannot succeed, else None."""
        entry = self._entries.get(file.path)
        if entry is None or entry.retryable or entry.reader != conditions:
            return None
        same = (entry.size, entry.mtime_ns) == (file.size, file.mtime_ns)
        return entry.skipped if same else None

    def add(self, tried: Iterable[tuple[FoundFile, Skipped]], conditions: str) -> None:
        """Record files that have just been skipped; on disk on return.

        Args:
            tried: the files, and why each was skipped.
            conditions: what besides the files decided: see ``ReadOptions.conditions``.

        Raises:
            StoreError: it cannot be written.
        """
        entries = [
            Entry(skip.path, skip.reason, skip.retryable, file.size, file.mtime_ns, conditions)
            for file, skip in tried
        ]
        self._entries.update((entry.path, entry) for entry in entries)
        if self._file is None or not entries:
            return
        self._changed = True
        _append(self._file, map(_line, entries))

    def note_depleted(self, folders: frozenset[str]) -> None:
        """Set :attr:`depleted`; what is added is on disk on return, the rest after :meth:`save`.

        Raises:
            StoreError: it cannot be written.
        """
        more = folders - self.depleted
        self._changed |= folders != self.depleted
        self.depleted = folders
        if self._file is not None and more:
            _append(self._file, map(_depleted_line, sorted(more)))

    def remove(self, paths: Iterable[str]) -> None:
        """Forget files: they could be read after all, or are not there any more."""
        for path in paths:
            self._changed |= self._entries.pop(path, None) is not None

    def not_found(
        self, found: set[str], below_folders: Sequence[str], except_below: Sequence[str] = ()
    ) -> list[str]:
        """Paths of listed files below some folders that were not found there, except below others."""
        return [
            path
            for path in self._entries
            if path not in found and below(path, below_folders) and not below(path, except_below)
        ]

    def save(self) -> None:
        """Rewrite the file without what has been forgotten.

        Raises:
            StoreError: it cannot be written; the older one is untouched.
        """
        if self._file is None or not self._changed:
            return
        with _writing(self._file):
            if not self._entries and not self.depleted:
                self._file.unlink(missing_ok=True)
            else:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self._file) as fresh, open(fresh, "w", encoding="ascii") as stream:
                    stream.writelines(map(_depleted_line, sorted(self.depleted)))
                    stream.writelines(map(_line, self._entries.values()))
        self._changed = False

    def rewrite(self) -> None:
        """Write what could be read of it, without the rest.

        Raises:
            StoreError: it cannot be written; the older one is untouched.
        """
        self._changed = True
        self.save()

    def _read(self, file: Path) -> None:
        try:
            text = file.read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreError(
                f"cannot read the list of skipped files {file}: {reason_of(error)}; correct that, or delete the"
                " list (its files are then tried again)"
            ) from error
        for line in text.splitlines():
            # A killed process may leave half a line, an older version other fields: such files are tried again.
            entry = parsed(line)
            if isinstance(entry, Entry):
                self._entries[entry.path] = entry
            elif entry is not None:
                self.depleted |= {entry}


def parsed(line: str | bytes) -> Entry | str | None:
    """What a line of the file says: a skipped file, or a depleted folder; None where it cannot be understood."""
    with contextlib.suppress(ValueError, TypeError):
        fields = json.loads(line)
        if isinstance(fields, dict) and isinstance(folder := fields.get(_DEPLETED), str):
            return folder
        entry = Entry(**fields)
        if isinstance(entry.path, str) and isinstance(entry.reason, str):
            return entry
    return None


def _line(entry: Entry) -> str:
    """One line; bytes of a path that are not valid text appear as ``\\udcXX``."""
    return json.dumps(asdict(entry)) + "\n"


def _depleted_line(folder: str) -> str:
    return json.dumps({_DEPLETED: folder}) + "\n"


def _append(file: Path, lines: Iterable[str]) -> None:
    with _writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="ascii") as stream:
            stream.writelines(lines)


def rename_ledger(file: Path, new: Path) -> None:
    """Rename a collection's list along with the collection, if there is one.

    Raises:
        StoreError: it cannot be renamed.
    """
    with _writing(file):
        if file.exists():
            os.replace(file, new)


def delete_ledger(file: Path) -> None:
    """Delete a list, if it is there.

    Raises:
        StoreError: it cannot be deleted.
    """
    with _writing(file):
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write the list of skipped files {file}: {reason_of(error)}") from error
