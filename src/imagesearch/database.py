"""The database as a whole: its collections, and moving them about."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from imagesearch.config import Config
from imagesearch.errors import CollectionNotFoundError, ForeignCollectionError, UsageError
from imagesearch.records import CollectionInfo, Progress, TransferReport, no_progress
from imagesearch.search.ledger import Ledger, delete_ledger, rename_ledger
from imagesearch.stores.base import VectorStore, check_name


class Database:
    """All collections of one database: list, copy, rename, drop, export, import, migrate.

    Made by :class:`imagesearch.service.ImageSearch`, as its attribute ``database``.

    Args:
        config: the settings.
        store: opens the configured collection's, or returns the one that is open.
        ledgers: the folder with the lists of skipped files; None: they are kept in memory.
    """

    def __init__(self, config: Config, store: Callable[[], VectorStore], ledgers: Path | None) -> None:
        self._config = config
        self._open = store
        self._ledgers = ledgers
        self._in_memory: dict[str, Ledger] = {}

    def collections(self) -> dict[str, CollectionInfo | None]:
        """What each collection is, by name; None for those that other programs made."""
        found: dict[str, CollectionInfo | None] = {}
        for name in self._open().collections():
            with self._collection(name) as store:
                try:
                    found[name] = store.describe()
                except ForeignCollectionError:
                    found[name] = None
        return found

    def describe(self, name: str) -> CollectionInfo:
        """One collection.

        Raises:
            CollectionNotFoundError: there is no such collection; names those that there are.
            ForeignCollectionError: this program did not make it.
        """
        with self._collection(name) as store:
            info = store.describe()
            if info is None:
                there = ", ".join(store.collections()) or "none"
                raise CollectionNotFoundError(
                    f"there is no collection {name!r} in {store.engine} (there: {there})"
                )
            return info

    def copy(self, name: str, new: str, progress: Progress = no_progress) -> TransferReport:
        """Copy a collection to another name; one that was interrupted goes on.

        Raises:
            CollectionNotFoundError: there is no such collection.
            ModelMismatchError: there is one of the other name, with vectors of another model.
        """
        from imagesearch.search.transfer import copy_collection

        check_name(new)
        with self._existing(name) as source, self._collection(new) as target:
            return copy_collection(source, target, progress)

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the other name is taken.
        """
        check_name(new)
        with self._existing(name) as store:
            store.rename(new)
        if name in self._in_memory:
            self._in_memory[new] = self._in_memory.pop(name)
        if self._ledgers is not None:
            rename_ledger(self._ledger_file(name), self._ledger_file(new))

    def drop(self, name: str) -> None:
        """Remove a collection with all its vectors; the pictures themselves are not touched.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """
        with self._existing(name) as store:
            store.drop()
        self._in_memory.pop(name, None)
        if self._ledgers is not None:
            delete_ledger(self._ledger_file(name))

    def export(
        self, file: str | os.PathLike[str], name: str | None = None, progress: Progress = no_progress
    ) -> TransferReport:
        """Write a collection (default: the configured one) with its vectors to a Parquet file.

        Raises:
            CollectionNotFoundError: there is no such collection.
            TransferError: the file cannot be written; an older one is untouched.
        """
        from imagesearch.search.transfer import export_collection

        with self._existing(name or self._open().spec.name) as store:
            return export_collection(store, file, progress)

    def import_file(
        self, file: str | os.PathLike[str], name: str | None = None, progress: Progress = no_progress
    ) -> TransferReport:
        """Read an exported collection; no network is needed, and rows that are there already are left alone.

        Args:
            file: what :meth:`export` wrote.
            name: the collection's name; default: the one it was exported from.

        Raises:
            TransferError: the file is damaged or of another kind.
            ModelMismatchError: there is such a collection, with vectors of another model.
        """
        from imagesearch.search.transfer import import_collection, read_export

        name = name or read_export(file).name
        check_name(name)
        with self._collection(name) as store:
            return import_collection(file, store, progress)

    def migrate(
        self,
        uri: str,
        names: Sequence[str] = (),
        token: str | None = None,
        progress: Progress = no_progress,
    ) -> list[TransferReport]:
        """Copy collections into another database, such as from Milvus Lite to a server; repeat to go on.

        Args:
            uri: the other database.
            names: which collections; default: all that this program made.
            token: the other database's; default: the configured one.

        Raises:
            UsageError: there is nothing to copy.
            TransferError: it is the same database.
            CollectionNotFoundError: there is no such collection.
            StoreError: a database fails; what was copied stays.
        """
        from imagesearch.search.transfer import copy_collection

        chosen = list(names) or [name for name, info in self.collections().items() if info is not None]
        for name in chosen:  # before the first is copied
            self.describe(name)
        if not chosen:
            raise UsageError(f"there is no collection in {self._open().engine}: nothing to copy")
        milvus = self._config.milvus.model_dump(exclude_unset=True) | {"uri": uri}
        if token is not None:
            milvus["token"] = token
        other = self._config.model_copy(update={"milvus": type(self._config.milvus)(**milvus)})
        reports = []
        for name in chosen:
            with self._collection(name) as source, closing(open_store(other, name)) as target:
                reports.append(copy_collection(source, target, progress))
        return reports

    def ledger(self, name: str | None = None) -> Ledger:
        """The skipped files of a collection (default: the configured one).

        Raises:
            StoreError: the list is there, but cannot be read.
        """
        name = name or self._config.collection_spec.name
        if self._ledgers is None:
            return self._in_memory.setdefault(name, Ledger())
        return Ledger(self._ledger_file(name))

    def _ledger_file(self, name: str) -> Path:
        assert self._ledgers is not None
        return self._ledgers / f"{name}.jsonl"

    @contextmanager
    def _collection(self, name: str) -> Iterator[VectorStore]:
        with closing(self._open().other(name)) as store:
            yield store

    @contextmanager
    def _existing(self, name: str) -> Iterator[VectorStore]:
        self.describe(name)
        with self._collection(name) as store:
            yield store


def open_store(config: Config, name: str | None = None) -> VectorStore:
    """A collection (default: the configured one) in the configured database; it connects when first used."""
    from imagesearch.stores.milvus import MilvusStore

    milvus = config.milvus
    return MilvusStore(
        config.collection_spec if name is None else replace(config.collection_spec, name=name),
        milvus.uri,
        token=milvus.token.get_secret_value() if milvus.token else None,
        db_name=milvus.db_name,
        tls_ca=milvus.tls_ca,
        tls_client_cert=milvus.tls_client_cert,
        tls_client_key=milvus.tls_client_key,
        tls_server_name=milvus.tls_server_name,
        timeout=milvus.timeout,
    )


def ledger_folder(config: Config) -> Path:
    """Where the lists of skipped files are: inside a Milvus Lite database, or in the user's state folder.

    Which files could not be read is a fact about this machine's disks, so a server need not know it.
    """
    from imagesearch.stores.milvus_connection import display_uri, is_lite, lite_path

    uri = config.milvus.uri
    if is_lite(uri):
        return lite_path(uri).expanduser().resolve() / "imagesearch-skipped"
    import platformdirs

    place = f"{display_uri(uri)} {config.milvus.db_name or ''}"
    digest = hashlib.blake2b(place.encode(), digest_size=8).hexdigest()
    return platformdirs.user_state_path("imagesearch") / "skipped" / digest
