"""The write-ahead log: rows and deletions that are not in a data file yet, as Milvus Lite writes them.

A log is a pair of Arrow IPC streams, ``wal/wal_data_000001.arrow`` and ``wal/wal_delta_000001.arrow``. A write is
acknowledged when it is on the disk (``fsync``), so it survives a power failure, not only a killed process.

Arrow streams have no checksums, so each batch carries its own CRC-32, in metadata that Milvus Lite ignores. And
an interrupted write at the end of a stream looks like a log that was cut off, so beside the logs lies a *witness*,
``wal/imagesearch.json``: how many bytes of each were acknowledged, and their CRC-32. It is not synchronised
itself: after a power failure it may be older than the log, never newer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from imagesearch.errors import DamagedError
from imagesearch.stores.milvus.lite_files import sync_folder

ROWS, DELETIONS = "data", "delta"
WITNESS = "imagesearch.json"
_NAME = re.compile(r"wal_(data|delta)_(\d+)\.arrow")

# Keys of the CRC-32 of a batch in its metadata, and of the witness's entries among them.
_BATCH_CRC, _WITNESS_CRC = b"imagesearch.crc32", "crc32"


@dataclass(frozen=True, slots=True)
class Entry:
    """One write: rows, or the keys of deleted ones."""

    kind: str
    batch: pa.RecordBatch


class _Sink:
    """A file that counts and sums up what is written to it; pyarrow writes through it."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by close()
        self.size = 0
        self.crc = 0

    closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        while len(view):
            written = self._file.write(view)
            self.crc = zlib.crc32(view[:written], self.crc)
            self.size += written
            view = view[written:]
        return len(memoryview(data).cast("B"))

    def flush(self) -> None:
        """Nothing is buffered here."""

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


@dataclass
class _Stream:
    """One file of a log, opened by the first write to it."""

    path: Path
    schema: pa.Schema
    sink: _Sink | None = None
    writer: Any = field(default=None)

    def append(self, batch: pa.RecordBatch) -> None:
        if self.sink is None:
            self.sink = _Sink(self.path)
            self.writer = pa.ipc.new_stream(self.sink, self.schema)
            self._write(batch)
            self.sink.sync()
            sync_folder(self.path.parent)
        else:
            self._write(batch)
            self.sink.sync()

    def _write(self, batch: pa.RecordBatch) -> None:
        self.writer.write_batch(batch, custom_metadata={_BATCH_CRC: str(_crc_of(batch))})

    def close(self) -> None:
        """Close the file without writing to it again."""
        if self.sink is not None:
            self.sink.close()


class Log:
    """The log that is written now.

    Attributes:
        number: of the pair of files.
    """

    def __init__(self, folder: Path, number: int, row_schema: pa.Schema, deletion_schema: pa.Schema) -> None:
        """Nothing is created yet."""
        self.number = number
        self._folder = folder
        self._streams = {
            ROWS: _Stream(path_of(folder, ROWS, number), row_schema),
            DELETIONS: _Stream(path_of(folder, DELETIONS, number), deletion_schema),
        }
        self._acknowledged: dict[str, list[int]] = {}

    @property
    def size(self) -> int:
        """Bytes written."""
        return sum(stream.sink.size for stream in self._streams.values() if stream.sink)

    def append(self, entry: Entry) -> None:
        """Write rows or deletions; on the disk on return.

        Raises:
            OSError: it cannot be written; this log must not be used again.
        """
        if not self._acknowledged:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._acknowledged = read_witness(self._folder)
        stream = self._streams[entry.kind]
        stream.append(entry.batch)
        assert stream.sink is not None
        self._acknowledged[stream.path.name] = [stream.sink.size, stream.sink.crc]
        write_witness(self._folder, self._acknowledged)

    def close(self) -> None:
        """Let go of the files, which stay as they are."""
        for stream in self._streams.values():
            stream.close()


def numbers(folder: Path) -> list[int]:
    """Numbers of the logs that there are, ascending.

    Raises:
        OSError: the folder cannot be read.
    """
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted({int(match[2]) for name in names if (match := _NAME.fullmatch(name))})


def replay(folder: Path, active: int | None) -> Iterator[Entry]:
    """All writes of all logs, in the order in which Milvus Lite numbers them within a log.

    Args:
        folder: the collection's ``wal``.
        active: logs with a smaller number are in the data files already.

    Raises:
        DamagedError: acknowledged writes are missing or not as they were written; nothing was changed.
        OSError: a log cannot be read.
    """
    _check_witnessed(folder, active)
    for number in numbers(folder):
        entries = [
            Entry(kind, batch) for kind in (ROWS, DELETIONS) for batch in _read(path_of(folder, kind, number))
        ]
        yield from sorted(entries, key=lambda entry: int(entry.batch.column("_seq")[0].as_py()))


def delete_logs(folder: Path, up_to: int) -> None:
    """Delete logs whose rows are in data files now; what the witness says of them does not matter any more."""
    for number in numbers(folder):
        if number <= up_to:
            for kind in (ROWS, DELETIONS):
                path_of(folder, kind, number).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        (folder / WITNESS).unlink(missing_ok=True)


