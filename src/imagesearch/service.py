"""The Python API: everything the command line and the web page can do, as one class."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.config import Config, load_config
from imagesearch.errors import UsageError
from imagesearch.images.files import PictureSource, examine, to_picture
from imagesearch.images.find import reason_of
from imagesearch.images.pipeline import batches, decode_ahead
from imagesearch.managing import Collections, open_database
from imagesearch.networks import Networks
from imagesearch.records import (
    CheckReport,
    CollectionInfo,
    ExtractReport,
    Hit,
    IndexReport,
    Prediction,
    Progress,
    Skipped,
    no_progress,
)
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, find, require_same_model

if TYPE_CHECKING:
    from imagesearch.models.classifier import Classifier
    from imagesearch.models.embedder import Embedder
    from imagesearch.models.preparing import Pixels
    from imagesearch.search.encoding import Reading
    from imagesearch.search.library import RefreshOptions


class ImageSearch:
    """Find similar pictures, label pictures, and keep collections of them.

    Models and the database are opened when they are first needed. Close it, or use it as a context manager:
    Milvus Lite lets one process at a time own a database file.

    Several threads may use one object. A call that :meth:`close` or :meth:`release` of another thread cuts short
    raises :class:`~imagesearch.errors.UsageError` or :class:`~imagesearch.errors.StoreError`.

    Examples:
        >>> with ImageSearch({"milvus": {"uri": "photos.db"}}) as images:  # doctest: +SKIP
        ...     images.index("~/Pictures")
        ...     for hit in images.search("holiday.jpg", k=5):
        ...         print(f"{hit.score:.3f} {hit.path}")
    """

    def __init__(
        self,
        config: Config | Mapping[str, Mapping[str, Any]] | str | os.PathLike[str] | None = None,
        *,
        database: VectorDatabase | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """Read the settings; nothing else happens yet.

        Args:
            config: a :class:`Config`; or settings that win over ``config.yaml`` and the environment; or the path
                of a YAML file; or None for the same settings as the command line's.
            database: a database in place of the configured one, such as ``MemoryDatabase``; it is closed with
                this object.
            embedder: a network in place of the configured one.

        Raises:
            ConfigError: a setting is wrong.
        """
        if isinstance(config, Config):
            self.config = config
        elif isinstance(config, Mapping):
            self.config = load_config(overrides=config)
        else:
            self.config = load_config(config)
        self._networks = Networks(self.config, embedder)
        self._database_lock = threading.Lock()
        self._opened = database
        self._is_given = database is not None
        self._closed = False
        self._collections = Collections(self.config, self._open_database, keep_ledgers=database is None)

    def index(
        self,
        *folders: str | os.PathLike[str],
        prune: bool = False,
        retry_skipped: bool = False,
        dry_run: bool = False,
        progress: Progress = no_progress,
    ) -> IndexReport:
        """Make the collection hold the pictures below these folders; safe to repeat and to interrupt.

        New and changed pictures are encoded, moved and renamed ones keep their vector, and rows of files that are
        gone are removed; but not where their folder looks like an unplugged disk.

        Args:
            folders: folders or single files; default: ``data.raw_dir``, or else all that were indexed before.
            prune: remove rows of missing files even where their folder looks offline.
            retry_skipped: try again files that could not be read before and have not changed since.
            dry_run: change nothing; the report says what would be done.
            progress: told how far it is.

        Raises:
            UsageError: a folder does not exist (and never had pictures here), or there are no pictures.
            ImageSearchError: the model or the database cannot be used.
        """
        from imagesearch.search.library import RefreshOptions

        options = RefreshOptions(prune, retry_skipped, dry_run)
        return self._refresh(self.spec.name, self._roots_to_refresh(folders), options, progress)

    def _refresh(
        self, name: str, roots: Sequence[str], options: RefreshOptions, progress: Progress
    ) -> IndexReport:
        from imagesearch.search.library import index_folders

        database, spec = self._open_database(), replace(self.spec, name=name)
        there = find(database, spec)
        if not options.dry_run:  # it would make a database
            database.check(spec)
        return index_folders(
            database,
            spec,
            self._networks.fingerprint(there.fingerprint if there else None),
            lambda: self.embedder,
            roots,
            reading=self._reading,
            ledger=self.database.ledger(name),
            options=options,
            progress=progress,
        )

    def skipped(self) -> list[Skipped]:
        """Files that indexing into the configured collection could not read, why, and whether a retry can help."""
        return list(self.database.ledger())

    def extract(
        self,
        folder: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        prefix: str | os.PathLike[str],
        progress: Progress = no_progress,
    ) -> ExtractReport:
        """Write the vectors of a folder's pictures to ``<prefix>_features.npy`` and ``<prefix>_paths.txt``.

        Raises:
            UsageError: the folder does not exist or holds no readable pictures.
            FeaturesError: the files cannot be written; older ones are untouched.
        """
        from imagesearch.search.extraction import extract_folders

        folders = [folder] if isinstance(folder, (str, os.PathLike)) else folder
        return extract_folders(self.embedder, self._roots(folders), prefix, self._reading, progress)

    def build(
        self,
        features: str | os.PathLike[str],
        paths: str | os.PathLike[str],
        progress: Progress = no_progress,
    ) -> IndexReport:
        """Insert extracted features into the collection and build its index.

        Raises:
            FeaturesError: the files are damaged or do not belong together or to the model.
            StoreError: the collection belongs to another model, or the database fails.
        """
        from imagesearch.search.extraction import build_collection
        from imagesearch.search.features import FeaturesFiles, read_features

        read = read_features(FeaturesFiles.of_features(features, paths))
        database, spec = self._open_database(), self.spec
        database.check(spec)
        bound = self.config.data.max_megapixels
        return build_collection(database, spec, read, self.embedder.fingerprint, progress, max_megapixels=bound)

    def search(self, image: PictureSource, k: int | None = None) -> list[Hit]:
        """The pictures of the collection that look most like this one, closest first.

        Args:
            image: a path, a Pillow image, or a uint8 array of shape (height, width, 3).
            k: how many; default ``search.top_k``. A smaller collection gives what it has.

        Raises:
            UsageError: ``k`` is less than 1.
            PictureError: the picture cannot be read.
            CollectionNotFoundError: nothing has been indexed with this model yet.
            ModelMismatchError: the collection holds vectors of another model.
        """
        k = self.config.search.top_k if k is None else k
        if k < 1:
            raise UsageError(f"k = {k}: the number of results must be at least 1")
        if isinstance(image, (str, os.PathLike)):  # before a model is loaded for nothing
            examine(os.fsdecode(image), max_megapixels=self.config.data.max_megapixels)
        collection = self.collection()
        require_same_model(self.spec.name, self.embedder.fingerprint, collection.fingerprint)
        return collection.search(self.embed([image]), k)[0]

    def embed(self, images: Iterable[PictureSource]) -> NDArray[np.float32]:
        """Vectors of pictures.

        Returns:
            float32, shape (number of pictures, dimension), rows of unit length unless ``model.normalize`` is off.

        Raises:
            PictureError: one of them cannot be read.
        """
        embedder = self.embedder
        bound, side = self.config.data.max_megapixels, embedder.decode_side
        prepared = (embedder.prepare(to_picture(image, bound, side)) for image in images)
        size = self.config.extraction.batch_size or embedder.batch_size
        vectors = [embedder.encode(batch) for batch in batches(prepared, size)]
        return np.concatenate(vectors) if vectors else np.empty((0, embedder.fingerprint.dim), np.float32)

    def classify(self, image: PictureSource, top: int = 5) -> list[Prediction]:
        """What is in the picture: the most probable labels, most probable first.

        Raises:
            UsageError: ``top`` is less than 1.
            PictureError: the picture cannot be read.
            ModelError: the configured checkpoint has no labels.
        """
        _, result = next(self.classify_all([image], top))
        if isinstance(result, Skipped):
            to_picture(image, self.config.data.max_megapixels)  # raises what made it skip
            raise UsageError(f"{result.path}: {result.reason}")
        return result

    def classify_all(
        self, images: Iterable[PictureSource], top: int = 5
    ) -> Iterator[tuple[PictureSource, list[Prediction] | Skipped]]:
        """Label many pictures in batches, in order; those that cannot be read come back as :class:`Skipped`.

        Raises:
            UsageError: ``top`` is less than 1.
            ModelError: the configured checkpoint has no labels.
        """
        if top < 1:
            raise UsageError(f"top = {top}: the number of labels must be at least 1")
        classifier = self.classifier
        bound, side = self.config.data.max_megapixels, classifier.decode_side
        size = self.config.extraction.batch_size or classifier.batch_size
        threads = self.config.extraction.decode_threads

        def load(source: PictureSource) -> Pixels:
            return classifier.prepare(to_picture(source, bound, side))

        sources, ahead = itertools.tee(images)
        loaded = decode_ahead(ahead, load, threads=threads, ahead=2 * size)
        for batch in batches(zip(sources, loaded, strict=False), size):
            good = [pixels for _, pixels in batch if not isinstance(pixels, Skipped)]
            predictions = iter(classifier.predict(good, top) if good else [])
            for source, result in batch:
                yield source, result if isinstance(result, Skipped) else next(predictions)

    def check(self, repair: bool = False, progress: Progress = no_progress) -> CheckReport:
        """Verify files, rows, vectors, index and list of skipped files of every collection; every byte is read.

        Args:
            repair: repair what can be. What is lost is encoded again from the pictures, if they are there.
            progress: told how far it is.

        Raises:
            StoreError: the database cannot be read, or must be repaired but not written.
        """
        from imagesearch.search.checking import check_database
        from imagesearch.search.library import RefreshOptions

        def encode(name: str, folders: Sequence[str]) -> IndexReport:
            spec = replace(self.spec, name=name)
            known = [*folders, *self._folders_of(spec)]
            if not known:
                raise UsageError("it is not known where its pictures are")
            if name != self.spec.name and find(self._open_database(), spec) is None:
                raise UsageError("it is not known which model it was made with")
            return self._refresh(name, sorted(set(known)), RefreshOptions(), progress)

        file = self.database.ledger_file
        return check_database(self._open_database(), self.spec, file, encode if repair else None, progress)

    def describe(self) -> CollectionInfo:
        """The configured collection.

        Raises:
            CollectionNotFoundError: it does not exist; names those that do.
        """
        return self.collection().info()

    def index_mismatch(self) -> tuple[str, str] | None:
        """The index type that the collection has and the configured one, if these differ.

        Until :meth:`index` replaces it, searches use the one that is there.

        Raises:
            CollectionNotFoundError: the collection does not exist.
        """
        collection = self.collection()
        built, wanted = collection.info().index_type, collection.spec.index_type
        return (built, wanted) if built and built != wanted else None

    @property
    def spec(self) -> CollectionSpec:
        """How the configured collection is named, built and searched."""
        return self.config.collection_spec

    @property
    def engine(self) -> str:
        """The configured database for people, e.g. ``"Milvus Lite 3.2.2 at photos.db"``.

        Raises:
            UsageError: it was closed.
            StoreError: it cannot be reached.
        """
        return self._open_database().engine

    @property
    def database(self) -> Collections:
        """The database's collections: list, copy, rename, drop, export, import, migrate."""
        return self._collections

    def collection(self) -> Collection:
        """The configured collection: its rows and vectors, for reading and for searching by vectors.

        Raises:
            UsageError: the database was closed.
            CollectionNotFoundError: there is none; names those that there are.
        """
        return self._collections.open()

    def find_collection(self) -> Collection | None:
        """The configured collection, or None if it does not exist.

        Raises:
            UsageError: the database was closed.
        """
        return find(self._open_database(), self.spec)

    def _open_database(self) -> VectorDatabase:
        """The configured database, opened at first use."""
        with self._database_lock:
            if self._closed:
                raise UsageError("this ImageSearch is closed; make another one")
            if self._opened is None:
                self._opened = open_database(self.config)
            return self._opened

    @property
    def embedder(self) -> Embedder:
        """The network that makes vectors, loaded at first use.

        Raises:
            ModelError: it cannot be loaded.
            ConfigError: ``model.embedding_dim`` is not the dimension of its vectors.
        """
        return self._networks.embedder()

    @property
    def classifier(self) -> Classifier:
        """The network that labels pictures, loaded at first use.

        Raises:
            ModelError: it cannot be loaded or has no labels.
        """
        return self._networks.classifier()

    @property
    def _reading(self) -> Reading:
        from imagesearch.search.encoding import Reading

        config = self.config
        return Reading(
            batch_size=config.extraction.batch_size,
            threads=config.extraction.decode_threads,
            max_megapixels=config.data.max_megapixels,
            timeout=config.data.read_timeout,
            selection=config.selection,
        )

    def indexed_folders(self) -> list[str]:
        """The folders (and single files) that the configured collection was made from, sorted."""
        return self._folders_of(self.spec)

    def _folders_of(self, spec: CollectionSpec) -> list[str]:
        collection = find(self._open_database(), spec)
        if collection is None:
            return []
        folders: set[str] = set()
        for rows in collection.scan_columns(("path", "root")):
            folders.update(root or path for path, root in zip(rows["path"], rows["root"], strict=True))
        return sorted(folders)

    def _roots_to_refresh(self, folders: Sequence[str | os.PathLike[str]]) -> list[str]:
        if folders or self.config.data.raw_dir is not None:
            return self._roots(folders, may_be_offline=self.find_collection() is not None)
        known = self.indexed_folders()
        if not known:
            raise UsageError("no folder given, data.raw_dir is not set, and nothing has been indexed yet")
        return known

    def _roots(self, folders: Sequence[str | os.PathLike[str]], may_be_offline: bool = False) -> list[str]:
        if not folders:
            if self.config.data.raw_dir is None:
                raise UsageError("no folder given, and data.raw_dir is not set")
            folders = [self.config.data.raw_dir]
        roots = [os.path.expanduser(os.fsdecode(folder)) for folder in folders]
        if "" in roots:  # such as an unset variable of a script, and not the working directory
            raise UsageError("the name of a folder is empty")
        if not may_be_offline:
            for root in roots:  # before a model is downloaded for nothing
                try:
                    os.stat(root)
                except (OSError, ValueError) as error:
                    raise UsageError(f"cannot read {os.path.abspath(root)!r}: {reason_of(error)}") from error
        return roots

    def release(self) -> None:
        """Let go of the database until it is needed again; others can use a Milvus Lite file meanwhile.

        Waits for calls of other threads that are running.
        """
        with self._database_lock:
            opened = None if self._is_given else self._opened
        if opened is None:
            return
        # Without the lock: a call that is waited for may report progress to somebody who uses this object.
        opened.close()
        with self._database_lock:
            if self._opened is opened:
                self._opened = None

    def close(self) -> None:
        """Let go of the database for good; only models work afterwards.

        Waits for calls of other threads that are running; what these do next raises an error.
        """
        with self._database_lock:
            self._closed = True
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def __enter__(self) -> ImageSearch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
