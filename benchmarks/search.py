"""How search in Milvus Lite grows with the collection, beside exact search in NumPy on the same vectors.

    python benchmarks/search.py --rows 10000 100000

Both sides answer the same queries alternately in one run; the last column is their ratio. Vectors are synthetic:
clusters of the starter model's dimension.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from imagesearch.records import Fingerprint, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore

QUERIES = 20
K = 10


def clustered(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around random centres, 50 to a centre: float32, shape (rows, dim)."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, rows // 50), dim), dtype=np.float32)
    vectors = centres[rng.integers(0, len(centres), rows)] + 0.6 * rng.standard_normal(
        (rows, dim), dtype=np.float32
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure(rows: int, dim: int, index_type: str) -> str:
    """One line of the table."""
    vectors = clustered(rows, dim)
    pictures = [Picture(f"/pictures/{number:08d}.jpg") for number in range(rows)]
    queries = clustered(rows, dim, seed=0)[:: max(1, rows // QUERIES)][:QUERIES]
    with tempfile.TemporaryDirectory() as folder:
        store = MilvusStore(CollectionSpec("bench", index_type=index_type), str(Path(folder) / "bench.db"))
        store.create(Fingerprint("synthetic", "0", "none", (0, 0), dim))
        started = time.perf_counter()
        for start in range(0, rows, 2000):
            store.upsert(pictures[start : start + 2000], vectors[start : start + 2000])
        inserting = time.perf_counter() - started
        store.build_index()
        building = time.perf_counter() - started - inserting
        store.search(queries[:1], K)  # loads the collection
        ours, exact, found = [], [], 0
        for query in queries:
            started = time.perf_counter()
            hits = store.search(query[None], K)[0]
            ours.append(time.perf_counter() - started)
            started = time.perf_counter()
            scores = vectors @ query
            best = np.argpartition(scores, -K)[-K:]
            exact.append(time.perf_counter() - started)
            found += len({hit.path for hit in hits} & {pictures[row].path for row in best})
        store.close()
    lite, numpy = statistics.median(ours) * 1e3, statistics.median(exact) * 1e3
    recall = found / (K * len(queries))
    return (
        f"{rows:>9,} {dim:>5} {index_type:<9} {rows / inserting:>9,.0f} {building:>8.1f} {recall:>9.2f}"
        f" {lite:>8.1f} {numpy:>8.1f} {lite / numpy:>6.1f}"
    )


def main() -> None:
    """Parse the flags and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dim", type=int, default=288)
    parser.add_argument("--index", nargs="+", default=["HNSW"])
    options = parser.parse_args()
    print("     rows   dim index     inserts/s  build s recall@10  Lite ms NumPy ms  ratio", flush=True)
    for rows in options.rows:
        for index_type in options.index:
            print(measure(rows, options.dim, index_type), flush=True)


if __name__ == "__main__":
    main()
