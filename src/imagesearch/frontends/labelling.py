"""``imagesearch classify``: label pictures and folders of them, one after the other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from imagesearch.frontends.console import ProgressDisplay, note
from imagesearch.frontends.reports import Labelled
from imagesearch.images.find import Selection, find_pictures
from imagesearch.records import Skipped, no_progress

if TYPE_CHECKING:
    from imagesearch.service import ImageSearch


class Labels:
    """The labels of pictures, in order, made while they are iterated over, so that memory does not grow with them.

    What cannot be read is reported on stderr, and is a :class:`Skipped`.

    Attributes:
        first: the first ones.
        failed: whether any of them could not be read.
    """

    def __init__(
        self, images: ImageSearch, arguments: Sequence[str], top: int, *, keep: int, progress: bool
    ) -> None:
        """Nothing happens yet.

        Args:
            arguments: pictures, or folders of them.
            top: labels a picture.
            keep: how many results to remember.
            progress: whether a bar on stderr shows it.
        """
        self._images, self._arguments, self._top = images, arguments, top
        self._keep, self._shows_progress = keep, progress
        self.first: list[Labelled] = []
        self.failed = False

    def __iter__(self) -> Iterator[Labelled]:
        """See the class.

        Raises:
            ImageSearchError: the model cannot be used.
        """
        for path, result in self._label():
            if len(self.first) < self._keep:
                self.first.append((path, result))
            if isinstance(result, Skipped):
                self.failed = True
                note(f"imagesearch: error: {path}: {result.reason}")
            yield path, result

    def _label(self) -> Iterator[Labelled]:
        files: list[str] = []
        for argument in self._arguments:
            found = _pictures_in(argument, self._images.config.selection)
            files += found
            if not found:
                yield argument, Skipped(argument, "no pictures in this folder")
        with ProgressDisplay() if self._shows_progress else contextlib.nullcontext(no_progress) as progress:
            for done, (source, result) in enumerate(self._images.classify_all(files, self._top), start=1):
                assert isinstance(source, (str, os.PathLike))
                yield os.fspath(source), result
                progress("classify", done, len(files))


def _pictures_in(path: str, selection: Selection) -> list[str]:
    """A picture itself, or the pictures of a folder."""
    path = os.path.expanduser(path)
    return list(find_pictures(path, selection)) if os.path.isdir(path) else [path]
