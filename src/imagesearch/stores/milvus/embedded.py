"""Milvus Lite, embedded: which way its files are reached.

They are read and written directly (:mod:`~imagesearch.stores.milvus.lite`) with the versions of Milvus Lite in
:data:`TESTED`; with others through Milvus Lite's own Python interface
(:mod:`~imagesearch.stores.milvus.lite_plain`), which is slower.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from imagesearch.records import Progress, no_progress
from imagesearch.reports import Finding
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, ConnectionOptions
from imagesearch.stores.milvus import lite_session
from imagesearch.stores.milvus.lite import LiteDatabase, with_engines_choice
from imagesearch.stores.milvus.lite_opened import OpenedFolder
from imagesearch.stores.milvus.lite_plain import PlainCollection
from imagesearch.stores.milvus.schema import Schema

# Versions of Milvus Lite whose files the direct way was tested with.
TESTED = ("3.2.2",)


def open_database(address: DatabaseAddress, options: ConnectionOptions) -> LiteDatabase:
    """The database at a path; its folder is opened when first used."""
    assert address.path is not None
    kind = LiteDatabase if version("milvus-lite") in TESTED else PlainDatabase
    return kind(Path(address.place), options.db_name)


class PlainDatabase(LiteDatabase):
    """A database folder, whose collections are reached through Milvus Lite's own interface."""

    @property
    def engine(self) -> str:
        """Human-readable engine name, and why it is slower."""
        return f"{super().engine} (through its own interface, because this version was not tested: slower)"

    def check_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:  # noqa: ARG002 - contract
        """Nothing: what the files of this version must be like is not known."""
        return []

    def repair_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:  # noqa: ARG002 - contract
        """Nothing, see :meth:`check_files`."""
        return []

    def unchanging(self) -> PlainDatabase:
        """The same database; Milvus Lite itself changes files when it opens them."""
        return PlainDatabase(self.path, self._db_name)

    @contextlib.contextmanager
    def using_lite(
        self, doing: str, name: str, *, writing: bool = False, released: bool = False
    ) -> Iterator[lite_session.Opened]:
        """An open collection, during one call: see :class:`~.lite_plain.PlainTables`."""
        with self._in_collection(doing, name, writing) as opened, lite_session.closing_after_failure(opened.plain):
            if released:
                opened.plain.let_go()
            collection = self._collection(opened, name)
            if not released:
                collection.lite.load()
            yield collection

    def _collection(self, opened: OpenedFolder, name: str) -> lite_session.Opened:
        return opened.plain.collection(self._folder(name), self._db_name or "default")

    def _schema(self, opened: OpenedFolder, name: str) -> Schema:
        return lite_session.schema_of(name, self._collection(opened, name).lite)

    def _add_columns(self, opened: OpenedFolder, name: str, schema: Schema) -> None:
        """Milvus Lite cannot add any; rows have the defaults of what is missing."""

    def _handle(self, spec: CollectionSpec, schema: Schema) -> Collection:
        return PlainCollection(self, with_engines_choice(spec), schema)
