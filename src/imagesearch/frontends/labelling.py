"""``imagesearch classify``: label pictures and folders of them, printing while it goes on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imagesearch.frontends.console import ProgressDisplay, note
from imagesearch.frontends.reports import Labelled, print_labels
from imagesearch.images.find import Selection, find_pictures
from imagesearch.records import Prediction, Skipped, no_progress

if TYPE_CHECKING:
    from rich.console import Console

    from imagesearch.service import ImageSearch


def label_pictures(
    images: ImageSearch, arguments: Sequence[str], top: int, stream: Console | None
) -> list[Labelled]:
    """Label pictures in order; what cannot be read is reported on stderr and is a :class:`Skipped`.

    Args:
        arguments: pictures, or folders of them.
        stream: where each picture's labels are printed as they come; None: nowhere.

    Raises:
        ImageSearchError: the model cannot be used.
    """
    results: list[Labelled] = []
    files: list[str] = []
    for argument in arguments:
        found = _pictures_in(argument, images.config.selection)
        files += found
        if not found:
            _report(results, argument, Skipped(argument, "no pictures in this folder"), None)
    # Lines on the terminal are progress enough, and would run through a bar.
    streaming = stream is not None and stream.is_terminal
    with contextlib.nullcontext(no_progress) if streaming else ProgressDisplay() as progress:
        for done, (source, result) in enumerate(images.classify_all(files, top), start=1):
            assert isinstance(source, (str, os.PathLike))
            _report(results, os.fspath(source), result, stream)
            progress("classify", done, len(files))
    return results


def _report(
    results: list[Labelled], path: str, result: list[Prediction] | Skipped, stream: Console | None
) -> None:
    results.append((path, result))
    if isinstance(result, Skipped):
        note(f"imagesearch: error: {path}: {result.reason}")
    elif stream is not None:
        print_labels(stream, path, result)


def _pictures_in(path: str, selection: Selection) -> list[str]:
    """A picture itself, or the pictures of a folder."""
    path = os.path.expanduser(path)
    return list(find_pictures(path, selection)) if os.path.isdir(path) else [path]
