"""The registry of database engines: which addresses each one takes, and the module that opens it. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine.

    Attributes:
        name: a short name, for code.
        module: has ``open_database(address, options)``, which returns a ``VectorDatabase``; imported when used.
        schemes: those of its addresses, such as ``"http"``; ``""`` and ``"file"`` for paths.
        suffix: how the paths of a local engine end.
        example: an address, for messages.
    """

    name: str
    module: str
    schemes: tuple[str, ...]
    suffix: str = ""
    example: str = ""

    @property
    def is_local(self) -> bool:
        """Whether its databases are files of this machine."""
        return "" in self.schemes or "file" in self.schemes


ENGINES: tuple[Engine, ...] = (
    Engine("milvus-lite", "imagesearch.stores.milvus.lite", ("", "file"), ".db", "a path that ends in .db"),
    Engine("milvus", "imagesearch.stores.milvus.server", ("http", "https", "tcp"), "", "http://localhost:19530"),
)
