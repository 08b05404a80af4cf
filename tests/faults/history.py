"""What was asked of databases and what was acknowledged, and what they may hold after that.

Every write is noted in a file before it begins and after it has returned. What returned must be there for ever; of
what was begun and did not return, each row may be as before or as it was to become.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from imagesearch.records import ImageRecord
from imagesearch.stores.address import DatabaseAddress

# A row's key, and a digest of all that is known of it.
Rows = dict[str, str]


def digest_of(picture: ImageRecord, vector: Any) -> str:
    """A row with its vector in 16 hexadecimal digits."""
    data = repr(picture).encode() + np.ascontiguousarray(vector, np.float32).tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


class History:
    """The notes of one process; each is written before the call goes on, so that it survives a kill."""

    def __init__(self, file: Path) -> None:
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    @contextmanager
    def noting(self, call: str, database: str, name: str, **more: Any) -> Any:
        """Note a write: that it begins, and that it returned."""
        number = os.urandom(8).hex()
        self._write({"begins": number, "call": call, "database": database, "name": name, **more})
        yield
        self._write({"returned": number})

    def _write(self, event: dict[str, Any]) -> None:
        os.write(self._handle, json.dumps(event).encode() + b"\n")


# --- writing it: databases that note what they are asked ---


class _Noting:
    """Passes everything on to another object."""

    def __init__(self, inner: Any, history: History) -> None:
        self._inner, self._history = inner, history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class NotingDatabase(_Noting):
    """A ``VectorDatabase`` that notes what is created, renamed and dropped."""

    @property
    def _label(self) -> str:
        return Path(self._inner.place).name

    def open(self, spec: Any) -> NotingCollection:
        return NotingCollection(self._inner.open(spec), self._history)

    def create(self, spec: Any, fingerprint: Any) -> NotingCollection:
        with self._history.noting("create", self._label, spec.name):
            return NotingCollection(self._inner.create(spec, fingerprint), self._history)

    def rename(self, name: str, new: str) -> None:
        with self._history.noting("rename", self._label, name, new=new):
            self._inner.rename(name, new)

    def drop(self, name: str) -> None:
        with self._history.noting("drop", self._label, name):
            self._inner.drop(name)


class NotingCollection(_Noting):
    """A ``Collection`` that notes what is inserted and deleted."""

    def _noting(self, call: str, **more: Any) -> Any:
        return self._history.noting(call, Path(self._inner.place).name, self._inner.spec.name, **more)

    def upsert(self, pictures: Sequence[ImageRecord], vectors: Any) -> None:
        rows = {str(row.id): digest_of(row, vector) for row, vector in zip(pictures, vectors, strict=True)}
        with self._noting("upsert", rows=rows):
            self._inner.upsert(pictures, vectors)

    def delete(self, ids: Sequence[int]) -> None:
        with self._noting("delete", ids=[str(key) for key in ids]):
            self._inner.delete(ids)


def note_everything(file: Path) -> None:
    """From now on, let all databases that this process opens note in a file what they are asked."""
    history, original = History(file), DatabaseAddress.open

    def noting(address: DatabaseAddress, *options: Any, **more: Any) -> Any:
        return NotingDatabase(original(address, *options, **more), history)

    DatabaseAddress.open = noting  # type: ignore[method-assign]


# --- reading it: what databases may hold ---

# What a row may be: digests, or None for not being there.
_Choice = set["str | None"]


@dataclass
class Held:
    """What one collection may hold.

    Attributes:
        exists: whether it may be there, and whether it may be absent.
        rows: key -> what the row may be; those that are not here are not there.
    """

    exists: set[bool] = field(default_factory=lambda: {False})
    rows: dict[str, _Choice] = field(default_factory=dict)


@dataclass
class Possible:
    """What databases may hold: of each the collections by name, and renames of which nobody knows how they ended.

    Attributes:
        databases: by the name of their folder.
        renames: database, old and new name: exactly one of the two is there.
    """

    databases: dict[str, dict[str, Held]] = field(default_factory=dict)
    renames: list[tuple[str, str, str]] = field(default_factory=list)

    @classmethod
    def exactly(cls, state: dict[str, dict[str, Rows]]) -> Possible:
        """What is there, and nothing else."""
        return cls(
            {
                label: {
                    name: Held({True}, {key: {digest} for key, digest in rows.items()})
                    for name, rows in collections.items()
                }
                for label, collections in state.items()
            }
        )

    def after(self, events: Iterable[dict[str, Any]]) -> Possible:
        """What they may hold after these writes."""
        result, begun = deepcopy(self), {}
        for event in events:
            if "begins" in event:
                begun[event["begins"]] = event
                result._apply(event, returned=False)
            else:
                result._apply(begun[event["returned"]], returned=True)
        return result

    def _apply(self, event: dict[str, Any], returned: bool) -> None:
        collections = self.databases.setdefault(event["database"], {})
        held = collections.setdefault(event["name"], Held())
        act: Callable[[Held, dict[str, Any], bool], None] = getattr(self, f"_{event['call']}")
        act(held, event, returned)

    def _create(self, held: Held, event: dict[str, Any], returned: bool) -> None:
        held.exists = {True} if returned else held.exists | {True}

    def _upsert(self, held: Held, event: dict[str, Any], returned: bool) -> None:
        for key, digest in event["rows"].items():
            held.rows[key] = {digest} if returned else held.rows.get(key, {None}) | {digest}

    def _delete(self, held: Held, event: dict[str, Any], returned: bool) -> None:
        for key in event["ids"]:
            held.rows[key] = {None} if returned else held.rows.get(key, {None}) | {None}

    def _drop(self, held: Held, event: dict[str, Any], returned: bool) -> None:
        held.exists = {False} if returned else held.exists | {False}
        if returned:
            held.rows = {}

    def _rename(self, held: Held, event: dict[str, Any], returned: bool) -> None:
        label, name, new = event["database"], event["name"], event["new"]
        collections = self.databases[label]
        if not returned:
            if True in held.exists:
                self.renames.append((label, name, new))
                collections[new] = Held({True, False}, deepcopy(held.rows))
                held.exists = {True, False}
            return
        self.renames = [rename for rename in self.renames if rename != (label, name, new)]
        collections[new].exists = {True}
        collections[name] = Held()


def read_history(file: Path) -> list[dict[str, Any]]:
    """The notes of a file, in order; none if it is not there."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
