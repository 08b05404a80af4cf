"""The flags that say where hits go besides being listed: a page, a folder, other programs, the terminal."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from imagesearch.frontends.cli.options import Command, extended, parameter
from imagesearch.frontends.cli.output import note
from imagesearch.frontends.errors import WrongUsageError

if TYPE_CHECKING:
    from imagesearch.records import CollectionInfo, Hit
    from imagesearch.search.answers import Answer

_PANEL = "Results"


class Delivery:
    """What was asked for.

    Attributes:
        hides_text: whether stdout belongs to paths, so that nothing else may be printed there.
    """

    def __init__(
        self,
        *,
        html: str | None = None,
        copy_to: str | None = None,
        link_to: str | None = None,
        paths: bool = False,
        null: bool = False,
        preview: bool = False,
    ) -> None:
        self._html, self._copy_to, self._link_to = html, copy_to, link_to
        self._null, self._preview = null, preview
        self.hides_text = paths or null

    @property
    def is_wanted(self) -> bool:
        """Whether any of it was asked for."""
        return any((self._html, self._copy_to, self._link_to, self._preview, self.hides_text))

    def check(self, printed: bool) -> None:
        """Refuse two kinds of output on one stream, and places that cannot be.

        Args:
            printed: whether JSON or CSV goes to stdout.

        Raises:
            WrongUsageError: paths, JSON or previews would be mixed, or a place has no name.
        """
        if sum((self.hides_text, self._preview, printed)) > 1:
            raise WrongUsageError("--paths, --preview and --json, --jsonl or --csv exclude each other")
        if "" in (self._copy_to, self._link_to):  # such as an unset variable, and not the working directory
            raise WrongUsageError("--copy-to and --link-to: the name of the folder is empty")
        if self._html is not None:
            from imagesearch.frontends.pages import page_path

            page_path(self._html)

    def deliver(self, answers: Sequence[Answer], info: CollectionInfo, max_megapixels: float) -> bool:
        """Do it; what was written is said on stderr.

        Returns:
            Whether every hit arrived.

        Raises:
            UsageError: a page or folder cannot be written.
        """
        hits = [hit for answer in answers for hit in answer.hits]
        if self.hides_text:
            from imagesearch.frontends.cli.delivery import print_paths

            print_paths(hits, null=self._null)
        if self._preview:
            self._show(hits, max_megapixels)
        if self._html is not None:
            from imagesearch.frontends.sheet import contact_sheet

            good = [answer for answer in answers if answer.error is None]
            page = contact_sheet(good, self._html, info=info, max_megapixels=max_megapixels)
            note(f"page saved to {page}")
        return self._hand_over(hits)

    def _hand_over(self, hits: Sequence[Hit]) -> bool:
        from imagesearch.frontends.cli.delivery import copy_hits, link_hits, report_delivery

        arrived = True
        for folder, how in ((self._copy_to, copy_hits), (self._link_to, link_hits)):
            if folder is not None:
                arrived = report_delivery(how(hits, folder), folder) and arrived
        return arrived

    def _show(self, hits: Sequence[Hit], max_megapixels: float) -> None:
        from imagesearch.frontends.cli.previews import preview_kind, show_previews

        kind = preview_kind("auto", sys.stdout)
        if kind is None:
            note("no previews: stdout is no terminal that can show pictures")
        else:
            show_previews(hits, sys.stdout, kind, max_megapixels=max_megapixels)


def delivers(command: Command) -> Command:
    """Add the flags; the command gets ``delivery``, a :class:`Delivery`."""

    @functools.wraps(command)
    def run(
        *,
        html: str | None,
        copy_to: str | None,
        link_to: str | None,
        paths: bool,
        null: bool,
        preview: bool,
        **given: Any,
    ) -> None:
        delivery = Delivery(html=html, copy_to=copy_to, link_to=link_to, paths=paths, null=null, preview=preview)
        command(delivery=delivery, **given)

    def option(default: Any, name: str, text: str, *more: str, metavar: str | None = None) -> Any:
        return typer.Option(default, name, *more, help=text, metavar=metavar, rich_help_panel=_PANEL)

    place, switch = str | None, bool
    page = "Write a web page with the results as pictures, in one file."
    added = [
        parameter("html", place, option(None, "--html", page, metavar="FILE")),
        parameter("copy_to", place, option(None, "--copy-to", "Copy the files that were found.", metavar="DIR")),
        parameter("link_to", place, option(None, "--link-to", "The same with links.", metavar="DIR")),
        parameter("paths", switch, option(False, "--paths", "Print paths and nothing else on stdout.")),
        parameter("null", switch, option(False, "--null", "The same, each with a zero byte, for xargs -0.", "-0")),
        parameter("preview", switch, option(False, "--preview", "Show small pictures in the terminal.")),
    ]
    return extended(run, command, "delivery", added)
