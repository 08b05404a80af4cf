"""A data file of a collection, read no further than needed.

Milvus Lite reads a whole file into memory when it opens a collection, vectors included, and an index holds the
vectors a second time. Here keys and sequence numbers are read at once, other columns when somebody asks for them,
and vectors stay on the disk, mapped into memory from the index file of Milvus Lite's ``FLAT`` index, which is a
plain ``.npy``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from imagesearch.errors import DamagedError
from imagesearch.records import ImageRecord
from imagesearch.stores.base import Vectors
from imagesearch.stores.columns import BY_NAME, ID, Kind, to_records
from imagesearch.stores.milvus.arrow import Texts, to_numpy

SEQUENCE = "_seq"

# Rows that are decoded together: a few hits must not cost the decoding of a whole file.
_ROW_GROUP = 16_384

# How a file of deletions is written.
DELETION_OPTIONS: dict[str, Any] = {"write_page_checksum": True}

# Folders that are remembered of a data file, at most.
_FOLDERS = 100


class Segment:
    """One immutable data file.

    Attributes:
        partition, relative: where the manifest has it.
        path: the file.
        ids: int64, shape (n,): keys.
        sequences: uint64, shape (n,): sequence numbers.
    """

    def __init__(self, folder: Path, partition: str, relative: str) -> None:
        """Read keys and sequence numbers.

        Args:
            folder: the collection's.

        Raises:
            DamagedError: the file cannot be read as Parquet.
            OSError: the disk fails.
        """
        self.partition, self.relative = partition, relative
        self.path = folder / "partitions" / partition / relative
        self._indexes = folder / "partitions" / partition / "indexes"
        table = self._read([ID, SEQUENCE])
        self.ids: NDArray[np.int64] = to_numpy(table.column(ID))
        self.sequences: NDArray[np.uint64] = to_numpy(table.column(SEQUENCE))
        self._columns: dict[str, Texts | NDArray[Any]] = {}
        self._vectors: Vectors | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def index_file(self, column: str, kind: str) -> Path:
        """Where Milvus Lite keeps an index on this file's vectors."""
        return self._indexes / f"{self.path.stem}.{column}.{kind.lower()}.idx"

    def codes_file(self, column: str) -> Path:
        """Where the short codes of the vectors are kept; Milvus Lite ignores the name."""
        return self._indexes / f"{self.path.stem}.{column}.imagesearch.codes"

    def all_columns(self) -> pa.Table:
        """The whole file."""
        return self._read(None)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of all rows, not kept."""
        return self._read(list(names))

    def has_column(self, name: str) -> bool:
        """Whether the file has this column."""
        return name in self._file_schema().names

    def pictures(self, rows: NDArray[np.int64], names: Sequence[str]) -> list[ImageRecord]:
        """The pictures of some rows; the columns are read once and kept.

        Args:
            rows: row numbers, any order.
            names: the columns that the collection has.
        """
        missing = [name for name in names if name not in self._columns]
        if missing:
            table = self._read(missing)
            for name in missing:
                values = table.column(name)
                is_text = BY_NAME[name].kind is Kind.TEXT
                self._columns[name] = Texts(values) if is_text else to_numpy(values)
        kept = [self._columns[name] for name in names]
        picked = [values.pick(rows) if isinstance(values, Texts) else values[rows].tolist() for values in kept]
        return to_records(names, picked)

    def vectors(self, column: str, flat_index: Path | None) -> Vectors:
        """All vectors, float32, shape (n, dim); mapped from the index file if there is one, else read and kept.

        Args:
            column: the vectors' column.
            flat_index: a ``FLAT`` index file that is known to be whole.
        """
        if self._vectors is None:
            self._vectors = (
                self._mapped(flat_index) if flat_index else as_matrix(self._read([column]).column(column))
            )
        return self._vectors

    def unload(self) -> None:
        """Let go of vectors and columns."""
        self._vectors = None
        self._columns.clear()

    def _mapped(self, file: Path) -> Vectors:
        try:
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        except OSError:
            raise
        except Exception as error:  # NumPy reads the header as Python source: garbage raises anything
            raise DamagedError(file, "is not as it was written") from error
        if len(mapped) != len(self):
            raise DamagedError(file, f"has {len(mapped):,} vectors instead of {len(self):,}")
        vectors: Vectors = mapped.view(np.ndarray)
        return vectors

    def _read(self, names: list[str] | None) -> pa.Table:
        try:
            with open(self.path, "rb") as stream:
                # Without threads of Arrow's own: a process that ends, or forks, while one starts is aborted.
                file = pq.ParquetFile(stream, pre_buffer=False, page_checksum_verification=True)
                return file.read(columns=names, use_threads=False)
        except FileNotFoundError:
            raise DamagedError(self.path, "is missing") from None
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise DamagedError(self.path, "cannot be read") from error

    def _file_schema(self) -> pa.Schema:
        try:
            return pq.read_schema(self.path)
        except (pa.ArrowException, ValueError) as error:
            raise DamagedError(self.path, "cannot be read") from error


def as_matrix(column: pa.ChunkedArray | pa.Array) -> Vectors:
    """A column of vectors as float32, shape (n, dim)."""
    dim = column.type.list_size
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.from_dlpack(chunk.flatten()).reshape(-1, dim) for chunk in chunks if len(chunk)]
    if len(parts) == 1:
        return np.asarray(parts[0], np.float32)
    return np.concatenate([np.empty((0, dim), np.float32), *parts])


def write_data(table: pa.Table, folder: Path, vector_column: str) -> str:
    """Write rows as a data file, on the disk on return; the folder's entry is not synchronised.

    Vectors are noise to a compressor, and a dictionary of them would be as large again.

    Args:
        table: with :data:`SEQUENCE` and the collection's columns.
        folder: the partition's.
        vector_column: the vectors' column.

    Returns:
        The path within the partition's folder, named after the sequence numbers as Milvus Lite does.
    """
    return _write(table, folder / "data", data_options(table, vector_column))


def data_options(table: pa.Table, vector_column: str) -> dict[str, Any]:
    """How a data file is written: of the same table, the same bytes."""
    text = [field.name for field in table.schema if field.type == pa.string()]
    packing = dict.fromkeys(table.schema.names, "snappy") | {f"{vector_column}.list.element": "none"}
    packing.pop(vector_column)
    return {
        "compression": packing,
        "use_dictionary": text,
        "write_page_checksum": True,
        "row_group_size": _ROW_GROUP,
    }


def summary(rows: pa.Table) -> dict[str, Any]:
    """What would be lost with a data file: how many rows, and the folders that they were found under."""
    folders = rows.column("root").unique().to_pylist() if "root" in rows.schema.names else []
    return {"rows": rows.num_rows, "folders": sorted(filter(None, folders))[:_FOLDERS]}


def write_deletions(table: pa.Table, folder: Path) -> str:
    """Write keys and the sequence numbers of their deletion, like :func:`write_data`."""
    return _write(table, folder / "delta", DELETION_OPTIONS)


def _write(table: pa.Table, folder: Path, options: dict[str, Any]) -> str:
    sequences = to_numpy(table.column(SEQUENCE))
    low, high = int(sequences.min()), int(sequences.max())
    folder.mkdir(parents=True, exist_ok=True)
    # The larger number is an upper bound, so it can be raised until no file has the name.
    while (file := folder / f"{folder.name}_{low:06d}_{high:06d}.parquet").exists():
        high += 1
    with open(file, "wb") as stream:
        pq.write_table(table, stream, **options)
        stream.flush()
        os.fsync(stream.fileno())
    return f"{folder.name}/{file.name}"
