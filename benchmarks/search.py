"""Search in Milvus Lite and on a Milvus server, beside FAISS on the same vectors.

    python benchmarks/search.py --rows 10000 100000 --dim 320 768 --server start --json figures.json

All sides answer the same queries, which none has seen before, alternately in one run. "FAISS flat" is exact
search, and what recall is measured against; "FAISS HNSW" is what an index costs without a database around it (M is
16, efConstruction 200, ef 64). Milvus uses the index that ``auto`` chooses unless --index names others. Vectors
are synthetic: clusters of fifty. A million of 320 dimensions need 20 GB of memory with a server, and an hour.

p50, p95     milliseconds of one query in a call
batch        milliseconds a query, a hundred in one call
r@10, r@100  recall: the share of the ten (hundred) closest that are found
ratio        p50 to that of FAISS HNSW
cold         seconds in a new process, its imports done, to open the database (read the index file) and search
disk         MB of files
memory       MB by which that new process has grown at its peak, files that are mapped into it included; of FAISS
             the index; of a server all its processes, since before the rows were inserted
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from imagesearch.records import Fingerprint
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, ConnectionOptions
from measuring import resident_of_children, run_script, size_on_disk
from synthetic import ROWS_A_CALL, clustered, number_of, numbered, queries_near

BATCH = 100
KS = (10, 100)
_GRAPH = "FAISS HNSW"
M, EF_CONSTRUCTION, EF = 16, 200, 64

# A new process: opens what is there, searches, and tells seconds and memory.
COLD_DATABASE = """
import json, sys, time
import numpy as np
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, ConnectionOptions
from measuring import peaks, resident

uri, name, index, file = sys.argv[1:]
queries, before = np.load(file), resident()
started = time.perf_counter()
database = DatabaseAddress.parse(uri).open(ConnectionOptions(timeout=30))
collection = database.open(CollectionSpec(name, index_type=index))
collection.search(queries[:1], 10)
cold = time.perf_counter() - started
for query in queries:
    collection.search(query[None], 10)
print(json.dumps({"cold": cold, "memory": peaks()[0] - before}))
database.close()
"""
COLD_FAISS = """
import json, sys, time
import faiss
import numpy as np

file, queries = sys.argv[1], np.load(sys.argv[2])
started = time.perf_counter()
faiss.read_index(file).search(queries[:1], 10)
print(json.dumps({"cold": time.perf_counter() - started}))
"""

# The same rows and queries, through the interface from before `stores/base.py` had two protocols.
BEFORE = """
import json, sys, time
import numpy as np
from imagesearch.records import Fingerprint
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore
from synthetic import ROWS_A_CALL, clustered, number_of, numbered

uri, rows, dim, file = sys.argv[1:]
rows, dim, queries = int(rows), int(dim), np.load(file)
vectors = clustered(rows, dim)
store = MilvusStore(CollectionSpec("bench", index_type="auto"), uri, timeout=30)
store.create(Fingerprint("synthetic", "0", "none", (0, 0), dim))
started = time.perf_counter()
for start in range(0, rows, ROWS_A_CALL):
    piece = vectors[start : start + ROWS_A_CALL]
    store.upsert(numbered(start, start + len(piece)), piece)
inserting = time.perf_counter() - started
store.build_index()
building = time.perf_counter() - started - inserting
store.search(queries[:1], 10)
times = []
for query in queries:
    started = time.perf_counter()
    store.search(query[None], 10)
    times.append((time.perf_counter() - started) * 1e3)
