"""Milvus Lite, embedded: a database in a folder, used in this process.

No server is started and no port is open. The folder is read and written directly, in Milvus Lite's format: see
:mod:`~imagesearch.stores.milvus.lite_table`.

Any number of :class:`LiteDatabase` objects of one process share what is open of a folder, and take turns.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from imagesearch.errors import StoreError, UnsupportedIndexError
from imagesearch.records import Fingerprint, Progress, no_progress
from imagesearch.reports import Finding
from imagesearch.stores.base import (
    Collection,
    CollectionSpec,
    closed,
    name_taken,
    no_collection,
    require_same_metric,
    require_same_model,
)
from imagesearch.stores.columns import BY_NAME
from imagesearch.stores.milvus import lite_schema
from imagesearch.stores.milvus.index_types import AUTO, INDEX_TYPES
from imagesearch.stores.milvus.lite_collection import LiteCollection, resolved
from imagesearch.stores.milvus.lite_compaction import add_columns
from imagesearch.stores.milvus.lite_files import sync_folder
from imagesearch.stores.milvus.lite_index import EXACT
from imagesearch.stores.milvus.lite_lock import translating
from imagesearch.stores.milvus.lite_opened import STAGING, OpenedFolder, borrow, forked, give_back, is_forked
from imagesearch.stores.milvus.lite_reader import Reader
from imagesearch.stores.milvus.lite_table import Table
from imagesearch.stores.milvus.schema import Schema

_LEFTOVERS = "imagesearch-leftovers"


class LiteDatabase:
    """A database folder; methods are those of ``VectorDatabase``.

    Args:
        path: the folder, resolved.
        db_name: a database within it other than the default one.
        read_only: change nothing on the disk, not even what a crash left behind.
    """

    def __init__(self, path: Path, db_name: str | None = None, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._db_name = db_name
        root = path if db_name in (None, "", "default") else path / "databases" / str(db_name)
        self._root = root
        self._collections = root / "collections"
        self._folders: dict[str, Path] = {}  # each search asks: paths are put together once
        self._lock = threading.Lock()
        self._mine: OpenedFolder | None = None
        self._closed = False

    @property
    def engine(self) -> str:
        """Human-readable engine name, e.g. ``"Milvus Lite 3.2.2 at /data/photos.db"``."""
        absent = "" if self._mine or os.path.exists(self.path) else " (not there yet)"
        return f"Milvus Lite {version('milvus-lite')} at {self.path}{absent}"

    @property
    def place(self) -> str:
        """The folder, and which database in it."""
        return str(self._root)

    def names(self) -> list[str]:
        """Names of all collections, sorted."""
        with self._turn("list collections", create=False) as opened:
            return [] if opened is None else self._names()

    def _names(self) -> list[str]:
        try:
            entries = list(os.scandir(self._collections))
        except FileNotFoundError:
            return []
        return sorted(entry.name for entry in entries if lite_schema.exists(Path(entry.path)))

    def open(self, spec: CollectionSpec) -> Collection:
        """An existing collection."""
        with self._turn("open it", create=False) as opened:
            if opened is None or not self._exists(spec.name):
                raise no_collection(spec.name, str(self.path))
            schema = self._schema(opened, spec.name)
        return self._handle(spec, schema)

    def create(self, spec: CollectionSpec, fingerprint: Fingerprint) -> Collection:
        """Create a collection for this model's vectors, or open it if it is there."""
        with self._turn("create the collection", create=True) as opened:
            assert opened is not None
            if not self._exists(spec.name):
                self.check(spec)
                self._require_writable(opened)
                self._make(spec, fingerprint)
            schema = self._schema(opened, spec.name)
            require_same_model(spec.name, fingerprint, schema.fingerprint)
            require_same_metric(spec.name, spec.metric, schema.metric)
            if not opened.lock.read_only:
                lite_schema.keep_copy(self._folder(spec.name))
            if schema.missing and not opened.lock.read_only:
                self._add_columns(opened, spec.name, schema)
                schema = self._schema(opened, spec.name)
        return self._handle(spec, schema)

    def _make(self, spec: CollectionSpec, fingerprint: Fingerprint) -> None:
        """Prepare the folder elsewhere, and move it to its place in one step."""
        self._set_aside_leftovers(spec.name)
        staged = self._staged()
        staged.mkdir()
        lite_schema.write_schema(spec.name, staged, Schema(fingerprint, spec.metric, spec.vector_field))
        (staged / "wal").mkdir()
        sync_folder(staged)
        self._collections.mkdir(parents=True, exist_ok=True)
        os.rename(staged, self._folder(spec.name))
        sync_folder(self._collections)

    def check(self, spec: CollectionSpec) -> None:
        """Make sure, before any work, that Milvus Lite can build this index."""
        possible = [name for name, kind in INDEX_TYPES.items() if kind.lite]
        if spec.index_type not in (AUTO, *possible):
            raise UnsupportedIndexError(
                f"milvus.index_type = {spec.index_type!r}: {self.engine} cannot build it; "
                f"it builds {', '.join(possible)}"
            )

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name, in one step: its folder is moved."""
        with self._turn(f"rename collection {name!r} to {new!r}", create=False) as opened:
            if opened is None or not self._exists(name):
                raise no_collection(name, str(self.path))
            if self._exists(new):
                raise name_taken(new, str(self.path))
            self._require_writable(opened)
            self._set_aside_leftovers(new)
            opened.forget(self._folder(name))
            os.rename(self._folder(name), self._folder(new))
            sync_folder(self._collections)
            try:
                lite_schema.write_name(new, self._folder(new))
            except (OSError, StoreError) as error:  # it says where the folder came from, nothing more
                logging.getLogger(__name__).debug("%s: %s", self._folder(new), error)

    def drop(self, name: str) -> None:
        """Remove a whole collection, in one step: its folder is moved away, then deleted."""
        with self._turn(f"drop collection {name!r}", create=False) as opened:
            if opened is None or not self._folder(name).exists():
                return
            self._require_writable(opened)
            opened.forget(self._folder(name))
            staged = self._staged()
            os.rename(self._folder(name), staged)
            sync_folder(self._collections)
            shutil.rmtree(staged, ignore_errors=True)  # what stays is deleted by the next who opens the database

    # --- damage: see ``HasFiles`` ---

    def folders(self) -> list[str]:
        """Names of all folders of collections, sorted; also of those that have lost their schema."""
        with self._turn("list collections", create=False) as opened:
            if opened is None or not self._collections.is_dir():
                return []
            return sorted(entry.name for entry in os.scandir(self._collections) if entry.is_dir())

    def check_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:
        """What is wrong with the files of a collection."""
        from imagesearch.stores.milvus.lite_check import check_collection

        with self._turn(f"check collection {name!r}", create=False) as opened:
            return [] if opened is None else check_collection(self._folder(name), self._root, progress)

    def repair_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:
        """Repair the files of a collection."""
        from imagesearch.stores.milvus.lite_repair import repair_collection

        with self._turn(f"repair collection {name!r}", create=False) as opened:
            if opened is None:
                return []
            self._require_writable(opened)
            opened.forget(self._folder(name))
            return repair_collection(self._folder(name), self._root, progress)

    def unchanging(self) -> LiteDatabase:
        """The same database, for reading only."""
        return LiteDatabase(self.path, self._db_name, read_only=True)

    def close(self) -> None:
        """Let go of the folder, once the call that is running in it has ended."""
        if is_forked():
            self._closed = True
            return
        with self._lock:
            mine, self._mine, self._closed = self._mine, None, True
        if mine is not None:
            give_back(mine)

    @contextlib.contextmanager
    def using(self, doing: str, name: str, *, writing: bool = False) -> Iterator[tuple[Table, Reader]]:
        """The open table of a collection, during one call: see :class:`~.lite_collection.Tables`."""
        with self._in_collection(doing, name, writing) as opened:
            yield opened.table(self._folder(name), read_only=self._read_only)

    @contextlib.contextmanager
    def _in_collection(self, doing: str, name: str, writing: bool) -> Iterator[OpenedFolder]:
        with self._turn(f"{doing} in collection {name!r}", create=False) as opened:
            # Looked at each time: somebody may have deleted the folder, and writes to it would vanish with it.
            if opened is None or not self._exists(name):
                if opened is not None:
                    opened.forget(self._folder(name))
                raise no_collection(name, str(self.path))
            if writing:
                self._require_writable(opened)
            yield opened

    @contextlib.contextmanager
    def _turn(self, doing: str, *, create: bool) -> Iterator[OpenedFolder | None]:
        """The open folder, ours alone for a while; None if it is not there and must not be created."""
        with translating(doing, self.path):
            opened = self._connect(create)
            if opened is None:
                yield None
                return
            with opened.turn:
                if self._closed:
                    raise closed(str(self.path))
                opened.take_lock()
                if self._root != self.path and not self._root.is_dir():
                    raise StoreError(f"{self.path} has no such database ({self._db_name}): check milvus.db_name")
                if not self._read_only:
                    opened.prepare()
                yield opened

    def _connect(self, create: bool) -> OpenedFolder | None:
        # Before the lock: a thread that is not in this process may have held it when the process was forked.
        if is_forked() and not self._closed and (create or self._mine is not None or self.path.exists()):
            raise forked(self.path)
        with self._lock:
            if self._closed:
                raise closed(str(self.path))
            if self._mine is None:
                if not create and not self.path.exists():
                    return None
                self._mine = borrow(self.path, create=create)
            return self._mine

    def _require_writable(self, opened: OpenedFolder) -> None:
        if opened.lock.read_only or self._read_only:
            raise StoreError(
                f"cannot write to {self.path}: it is read-only here. It can be searched; to change it, make it"
                " writable or choose another database"
            )

    def _schema(self, _: OpenedFolder, name: str) -> Schema:
        return lite_schema.read_schema(name, self._folder(name)).ours

    def _add_columns(self, opened: OpenedFolder, name: str, schema: Schema) -> None:
        table, _ = opened.table(self._folder(name))
        add_columns(table, [BY_NAME[column] for column in schema.missing])

    def _handle(self, spec: CollectionSpec, schema: Schema) -> Collection:
        return LiteCollection(self, with_engines_choice(spec), schema)

    def _folder(self, name: str) -> Path:
        if name not in self._folders:
            self._folders[name] = self._collections / name
        return self._folders[name]

    def _exists(self, name: str) -> bool:
        return lite_schema.exists(self._folder(name))

    def _staged(self) -> Path:
        return self.path / STAGING / f"imagesearch-{uuid.uuid4().hex}"

    def _set_aside_leftovers(self, name: str) -> None:
        """Clear the place of a collection that was never finished, or not wholly dropped.

        Milvus Lite makes the folder first and writes the schema then, and it deletes file by file; a crash between
        leaves a folder that is no collection. If there are rows in it, it is kept elsewhere in the database.
        """
        folder = self._folder(name)
        if not folder.exists():
            return
        if any(folder.glob("partitions/*/data/*.parquet")) or any(folder.glob("wal/*.arrow")):
            kept = self.path / _LEFTOVERS / f"{name}-{uuid.uuid4().hex[:8]}"
            kept.parent.mkdir(exist_ok=True)
            os.rename(folder, kept)
            logging.getLogger(__name__).warning("%s was not a whole collection; moved to %s", folder, kept)
        else:
            shutil.rmtree(folder)


def with_engines_choice(spec: CollectionSpec) -> CollectionSpec:
    """The spec with an index type where it leaves that open."""
    return resolved(spec, EXACT) if spec.index_type == AUTO else spec
