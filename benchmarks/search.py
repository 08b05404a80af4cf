"""Search in Milvus Lite and on a Milvus server, beside FAISS on the same vectors.

    python benchmarks/search.py --rows 10000 100000 --dim 320 768 --server start --json figures.json

All sides answer the same queries alternately in one run. "FAISS flat" is exact search, and what recall is measured
against; "FAISS HNSW" is what an index costs without a database around it (M 16, ef 64). Milvus uses the index that
``auto`` chooses unless --index names others. Vectors are synthetic: clusters of fifty.

p50, p95     milliseconds of one query in a call
batch        milliseconds a query, a hundred in one call
ratio        p50 to that of FAISS HNSW
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import faiss
import numpy as np

from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore

QUERIES = 100
SINGLE = 30  # of them, one in a call
K = 10
ROWS_A_CALL = 2000
HEAD = "     rows  dim  side           index      p50 ms  p95 ms   batch  recall   ratio  inserts/s  build s"
LINE = (
    "{rows:>9,} {dim:>4}  {name:<14} {index:<9} {p50:>7.2f} {p95:>7.2f} {batch:>7.3f} {recall:>7.3f} {ratio:>7.1f}"
    " {inserts_per_second:>10,.0f} {build_seconds:>8.1f}"
)


@dataclass
class Side:
    """One engine, filled with the vectors."""

    name: str
    index: str
    ask: Callable[[np.ndarray], list[list[int]]]
    inserts_per_second: float
    build_seconds: float
    milliseconds: list[float] = field(default_factory=list)


def clustered(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around random centres, 50 to a centre: float32, shape (rows, dim)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 50), dim), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), rows)]
    vectors += 0.6 * rng.standard_normal((rows, dim), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def faiss_side(name: str, index: faiss.Index, kind: str, vectors: np.ndarray) -> Side:
    """FAISS by itself."""
    started = time.perf_counter()
    index.add(vectors)
    build = time.perf_counter() - started
    return Side(name, kind, lambda queries: index.search(queries, K)[1].tolist(), len(vectors) / build, build)


@contextlib.contextmanager
def milvus_side(name: str, uri: str, index_type: str, vectors: np.ndarray) -> Iterator[Side]:
    """Milvus through this program's store; the collection is dropped in the end."""
    rows, dim = vectors.shape
    store = MilvusStore(CollectionSpec(f"bench_{rows}_{dim}", index_type=index_type), uri, timeout=30)
    store.drop()
    store.create(Fingerprint("synthetic", "0", "none", (0, 0), dim))
    started = time.perf_counter()
    for start in range(0, rows, ROWS_A_CALL):
        pictures = [Picture(f"/{number:09d}.jpg") for number in range(start, min(rows, start + ROWS_A_CALL))]
        store.upsert(pictures, vectors[start : start + ROWS_A_CALL])
    inserting = time.perf_counter() - started
    store.build_index()
    building = time.perf_counter() - started - inserting

    def ask(queries: np.ndarray) -> list[list[int]]:
        return [[int(hit.path[1:-4]) for hit in hits] for hits in store.search(queries, K)]

    info = store.describe()
    assert info is not None
    try:
        yield Side(name, info.index_type, ask, rows / inserting, building)
    finally:
        store.drop()
        store.close()


@contextlib.contextmanager
def server_at(uri: str | None) -> Iterator[str | None]:
    """The given server, one started for this run ("start"), or none."""
    if uri != "start":
        yield uri
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from tests.stores.milvus_server import running_server

    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as address:
        yield address


def measure(sides: list[Side], queries: np.ndarray) -> list[dict[str, object]]:
    """All sides in turns; the first one, exact search, says what is to be found."""
    truth = sides[0].ask(queries)
    for side in sides:
        side.ask(queries[:1])  # loads what is loaded late
    for query in queries[:SINGLE]:
        for side in sides:
            started = time.perf_counter()
            side.ask(query[None])
            side.milliseconds.append((time.perf_counter() - started) * 1e3)
    rows: list[dict[str, object]] = []
    rival = float(np.median(sides[1].milliseconds))
    for side in sides:
        started = time.perf_counter()
        found = side.ask(queries)
        batch = (time.perf_counter() - started) * 1e3 / len(queries)
        hits = sum(len(set(ours) & set(best)) for ours, best in zip(found, truth, strict=True))
        figures = asdict(side)
        del figures["ask"], figures["milliseconds"]
        p50, p95 = (float(np.percentile(side.milliseconds, share)) for share in (50, 95))
        recall = hits / (K * len(queries))
        rows.append({**figures, "p50": p50, "p95": p95, "batch": batch, "recall": recall, "ratio": p50 / rival})
    return rows


def run(rows: int, dim: int, indexes: list[str], server: str | None) -> list[dict[str, object]]:
    """One size of collection."""
    vectors = clustered(rows, dim)
    rng = np.random.default_rng(1)
    queries = vectors[rng.integers(0, rows, QUERIES)] + 0.02 * rng.standard_normal(
        (QUERIES, dim), dtype=np.float32
    )
    graph = faiss.IndexHNSWFlat(dim, 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 200, 64
    sides = [
        faiss_side("FAISS flat", faiss.IndexFlatIP(dim), "FLAT", vectors),
        faiss_side("FAISS HNSW", graph, "HNSW", vectors),
    ]
    with contextlib.ExitStack() as stack:
        for index in indexes:
            uri = str(Path(stack.enter_context(tempfile.TemporaryDirectory()), "bench.db"))
            sides.append(stack.enter_context(milvus_side("Milvus Lite", uri, index, vectors)))
        if server:
            sides.append(stack.enter_context(milvus_side("Milvus server", server, "auto", vectors)))
        return [{"rows": rows, "dim": dim, **row} for row in measure(sides, queries)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, nargs="+", default=[320])
    parser.add_argument("--index", nargs="+", default=["auto"], help="index types for Milvus Lite")
    parser.add_argument("--server", metavar="URI", help="a Milvus server as well; 'start' starts one")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    print(HEAD)
    every: list[dict[str, object]] = []
    with server_at(options.server) as server:
        for rows in options.rows:
            for dim in options.dim:
                for row in run(rows, dim, options.index, server):
                    every.append(row)
                    print(LINE.format(**row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(every, indent=2) + "\n")


if __name__ == "__main__":
    main()
