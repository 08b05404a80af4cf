"""The vector index of a Milvus Lite collection: one per data file, in the files in which Milvus Lite keeps them.

``FLAT`` means exact search. Its file holds the vectors, and beside it lie their short codes, with which exact
search is as quick as an approximate index: see :mod:`imagesearch.stores.milvus.nearest`. The other types are
built, kept and searched by Milvus Lite's own classes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import DamagedError
from imagesearch.records import Metric
from imagesearch.stores.base import Vectors
from imagesearch.stores.milvus.codes import MIN_CODED, Codes
from imagesearch.stores.milvus.index_types import search_parameters, with_defaults
from imagesearch.stores.milvus.lite_files import sync_file, sync_folder
from imagesearch.stores.milvus.lite_manifest import Manifest
from imagesearch.stores.milvus.lite_segment import Segment
from imagesearch.stores.milvus.nearest import Mask

EXACT = "FLAT"

# FAISS wants this many vectors per IVF cell for its k-means to mean something.
_ROWS_PER_CELL = 39

# Data files with fewer rows are compared with directly, whatever the index: it takes about as long. What settings
# say is meant for large files; in small ones an approximate index finds too little.
LEAST_INDEXED = 8_000

# Results asked for in a cell, at most: with more, neighbours in cells further off would be missed.
_RESULTS_PER_CELL = 4


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index as the manifest has it."""

    column: str
    kind: str
    metric: Metric
    build: Mapping[str, Any]

    @classmethod
    def of(cls, manifest: Manifest, column: str) -> IndexSpec | None:
        """The index on a column, or None."""
        spec = manifest.index_specs.get(column)
        if spec is None:
            return None
        return cls(
            column, str(spec["index_type"]), Metric(spec["metric_type"]), dict(spec.get("build_params") or {})
        )

    def to_json(self) -> dict[str, Any]:
        """As it is written into the manifest."""
        return {
            "field_name": self.column,
            "index_type": self.kind,
            "metric_type": self.metric.value,
            "build_params": dict(self.build),
            "search_params": {},
        }

    @property
    def is_exact(self) -> bool:
        """Whether it is :data:`EXACT`."""
        return self.kind == EXACT

    def files(self, segment: Segment) -> list[Path]:
        """The files of this index on a data file; few vectors need no codes."""
        found = [segment.index_file(self.column, self.kind)]
        if self.is_exact and len(segment) >= MIN_CODED:
            found.append(segment.codes_file(self.column))
        return found


def is_built(spec: IndexSpec, segment: Segment, manifest: Manifest) -> bool:
    """Whether a data file's index files are there and, as far as their size tells, whole."""
    for file in spec.files(segment):
        ours = file.suffix == ".codes"
        if manifest.complaint(file) is not None or (ours and manifest.key(file) not in manifest.checksums):
            return False
    return True


def build(spec: IndexSpec, segment: Segment, manifest: Manifest) -> None:
    """Build a data file's index; on the disk on return, and noted in the manifest, which is not saved."""
    # Not mapped from an older index file, which may be what has to be built again.
    vectors = segment.vectors(spec.column, None)
    for file in spec.files(segment):
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f"{file.name}.tmp")
        try:
            if file.suffix == ".codes":
                Codes.build(vectors, spec.metric).save(temporary)
            elif spec.is_exact:
                with open(temporary, "wb") as stream:
                    _write_array(np.ascontiguousarray(vectors, np.float32), stream)
            else:
                _build_with_lite(spec, vectors, temporary)
            sync_file(temporary)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
        manifest.note(file)
    sync_folder(spec.files(segment)[0].parent)
    segment.unload()


def _build_with_lite(spec: IndexSpec, vectors: Vectors, file: Path) -> None:
    from milvus_lite.index.factory import build_index_from_spec, load_index_from_spec

    build_index_from_spec(_lite_spec(spec, len(vectors)), vectors).save(str(file))
    # FAISS says nothing if the end of the file cannot be written, but it refuses to read such a file.
    load_index_from_spec(_lite_spec(spec, len(vectors)), str(file), vectors.shape[1])


def _write_array(vectors: Vectors, stream: BinaryIO) -> None:
    """As ``numpy.save`` writes it, which says nothing if the end of the file cannot be written."""
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(vectors))
    stream.write(vectors.reshape(-1).view(np.uint8).data)


def _lite_spec(spec: IndexSpec, rows: int) -> Any:
    """Milvus Lite's description, with no more cells than the rows can fill."""
    from milvus_lite.index.spec import IndexSpec as LiteIndexSpec

    parameters = dict(spec.build)
    if "nlist" in parameters:
        parameters["nlist"] = min(int(parameters["nlist"]), max(1, rows // _ROWS_PER_CELL))
    return LiteIndexSpec(spec.column, spec.kind, spec.metric.value, parameters)


class LiteIndex:
    """A data file's index of a type other than :data:`EXACT`, loaded."""

    def __init__(self, spec: IndexSpec, segment: Segment, dim: int) -> None:
        """Load it.

        Raises:
            DamagedError: the file cannot be read.
        """
        from milvus_lite.index.factory import load_index_from_spec

        file = segment.index_file(spec.column, spec.kind)
        try:
            self._index = load_index_from_spec(_lite_spec(spec, len(segment)), str(file), dim)
        except (RuntimeError, ValueError) as error:
            raise DamagedError(file, "is not as it was written") from error
        if self._index.num_vectors != len(segment):
            raise DamagedError(file, f"has {self._index.num_vectors:,} vectors instead of {len(segment):,}")
        self._spec = spec
        self._cells = int(getattr(getattr(self._index, "_index", None), "nlist", 0))

    def search(
        self, queries: Vectors, count: int, visible: Mask | None, search_params: Mapping[str, Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores (higher is closer) and row numbers (-1: no more), each of shape (queries, count)."""
        spec, rows = self._spec, int(self._index.num_vectors)
        _, parameters = with_defaults(spec.kind, spec.build, search_params)
        if spec.kind == "AUTOINDEX":  # a graph, of which Milvus Lite returns no more than this
            parameters["ef"] = with_defaults("HNSW", {}, {})[1]["ef"]
        parameters = search_parameters("HNSW" if "ef" in parameters else spec.kind, parameters, 2 * count)
        if self._cells:
            # What the settings say of all cells holds for the share of them that this file has.
            share = int(parameters["nprobe"]) / int(with_defaults(spec.kind, spec.build, {})[0].get("nlist", 1))
            results = max(_RESULTS_PER_CELL * count, LEAST_INDEXED)
            wanted = max(share * self._cells, results * self._cells / max(1, rows))
            parameters["nprobe"] = min(self._cells, int(wanted) + 1)
        numbers, distances = self._index.search(queries, min(count, rows), valid_mask=visible, params=parameters)
        return _as_scores(distances, spec.metric), numbers


def _as_scores(distances: NDArray[np.float32], metric: Metric) -> NDArray[np.float64]:
    """Milvus Lite's distances (lower is closer) as scores; what is not there is minus infinity."""
    far = distances.astype(np.float64)
    if metric is Metric.COSINE:
        return 1.0 - far
    return -far if metric is Metric.IP else -(far**2)
