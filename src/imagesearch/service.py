"""The Python API: everything the command line and the web page can do, as one class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from imagesearch.config import Config, load_config
from imagesearch.images.find import list_of
from imagesearch.images.sources import ImageSource, several
from imagesearch.indexing import Indexer
from imagesearch.labelling import Labelling
from imagesearch.managing import Collections, DatabaseHandle
from imagesearch.networks import Networks
from imagesearch.records import CollectionInfo, Hit, Prediction, Progress, Skipped, no_progress
from imagesearch.reports import AnnotateReport, CheckReport, ExtractReport, ForgetReport, IndexReport
from imagesearch.search.answers import Answer
from imagesearch.search.image_encoding import embed_images
from imagesearch.search.labels import LabelOptions
from imagesearch.search.query import Query, SearchOptions
from imagesearch.searching import Searcher
from imagesearch.stores.base import Collection, CollectionSpec, VectorDatabase, Vectors, find

if TYPE_CHECKING:
    from imagesearch.active_labelling import LabelSession
    from imagesearch.library.annotations import Annotations
    from imagesearch.models.classifier import Classifier
    from imagesearch.models.embedder import Encoder


class ImageSearch:
    """Find similar pictures, label pictures (more with its attribute ``labelling``), and keep collections of them.

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
        embedder: Encoder | None = None,
    ) -> None:
        """Read the settings; nothing else happens yet.

        Args:
            config: a :class:`Config`; or settings that win over ``config.yaml`` and the environment; or the path
                of a YAML file; or None for the same settings as the command line's.
            database: a database in place of the configured one, such as ``MemoryDatabase``; it is closed with
                this object.
            embedder: a model that makes vectors in place of the configured one.

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
        self._handle = DatabaseHandle(self.config, database)
        self._collections = Collections(self.config, self._handle.open, keep_ledgers=database is None)
        self._indexer = Indexer(self.config, self._handle, self._networks, self._collections)
        self._searcher = Searcher(self.config, self._networks, self._collections)
        self.labelling = Labelling(self.config, self._networks, self._collections, self._searcher.reading)

    def index(
        self,
        *folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        prune: bool = False,
        retry_skipped: bool = False,
        dry_run: bool = False,
        progress: Progress = no_progress,
    ) -> IndexReport:
        """Make the collection hold the pictures below these folders; safe to repeat and to interrupt.

        New and changed pictures are encoded, vectors of moved and renamed ones reused, and rows of files that are
        gone are removed; but not where their folder looks like an unplugged disk.

        Args:
            folders: folders or single files, or lists of them; default: ``data.raw_dir``, or else all that were
                indexed before.
            prune: remove rows of missing files even where their folder looks offline.
            retry_skipped: try again files that could not be read before and have not changed since.
            dry_run: change nothing; the report says what would be done.
            progress: called as the work goes on.

        Raises:
            UsageError: a folder does not exist (and never had pictures here), or there are no pictures.
            ImageSearchError: the model or the database cannot be used.
        """
        from imagesearch.library.plan import RefreshOptions

        options = RefreshOptions(prune, retry_skipped, dry_run)
        roots = self._indexer.roots_to_refresh(list_of(*folders))
        return self._indexer.refresh(self.spec.name, roots, options, progress)

    def forget(self, *folders: str | os.PathLike[str], dry_run: bool = False) -> ForgetReport:
        """Take the pictures below folders, or single ones, out of the collection; the files stay.

        Args:
            folders: they need not be there any more.
            dry_run: change nothing; the report says what would be done.

        Raises:
            CollectionNotFoundError: nothing has been indexed with this model yet.
            StoreError: the database fails.
        """
        return self._indexer.forget(folders, dry_run=dry_run)

    def annotate(
        self, table: str | os.PathLike[str] | Annotations, on: str = "path", *, progress: Progress = no_progress
    ) -> AnnotateReport:
        """Join columns of one's own to the pictures of the collection, so that filters can refer to them.

        Args:
            table: a CSV file with a header, or a Parquet file; or what was read of one.
            on: the column that says which picture: ``"path"``, ``"name"`` or ``"content_hash"``.

        Raises:
            UsageError, CollectionNotFoundError: it cannot be read or kept; nothing has been indexed yet.
        """
        from imagesearch.library.annotations import annotate, read_annotations

        read, there = read_annotations(table, on), self.collection()
        # Gives one that an earlier version made the column that it lacks, where the engine can.
        collection = self._handle.open().create(self.spec, there.fingerprint)
        return annotate(collection, read, on, progress)

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
        return self._indexer.extract(list_of(folder), prefix, progress)

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
        from imagesearch.library.features import FeaturesFiles

        return self._indexer.build(FeaturesFiles.of_features(features, paths), progress)

    def search(self, image: ImageSource | Query, k: int | None = None, **options: Any) -> list[Hit]:
        """The pictures of the collection that look most like this one, closest first.

        Args:
            image: a path, the bytes of a file, an open file, a Pillow image, or a uint8 array of shape (height,
                width, 3); or a :class:`Query`: several of these, words, and pictures in the collection.
            k: how many; default ``search.top_k``. A smaller collection gives what it has.
            options: the other fields of :class:`SearchOptions`.

        Raises:
            UsageError: ``k`` is no whole number of at least 1, or the picture is of another type.
            PictureError: the picture cannot be read.
            CollectionNotFoundError: nothing has been indexed with this model yet.
            ModelMismatchError: the collection holds vectors of another model.
        """
        return self.search_all([image], k, **options)[0]

    def search_all(
        self, images: Iterable[ImageSource | Query], k: int | None = None, **options: Any
    ) -> list[list[Hit]]:
        """The same for many pictures, which takes far less time per picture than one call for each.

        Returns:
            For each picture what :meth:`search` returns, in their order.

        Raises:
            UsageError, PictureError, CollectionNotFoundError, ModelMismatchError: see :meth:`search`.
        """
        wanted = self.config.search.top_k if k is None else k
        return [found.require() for found in self.answer(images, SearchOptions(wanted, **options))]

    def answer(self, queries: Iterable[ImageSource | Query], options: SearchOptions | None = None) -> list[Answer]:
        """What :meth:`search_all` finds, with all that is known about it; a query that fails does not stop others.

        Args:
            queries: what :meth:`search` takes.
            options: default: ``search.top_k`` results.

        Raises:
            UsageError, CollectionNotFoundError, ModelMismatchError: see :meth:`search`.
        """
        return self._searcher.answer(several(queries), options or SearchOptions(self.config.search.top_k))

    def embed(self, images: Iterable[ImageSource]) -> Vectors:
        """Vectors of pictures.

        Args:
            images: a list, or anything else to iterate over, of what :meth:`search` takes.

        Returns:
            float32, shape (number of pictures, dimension), rows of unit length unless ``model.normalize`` is off.

        Raises:
            UsageError: a single picture was given, or one of them is of another type.
            PictureError: one of them cannot be read.
        """
        return embed_images(self.embedder, several(images), self._searcher.reading)

    def classify(self, image: ImageSource, top: int = 5, **options: Any) -> list[Prediction]:
        """What is in the picture: the most probable labels, most probable first.

        Raises:
            PictureError: the picture cannot be read.
            UsageError, ModelError: see :meth:`classify_all`.
        """
        _, result = next(self.classify_all([image], top, **options))
        if isinstance(result, Skipped):
            raise result.error()
        return result

    def classify_all(
        self, images: Iterable[ImageSource], top: int = 5, **options: Any
    ) -> Iterator[tuple[ImageSource, list[Prediction] | Skipped]]:
        """Label many pictures in batches, in order; those that cannot be read come back as :class:`Skipped`.

        Args:
            options: fields of :class:`LabelOptions`: labels to choose from, a threshold, labels of near pictures.

        Raises:
            UsageError, ModelError: ``top`` is less than 1, or a label is not known; the checkpoint has no labels.
        """
        yield from self.labelling.label(several(images), top, LabelOptions(**options))

    def label_session(
        self, labels: Sequence[str] = (), *, under: str | os.PathLike[str] | None = None, release: bool = False
    ) -> LabelSession:
        """Label the collection's pictures by hand, those first that teach most: see :class:`LabelSession`."""
        from imagesearch.active_labelling import LabelSession

        return LabelSession(self, labels, under=under, release=release)

    def optimize(self, labels: bool = False, progress: Progress = no_progress) -> bool:
        """Prepare the configured model for this machine: later work and starts are faster.

        Converts the network for the runtimes that are installed (extras ``openvino`` and ``onnx``), checks that
        results stay the same, and keeps the fastest in the user's cache. Takes seconds to minutes, once per
        machine and checkpoint. :meth:`index` and :meth:`extract` do it by themselves where there are many images.

        Args:
            labels: prepare the network that labels images instead of the one that makes vectors.
            progress: told of the stage ``"optimize"``.

        Returns:
            Whether there is something faster than PyTorch now. Not where the model runs on a GPU or was given.

        Raises:
            ModelError: the model cannot be loaded, or the conversion failed for a reason that may be gone the next
                time, such as too little memory.
        """
        return self._networks.optimize("labels" if labels else "features", progress)

    def check(self, repair: bool = False, progress: Progress = no_progress) -> CheckReport:
        """Verify files, rows, vectors, index and list of skipped files of every collection; every byte is read.

        Args:
            repair: repair what can be. What is lost is encoded again from the pictures, if they are there.
            progress: told how far it is.

        Raises:
            StoreError: the database cannot be read, or must be repaired but not written.
        """
        from imagesearch.library.checking import check_database

        file, encode = self.database.ledger_file, partial(self._indexer.encode_lost, progress=progress)
        return check_database(self._handle.open(), self.spec, file, encode if repair else None, progress)

    def describe(self) -> CollectionInfo:
        """The configured collection.

        Raises:
            CollectionNotFoundError: it does not exist.
        """
        return self.collection().info()

    def index_mismatch(self) -> tuple[str, str] | None:
        """The index type that the collection has and the configured one, if these differ.

        Until :meth:`index` replaces it, searches use the one that is there.
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
        """Human-readable name and place of the configured database, e.g. ``"Milvus Lite 3.2.2 at photos.db"``.

        Raises:
            UsageError: it was closed.
            StoreError: it cannot be reached.
        """
        return self._handle.open().engine

    @property
    def networks(self) -> Networks:
        """The networks that make vectors of pictures and words, and labels."""
        return self._networks

    @property
    def database(self) -> Collections:
        """The database's collections: list, copy, rename, drop, export, import, migrate."""
        return self._collections

    def collection(self) -> Collection:
        """The configured collection: its rows and vectors, to read them and to search by vectors.

        Raises:
            UsageError: the database was closed.
            CollectionNotFoundError: it does not exist; names those that do.
        """
        return self._collections.open()

    def find_collection(self) -> Collection | None:
        """The configured collection, or None if it does not exist."""
        return find(self._handle.open(), self.spec)

    @property
    def embedder(self) -> Encoder:
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

    def indexed_folders(self) -> list[str]:
        """The folders (and single files) that the configured collection was made from, sorted."""
        return self._indexer.folders_of(self.spec)

    def release(self) -> None:
        """Close the database until it is needed again; other processes can use a Milvus Lite file meanwhile.

        Waits for calls of other threads that are running.
        """
        self._handle.release()

    def close(self) -> None:
        """Close the database for good; only models work afterwards.

        Waits for calls of other threads that are running; what these do next raises an error.
        """
        self._handle.close()

    def __enter__(self) -> ImageSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
