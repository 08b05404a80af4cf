"""What somebody types after ``imagesearch search``, read as queries."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from imagesearch.search.query import Query, Region

# "0.5:a.jpg": how much it counts; but not "C:", a drive.
_WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):(.+)", re.DOTALL)
_URL = re.compile(r"https?://", re.IGNORECASE)
# What a name must have to be one of a file that is not there, rather than words.
_FILE_LIKE = re.compile(r"^[.~]|[/\\]|\.[A-Za-z0-9]{2,5}$")

# An argument that begins with a minus and is no option, on its way through the parser of options.
_MINUS = "\N{MINUS SIGN}"


def protected(arguments: Sequence[str], options: Sequence[str], valued: Sequence[str] = ()) -> list[str]:
    """Arguments with another sign in place of ``-`` where it stands before a picture or words.

    Args:
        arguments: a command's, as typed.
        options: names of its options, with their dashes.
        valued: those of them that take a value, which stays as it is: ``--near -33.9,151.2,5``.

    Examples:
        >>> protected(["a.jpg", "-b.jpg", "-k", "5", "--json"], ["-k", "--json"], ["-k"])
        ['a.jpg', '\\N{MINUS SIGN}b.jpg', '-k', '5', '--json']
    """
    short = {name[1] for name in options if len(name) == 2}
    done: list[str] = []
    is_value = False
    for number, argument in enumerate(arguments):
        if is_value:
            done.append(argument)
            is_value = False
            continue
        if argument == "--":
            return done + list(arguments[number:])
        is_value = argument in valued
        is_single = argument.startswith("-") and not argument.startswith("--")
        # "-x" is a mistyped option, "-猫" is a word.
        is_single = is_single and (len(argument) > 2 or not argument.isascii())
        # "-k5" is an option with its value, and "-k=5" is meant as one; "-kitten.jpg" is not.
        is_option = is_single and argument[1] in short and argument[2:].removeprefix("=").isdecimal()
        done.append(_MINUS + argument[1:] if is_single and not is_option else argument)
    return done


class QueryReader:
    """Reads arguments as queries.

    An argument is a picture's file, or words; ``text:`` and ``id:`` say that it is words or a picture in the
    collection. Arguments that begin with ``+`` or ``-`` belong to the query before them. ``0.5:`` at their start
    is a weight. Single words that follow each other are one text.

    Args:
        region: the part of each query's first picture that counts.
        fetch: gets the picture at a URL; None: URLs are refused.
    """

    def __init__(self, region: Region | None = None, fetch: Callable[[str], bytes] | None = None) -> None:
        self._region, self._fetch = region, fetch

    def picture(self, file: str) -> Query:
        """The query for a picture's file, whatever it is called."""
        from imagesearch.search.query import Query

        return Query.image(file, region=self._region)

    def read(self, arguments: Sequence[str]) -> Iterator[Query]:
        """The queries.

        Raises:
            WrongUsageError: one begins with something to avoid, or a URL is not allowed.
            UsageError: an id or a vector file is wrong.
            PictureError: a picture cannot be fetched.
        """
        for group in _groups(arguments):
            parts: list[Query] = []
            region = self._region
            for weight, text in group:
                thing = self._thing(text, region)
                if any(part.region for part in thing.parts):
                    region = None
                parts.append(weight * thing)
            yield reduce(operator.add, parts)

    def _thing(self, text: str, region: Region | None) -> Query:
        from imagesearch.search.query import Query

        kind, _, rest = text.partition(":")
        if os.path.lexists(os.path.expanduser(text)):
            if text.lower().endswith(".npy"):
                return Query.vector(_read_vector(os.path.expanduser(text)))
        elif kind == "text":
            return Query.words(rest)
        elif kind == "id":
            return Query.stored(_number(rest))
        elif _URL.match(text):
            from imagesearch.images.urls import shown

            return Query.image(self._fetched(text), region=region, name=shown(text))
        elif is_words(text):
            return Query.words(text)
        return Query.image(os.path.expanduser(text), region=region)

    def _fetched(self, url: str) -> bytes:
        from imagesearch.images.urls import shown

        if self._fetch is None:
            raise WrongUsageError(f"{shown(url)}: pictures are fetched from the web only with --allow-url")
        return self._fetch(url)


def is_words(text: str) -> bool:
    """Whether an argument is words to look for: no file, and not written like one."""
    return not (os.path.lexists(os.path.expanduser(text)) or _FILE_LIKE.search(text) or _URL.match(text))


def _groups(arguments: Sequence[str]) -> Iterator[list[tuple[float, str]]]:
    """The weighted things of each query."""
    group: list[tuple[float, str]] = []
    for argument in _joined(arguments):
        weight, text, is_signed = _weighted(argument)
        if is_signed and not group and weight < 0:
            raise WrongUsageError(f"-{text}: name first what to look for, then what to avoid")
        if group and not is_signed:
            yield group
            group = []
        group.append((weight, text))
    if group:
        yield group


def _joined(arguments: Sequence[str]) -> Iterator[str]:
    """Arguments with single words that follow each other put together: people forget the quotes."""
    words: list[str] = []
    for argument in arguments:
        is_plain = not argument.startswith(("+", "-", _MINUS, "text:", "id:")) and not _WEIGHT.fullmatch(argument)
        if is_plain and is_words(argument) and not any(map(str.isspace, argument)):
            words.append(argument)
            continue
        if words:
            yield " ".join(words)
            words = []
        yield argument
    if words:
        yield " ".join(words)


def _weighted(argument: str) -> tuple[float, str, bool]:
    """An argument's weight, the rest, and whether it had a sign."""
    typed = "-" + argument[1:] if argument.startswith(_MINUS) else argument
    if os.path.lexists(os.path.expanduser(typed)):
        return 1.0, typed, False
    sign = {"+": 1.0, "-": -1.0, _MINUS: -1.0}.get(argument[:1])
    text = argument[1:] if sign else argument
    weight = 1.0
    if (found := _WEIGHT.fullmatch(text)) and not os.path.lexists(text):
        weight, text = float(found[1]), found[2]
    return (sign or 1.0) * weight, text, sign is not None


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise WrongUsageError(f"id:{text}: the id of a picture is a whole number") from error


def _read_vector(file: str) -> Any:
    """The vector in a file of NumPy: numbers of shape (dimension,) or (1, dimension)."""
    import numpy as np

    from imagesearch.errors import UsageError

    try:
        vector = np.load(file, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{file}: cannot be read as a NumPy array: {str(error).splitlines()[0]}") from error
    if vector.ndim == 2 and len(vector) == 1:
        vector = vector[0]
    if vector.ndim != 1 or vector.dtype.kind not in "fiu":
        raise UsageError(f"{file}: holds {vector.dtype} of shape {vector.shape}; a query is one vector of numbers")
    return np.asarray(vector)
