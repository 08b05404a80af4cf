"""Files that are replaced as a whole: a full disk or a killed process leaves the previous one as it was."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class Replacement:
    """The next content of a file: written beside it under a temporary name, then renamed.

    Attributes:
        final: the file to be replaced, or created.
        temporary: where to write; named after the process, so that two of them do not write one file.
    """

    def __init__(self, final: Path) -> None:
        self.final = final
        self.temporary = final.with_name(f"{final.name}.{os.getpid()}.tmp")

    def commit(self) -> None:
        """Put it in place; what was there is gone.

        Raises:
            OSError: it cannot be renamed.
        """
        os.replace(self.temporary, self.final)

    def discard(self) -> None:
        """Remove the temporary file, if it is there; the final one stays as it is."""
        with contextlib.suppress(OSError):  # after commit() it is not there
            self.temporary.unlink()


@contextlib.contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """A temporary file to write, which replaces the final one if the block ends without an error.

    Raises:
        OSError: it cannot be renamed.
    """
    replacement = Replacement(final)
    try:
        yield replacement.temporary
        replacement.commit()
    finally:
        replacement.discard()
