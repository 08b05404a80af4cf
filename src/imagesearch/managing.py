"""The collections of the configured database: list, copy, rename, drop, export, import, migrate."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imagesearch.config import Config
from imagesearch.credentials import token_for
from imagesearch.errors import CollectionNotFoundError, ForeignCollectionError, UsageError
from imagesearch.images.find import reason_of
from imagesearch.library.ledger import Ledger, delete_ledger, rename_ledger
from imagesearch.records import CollectionInfo, Progress, no_progress
from imagesearch.reports import TransferReport
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import Collection, CollectionSpec, ConnectionOptions, VectorDatabase, check_name

if TYPE_CHECKING:
    from imagesearch.search.confidence import Background

# A local database that needs a larger share of the machine's memory has outgrown it.
_MEMORY_SHARE = 0.5

_log = logging.getLogger(__name__)


class DatabaseHandle:
    """The configured database, opened at first use, or one that was given; several threads may ask for it.

    Args:
        config: the settings.
        given: a database in place of the configured one; :meth:`release` does not close it, :meth:`close` does.
    """

    def __init__(self, config: Config, given: VectorDatabase | None = None) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._opened = given
        self._is_given = given is not None
        self._closed = False

    def open(self) -> VectorDatabase:
        """The database.

        Raises:
            UsageError: it was closed.
        """
        with self._lock:
            if self._closed:
                raise UsageError("this ImageSearch is closed; create another one")
            if self._opened is None:
                self._opened = self._config.database_address.open(connection_options(self._config))
            return self._opened

    def release(self) -> None:
        """Close it until it is needed again. Waits for calls of other threads that are running."""
        with self._lock:
            opened = None if self._is_given else self._opened
        if opened is None:
            return
        # Without the lock: a call that is waited for may report progress to code that uses this object.
        opened.close()
        with self._lock:
            if self._opened is opened:
                self._opened = None

    def close(self) -> None:
        """Close it for good. Waits for calls of other threads that are running."""
        with self._lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


class Collections:
    """All collections of one database: list, copy, rename, drop, export, import, migrate.

    Made by :class:`imagesearch.service.ImageSearch`, as its attribute ``database``.

    Args:
        config: the settings.
        database: opens the database, or returns the one that is open.
        keep_ledgers: whether the lists of skipped files are kept on disk, in :func:`ledger_folder`.
    """

    def __init__(
        self, config: Config, database: Callable[[], VectorDatabase], *, keep_ledgers: bool = True
    ) -> None:
        self._config = config
        self._database = database
        self._keep_ledgers = keep_ledgers
        self._in_memory: dict[str, Ledger] = {}
        self._learned: dict[str, Background] = {}
        self._writing_background = threading.Lock()

    def collections(self) -> dict[str, CollectionInfo | None]:
        """Every collection by name; None for those that other programs made."""
        database = self._database()
        found: dict[str, CollectionInfo | None] = {}
        for name in database.names():
            try:
                found[name] = database.open(self._spec(name)).info()
            except ForeignCollectionError:
                found[name] = None
            except CollectionNotFoundError:
                continue  # dropped since we asked for the names
        return found

    def open(self, name: str | None = None) -> Collection:
        """One collection (default: the configured one), to read and search it.

        Raises:
            CollectionNotFoundError: there is no such collection; names those that exist.
            ForeignCollectionError: this program did not make it.
        """
        database, spec = self._database(), self._spec(name)
        try:
            return database.open(spec)
        except CollectionNotFoundError:
            there = ", ".join(database.names()) or "none"
            advice = (
                "" if name else "; index some pictures first, or choose with --model or milvus.collection_name"
            )
            raise CollectionNotFoundError(
                f"there is no collection {spec.name!r} in {database.engine} (there: {there}){advice}"
            ) from None

    def describe(self, name: str) -> CollectionInfo:
        """What one collection holds, and how it is built.

        Raises:
            CollectionNotFoundError, ForeignCollectionError: see :meth:`open`.
        """
        return self.open(name).info()

    def copy(self, name: str, new: str, progress: Progress = no_progress) -> TransferReport:
        """Copy a collection to another name; a copy that was interrupted is continued.

        Raises:
            CollectionNotFoundError: there is no such collection.
            ModelMismatchError: there is one of the other name, with vectors of another model.
        """
        from imagesearch.library.transfer import copy_collection

        check_name(new)
        source = self.open(name)
        report = copy_collection(source, self._database(), self._copy_spec(source, new), progress)
        copied = self.ledger(new)
        copied.note_depleted(copied.depleted | self.ledger(name).depleted)
        return report

    def rename(self, name: str, new: str) -> None:
        """Give a collection another name.

        Raises:
            CollectionNotFoundError: there is no such collection.
            StoreError: the other name is taken.
        """
        check_name(new)
        self.open(name)  # refuses those of other programs
        self._database().rename(name, new)
        if name in self._in_memory:
            self._in_memory[new] = self._in_memory.pop(name)
        self._keep_background(name, None)  # it bears the name; the next indexing learns it anew
        if self._keep_ledgers:
            rename_ledger(self._ledger_file(name), self._ledger_file(new))

    def drop(self, name: str) -> None:
        """Remove a collection with all its vectors; the pictures themselves are not touched.

        Raises:
            CollectionNotFoundError: there is no such collection.
        """
        self.open(name)  # refuses those of other programs
        self._database().drop(name)
        self._in_memory.pop(name, None)
        self._keep_background(name, None)
        if self._keep_ledgers:
            delete_ledger(self._ledger_file(name))

    def export(
        self, file: str | os.PathLike[str], name: str | None = None, progress: Progress = no_progress
    ) -> TransferReport:
        """Write a collection (default: the configured one) with its vectors to a Parquet file.

        Raises:
            CollectionNotFoundError: there is no such collection.
            TransferError: the file cannot be written; an older one is untouched.
        """
        from imagesearch.library.transfer import export_collection

        return export_collection(self.open(name), file, progress)

    def import_file(
        self, file: str | os.PathLike[str], name: str | None = None, progress: Progress = no_progress
    ) -> TransferReport:
        """Read an exported collection; no network is needed.

        Rows of the same paths that differ, also in annotations alone, are replaced; other rows stay.

        Args:
            file: what :meth:`export` wrote.
            name: the collection's name; default: the one it was exported from.

        Raises:
            TransferError: the file is damaged or of another kind.
            ModelMismatchError: there is such a collection, with vectors of another model.
        """
        from imagesearch.library.transfer import import_collection, read_export

        exported = read_export(file)
        name = name or exported.name
        check_name(name)
        # As in copies, vectors are compared as they were where they come from.
        spec = replace(self._spec(name), metric=exported.metric)
        return import_collection(file, self._database(), spec, progress)

    def migrate(
        self,
        uri: str | DatabaseAddress,
        names: Sequence[str] = (),
        token: str | None = None,
        progress: Progress = no_progress,
    ) -> list[TransferReport]:
        """Copy collections into another database, such as from Milvus Lite to a server; repeat to continue.

        Args:
            uri: the other database.
            names: which collections; default: all that this program made.
            token: the other database's; default: the configured one, if it is the configured address.

        Raises:
            ConfigError: the address is not one of a database, or a token would be sent there in the clear.
            UsageError: there is nothing to copy, or a token was given for a local database.
            TransferError: it is the same database.
            CollectionNotFoundError: there is no such collection.
            StoreError: a database fails; what was copied stays.
        """
        from imagesearch.library.transfer import copy_collection

        address = DatabaseAddress.parse(uri, "uri") if isinstance(uri, str) else uri
        chosen = list(names) or [name for name, info in self.collections().items() if info is not None]
        sources = [self.open(name) for name in chosen]  # all of them, before the first is copied
        if not sources:
            raise UsageError(f"there is no collection in {self._database().engine}: nothing to copy")
        if token and address.is_local:
            raise UsageError(f"{address.shown} is a local database, which takes no token")
        options = connection_options(self._config, address, token)
        with closing(address.open(options)) as target:
            return [
                copy_collection(source, target, self._copy_spec(source, source.spec.name), progress)
                for source in sources
            ]

    def ledger(self, name: str | None = None) -> Ledger:
        """The skipped files of a collection (default: the configured one).

        Raises:
            StoreError: the list is there, but cannot be read.
        """
        name = name or self._config.collection_spec.name
        if not self._keep_ledgers:
            return self._in_memory.setdefault(name, Ledger())
        return Ledger(self._ledger_file(name))

    def background(self, collection: Collection) -> Background | None:
        """What its pictures score by chance; None where that was not learned, or of another state of it."""
        from imagesearch.search.confidence import read_background

        name = collection.spec.name
        if self._keep_ledgers:
            return read_background(self._background_file(name), collection)
        learned = self._learned.get(name)
        return learned if learned is not None and learned.describes(collection, collection.count()) else None

    def refresh_background(self, collection: Collection) -> bool:
        """Learn what its pictures score by chance, unless that was done and it hardly changed since.

        Returns:
            Whether it was learned. A file that cannot be written is noted in the log.

        Raises:
            StoreError: the database fails.
        """
        from imagesearch.search.confidence import learn

        there = self.background(collection)
        if there is not None and there.is_fresh(collection, collection.count()):
            return False
        learned = learn(collection)
        return self._keep_background(collection.spec.name, learned) and learned is not None

    def _keep_background(self, name: str, background: Background | None) -> bool:
        """Whether it, or that there is none, could be written."""
        from imagesearch.search.confidence import write_background

        self._learned.pop(name, None)
        if self._keep_ledgers:
            file = self._background_file(name)
            try:
                with self._writing_background:
                    write_background(file, background)
            except OSError as error:
                _log.warning("cannot write %s: %s; hits may lack confidence", file, reason_of(error))
                return False
        elif background is not None:
            self._learned[name] = background
        return True

    def _background_file(self, name: str) -> Path:
        return ledger_folder(self._config) / f"{name}.background.json"

    def outgrown(self, info: CollectionInfo) -> str | None:
        """Why a collection should move to a server, in words that follow its name; None if it need not."""
        engine = self._config.database_address.engine
        if engine.comfortable_rows is None:
            return None
        if info.rows > engine.comfortable_rows:
            return f"has {info.rows:,} pictures, more than a local database searches quickly"
        needed = info.rows * (engine.bytes_per_row + info.fingerprint.dim // 4)
        there = _physical_memory()
        if there is not None and needed > _MEMORY_SHARE * there:
            return f"needs about {needed / 1e9:.1f} GB of this machine's {there / 1e9:.1f} GB of memory"
        return None

    def ledger_file(self, name: str) -> Path | None:
        """Where the list of skipped files of a collection is kept on disk; None: it is not."""
        return self._ledger_file(name) if self._keep_ledgers else None

    def _spec(self, name: str | None) -> CollectionSpec:
        spec = self._config.collection_spec
        return spec if name is None else replace(spec, name=name)

    def _copy_spec(self, source: Collection, name: str) -> CollectionSpec:
        """Of a copy, which compares vectors as the source does: its collections may differ in that."""
        return replace(self._spec(name), metric=source.spec.metric)

    def _ledger_file(self, name: str) -> Path:
        return ledger_folder(self._config) / f"{name}.jsonl"


def _physical_memory() -> int | None:
    """Bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def connection_options(
    config: Config, address: DatabaseAddress | None = None, token: str | None = None
) -> ConnectionOptions:
    """What is needed to reach a database besides its address.

    Args:
        address: default: the configured database's.
        token: see :func:`credentials.token_for`.

    Raises:
        ConfigError: see :func:`credentials.token_for`.
    """
    milvus = config.milvus
    return ConnectionOptions(
        token=token_for(config, address or config.database_address, token),
        db_name=milvus.db_name,
        tls_ca=milvus.tls_ca,
        tls_client_cert=milvus.tls_client_cert,
        tls_client_key=milvus.tls_client_key,
        tls_server_name=milvus.tls_server_name,
        timeout=milvus.timeout,
    )


def ledger_folder(config: Config) -> Path:
    """Where the lists of skipped files are: in the folder of a local database, or in the user's state folder.

    Which files could not be read is a fact about this machine's disks, so a server need not know it.
    """
    address = config.database_address
    if address.is_local and address.engine.is_folder:
        return Path(address.place) / "imagesearch-skipped"
    import platformdirs

    # With the slashes that the address was given with, because the folders of earlier versions are named so.
    slashes = address.uri[len(address.uri.rstrip("/")) :]
    place = f"{address.shown}{slashes} {config.milvus.db_name or ''}"
    digest = hashlib.blake2b(place.encode(), digest_size=8).hexdigest()
    return platformdirs.user_state_path("imagesearch") / "skipped" / digest
