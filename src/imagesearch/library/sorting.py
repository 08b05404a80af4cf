"""Filing pictures into folders named after their labels: nothing is overwritten, and all of it can be undone."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time
import unicodedata
from pathlib import Path
from types import TracebackType
from typing import Literal

from imagesearch.errors import UsageError
from imagesearch.images.find import reason_of
from imagesearch.library.placing import (
    copy_content,
    digest_of,
    give_name,
    make_link,
    move_file,
    numbered_names,
    remove_if_there,
)
from imagesearch.library.undo_file import UndoFile
from imagesearch.reports import Filed

How = Literal["copy", "link", "move"]

# Where pictures go that have no label.
UNSURE = "unsure"

# What one of the systems does not allow in names, or shells and terminals stumble over.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff]+')
# Names that Windows keeps for devices, whatever their ending.
_DEVICES = re.compile(r"\A(con|prn|aux|nul|com\d|lpt\d)( *\..*)?\Z", re.IGNORECASE)
_THERE = "is there already"
# In bytes; files below have long names, too, and a number may be added.
_MAX_FOLDER = 120


class FolderNames:
    """Names of folders for labels: safe on every system; different for different labels, in capitals or not."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._taken = {UNSURE}

    def __getitem__(self, label: str | None) -> str:
        """The folder of a label; :data:`UNSURE` for None."""
        if label is None:
            return UNSURE
        if label not in self._names:
            name = safe_name(label)
            numbered = (f"{name}-{number}" for number in itertools.count(2))
            free = next(each for each in itertools.chain([name], numbered) if folded(each) not in self._taken)
            self._names[label] = free
            self._taken.add(folded(free))
        return self._names[label]


def folded(name: str) -> str:
    """What is the same for names that some systems take for one: capitals or not, accents in letters or behind."""
    return unicodedata.normalize("NFC", name).casefold()


def safe_name(label: str, most_bytes: int = _MAX_FOLDER) -> str:
    """A label as the name of a folder; or any text as the name of a file.

    Examples:
        >>> safe_name("cat/dog: both?"), safe_name("../x"), safe_name("nul"), safe_name("nul.x"), safe_name(" ")
        ('cat_dog_ both_', '_._x', 'nul_', 'nul_.x', '_')
    """
    text = _UNSAFE.sub("_", label).strip().rstrip(". ")
    if text.startswith("."):  # hidden, or the folder above
        text = f"_{text[1:]}"
    text = _DEVICES.sub(r"\1_\2", text)
    while len(text.encode()) > most_bytes:
        text = text[:-1]
    return text.rstrip(". ") or "_"


class Sorter:
    """Files pictures below a folder; use it as a context manager.

    Attributes:
        undo_file: the journal that :func:`imagesearch.library.undo_file.undo` takes all back by; None until
            something was filed.
    """

    def __init__(self, into: str | os.PathLike[str], how: How = "copy") -> None:
        """Nothing happens yet.

        Args:
            into: the folder; made if it is missing.
            how: ``"copy"``, ``"link"`` (symbolic, or hard where the system has or permits none) or ``"move"``.
        """
        self._into, self._how = Path(into).expanduser().absolute(), how
        self._names = FolderNames()
        self._journal: UndoFile | None = None
        self._placed: set[str] = set()

    @property
    def undo_file(self) -> Path | None:
        """See the class."""
        return self._journal.path if self._journal else None

    def file(self, picture: str | os.PathLike[str], label: str | None) -> Filed:
        """Put a picture into the folder of its label, under its name or, if that is taken, with a number.

        What an earlier run has copied or linked, and was not changed since, stays as it is.

        Args:
            label: None: into :data:`UNSURE`.

        Returns:
            Where it is now; or why it was left alone.

        Raises:
            UsageError: the folder or the journal cannot be written: then nothing more may be filed.
        """
        source = os.path.abspath(os.fspath(picture))
        folder = os.path.join(self._into, self._names[label])
        if os.path.realpath(os.path.dirname(source)) == os.path.realpath(folder):
            return Filed(source, source, _THERE)
        if problem := self._problem(source):
            return Filed(source, None, problem)
        for name in numbered_names(os.path.basename(source)):
            place = os.path.join(folder, name)
            if os.path.lexists(place):
                if self._was_filed(source, place):
                    return Filed(source, place, _THERE)
                continue
            try:
                journal = self._ready(folder)
            except OSError as error:
                raise UsageError(f"cannot sort into {folder!r}: {reason_of(error)}") from error
            try:
                self._place(journal, source, place)
            except FileExistsError:  # somebody made one meanwhile
                continue
            except OSError as error:
                return Filed(source, None, reason_of(error))
            self._placed.add(place)
            return Filed(source, place)
        raise AssertionError("the names are without end")

    def _was_filed(self, source: str, place: str) -> bool:
        """Whether an earlier run has put this picture there: what this one did is of another picture."""
        if self._how == "move" or place in self._placed:
            return False
        try:
            if self._how == "link":
                is_ours = os.path.islink(place) and os.readlink(place) == source
                return is_ours or os.path.samestat(os.stat(source), os.lstat(place))
            is_file = os.path.isfile(place) and not os.path.islink(place)
            has_its_size = is_file and os.path.getsize(place) == os.path.getsize(source)
            return has_its_size and digest_of(place) == digest_of(source)
        except OSError:  # then it gets another name, or is told why not
            return False

    def _ready(self, folder: str) -> UndoFile:
        """The journal, and the folder to put something into."""
        journal = self._journal or self._begin()
        if not os.path.isdir(folder):
            number = journal.begin("folder", folder)
            os.mkdir(folder)
            journal.done(number)
        return journal

    def _problem(self, source: str) -> str:
        """Why a picture is left alone; empty: it is not."""
        if not os.path.isfile(source):
            return "is not a regular file"
        if self._how == "move" and os.path.islink(source):
            return "is a symbolic link, which may not work elsewhere: not moved"
        return ""

    def _begin(self) -> UndoFile:
        """Make the folder and the journal in it."""
        made = [str(self._into)]
        while not os.path.lexists(os.path.dirname(made[0])):
            made.insert(0, os.path.dirname(made[0]))
        made = [folder for folder in made if not os.path.lexists(folder)]
        self._into.mkdir(parents=True, exist_ok=True)
        start = time.strftime("undo-%Y%m%d-%H%M%S.jsonl")
        free = (self._into / name for name in numbered_names(start))
        self._journal = UndoFile(next(path for path in free if not path.exists()), made)
        return self._journal

    def _place(self, journal: UndoFile, source: str, target: str) -> None:
        """
        Raises:
            FileExistsError: the target is there.
            OSError: it cannot be done; then nothing is left of it.
        """
        part = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.part")
        details = {"source": source} if self._how == "link" else {"source": source, "part": part}
        number = journal.begin(self._how, target, **details)
        try:
            if self._how == "move":
                move_file(source, target, part)
                journal.done(number)
            elif self._how == "link":
                make_link(source, target)
                journal.done(number)
            else:
                digest = copy_content(source, part)
                give_name(part, target)
                journal.done(number, digest=digest)
                remove_if_there(part)
        except OSError:
            remove_if_there(part)
            journal.failed(number)
            raise

    def __enter__(self) -> Sorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._journal is not None:
            self._journal.close()