p50, p95 = (float(np.percentile(times, share)) for share in (50, 95))
figures = {"inserts_per_second": rows / inserting, "build_seconds": building, "p50": p50, "p95": p95}
print(json.dumps({**figures, "index": store.describe().index_type}))
store.close()
"""

HEAD = (
    "     rows  dim  side           index      p50 ms  p95 ms   batch    r@10   r@100   ratio  inserts/s  build s"
    "  cold s  disk MB  memory MB"
)
# Name -> width and format of what stands behind the name of a side; a figure that was not measured is left out.
FIGURES = {
    "p50": (7, ".2f"),
    "p95": (7, ".2f"),
    "batch": (7, ".3f"),
    "recall": (7, ".3f"),
    "recall_100": (7, ".3f"),
    "ratio": (7, ".1f"),
    "inserts_per_second": (10, ",.0f"),
    "build_seconds": (8, ".1f"),
    "cold": (7, ".2f"),
    "disk": (8, ",.0f"),
    "memory": (10, ",.0f"),
}


@dataclass
class Side:
    """One engine, filled with the vectors.

    Attributes:
        ask: queries and k -> the numbers of the rows that it finds.
        measure_cold: figures that need a new process; called when all sides have searched.
    """

    name: str
    index: str
    ask: Callable[[NDArray[np.float32], int], list[list[int]]]
    measure_cold: Callable[[NDArray[np.float32]], dict[str, float]]
    inserts_per_second: float
    build_seconds: float
    milliseconds: list[float] = field(default_factory=list)


# --- FAISS by itself ---


def faiss_side(name: str, kind: str, index: Any, build: float, place: Path) -> Side:
    """An index that is built already."""

    def cold(queries: NDArray[np.float32]) -> dict[str, float]:
        file = place / "index.faiss"
        faiss.write_index(index, str(file))
        try:
            size = size_on_disk(file) / 1e6
            return {**_in_new_process(COLD_FAISS, queries, str(file)), "disk": size, "memory": size}
        finally:
            file.unlink()

    def ask(queries: NDArray[np.float32], k: int) -> list[list[int]]:
        found: list[list[int]] = index.search(queries, k)[1].tolist()
        return found

    return Side(name, kind, ask, cold, index.ntotal / build, build)


def graph_of(vectors: NDArray[np.float32], cache: Path | None) -> tuple[Any, float]:
    """FAISS's HNSW index of the vectors, and the seconds it took to build; kept in files if there is a cache."""
    rows, dim = vectors.shape
    file = cache.with_name(f"{cache.name}-{rows}x{dim}.faiss") if cache else None
    if file and file.exists():
        return faiss.read_index(str(file)), float(file.with_suffix(".seconds").read_text())
    graph = faiss.IndexHNSWFlat(dim, M, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = EF_CONSTRUCTION, EF
    started = time.perf_counter()
    graph.add(vectors)
    seconds = time.perf_counter() - started
    if file:
        file.with_suffix(".seconds").write_text(str(seconds))
        faiss.write_index(graph, str(file))
    return graph, seconds


def faiss_sides(vectors: NDArray[np.float32], cache: Path | None, place: Path, *, graph_too: bool) -> list[Side]:
    """Exact search, and the graph."""
    flat = faiss.IndexFlatIP(vectors.shape[1])
    started = time.perf_counter()
    flat.add(vectors)
    exact = faiss_side("FAISS flat", "FLAT", flat, time.perf_counter() - started, place)
    if not graph_too:
        return [exact]
    graph, seconds = graph_of(vectors, cache)
    return [exact, faiss_side(_GRAPH, "HNSW", graph, seconds, place)]


# --- databases ---


@contextlib.contextmanager
def milvus_side(uri: str, index_type: str, vectors: NDArray[np.float32], data: Path | None) -> Iterator[Side]:
    """Milvus through this program; the collection is dropped in the end.

    Args:
        data: the folder with its files, if they are on this machine; of a server that this process has started.
    """
    rows, dim = vectors.shape
    local = DatabaseAddress.parse(uri).is_local
    spec = CollectionSpec(f"bench_{rows}_{dim}", index_type=index_type)
    files, used = size_on_disk(data) if data else 0, 0.0 if local else resident_of_children()
    database = DatabaseAddress.parse(uri).open(ConnectionOptions(timeout=30))
    database.drop(spec.name)
    collection = database.create(spec, Fingerprint("synthetic", "0", "none", (0, 0), dim))
    started = time.perf_counter()
    for start in range(0, rows, ROWS_A_CALL):
        piece = vectors[start : start + ROWS_A_CALL]
        collection.upsert(numbered(start, start + len(piece)), piece)
    inserting = time.perf_counter() - started
    collection.build_index()
    building = time.perf_counter() - started - inserting

    def ask(queries: NDArray[np.float32], k: int) -> list[list[int]]:
        return [[number_of(hit.path) for hit in hits] for hits in collection.search(queries, k)]

    def cold(queries: NDArray[np.float32]) -> dict[str, float]:
        grown = resident_of_children() - used
        if local:  # one process at a time
            database.close()
        figures = _in_new_process(COLD_DATABASE, queries, uri, spec.name, index_type)
        if not local:
            del figures["memory"]  # the client's
        if data:
            figures["disk"] = (size_on_disk(data) - files) / 1e6
        if data and not local:
            figures["memory"] = grown
        return figures

    try:
        name = "Milvus Lite" if local else "Milvus server"
        yield Side(name, collection.info().index_type, ask, cold, rows / inserting, building)
    finally:
        if not local:
            database.drop(spec.name)
        database.close()


def before_side(tree: Path, rows: int, dim: int, queries: NDArray[np.float32], place: Path) -> dict[str, Any]:
    """Milvus Lite through the store of an earlier commit, in a process of its own, when the others have ended."""
    arguments = (str(place / "before.db"), str(rows), str(dim))
    return {"name": "Lite, before", **_in_new_process(BEFORE, queries, *arguments, tree=tree)}


def _in_new_process(
    script: str, queries: NDArray[np.float32], *arguments: str, tree: Path | None = None
) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, queries)
        file.flush()
        figures: dict[str, Any] = json.loads(run_script(script, *arguments, file.name, tree=tree))
        return figures