def problems(folder: Path, active: int | None) -> list[DamagedError]:
    """What is wrong with the logs."""
    found: list[DamagedError] = []
    for name, (size, crc) in _relevant(folder, active).items():
        problem = _compare(folder / name, size, crc)
        if problem:
            found.append(DamagedError(folder / name, problem))
    return found


def read_witness(folder: Path) -> dict[str, list[int]]:
    """File name -> acknowledged bytes and their CRC-32; empty if there is no witness that can be understood."""
    try:
        return _parse_witness((folder / WITNESS).read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:  # half written in a power failure
        logging.getLogger(__name__).debug("%s cannot be understood", folder / WITNESS)
        return {}


def witness_problem(folder: Path) -> str | None:
    """What is wrong with the witness itself, or None. Logs that Milvus Lite wrote have none.

    Raises:
        OSError: it cannot be read.
    """
    try:
        data = (folder / WITNESS).read_bytes()
        _parse_witness(data)
    except FileNotFoundError:
        return None
    except ValueError:
        return "is not as it was written" if data else "is empty"
    return None


def _parse_witness(data: bytes) -> dict[str, list[int]]:
    """The entries of a witness.

    Raises:
        ValueError: it is not as it was written.
    """
    try:
        found = json.loads(data)
        crc = found.pop(_WITNESS_CRC, None)
        entries = {str(name): [int(size), int(crc)] for name, (size, crc) in found.items()}
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if crc != _crc_of_entries(entries) or not all(map(_NAME.fullmatch, entries)):
        raise ValueError("its CRC-32 differs")
    return entries


def _crc_of_entries(entries: dict[str, list[int]]) -> int:
    return zlib.crc32(json.dumps(entries).encode("ascii"))


@dataclass(frozen=True, slots=True)
class Content:
    """What a log holds.

    Attributes:
        sound: batches that are whole and, as far as they say, as they were written; none is empty.
        damaged: batches that can be read, but are not as they were written.
        read: bytes from the beginning that these take; what follows is half a batch, or no batch.
    """

    sound: list[pa.RecordBatch]
    damaged: list[pa.RecordBatch]
    read: int


def read_log(file: Path) -> Content:
    """All of a log that can be read.

    Raises:
        OSError: the disk fails, or there is no such file.
    """
    data = file.read_bytes()  # and not by Arrow: what the disk refuses must not look like the end
    sound: list[pa.RecordBatch] = []
    damaged: list[pa.RecordBatch] = []
    source, read = pa.BufferReader(data), 0
    try:
        stream = pa.ipc.open_stream(source)
        while True:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
            crc = None if metadata is None else metadata.get(_BATCH_CRC)
            if crc is not None and crc != str(_crc_of(batch)).encode():
                damaged.append(batch)
            else:
                batch.validate(full=True)
                sound += [batch] if batch.num_rows else []
            read = source.tell()
    except StopIteration:
        read = source.tell()
    except (pa.ArrowException, OSError) as error:  # Arrow's OSError: half a message; no file is read here
        logging.getLogger(__name__).debug("%s ends in half a record: %s", file, error)
    return Content(sound, damaged, read)


def write_witness(folder: Path, acknowledged: dict[str, list[int]]) -> None:
    """In one system call, so that a killed process leaves the whole old or new one."""
    data = json.dumps({**acknowledged, _WITNESS_CRC: _crc_of_entries(acknowledged)}).encode("ascii")
    handle = os.open(folder / WITNESS, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        # Padded, so that a shorter one leaves nothing of a longer one behind.
        os.write(handle, data.ljust(max(len(data), os.fstat(handle).st_size)))
    finally:
        os.close(handle)


def _relevant(folder: Path, active: int | None) -> dict[str, list[int]]:
    def is_flushed(name: str) -> bool:
        match = _NAME.fullmatch(name)
        return active is not None and match is not None and int(match[2]) < active

    return {name: entry for name, entry in read_witness(folder).items() if not is_flushed(name)}


def _check_witnessed(folder: Path, active: int | None) -> None:
    for problem in problems(folder, active):
        raise problem


def _compare(file: Path, size: int, crc: int) -> str | None:
    try:
        with open(file, "rb", buffering=0) as stream:
            data = stream.read(size)
            while len(data) < size and (more := stream.read(size - len(data))):
                data += more
    except FileNotFoundError:
        return "is missing"
    if len(data) < size:
        return f"has {len(data):,} bytes instead of {size:,}" if data else "is empty"
    return None if zlib.crc32(data) == crc else "is not as it was written"


def _read(path: Path) -> list[pa.RecordBatch]:
    """The whole batches of a stream; an interrupted write at its end is left out.

    Raises:
        DamagedError: a batch is not as it was written.
    """
    try:
        content = read_log(path)
    except FileNotFoundError:
        return []
    if content.damaged:
        raise DamagedError(path, "is not as it was written")
    return content.sound


def _crc_of(batch: pa.RecordBatch) -> int:
    return zlib.crc32(batch.serialize())


def path_of(folder: Path, kind: str, number: int) -> Path:
    """Where one of a pair of logs is."""
    return folder / f"wal_{kind}_{number:06d}.arrow"
