"""Reading a Milvus collection: searching, scanning, fetching rows by their ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from imagesearch.errors import StoreError
from imagesearch.records import Hit, Picture
from imagesearch.stores.base import Vectors, check_k, checked_vectors, ranked_hits
from imagesearch.stores.index_types import MAX_TOP_K, search_parameters
from imagesearch.stores.milvus_collection import MilvusCollection
from imagesearch.stores.milvus_connection import CALL_TIMEOUT
from imagesearch.stores.milvus_rows import Schema, to_picture

_QUERIES_PER_CALL = 64

# Asked for beyond k, so that pictures with equal scores at the end are chosen by path, not by chance.
_TIE_MARGIN = 10

# Rows a page of a scan. Milvus Lite walks all rows for every page (0.3 s of 100,000), so fewer pages are
# faster; a server answers at once, and smaller messages suit other clients.
_LITE_PAGE = 50_000
_SERVER_PAGE = 8_000

# The same with vectors. In Python lists, as Milvus Lite and pymilvus have them, they are ten times as large.
_VECTOR_BYTES_PER_PAGE = 8_000_000

_IDS_PER_FETCH = 1_000

# Ids are uniform hashes of 63 bits: equal ranges hold about equally many.
_ID_RANGE = 2**63


def search(collection: MilvusCollection, vectors: Vectors, k: int) -> list[list[Hit]]:
    """See :meth:`VectorStore.search`."""
    check_k(k)
    schema = collection.schema()
    queries = checked_vectors(vectors, schema.fingerprint.dim, "search")
    if k > MAX_TOP_K and collection.count() > MAX_TOP_K:
        raise StoreError(f"k = {k}: Milvus returns at most {MAX_TOP_K} results")
    limit = min(k + _TIE_MARGIN, MAX_TOP_K)
    collection.load()
    found: list[list[Hit]] = []
    for start in range(0, len(queries), _QUERIES_PER_CALL):
        part = list(queries[start : start + _QUERIES_PER_CALL])
        for hits in _nearest(collection, schema, part, k, limit):
            candidates = [(float(hit["distance"]), to_picture(hit["entity"])) for hit in hits]
            found.append(ranked_hits(candidates, schema.metric, k))
    return found


def scan(collection: MilvusCollection, batch_size: int) -> Iterator[list[Picture]]:
    """See :meth:`VectorStore.scan`; rows that change meanwhile may be seen either way."""
    columns = list(collection.schema().columns)
    for rows in _pages(collection, columns, _LITE_PAGE if collection.lite else _SERVER_PAGE):
        for start in range(0, len(rows), batch_size):
            yield [to_picture(row) for row in rows[start : start + batch_size]]


def scan_vectors(collection: MilvusCollection, batch_size: int) -> Iterator[tuple[list[Picture], Vectors]]:
    """See :meth:`VectorStore.scan_vectors`; rows that change meanwhile may be seen either way."""
    schema = collection.schema()
    page = min(_SERVER_PAGE, max(1, _VECTOR_BYTES_PER_PAGE // (4 * schema.fingerprint.dim)))
    for rows in _pages(collection, [*schema.columns, schema.vector_field], page):
        for start in range(0, len(rows), batch_size):
            part = rows[start : start + batch_size]
            yield [to_picture(row) for row in part], _matrix(part, schema)


def fetch(collection: MilvusCollection, ids: Sequence[int]) -> tuple[list[Picture], Vectors]:
    """See :meth:`VectorStore.fetch`."""
    schema = collection.schema()
    columns = ["id", *schema.columns, schema.vector_field]
    pictures: list[Picture] = []
    parts: list[Vectors] = [np.empty((0, schema.fingerprint.dim), np.float32)]
    for start in range(0, len(ids), _IDS_PER_FETCH):
        part = [int(key) for key in ids[start : start + _IDS_PER_FETCH]]
        found = {int(row["id"]): row for row in _query(collection, f"id in {sorted(set(part))}", columns)}
        rows = [found[key] for key in part if key in found]
        pictures += [to_picture(row) for row in rows]
        parts.append(_matrix(rows, schema))
    return pictures, np.concatenate(parts)


def _pages(collection: MilvusCollection, columns: list[str], rows_per_page: int) -> Iterator[Sequence[Any]]:
    """All rows, a range of ids at a time.

    Not pymilvus's ``query_iterator``: it sorts all that is left for every page, and on Milvus Lite reads
    each page's rows through the same walk over everything, which took 25 s for 100,000 rows.
    """
    parts = max(1, -(-collection.count() // rows_per_page))
    bounds = [part * _ID_RANGE // parts for part in range(parts + 1)]
    for low, beyond in pairwise(bounds):
        rows = _query(collection, f"id >= {low} and id <= {beyond - 1}", columns)
        if rows:
            yield rows


def _query(collection: MilvusCollection, condition: str, columns: list[str]) -> Sequence[Any]:
    def ask(client: Any) -> Sequence[Any]:
        found: Sequence[Any] = client.query(
            collection.name,
            filter=condition,
            output_fields=columns,
            consistency_level=collection.consistency(),
            timeout=CALL_TIMEOUT,
        )
        collection.synchronised = True
        return found

    return collection.read("read pictures", ask)


def _matrix(rows: Sequence[Any], schema: Schema) -> Vectors:
    """The rows' vectors, float32, shape (number of rows, dim)."""
    matrix = np.empty((len(rows), schema.fingerprint.dim), np.float32)
    for number, row in enumerate(rows):
        matrix[number] = row[schema.vector_field]
    return matrix


def _nearest(collection: MilvusCollection, schema: Schema, queries: list[Any], k: int, limit: int) -> Any:
    """Raw hits; all cells of an IVF index are searched where the configured number held too few."""
    kind = collection.index_type
    parameters = collection.index.search_parameters(schema, kind) if kind else {}
    found = collection.read("search", _searching(collection, schema, queries, limit, parameters))
    if "nprobe" in parameters and min(map(len, found), default=k) < k:
        parameters = collection.index.all_cells(schema, parameters)
        found = collection.read("search", _searching(collection, schema, queries, limit, parameters))
    return found


def _searching(
    collection: MilvusCollection, schema: Schema, queries: list[Any], limit: int, parameters: Mapping[str, Any]
) -> Callable[[Any], Any]:
    if collection.index_type:
        parameters = search_parameters(collection.index_type, parameters, limit)

    def ask(client: Any) -> Any:
        hits = client.search(
            collection.name,
            data=queries,
            anns_field=schema.vector_field,
            limit=limit,
            output_fields=list(schema.columns),
            search_params={"metric_type": schema.metric.value, "params": dict(parameters)},
            consistency_level=collection.consistency(),
            timeout=CALL_TIMEOUT,
        )
        collection.synchronised = True
        return hits

    return ask
