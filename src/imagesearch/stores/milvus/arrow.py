"""Between NumPy and Arrow, without pandas.

pyarrow's own conversions import it if it is installed: 0.16 s, a fifth of a cold search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# Up to so many values are quicker picked one by one.
_FEW = 30


def to_numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers without nulls, shape (n,)."""
    parts = [np.from_dlpack(chunk) for chunk in column.chunks if len(chunk)]
    if len(parts) == 1:
        return np.asarray(parts[0])
    return np.concatenate(parts) if parts else np.empty(0, str(column.type).replace("double", "float64"))


class Texts:
    """A column of text without nulls, of which rows are picked."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._array = column.cast(pa.string()).combine_chunks()  # other types of text have wider offsets
        _, ends, data = self._array.buffers()
        self._ends = memoryview(ends or b"").cast("i")[self._array.offset :]
        self._data = memoryview(data or b"")

    def pick(self, rows: NDArray[np.int64]) -> list[str]:
        """The texts of some rows, in their order."""
        if not len(self._data):  # as of cameras, where no file names one
            return [""] * len(rows)
        if len(rows) > _FEW:
            picked: list[str] = self._array.take(row_numbers(rows)).to_pylist()
            return picked
        ends, data = self._ends, self._data
        return [str(data[ends[row] : ends[row + 1]], "utf-8") for row in rows.tolist()]


def row_numbers(rows: NDArray[np.int64]) -> pa.Array:
    """Numbers of rows to take, int64."""
    data = np.ascontiguousarray(rows, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(data), [None, pa.py_buffer(data)])


def filtered(table: pa.Table, mask: NDArray[np.bool_]) -> pa.Table:
    """The rows of a table where the mask, bool of shape (n,), is true."""
    if mask.all():
        return table
    bits = pa.py_buffer(np.packbits(mask, bitorder="little"))
    return table.filter(pa.Array.from_buffers(pa.bool_(), len(mask), [None, bits]))
