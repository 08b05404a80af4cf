"""Text for terminals, figures and pages: safe to show, of known width, with numbers and their nouns."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence

# What the scores of each metric (by its Milvus name) mean.
METRIC_CAPTIONS = {
    "COSINE": "cosine similarity: 1 is equal",
    "IP": "inner product: higher is closer",
    "L2": "squared L2 distance: 0 is equal",
}

_JOINER = "\u200d"  # holds emoji together; not "printable" for Python, but harmless


def printable(text: str) -> str:
    r"""Text with its control characters, line ends and undecodable bytes shown as escapes.

    A file name may hold anything but a slash: a newline, an escape sequence that recolours or renames the
    terminal, marks that turn the reading direction, bytes that are no UTF-8 (which no stream accepts).

    Examples:
        >>> printable("two\nlines \x1b[31m caf\udce9")
        'two\\nlines \\x1b[31m caf\\udce9'
        >>> printable("Łódź 写真.jpg")
        'Łódź 写真.jpg'
    """
    return "".join(
        character if _is_harmless(character) else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _is_harmless(character: str) -> bool:
    return character.isprintable() or character == _JOINER or unicodedata.category(character) == "Zs"


def shortest_names(paths: Sequence[str]) -> list[str]:
    """The end of each path, from its file name on as far up as it takes to tell it from the others.

    Examples:
        >>> shortest_names(["/a/2024/1.jpg", "/a/2025/1.jpg", "/a/2025/2.jpg"])
        ['2024/1.jpg', '2025/1.jpg', '2.jpg']
        >>> shortest_names(["/a/1.jpg", "/a/1.jpg"])
        ['a/1.jpg', 'a/1.jpg']
    """
    parts = [[part for part in os.path.abspath(path).split(os.sep) if part] or [os.sep] for path in paths]
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(own[-length:]) for own, length in zip(parts, lengths, strict=True)]
        times = Counter(names)
        longer = [
            length + 1 if times[name] > 1 and length < len(own) else length
            for own, length, name in zip(parts, lengths, names, strict=True)
        ]
        if longer == lengths:
            return names
        lengths = longer


def shorten_middle(text: str, width: int) -> str:
    """Cut the middle out of a text so that start and ending (the file's kind) remain.

    Args:
        width: columns, of which a Chinese, Japanese or Korean character takes two.

    Examples:
        >>> shorten_middle("a_very_long_name_of_a_file.jpg", 17)
        'a_very_lo…ile.jpg'
        >>> shorten_middle("short.jpg", 17)
        'short.jpg'
    """
    if columns(text) <= width:
        return text
    tail = max(1, (width - 1) * 7 // 16)
    head = width - 1 - tail
    return f"{_fitting(text, head)}…{_fitting(text[::-1], tail)[::-1]}"


def columns(text: str) -> int:
    """How many columns of fixed width a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def _fitting(text: str, width: int) -> str:
    taken = 0
    for position, character in enumerate(text):
        taken += columns(character)
        if taken > width:
            return text[:position]
    return text


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    Examples:
        >>> counted(1, "picture"), counted(1200, "picture"), counted(2, "class")
        ('1 picture', '1,200 pictures', '2 classes')
    """
    ending = "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}" + ("" if number == 1 else ending)
