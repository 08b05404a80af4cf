"""The manifest: which files make up a collection, as Milvus Lite writes it, with checksums added.

``manifest.json`` is replaced in one step, and what it does not name does not exist: a crash before leaves files
that nobody names, a crash after leaves files that nobody needs. Under the key ``imagesearch``, which Milvus Lite
ignores, it has the size and digest of every file, and a digest of itself. When Milvus Lite itself has written it
since, the key is missing, and its files are taken as they are.

``manifest.json.prev`` is a second copy of the current manifest. (Milvus Lite keeps the one before in it, and falls
back to that if the current one is damaged; it then deletes as unknown the files that were added since.)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from imagesearch.errors import DamagedError, StoreError
from imagesearch.stores.milvus.lite_files import digest_of, digest_of_json, write_atomically

FORMAT = 2
NAME = "manifest.json"
COPY = "manifest.json.prev"
PARTITION = "_default"

_OURS = "imagesearch"


class Manifest:
    """One collection's manifest.

    Attributes:
        folder: the collection's.
        payload: as it is in the file.
    """

    def __init__(self, folder: Path, payload: dict[str, Any] | None = None) -> None:
        """Wrap a payload; None: a new collection's."""
        self.folder = folder
        self.payload: dict[str, Any] = payload or {
            "manifest_format_version": FORMAT,
            "version": 0,
            "current_seq": 0,
            "schema_version": 1,
            "active_wal_number": None,
            "partitions": {},
            "index_specs": {},
        }
        self.payload.setdefault("partitions", {}).setdefault(PARTITION, {"data_files": [], "delta_files": []})
        self.payload.setdefault("index_specs", {})

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read it; a collection to which nothing was ever written has none.

        Raises:
            DamagedError: it is not readable, or not as it was written; nothing was changed.
            OSError: the disk fails.
        """
        file = folder / NAME
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if (folder / COPY).exists():
                raise DamagedError(file, "is missing") from None
            return cls(folder)
        except UnicodeDecodeError:
            raise DamagedError(file, "is not readable") from None
        return cls(folder, parse(text, file))

    @property
    def is_new(self) -> bool:
        """Whether it was never written."""
        return self.number == 0

    @property
    def number(self) -> int:
        """How often it was written."""
        return int(self.payload.get("version", 0))

    @property
    def last_sequence(self) -> int:
        """The largest sequence number of any row or tombstone in the files."""
        return int(self.payload.get("current_seq", 0))

    @last_sequence.setter
    def last_sequence(self, value: int) -> None:
        self.payload["current_seq"] = max(value, self.last_sequence)

    @property
    def active_log(self) -> int | None:
        """Logs with a smaller number are in the files already."""
        number = self.payload.get("active_wal_number")
        return None if number is None else int(number)

    @active_log.setter
    def active_log(self, number: int) -> None:
        self.payload["active_wal_number"] = number

    @property
    def index_specs(self) -> dict[str, dict[str, Any]]:
        """Column -> its index: ``index_type``, ``metric_type``, ``build_params``."""
        specs: dict[str, dict[str, Any]] = self.payload["index_specs"]
        return specs

    def partitions(self) -> list[str]:
        """Names of the partitions."""
        return sorted(self.payload["partitions"])

    def files(self, kind: str) -> Iterator[tuple[str, str]]:
        """Partition and path within it of every file.

        Args:
            kind: ``"data_files"`` or ``"delta_files"``.
        """
        for partition, files in self.payload["partitions"].items():
            # A file that was flushed twice (a crash came between) is named twice.
            for relative in dict.fromkeys(files.get(kind, ())):
                yield partition, str(relative).replace("\\", "/")

    def add(self, kind: str, partition: str, relative: str) -> None:
        """Name a file."""
        files = self.payload["partitions"][partition].setdefault(kind, [])
        if relative not in files:
            files.append(relative)

    def remove(self, kind: str, partition: str, relatives: Iterable[str]) -> None:
        """Name files no more."""
        gone = set(relatives)
        names = self.payload["partitions"][partition]
        names[kind] = [name for name in names.get(kind, ()) if name not in gone]

    # --- checksums ---

    @property
    def checksums(self) -> dict[str, list[Any]]:
        """Path within the collection's folder -> size in bytes, digest, perhaps content, as far as known."""
        found: dict[str, list[Any]] = self.payload.get(_OURS, {}).get("files", {})
        return found

    def note(self, path: Path, **content: Any) -> None:
        """Remember a file's size and digest; it must be complete.

        Args:
            content: what was lost if the file were, in plain values; see :meth:`content`.
        """
        ours = self.payload.setdefault(_OURS, {})
        known = [path.stat().st_size, digest_of(path)]
        ours.setdefault("files", {})[self.key(path)] = [*known, content] if content else known

    def content(self, path: Path) -> dict[str, Any]:
        """What :meth:`note` was told of a file's content; empty if nothing."""
        known = self.checksums.get(self.key(path), ())
        return dict(known[2]) if len(known) > 2 else {}

    def forget(self, paths: Iterable[Path]) -> None:
        """Forget the checksums of files."""
        for path in paths:
            self.checksums.pop(self.key(path), None)

    def key(self, path: Path) -> str:
        """What a file is called here."""
        return path.relative_to(self.folder).as_posix()

    def complaint(self, path: Path, *, thorough: bool = False) -> str | None:
        """What is wrong with a file, or None.

        Args:
            thorough: compare its content too, not only its size.
        """
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return "is missing"
        known = self.checksums.get(self.key(path))
        if known is None:
            return "is empty" if size == 0 else None
        if size != known[0]:
            return f"has {size:,} bytes instead of {known[0]:,}" if size else "is empty"
        return "is not as it was written" if thorough and digest_of(path) != known[1] else None

    # --- writing ---

    def save(self) -> None:
        """Write it, durably and in one step.

        Raises:
            OSError: it cannot be written; the one before is untouched.
        """
        payload = deepcopy(self.payload)
        payload["version"] = self.number + 1
        ours = payload.setdefault(_OURS, {})
        ours.pop("digest", None)
        ours["digest"] = digest_of_json(payload)
        text = json.dumps(payload, indent=2, sort_keys=True)
        write_atomically(self.folder / NAME, text)
        self.payload = payload
        try:
            write_atomically(self.folder / COPY, text)
        except OSError as error:  # what counts is written
            logging.getLogger(__name__).debug("cannot write %s: %s", COPY, error)


