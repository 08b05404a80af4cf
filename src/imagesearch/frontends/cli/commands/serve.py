"""``imagesearch serve``: a web page and an HTTP API for the collection."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING, WHICH_FILES
from imagesearch.frontends.cli.options import opened, settings_from
from imagesearch.frontends.cli.output import note

if TYPE_CHECKING:
    from imagesearch.config import Config
    from imagesearch.frontends.web.running import Running

MayIndex = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR]...",
        help="Folders that may be indexed from the page, besides those that are indexed already.",
        show_default=False,
    ),
]
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
Verbose = Annotated[
    bool, typer.Option("--log", help="Log every request, as lines of JSON; also without it if stderr is a file.")
]


@settings_from(
    *WHICH_FILES,
    *COLLECTION,
    *COMPUTING,
    "batch_size",
    "rerank",
    "views",
    "host",
    "port",
    "token_file",
    "allow_hosts",
    "allow_labels",
)
def serve(*, settings: Config, folders: MayIndex = None, open_page: Open = False, log: Verbose = False) -> None:
    """Show the collection as a web page, with an HTTP API for programs; Ctrl-C ends it.

    It answers on this machine only. For others, give --host 0.0.0.0: then a token is needed, which is printed.
    """
    level = logging.INFO if log or not sys.stderr.isatty() else logging.WARNING

    @contextlib.contextmanager
    def begin(running: Running) -> Iterator[None]:
        note(f"ImageSearch is at {running.url}/  (Ctrl-C ends it)")
        if running.made_token is not None:
            note(f"its token, until it ends: {running.made_token}")
        if open_page:
            import webbrowser

            webbrowser.open(running.url)
        from imagesearch.serving_file import announce

        with announce(settings, running.url, running.owner_secret):
            yield

    with opened(settings) as images:
        from imagesearch.frontends.web.running import serve as serve_until_stopped

        serve_until_stopped(images, folders or (), begin=begin, log_level=level)
