"""The vector index of one Milvus collection: what there is, what is wanted, and building it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from imagesearch.errors import StoreError
from imagesearch.records import Progress
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.index_types import with_defaults
from imagesearch.stores.milvus_connection import CALL_TIMEOUT, POLL_SECONDS, error_text, is_vendor_error
from imagesearch.stores.milvus_rows import Schema

# FAISS wants this many rows per IVF cell for its k-means to mean something.
_ROWS_PER_CELL = 39


class VectorIndex:
    """The index on a collection's vectors.

    Args:
        spec: the configured collection.
        lite: whether the engine is Milvus Lite.
        call: runs ``function(client)`` with errors translated; first argument says what is being done.
    """

    def __init__(self, spec: CollectionSpec, lite: bool, call: Callable[[str, Callable[[Any], Any]], Any]) -> None:
        self._spec, self._lite, self._call = spec, lite, call

    def describe(self, schema: Schema) -> dict[str, Any] | None:
        """The index as Milvus describes it, or None if there is none."""

        def ask(client: Any) -> dict[str, Any] | None:
            for name in client.list_indexes(self._spec.name, timeout=CALL_TIMEOUT):
                index = client.describe_index(self._spec.name, name, timeout=CALL_TIMEOUT)
                if index and index.get("field_name") == schema.vector_field:
                    return dict(index)
            return None

        found: dict[str, Any] | None = self._call("describe the index", ask)
        return found

    def wanted(self, schema: Schema, rows: int) -> dict[str, Any]:
        """The build parameters for a collection of this many rows."""
        spec = self._spec
        build, _ = with_defaults(spec.index_type, spec.index_params, spec.search_params, schema.fingerprint.dim)
        return _fewer_cells(build, rows) if self._lite else build

    def fits(self, schema: Schema, wanted: Mapping[str, Any]) -> bool:
        """Whether the collection has the configured index with these build parameters."""
        return _same(self.describe(schema), self._spec.index_type, wanted)

    def create(self, schema: Schema, build: Mapping[str, Any]) -> None:
        """Create it; a server then builds it in the background, Milvus Lite within this call."""
        spec = self._spec

        def make(client: Any) -> None:
            index = client.prepare_index_params()
            index.add_index(
                schema.vector_field,
                index_type=spec.index_type,
                index_name=spec.index_name,
                metric_type=schema.metric.value,
                # pymilvus flattens `params`, and Milvus Lite reads only a nested one: nest it twice.
                params={"params": dict(build)} if self._lite else dict(build),
            )
            try:
                client.create_index(spec.name, index, sync=False, retry_times=0)
            except Exception as error:
                # A long build can outlive the call: the client then tries again, and hears that the
                # index is there already. Look whether it is, before believing in a failure.
                tried_twice = is_vendor_error(error) and "already exists" in error_text(error)
                if not tried_twice or not self.fits(schema, build):
                    raise

        self._call(f"build index {spec.index_type}", make)

    def drop(self) -> None:
        """Remove it; the collection has to be released before."""
        name = self._spec.name

        def remove(client: Any) -> None:
            for index in client.list_indexes(name, timeout=CALL_TIMEOUT):
                client.drop_index(name, index, timeout=CALL_TIMEOUT)

        self._call("drop the index", remove)

    def wait(self, schema: Schema, engine: str, progress: Progress, rows: int) -> None:
        """Wait until a server has built it."""
        while (index := self.describe(schema)) is not None and _is_building(index, engine):
            # Milvus counts stored rows, that is with replaced ones: show the same share of the true number.
            share = int(index["indexed_rows"]) / max(1, int(index["total_rows"]))
            progress("index", min(rows, int(share * rows)), rows)
            time.sleep(POLL_SECONDS)

    def is_finished(self, schema: Schema) -> bool:
        """Whether a server has indexed all that it has put into segments."""
        index = self.describe(schema)
        return index is not None and index["state"] == "Finished" and not int(index.get("pending_index_rows", 0))

    def search_parameters(self, schema: Schema, kind: str) -> dict[str, Any]:
        """Parameters for searching an index of this type, which may not be the configured one yet."""
        spec, dim = self._spec, schema.fingerprint.dim
        ours = kind == spec.index_type
        given = (spec.index_params, spec.search_params) if ours else ({}, {})
        return with_defaults(kind, *given, dim)[1]

    def all_cells(self, schema: Schema, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Search parameters that look into every cell of an IVF index."""
        index = self.describe(schema) or {}
        there = dict(index.get("params") or {}) | index
        return {**parameters, "nprobe": max(int(there.get("nlist", 1)), parameters["nprobe"])}


def _is_building(index: Mapping[str, Any], engine: str) -> bool:
    if index["state"] == "Failed":
        raise StoreError(
            f"{engine} could not build index {index['index_type']}: {index.get('index_state_fail_reason', '')}"
        )
    return index["state"] != "Finished" or int(index.get("pending_index_rows", 0)) > 0


def _same(index: Mapping[str, Any] | None, kind: str, wanted: Mapping[str, Any]) -> bool:
    """Whether an index is the wanted one; a server tells its parameters as text."""
    if index is None or index["index_type"] != kind:
        return False
    there = dict(index.get("params") or {}) | dict(index)
    for name, value in wanted.items():
        if name == "nlist" and name in there:
            # `_fewer_cells` wants more with every row; rebuild when they have doubled.
            if not int(there[name]) <= value < 2 * int(there[name]):
                return False
        elif str(there.get(name, "")).lower() != str(value).lower():
            return False
    return True


def _fewer_cells(build: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """Index parameters with no more IVF cells than the rows can fill.

    A server does this itself. Milvus Lite would make 1,000 cells of 1,000 pictures, and a search that
    looks into ten cells would then see ten pictures.
    """
    if "nlist" not in build:
        return dict(build)
    return {**build, "nlist": min(build["nlist"], max(1, rows // _ROWS_PER_CELL))}
