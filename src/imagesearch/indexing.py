"""Which folders belong to which collection, and bringing these in line with those, as the settings say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from imagesearch.config import Config
from imagesearch.errors import UsageError
from imagesearch.images.find import resolved_roots
from imagesearch.managing import Collections, DatabaseHandle
from imagesearch.networks import Networks
from imagesearch.records import Progress
from imagesearch.reports import ExtractReport, ForgetReport, IndexReport
from imagesearch.stores.base import CollectionSpec, find

if TYPE_CHECKING:
    from imagesearch.library.encoding import ReadOptions
    from imagesearch.library.features import FeaturesFiles
    from imagesearch.library.plan import RefreshOptions


class Indexer:
    """Refreshes collections of the configured database.

    Args:
        config: the settings.
        handle: the database.
        networks: the models.
        collections: its collections, for their lists of skipped files.
    """

    def __init__(
        self, config: Config, handle: DatabaseHandle, networks: Networks, collections: Collections
    ) -> None:
        self._config, self._handle, self._networks, self._collections = config, handle, networks, collections

    def refresh(self, name: str, roots: Sequence[str], options: RefreshOptions, progress: Progress) -> IndexReport:
        """Bring a collection in line with folders: see :func:`imagesearch.library.refresh.index_folders`."""
        from imagesearch.library.refresh import index_folders

        database, spec = self._handle.open(), replace(self._config.collection_spec, name=name)
        there = find(database, spec)
        if not options.dry_run:  # which builds no index
            database.check(spec)
        report = index_folders(
            database,
            spec,
            self._networks.fingerprint(there.fingerprint if there else None),
            partial(self._networks.embedder_for, progress=progress),
            roots,
            reading=self.reading,
            ledger=self._collections.ledger(name),
            options=options,
            progress=progress,
        )
        if not options.dry_run:
            from imagesearch.search.ranking import RECIPES

            collection = database.open(spec)
            self._collections.refresh_background(collection)
            if RECIPES[self._config.search.rerank].by_labels:  # so that the first search need not find them
                self._networks.label_axes(collection.fingerprint)
        return report

    def encode_lost(self, name: str, folders: Sequence[str], progress: Progress) -> IndexReport:
        """Index the folders of a collection that has lost rows.

        Args:
            name: of the collection.
            folders: where the lost images were found, as far as known.
            progress: called as the work goes on.

        Raises:
            UsageError: nothing is known of its folders or of its model.
        """
        from imagesearch.library.plan import RefreshOptions

        spec = replace(self._config.collection_spec, name=name)
        known = [*folders, *self.folders_of(spec)]
        if not known:
            raise UsageError("it is not known where its pictures are")
        if name != self._config.collection_spec.name and find(self._handle.open(), spec) is None:
            raise UsageError("it is not known which model it was made with")
        return self.refresh(name, sorted(set(known)), RefreshOptions(), progress)

    def forget(self, folders: Sequence[str | os.PathLike[str]], *, dry_run: bool) -> ForgetReport:
        """Take folders out of the configured collection: see :func:`library.forgetting.forget_folders`."""
        from imagesearch.library.forgetting import forget_folders

        collection = self._handle.open().open(self._config.collection_spec)
        paths = [os.path.abspath(root) for root in resolved_roots(folders, may_be_offline=True)]
        ledger = self._collections.ledger(collection.spec.name)
        return forget_folders(collection, ledger, paths, dry_run=dry_run)

    def extract(
        self,
        folders: Sequence[str | os.PathLike[str]],
        prefix: str | os.PathLike[str],
        progress: Progress,
    ) -> ExtractReport:
        """Write the vectors of folders into files: see :func:`imagesearch.library.extraction.extract_folders`."""
        from imagesearch.library.extraction import extract_folders

        embedder = partial(self._networks.embedder_for, progress=progress)
        return extract_folders(embedder, self.roots(folders), prefix, self.reading, progress)

    def build(self, files: FeaturesFiles, progress: Progress) -> IndexReport:
        """Insert extracted vectors: see :func:`imagesearch.library.extraction.build_collection`."""
        from imagesearch.library.extraction import build_collection
        from imagesearch.library.features import read_features

        read = read_features(files)
        database, spec = self._handle.open(), self._config.collection_spec
        database.check(spec)
        bound, mark = self._config.data.max_megapixels, self._networks.embedder().fingerprint
        return build_collection(database, spec, read, mark, progress, max_megapixels=bound)

    @property
    def reading(self) -> ReadOptions:
        """How image files are found and read."""
        from imagesearch.library.encoding import ReadOptions

        config = self._config
        return ReadOptions(
            batch_size=config.extraction.batch_size,
            max_workers=config.extraction.decode_threads,
            max_megapixels=config.data.max_megapixels,
            timeout=config.data.read_timeout,
            selection=config.selection,
        )

    def folders_of(self, spec: CollectionSpec) -> list[str]:
        """The folders (and single files) that a collection was made from, sorted; none if it does not exist."""
        from imagesearch.library.snapshot import roots_of

        collection = find(self._handle.open(), spec)
        return sorted(roots_of(collection)) if collection is not None else []

    def roots_to_refresh(self, folders: Sequence[str | os.PathLike[str]]) -> list[str]:
        """What to refresh: these folders, or else ``data.raw_dir``, or else all that were indexed before.

        Raises:
            UsageError: there are none, or one does not exist and never had images in the collection.
        """
        if folders or self._config.data.raw_dir is not None:
            return self.roots(
                folders, may_be_offline=find(self._handle.open(), self._config.collection_spec) is not None
            )
        known = self.folders_of(self._config.collection_spec)
        if not known:
            raise UsageError("no folder given, data.raw_dir is not set, and nothing has been indexed yet")
        return known

    def roots(self, folders: Sequence[str | os.PathLike[str]], may_be_offline: bool = False) -> list[str]:
        """These folders, or else ``data.raw_dir``: see :func:`imagesearch.images.find.resolved_roots`."""
        if not folders and self._config.data.raw_dir is None:
            raise UsageError("no folder given, and data.raw_dir is not set")
        return resolved_roots(folders or [self._config.data.raw_dir or ""], may_be_offline)
