"""The journal of what was done to files: written before each step, so that it can all be taken back.

Lines of JSON: a header; before each step what is about to be done; after it ``{"done": n}`` or ``{"failed": n}``,
n being the number of the step. A process that is killed leaves at most one step open, and how far that one got can
be seen from the files.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagesearch.errors import UsageError
from imagesearch.images.find import reason_of
from imagesearch.library.placing import digest_of, move_file, remove_if_there
from imagesearch.records import Skipped
from imagesearch.reports import UndoReport

_FORMAT = 1
_HEADER = '{"imagesearch": "undo"'


class UndoFile:
    """The journal while steps are being done; see the module.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, made: Sequence[str] = ()) -> None:
        """Begin it; the file must not be there.

        Args:
            made: folders that were made for it, outermost first.

        Raises:
            OSError: it cannot be written.
        """
        self.path = path
        self._steps = 0
        self._file = path.open("x", encoding="ascii")
        self._write({"imagesearch": "undo", "format": _FORMAT, "made": list(made)})

    def begin(self, kind: str, target: str, **details: Any) -> int:
        """Say what is about to be done: ``"folder"``, ``"copy"``, ``"link"`` or ``"move"``; returns its number.

        Raises:
            OSError: the disk is full; then nothing may be done.
        """
        # Also if the machine stops: moving a file may reach the disk before what is said of it does.
        self._write({"do": kind, "target": target, **details}, durable=kind == "move")
        self._steps += 1
        return self._steps - 1

    def done(self, number: int, **details: Any) -> None:
        """Say that a step is done."""
        self._write({"done": number, **details})

    def failed(self, number: int) -> None:
        """Say that a step did nothing, and left nothing."""
        self._write({"failed": number})

    def close(self) -> None:
        """No more steps."""
        self._file.close()

    def _write(self, entry: dict[str, Any], *, durable: bool = False) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()
        if durable:
            os.fsync(self._file.fileno())


@dataclass(slots=True)
class _Step:
    """One step, as far as the journal knows.

    Attributes:
        kind, target: see :meth:`UndoFile.begin`.
        source: the picture; empty for a folder.
        part: what was written before it got its name, if anything.
        is_done, is_failed: whether the journal says so; neither: the process was killed meanwhile.
        digest: of a copy.
    """

    kind: str
    target: str
    source: str = ""
    part: str = ""
    is_done: bool = False
    is_failed: bool = False
    digest: str = ""


@dataclass(slots=True)
class _Journal:
    made: list[str]
    steps: list[_Step] = field(default_factory=list)


def undo(file: str | os.PathLike[str]) -> UndoReport:
    """Take back what a journal says, last step first; safe to repeat and to interrupt.

    What was moved goes back to where it was, with changes made since. Copies and links are removed, but not copies
    that were changed since. Folders that were made and are empty go, too; and the journal, if nothing is left.

    Raises:
        UsageError: the file cannot be read, or is no journal.
    """
    path = Path(file).expanduser().absolute()
    journal = _read(path)
    counts = {"restored": 0, "removed": 0}
    kept: list[Skipped] = []
    for step in reversed(journal.steps):
        try:
            outcome = "" if step.is_failed else _TAKEN_BACK[step.kind](step)
            if step.part:
                remove_if_there(step.part)
        except OSError as error:
            kept.append(Skipped(step.target, reason_of(error), retryable=True))
        else:
            if outcome in counts:
                counts[outcome] += 1
            elif outcome:
                kept.append(Skipped(step.target, outcome))
    if not kept:
        path.unlink()
        for folder in reversed(journal.made):
            _remove_empty(folder)
    return UndoReport(str(path), counts["restored"], counts["removed"], tuple(kept))


def _read(path: Path) -> _Journal:
    try:
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else "it is no undo file"
        raise UsageError(f"cannot read {str(path)!r}: {reason}") from error
    # What has no line end was being written when the process was killed, before anything was done.
    if len(lines) == 1 and _HEADER.startswith(lines[0][: len(_HEADER)]):
        return _Journal([])
    try:
        entries = [json.loads(line) for line in lines[:-1]]
        if entries[0]["imagesearch"] != "undo" or entries[0]["format"] != _FORMAT:
            raise ValueError(path)
        journal = _Journal([str(folder) for folder in entries[0]["made"]])
        for entry in entries[1:]:
            _add(journal, entry)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} is no undo file of 'imagesearch classify', or is damaged") from error
    return journal


def _add(journal: _Journal, entry: dict[str, Any]) -> None:
    if "do" in entry:
        kind = entry["do"]
        if kind not in _TAKEN_BACK:
            raise ValueError(kind)
        source, part = str(entry.get("source", "")), str(entry.get("part", ""))
        journal.steps.append(_Step(kind, str(entry["target"]), source, part))
    elif "failed" in entry:
        journal.steps[entry["failed"]].is_failed = True
    else:
        step = journal.steps[entry["done"]]
        step.is_done, step.digest = True, str(entry.get("digest", ""))


# Each takes a step back, and says "restored", "removed", "" if there is nothing to say, or why a file stays.


def _undo_folder(step: _Step) -> str:
    _remove_empty(step.target)
    return ""


def _undo_copy(step: _Step) -> str:
    if not os.path.lexists(step.target):
        return ""
    if _was_reserved(step) or (step.is_done and digest_of(step.target) == step.digest):
        os.unlink(step.target)
        return "removed"
    return "was changed since it was copied, and stays" if step.is_done else "is not a copy of ours, and stays"


def _undo_link(step: _Step) -> str:
    if not os.path.lexists(step.target):
        return ""
    if os.path.islink(step.target) and os.readlink(step.target) == step.source:
        os.unlink(step.target)
        return "removed"
    if _is_same(step.source, step.target):
        os.unlink(step.target)
        return "removed"
    return "is not the link that was made, and stays"


def _undo_move(step: _Step) -> str:
    if not os.path.lexists(step.target):
        return "" if os.path.lexists(step.source) else "is neither here nor where it came from"
    if not os.path.lexists(step.source):
        folder = os.path.dirname(step.source)
        os.makedirs(folder, exist_ok=True)
        # If it is killed, too, the next one must not find an empty file and take it for somebody's.
        part = os.path.join(folder, f".{secrets.token_hex(8)}.part")
        move_file(step.target, step.source, part, reserve=False)
        return "restored"
    if _is_same(step.source, step.target) or _was_reserved(step):  # killed between both names
        os.unlink(step.target)
        return "restored"
    return f"stays: there is a file again where it came from, {step.source}"


_TAKEN_BACK = {"folder": _undo_folder, "copy": _undo_copy, "link": _undo_link, "move": _undo_move}


def _was_reserved(step: _Step) -> bool:
    """Whether a step that was not finished had got as far as taking the target's name."""
    if step.is_done:
        return False
    return _is_same(step.part, step.target) or os.stat(step.target).st_size == 0


def _is_same(one: str, other: str) -> bool:
    return bool(one) and os.path.lexists(one) and os.path.samestat(os.lstat(one), os.lstat(other))


def _remove_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # it is gone, or has something in it: then it stays
        os.rmdir(folder)
