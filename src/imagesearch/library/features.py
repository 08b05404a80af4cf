"""The features files: vectors on disk between extraction and indexing.

``<prefix>_features.npy``
    float32, shape (n, dim), as :func:`numpy.load` reads it.
``<prefix>_paths.txt``
    n lines of UTF-8; a path that a line cannot hold (a newline, bytes that are not valid text) is a ``file:`` URI.
``<prefix>_manifest.json``
    which model made the vectors, and digests of the other two, so that files of different runs are never
    used together.
    Features without a manifest (other programs') are read too.

All three are written under temporary names and renamed at the end, so that a full disk or a killed process
leaves the previous files as they were.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
from numpy.typing import NDArray

from imagesearch.atomic import Replacement
from imagesearch.errors import FeaturesError
from imagesearch.images.paths import decode_path, encode_path
from imagesearch.records import Fingerprint

# The header is overwritten at the end, when the number of rows is known; NumPy asks for a multiple of 64.
_HEADER_BYTES = 128

# Rows checked at a time, so that memory stays bounded.
_CHECK_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class FeaturesFiles:
    """The three files of one prefix."""

    features: Path
    paths: Path
    manifest: Path

    @classmethod
    def of_prefix(cls, prefix: str | os.PathLike[str]) -> FeaturesFiles:
        """The files that extraction writes for ``prefix``.

        Examples:
            >>> FeaturesFiles.of_prefix("out/pets").paths.as_posix()
            'out/pets_paths.txt'
        """
        start = os.fspath(prefix)
        if not start.endswith(("/", os.sep)):
            start += "_"
        start = start[:-2] + "_" if start.endswith("__") else start
        return cls(Path(f"{start}features.npy"), Path(f"{start}paths.txt"), Path(f"{start}manifest.json"))

    @classmethod
    def of_features(cls, features: str | os.PathLike[str], paths: str | os.PathLike[str]) -> FeaturesFiles:
        """Two named files and the manifest that stands beside the first one, if any."""
        name = Path(features)
        start = name.name.removesuffix(".npy").removesuffix("features")
        return cls(name, Path(paths), name.parent / f"{start}manifest.json")


@dataclass(frozen=True, slots=True)
class Features:
    """Features files as read.

    Attributes:
        vectors: float, shape (n, dim).
        paths: of the n pictures.
        fingerprint: the model, if the manifest says.
        since_ns: when the first picture was read (or, without a manifest, when the file was written), nanoseconds
            since 1970: pictures that have changed since may not be what was encoded.
    """

    vectors: NDArray[np.float32]
    paths: list[str]
    fingerprint: Fingerprint | None = None
    since_ns: int = 0


class FeaturesWriter:
    """Writes features batch by batch; nothing appears under the final names unless :meth:`commit` is reached.

    Use as a context manager; leaving it without :meth:`commit` removes the temporary files.
    """

    def __init__(self, prefix: str | os.PathLike[str], fingerprint: Fingerprint) -> None:
        """Create the folder if it is missing and the temporary files in it.

        Raises:
            FeaturesError: they cannot be created.
        """
        self.files = FeaturesFiles.of_prefix(prefix)
        self._fingerprint = fingerprint
        self._started_ns = time.time_ns()
        self._vectors_digest, self._paths_digest = _new_digest(), _new_digest()
        self._rows = 0
        self._new_features, self._new_paths = Replacement(self.files.features), Replacement(self.files.paths)
        self._new_manifest = Replacement(self.files.manifest)
        with _as_features_error(self.files.features):
            self.files.features.parent.mkdir(parents=True, exist_ok=True)
            self._vectors: IO[bytes] = self._new_features.temporary.open("wb")
            self._vectors.write(b"\0" * _HEADER_BYTES)
            self._paths: IO[bytes] = self._new_paths.temporary.open("wb")

    def append(self, vectors: NDArray[np.float32], paths: Sequence[str]) -> None:
        """Add rows: vectors of shape (n, dim) and their n paths.

        Raises:
            FeaturesError: the disk is full, or the file cannot be written.
        """
        lines = "".join(f"{encode_path(path)}\n" for path in paths).encode()
        numbers = np.ascontiguousarray(vectors, dtype="<f4").tobytes()
        with _as_features_error(self.files.features):
            self._vectors.write(numbers)
            self._paths.write(lines)
        self._vectors_digest.update(numbers)
        self._paths_digest.update(lines)
        self._rows += len(paths)

    def commit(self) -> FeaturesFiles:
        """Put the files under their final names, the manifest first: it tells a mixture of two runs from a pair.

        Raises:
            FeaturesError: the disk is full; the files of an earlier run are untouched.
        """
        manifest = {
            "rows": self._rows,
            "started_ns": self._started_ns,
            "vectors_blake2b": self._vectors_digest.hexdigest(),
            "paths_blake2b": self._paths_digest.hexdigest(),
            "fingerprint": json.loads(self._fingerprint.to_json()),
        }
        with _as_features_error(self.files.features):
            self._vectors.seek(0)
            self._vectors.write(_npy_header(self._rows, self._fingerprint.dim))
            for file in (self._vectors, self._paths):
                file.flush()
                os.fsync(file.fileno())
                file.close()
            self._new_manifest.temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
            for replacement in (self._new_manifest, self._new_features, self._new_paths):
                replacement.commit()
        return self.files

    def __enter__(self) -> FeaturesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._vectors, self._paths):
            # A full disk fails once more on closing; the error that matters is already on its way.
            with contextlib.suppress(OSError):
                file.close()
        for replacement in (self._new_features, self._new_paths, self._new_manifest):
            replacement.discard()


def read_features(files: FeaturesFiles) -> Features:
    """Read and check features files; the vectors are mapped, not loaded.

    Raises:
        FeaturesError: a file is missing or damaged, the numbers of vectors and paths differ, a value is not
            finite, or the manifest says that the files do not belong together.
    """
    vectors = _read_vectors(files.features)
    raw = _read_bytes(files.paths)
    try:
        # Not str.splitlines: it also splits at characters that may be part of a name.
        lines = [line.removesuffix("\r") for line in raw.decode("utf-8-sig").split("\n")]
        paths = [decode_path(line) for line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise FeaturesError(
            f"{str(files.paths)!r} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    if len(vectors) != len(paths):
        raise FeaturesError(
            f"{str(files.features)!r} has {len(vectors)} vectors, but {str(files.paths)!r} has {len(paths)} paths"
        )
    fingerprint, since_ns = _read_manifest(files, vectors, raw)
    return Features(vectors, paths, fingerprint, since_ns or files.features.stat().st_mtime_ns)


def _read_vectors(path: Path) -> NDArray[np.float32]:
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise FeaturesError(f"no features file at {str(path)!r}") from error
    except Exception as error:  # NumPy reads the header as Python source: garbage raises anything
        raise FeaturesError(f"{str(path)!r} is not a whole .npy file: {_line(error)}") from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.size:
        found = f"{vectors.dtype} of shape {vectors.shape}" if isinstance(vectors, np.ndarray) else "an archive"
        raise FeaturesError(f"{str(path)!r}: expected floats of shape (pictures, dimension), found {found}")
    for start in range(0, len(vectors), _CHECK_ROWS):
        with np.errstate(over="ignore"):  # as float32, which is what is stored
            numbers = vectors[start : start + _CHECK_ROWS].astype(np.float32, copy=False)
        rows = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
        if rows.size:
            row = start + int(rows[0])
            raise FeaturesError(f"{str(path)!r}: row {row} is not finite (NaN or infinity) in single precision")
    return vectors


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FeaturesError(f"cannot read {str(path)!r}: {(error.strerror or '').lower()}") from error


def _read_manifest(
    files: FeaturesFiles, vectors: NDArray[np.float32], raw_paths: bytes
) -> tuple[Fingerprint | None, int]:
    """The model, and when extraction began; None and 0 where there is no manifest."""
    if not files.manifest.is_file():
        return None, 0
    try:
        manifest = json.loads(files.manifest.read_bytes())
        fingerprint = Fingerprint.from_json(json.dumps(manifest["fingerprint"]))
        since_ns = int(manifest.get("started_ns", 0))
        recorded = {files.features: manifest["vectors_blake2b"], files.paths: manifest["paths_blake2b"]}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise FeaturesError(f"{str(files.manifest)!r} is damaged; extract again, or delete it") from error
    vectors_digest, paths_digest = _new_digest(), _new_digest()
    for start in range(0, len(vectors), _CHECK_ROWS):
        vectors_digest.update(np.ascontiguousarray(vectors[start : start + _CHECK_ROWS], dtype="<f4").tobytes())
    paths_digest.update(raw_paths)
    for path, digest in ((files.features, vectors_digest), (files.paths, paths_digest)):
        if recorded[path] != digest.hexdigest():
            raise FeaturesError(
                f"{str(path)!r} is not the file that {str(files.manifest)!r} was written with; extract again, or"
                " delete the manifest if you trust the files"
            )
    return fingerprint, since_ns


def _new_digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _npy_header(rows: int, dim: int) -> bytes:
    """NumPy's header (numpy.lib.format, version 1) of a little-endian float32 matrix, padded to a fixed length."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})
    magic = np.lib.format.magic(1, 0)
    text = header.getvalue()[len(magic) + 2 :].rstrip()
    length = _HEADER_BYTES - len(magic) - 2
    return magic + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


@contextlib.contextmanager
def _as_features_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FeaturesError(f"cannot write {str(path)!r}: {(error.strerror or str(error)).lower()}") from error
