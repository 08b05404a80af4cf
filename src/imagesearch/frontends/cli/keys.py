"""Single keys of a terminal, and lines typed between them, without losing what is typed ahead."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from typing import TextIO

ENTER = "\n"
_BACKSPACE, _END, _ESCAPE = ("\x7f", "\b"), "\x04", "\x1b"
# What a key sends that is no character: ECMA-48 control sequences, and those of a single shift or of Alt.
_SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.|.)?", re.S)


class Keys:
    """The keys of a terminal; made by :func:`single_keys`.

    Args:
        read: what was typed since, at least a character; empty at the end.
        out: where a line is echoed.
    """

    def __init__(self, read: Callable[[], str], out: TextIO) -> None:
        self._read, self._out = read, out
        self._typed: deque[str] = deque()

    def key(self) -> str | None:
        """The next key; None at the end. Arrows and the like, which are several characters, are passed over."""
        while not self._typed:
            text = self._read()
            if not text:
                return None
            self._typed.extend(_SEQUENCE.sub("", text).replace("\r", ENTER))
        key = self._typed.popleft()
        return None if key == _END else key

    def line(self, prompt: str) -> str:
        """A line, echoed; empty if it ends early."""
        self._write(prompt)
        line: list[str] = []
        while (key := self.key()) != ENTER:
            if key is None:
                return ""
            if key in _BACKSPACE:
                if line:
                    line.pop()
                    self._write("\b \b")
            elif key.isprintable():
                line.append(key)
                self._write(key)
        self._write("\n")
        return "".join(line)

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


@contextlib.contextmanager
def single_keys(stdin: TextIO, out: TextIO) -> Iterator[Keys]:
    """Let a terminal pass on every key at once, until the block ends; Ctrl-C interrupts as ever."""
    try:
        import termios
        import tty
    except ImportError:  # Windows
        yield Keys(_windows_key, out)
        return
    handle = stdin.fileno()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def read() -> str:
        text = ""
        while not text:
            found = os.read(handle, 64)
            text = decoder.decode(found, final=not found)
            if not found:
                break
        return text

    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle, termios.TCSADRAIN)  # what was typed already is kept
        yield Keys(read, out)
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _windows_key() -> str:
    import msvcrt

    key: str = msvcrt.getwch()  # type: ignore[attr-defined]
    if key == "\x03":
        raise KeyboardInterrupt
    return key if key not in ("\0", "\xe0") else _ESCAPE + msvcrt.getwch()  # type: ignore[attr-defined]
