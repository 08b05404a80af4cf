"""What all collections in Milvus have in common, however it is reached."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from imagesearch.records import Fingerprint
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus.schema import Schema


class Home(Protocol):
    """What every collection needs of its database."""

    @property
    def engine(self) -> str:
        """Human-readable engine name."""

    @property
    def place(self) -> str:
        """See ``VectorDatabase.place``."""


class MilvusCollection:
    """The properties of a ``Collection``."""

    def __init__(self, home: Home, spec: CollectionSpec, schema: Schema) -> None:
        self._home, self._schema = home, schema
        self._spec = replace(spec, metric=schema.metric)

    @property
    def spec(self) -> CollectionSpec:
        """How it is configured; the metric is that it was made with."""
        return self._spec

    @property
    def engine(self) -> str:
        """Human-readable engine name."""
        return self._home.engine

    @property
    def place(self) -> str:
        """The database's place."""
        return self._home.place

    @property
    def fingerprint(self) -> Fingerprint:
        """The model of its vectors."""
        return self._schema.fingerprint
