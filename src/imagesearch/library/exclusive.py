"""Changes of rows that depend on what the rows are: in one process, one after the other for each collection.

A row is read, changed, and written as a whole. Without this, what another thread wrote in between would be lost,
and a row that it deleted would come back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imagesearch.stores.base import Collection

_locks: dict[tuple[str, str], threading.RLock] = {}
_making = threading.Lock()


@contextmanager
def changing(collection: Collection) -> Iterator[None]:
    """Keep other changes of this process out of a collection until the block ends."""
    name = (collection.place, collection.spec.name)
    with _making:
        lock = _locks.setdefault(name, threading.RLock())
    with lock:
        yield
