"""Building the index of a Milvus collection, and telling whether that is needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesearch.records import Progress
from imagesearch.stores.milvus_collection import MilvusCollection
from imagesearch.stores.milvus_lite import has_unindexed_rows, lite_folder
from imagesearch.stores.milvus_rows import Schema


def is_current(collection: MilvusCollection) -> bool:
    """Whether every row is covered by the configured index with its parameters."""
    schema = collection.schema()
    # First: counting loads the collection, and then Milvus Lite would build what is missing.
    if collection.index.describe(schema) is None or not _covers_all_rows(collection, schema):
        return False
    return collection.index.fits(schema, collection.index.wanted(schema, collection.count()))


def build(collection: MilvusCollection, progress: Progress) -> None:
    """Build what is missing of the configured index; all of it, if another one is there."""
    schema = collection.schema()
    rows = collection.count()
    wanted = collection.index.wanted(schema, rows)
    progress("index", 0, rows)
    anew = None if collection.index.fits(schema, wanted) else wanted
    if anew is not None or not _covers_all_rows(collection, schema):
        if collection.lite:
            _build_lite(collection, schema, anew)
        else:
            _build_server(collection, schema, anew, progress)
    collection.index_type = collection.spec.index_type
    collection.covered = True
    progress("index", rows, rows)


def _covers_all_rows(collection: MilvusCollection, schema: Schema) -> bool:
    """Whether the index, whatever its parameters, covers every row; for all processes that wrote them."""
    if collection.lite:
        folder = lite_folder(*collection.session.place(), collection.name)
        return not has_unindexed_rows(folder, schema.vector_field, collection.spec.index_type)
    if collection.covered is False or not collection.index.is_finished(schema):
        return False
    # Its statistics leave out rows that it has not put into segments; those of other processes are only found
    # by counting. It swaps a segment for its indexed form some seconds after building, hence not if we built it.
    return collection.covered is True or collection.count_sealed() == collection.count()


def _build_lite(collection: MilvusCollection, schema: Schema, anew: Mapping[str, Any] | None) -> None:
    """Milvus Lite indexes flushed rows while it loads them, within one call.

    If that fails (a full disk), half an index file may stay; :meth:`MilvusCollection.load` takes it away.

    Args:
        anew: parameters of the index that takes the place of another one; None if the right one is there.
    """
    index = collection.index
    there = index.describe(schema) is not None
    if there:
        collection.release()  # an index is only dropped, and new rows are only added to it, while released
    if there and anew is not None:
        index.drop()
    collection.flush()
    if anew is not None:
        index.create(schema, anew)
    collection.load_index()


def _build_server(
    collection: MilvusCollection, schema: Schema, anew: Mapping[str, Any] | None, progress: Progress
) -> None:
    """A server builds in the background: start it, then ask until it is done. ``anew`` as above."""
    rows = collection.count()
    collection.flush()
    if anew is not None:
        collection.release()
        collection.index.drop()
        collection.index.create(schema, anew)
    collection.index.wait(schema, collection.session.connect().engine, progress, rows)
    collection.load()
