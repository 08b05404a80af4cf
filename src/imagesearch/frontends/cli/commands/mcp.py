"""``imagesearch mcp``: let a language model search the collection."""

from __future__ import annotations

import signal

from imagesearch.frontends.cli.flags import COLLECTION, COMPUTING
from imagesearch.frontends.cli.options import Overrides, overrides_from, settings_environment
from imagesearch.frontends.cli.output import note


@overrides_from(*COLLECTION, *COMPUTING)
def mcp(*, overrides: Overrides) -> None:
    """Serve the collection to a language model, read-only, over stdin and stdout (Model Context Protocol)."""
    from imagesearch.frontends.mcp.server import serve_stdio

    # Ends at once: there is nothing to finish, and the thread that waits for stdin could not be told.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    serve_stdio(overrides.file, overrides.layer, settings_environment(), note)
