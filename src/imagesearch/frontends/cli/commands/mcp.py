"""``imagesearch mcp``: let a language model search the collection."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from imagesearch.frontends.cli.options import COLLECTION, COMPUTING, settings_from

if TYPE_CHECKING:
    from imagesearch.config import Config


@settings_from(*COLLECTION, *COMPUTING)
def mcp(*, settings: Config) -> None:
    """Serve the collection to a language model, read-only, over stdin and stdout (Model Context Protocol)."""
    from imagesearch.frontends.mcp.server import serve_stdio

    # Ends at once: there is nothing to finish, and the thread that waits for stdin could not be told.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve_stdio(settings)
