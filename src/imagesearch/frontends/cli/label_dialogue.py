"""The dialogue of ``imagesearch label``: a picture, what it may be, and a key or a line of text for an answer."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, TextIO

from imagesearch.errors import UsageError
from imagesearch.frontends.cli.keys import ENTER, Keys, single_keys
from imagesearch.frontends.cli.output import make_console, print_line
from imagesearch.frontends.text import counted
from imagesearch.library.hand_labels import tidy_label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagesearch.active_labelling import LabelSession
    from imagesearch.client_labels import ServedLabelSession
    from imagesearch.learning.questions import LabelProgress, Question

    Session = LabelSession | ServedLabelSession

SKIP, UNDO, QUIT, NEW = "s", "u", "q", "n"
# The keys of labels, in order.
KEYS = "1234567890" + "".join(letter for letter in string.ascii_lowercase if letter not in (SKIP, UNDO, QUIT, NEW))
_HELP = "s skip   u undo   q quit"


def keys_of(labels: Sequence[str]) -> dict[str, str]:
    """The label of each key; labels beyond the last key are typed."""
    return dict(zip(KEYS, labels, strict=False))


class Dialogue:
    """Asks until there is nothing left, or the person has had enough.

    Args:
        session: what is labelled.
        stdin: a terminal, of which single keys are read, or anything else, of which lines are.
        out: where pictures and questions are shown.
        show: shows a picture; None: paths are enough.
    """

    def __init__(self, session: Session, stdin: TextIO, out: TextIO, show: Callable[[str], None] | None) -> None:
        self._session, self._stdin, self._out, self._show = session, stdin, out, show
        self._console = make_console(out)
        self._is_terminal = stdin.isatty()
        self._keys: Keys | None = None

    def run(self) -> None:
        """Ask; an answer that makes no sense is said to make none, and asked for again.

        Raises:
            StoreError: the database fails; labels that were given are kept.
        """
        if not self._is_terminal:
            self._run()
            return
        with single_keys(self._stdin, self._out) as self._keys:
            self._run()

    def _run(self) -> None:
        asked: Question | None = None
        while found := self._session.next(1):
            if found[0] != asked:
                asked = found[0]
                self._ask(asked)
            answer = self._read()
            if answer is None or answer == QUIT:
                return
            try:
                self._obey(asked, answer)
            except UsageError as error:
                self._say(str(error))
        self._say("nothing is left to label")

    def _ask(self, question: Question) -> None:
        if self._show is not None:
            self._show(question.path)
        copies = f"  ({counted(question.copies, 'file')} with this content)" if question.copies > 1 else ""
        print_line(self._console, (question.path, "bold"), (copies, "dim"))
        self._say_progress(self._session.progress())
        scores = {one.label: one.score for one in question.suggestions}
        for key, label in keys_of(self._session.labels).items():
            score = scores.get(label)
            likely = "bold" if question.suggestions and label == question.suggestions[0].label else ""
            share = "" if score is None else f"  {score:.0%}"
            print_line(self._console, (f"  {key} ", "cyan"), (label, likely), (share, "dim"))
        new = f"{NEW} another label" if self._is_terminal else "=NAME any label"
        best = f"   Enter {question.suggestions[0].label}" if question.suggestions and self._is_terminal else ""
        print_line(self._console, (f"  {_HELP}   {new}{best}", "dim"))
        self._out.flush()

    def _say_progress(self, progress: LabelProgress) -> None:
        print_line(self._console, (progress_text(progress), "dim"))

    def _say(self, text: str) -> None:
        print_line(self._console, (text, ""))
        self._out.flush()

    def _read(self) -> str | None:
        """A key, or a line; None at the end."""
        if self._keys is None:
            line = self._stdin.readline()
            return line.strip() if line else None
        key = self._keys.key()
        if key is None or key.lower() != NEW:
            return key and key.lower()
        line = self._keys.line("label: ").strip()
        return f"={line}" if line else ""

    def _obey(self, question: Question, answer: str) -> None:
        """
        Raises:
            UsageError: the answer stands for nothing.
        """
        labels = self._session.labels
        if answer == "" and self._is_terminal:
            return
        if answer == ENTER and question.suggestions:
            self._give(question, question.suggestions[0].label)
        elif answer.startswith("="):
            self._give(question, tidy_label(answer.removeprefix("=")))
        elif answer in keys_of(labels):
            self._give(question, keys_of(labels)[answer])
        elif answer == SKIP:
            self._session.skip(question.id)
            self._say("skipped")
        elif answer == UNDO:
            self._say("taken back" if self._session.undo() else "there is nothing to take back")
        elif not self._is_terminal and (len(answer) > 1 or answer in labels or not answer.isascii()):
            self._give(question, answer)  # other single characters are keys that no label has
        else:
            raise UsageError(f"{answer!r} stands for no label here; =NAME or {NEW} gives one by its name")

    def _give(self, question: Question, label: str) -> None:
        self._session.give(question.id, label)
        self._say(f"-> {label}")


def progress_text(progress: LabelProgress) -> str:
    """One line: how many are labelled, and what accuracy to expect of labels for the others."""
    text = f"{progress.labelled:,} of {counted(progress.pictures, 'picture')} labelled"
    if progress.skipped:
        text += f", {progress.skipped:,} skipped"
    if (expected := progress.expected) is not None:
        text += f"; expected accuracy {expected.accuracy:.0%} ({expected.low:.0%} to {expected.high:.0%})"
    return text