def require_format(file: Path, number: int, known: int) -> None:
    """Refuse a file of another format than the one that is known here.

    Raises:
        StoreError: an older or a newer version of Milvus Lite wrote it.
    """
    if number > known:
        raise StoreError(
            f"{file} has format {number}, which a newer version of Milvus Lite wrote; this version of ImageSearch"
            f" reads format {known}: install a newer one. Nothing was changed"
        )
    if number < known:
        raise StoreError(
            f"{file} has format {number}, which an older version of Milvus Lite wrote; only format {known} can be"
            f" read: name a new database and index the pictures again. Nothing was changed"
        )


def parse(text: str, file: Path) -> dict[str, Any]:
    """The payload of a manifest's text.

    Raises:
        DamagedError: it is not as it was written.
        StoreError: another version of Milvus Lite wrote it, in another format.
    """
    try:
        payload = json.loads(text)
        require_format(file, int(payload.get("manifest_format_version", FORMAT)), FORMAT)
        partitions = payload["partitions"]
        for files in partitions.values():
            if not all(
                isinstance(name, str) for kind in ("data_files", "delta_files") for name in files.get(kind, ())
            ):
                raise TypeError("a file's name is no text")
        ours = payload.get(_OURS)
        if ours is not None:
            without = {**payload, _OURS: {key: value for key, value in ours.items() if key != "digest"}}
            if ours["digest"] != digest_of_json(without):
                raise ValueError("its digest differs")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedError(file, "is not as it was written") from None
    return dict(payload)