@contextlib.contextmanager
def server_at(uri: str | None) -> Iterator[tuple[str | None, Path | None]]:
    """The given server, one started for this run ("start"), or none; and the folder of its data if it is here."""
    if uri != "start":
        yield uri, None
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.stores.milvus_server import running_server

    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as address:
        yield address, Path(folder)


# --- measuring ---


def measure(sides: Sequence[Side], queries: NDArray[np.float32]) -> list[dict[str, Any]]:
    """All sides in turns; the first one, exact search, says what is to be found.

    Args:
        queries: one to begin with, some to be asked one in a call, and :data:`BATCH` to be asked together.
    """
    first, single, together = queries[:1], queries[1:-BATCH], queries[-BATCH:]
    for side in sides:
        side.ask(first, KS[0])  # loads what is loaded late
    for query in single:
        for side in sides:
            started = time.perf_counter()
            side.ask(query[None], KS[0])
            side.milliseconds.append((time.perf_counter() - started) * 1e3)
    truth = {k: sides[0].ask(together, k) for k in KS}
    rivals = [float(np.median(side.milliseconds)) for side in sides if side.name == _GRAPH]
    rows = []
    for side in sides:
        started = time.perf_counter()
        found = {KS[0]: side.ask(together, KS[0])}
        batch = (time.perf_counter() - started) * 1e3 / BATCH
        found |= {k: side.ask(together, k) for k in KS[1:]}
        p50, p95 = (float(np.percentile(side.milliseconds, share)) for share in (50, 95))
        recall, recall_100 = (share_found(found[k], truth[k]) for k in KS)
        figures = {key: getattr(side, key) for key in ("name", "index", "inserts_per_second", "build_seconds")}
        figures |= {"p50": p50, "p95": p95, "batch": batch, "recall": recall, "recall_100": recall_100}
        rows.append({**figures, **({"ratio": p50 / rivals[0]} if rivals else {})})
    return [{**row, **side.measure_cold(together)} for side, row in zip(sides, rows, strict=True)]


def share_found(found: list[list[int]], wanted: list[list[int]]) -> float:
    """Recall."""
    hits = sum(len(set(ours) & set(best)) for ours, best in zip(found, wanted, strict=True))
    return hits / sum(map(len, wanted))


def run(
    rows: int, dim: int, options: argparse.Namespace, server: tuple[str | None, Path | None]
) -> list[dict[str, Any]]:
    """One size of collection."""
    vectors = clustered(rows, dim)
    queries = queries_near(vectors, 1 + options.queries + BATCH)
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = faiss_sides(vectors, options.hnsw_cache, place, graph_too=not options.without_hnsw)
        for index in options.index:
            folder = place / f"{index}.db"
            sides.append(stack.enter_context(milvus_side(str(folder), index, vectors, folder)))
        uri, data = server
        if uri:
            sides.append(stack.enter_context(milvus_side(uri, "auto", vectors, data)))
        del vectors
        found = measure(sides, queries)
        if options.before:
            last = before_side(options.before, rows, dim, queries[1:-BATCH], place)
            rivals = [row["p50"] for row in found if row["name"] == _GRAPH]
            found.append({**last, **({"ratio": last["p50"] / rivals[0]} if rivals else {})})
        return [{"rows": rows, "dim": dim, **row} for row in found]


def shown(row: dict[str, Any]) -> str:
    """A line of the table."""
    texts = (
        format(row[name], f">{width}{form}") if name in row else "-".rjust(width)
        for name, (width, form) in FIGURES.items()
    )
    return f"{row['rows']:>9,} {row['dim']:>4}  {row['name']:<14} {row['index']:<9} {' '.join(texts)}"


def main() -> None:
    """Parse the flags and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, nargs="+", default=[320])
    parser.add_argument("--index", nargs="+", default=["auto"], help="index types for Milvus Lite")
    parser.add_argument("--queries", type=int, default=50, help="that are asked one in a call")
    parser.add_argument("--server", metavar="URI", help="a Milvus server as well; 'start' starts one")
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="Milvus Lite by an earlier source tree as well"
    )
    parser.add_argument(
        "--without-hnsw", action="store_true", help="leave FAISS's graph out, and the ratios to it"
    )
    parser.add_argument("--hnsw-cache", type=Path, metavar="FILE", help="keep FAISS's graph (FILE-ROWSxDIM.faiss)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    print(HEAD)
    every: list[dict[str, Any]] = []
    with server_at(options.server) as server:
        for rows in options.rows:
            for dim in options.dim:
                for row in run(rows, dim, options, server):
                    every.append(row)
                    print(shown(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
