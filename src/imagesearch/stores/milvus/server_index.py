"""The vector index of a collection on a Milvus server: what there is, what is configured, and building it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from imagesearch.errors import StoreError
from imagesearch.records import Progress
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus.index_types import search_parameters, with_defaults
from imagesearch.stores.milvus.schema import Schema
from imagesearch.stores.milvus.server_connection import POLL_SECONDS

# As pymilvus describes an index.
Description = Mapping[str, Any]


class Call(Protocol):
    """Calls a method of pymilvus's client for one collection; see :meth:`ServerConnection.call`."""

    def __call__(self, doing: str, method: str, **arguments: Any) -> Any:
        """``doing`` completes "could not ..." in messages."""


class ServerIndex:
    """The index on the vectors of one collection."""

    def __init__(self, spec: CollectionSpec, schema: Schema, call: Call) -> None:
        self._spec, self._schema, self._call = spec, schema, call

    def describe(self) -> Description | None:
        """The index that is there, whatever its type; None if there is none."""
        for name in self._call("list the indexes", "list_indexes"):
            index = self._call("describe the index", "describe_index", index_name=name)
            if index and index.get("field_name") == self._schema.vector_field:
                return dict(index)
        return None

    def fits(self, there: Description | None) -> bool:
        """Whether an index is of the configured type and has its parameters."""
        if there is None or there["index_type"] != self._spec.index_type:
            return False
        values = _parameters(there)
        # A server gives its parameters as text.
        return all(
            str(values.get(name, "")).lower() == str(value).lower() for name, value in self._complete()[0].items()
        )

    def create(self) -> None:
        """Tell the server to build the configured index, which it does in the background.

        Raises:
            UnsupportedIndexError: the server does not know the type.
            StoreError: it refuses, for example because there is an index.
        """
        from pymilvus import MilvusClient

        spec = self._spec
        wanted = MilvusClient.prepare_index_params()
        wanted.add_index(
            self._schema.vector_field,
            index_type=spec.index_type,
            index_name=spec.index_name,
            metric_type=self._schema.metric.value,
            params=dict(self._complete()[0]),
        )
        try:
            self._call(f"build index {spec.index_type}", "create_index", index_params=wanted, sync=False)
        except StoreError:
            # An answer may be lost, and the second attempt then hears that the index is there already.
            if not self.fits(self.describe()):
                raise

    def drop(self) -> None:
        """Remove it; the collection has to be released before."""
        for name in self._call("list the indexes", "list_indexes"):
            self._call("drop the index", "drop_index", index_name=name)

    def wait(self, progress: Progress, rows: int) -> None:
        """Wait until the server has built it.

        Raises:
            StoreError: the server could not.
        """
        while (index := self.describe()) is not None and not is_finished(index):
            if index["state"] == "Failed":
                reason = index.get("index_state_fail_reason", "")
                raise StoreError(f"the server could not build index {index['index_type']}: {reason}")
            # Milvus counts stored rows, that is with replaced ones: show the same share of the true number.
            share = int(index["indexed_rows"]) / max(1, int(index["total_rows"]))
            progress("index", min(rows, int(share * rows)), rows)
            time.sleep(POLL_SECONDS)

    def search_parameters(self, index_type: str, limit: int) -> dict[str, Any]:
        """Parameters for searching an index of this type, which may not be the configured one yet."""
        if not index_type:
            return {}
        search = with_defaults(index_type, {}, {}, self._schema.fingerprint.dim)[1]
        if index_type == self._spec.index_type:
            search = self._complete()[1]
        return search_parameters(index_type, search, limit)

    def all_cells(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Search parameters that look into every cell of an IVF index."""
        there = _parameters(self.describe() or {})
        return {**parameters, "nprobe": max(int(there.get("nlist", 1)), parameters["nprobe"])}

    def _complete(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The configured build and search parameters, with defaults for what is not given."""
        spec = self._spec
        return with_defaults(spec.index_type, spec.index_params, spec.search_params, self._schema.fingerprint.dim)


def is_finished(index: Description) -> bool:
    """Whether the server has indexed all that it has put into segments."""
    return index["state"] == "Finished" and not int(index.get("pending_index_rows", 0))


def _parameters(index: Description) -> dict[str, Any]:
    return dict(index.get("params") or {}) | dict(index)
