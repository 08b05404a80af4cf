"""A Milvus Lite database that Milvus Lite itself has open, through its own Python interface.

It takes the lock on the folder itself, so ours is lent to it meanwhile. What its interface cannot do (let go of
one collection, wait for what runs in the background) is done by closing all of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesearch.errors import DamagedError, StoreError
from imagesearch.stores.milvus.lite_lock import FolderLock
from imagesearch.stores.milvus.lite_schema import foreign
from imagesearch.stores.milvus.schema import Field, Schema, parse_schema

_CHUNK = 1 << 20


@dataclass(slots=True)
class Opened:
    """A collection that Milvus Lite has open.

    Attributes:
        lite: Milvus Lite's own object.
        has_recent: whether there may be rows in no data file yet, which no index covers.
    """

    lite: Any
    has_recent: bool


class PlainFolder:
    """A database folder that Milvus Lite itself opens when needed; not thread-safe, the caller takes turns."""

    def __init__(self, lock: FolderLock) -> None:
        """Do nothing yet.

        Args:
            lock: on the folder, taken.
        """
        self._lock = lock
        self._lite: Any = None
        self._collections: dict[Path, Opened] = {}

    @property
    def is_open(self) -> bool:
        """Whether Milvus Lite has the folder open, and so the lock."""
        return self._lite is not None

    def collection(self, folder: Path, db_name: str) -> Opened:
        """A collection, opened if need be, and then not loaded.

        Raises:
            StoreError: the folder is read-only here, which Milvus Lite cannot read.
            StoreLockedError: another process was quicker.
            DamagedError: a log cannot be read; Milvus Lite would take it for an empty one, and delete it.
        """
        if self._lock.read_only:
            raise StoreError(
                f"cannot read {self._lock.path}: it is read-only here, and it was not tested whether files of this"
                " version of Milvus Lite can be read directly. Make it writable, or install another version"
            )
        if self._lite is None:
            self._open()
        opened = self._collections.get(folder)
        if opened is None:
            _require_logs(folder)
            lite = self._lite.get_collection(folder.name, database_name=db_name)
            opened = self._collections[folder] = Opened(lite, lite.count() > 0)
        return opened

    def _open(self) -> None:
        from milvus_lite import MilvusLite
        from milvus_lite.exceptions import DataDirLockedError

        self._lock.lend()
        try:
            self._lite = MilvusLite(str(self._lock.path))
        except DataDirLockedError as error:
            raise self._lock.locked() from error

    def let_go(self) -> None:
        """Close it, with rows that are in the log written to data files, and give up the lock."""
        lite, self._lite = self._lite, None
        self._collections.clear()
        if lite is not None:
            lite.close()


def _require_logs(folder: Path) -> None:
    for file in (folder / "wal").glob("*.arrow"):
        try:
            with open(file, "rb", buffering=0) as stream:
                while stream.read(_CHUNK):
                    pass
        except FileNotFoundError:  # Milvus Lite, at work in the background, has just deleted it
            continue
        except OSError as error:
            raise DamagedError(file, f"cannot be read ({error.strerror})") from error


def schema_of(name: str, collection: Any) -> Schema:
    """What a collection says of itself.

    Raises:
        ForeignCollectionError: this program did not make it.
    """
    schema = collection.schema
    fields = {field.name: Field(field.dtype.name, bool(field.nullable), field.dim) for field in schema.fields}
    ours = parse_schema(name, schema.properties or {}, "", fields)
    if (
        schema.enable_dynamic_field
        or schema.functions
        or any(field.auto_id or field.is_partition_key for field in schema.fields)
    ):
        raise foreign(name)
    return ours


@contextlib.contextmanager
def closing_after_failure(folder: PlainFolder) -> Iterator[None]:
    """Close Milvus Lite if a write fails: what it appends to a log behind half a record would be lost."""
    try:
        yield
    except BaseException:
        folder.let_go()
        raise
