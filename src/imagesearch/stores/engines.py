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
        example: what completes "must be ..." in messages about addresses.
        is_folder: whether a local database is a folder, in which other files about it may lie.
        comfortable_rows: up to which it answers within tens of milliseconds; None for servers, which grow.
        bytes_per_row: of memory while it is searched, besides a quarter of a byte per dimension.
    """

    name: str
    module: str
    schemes: tuple[str, ...]
    suffix: str = ""
    example: str = ""
    is_folder: bool = False
    comfortable_rows: int | None = None
    bytes_per_row: int = 0

    @property
    def is_local(self) -> bool:
        """Whether its databases are files of this machine."""
        return "" in self.schemes or "file" in self.schemes


ENGINES: tuple[Engine, ...] = (
    Engine(
        "milvus-lite",
        "imagesearch.stores.milvus.embedded",
        ("", "file"),
        ".db",
        "a path that ends in .db (Milvus Lite)",
        is_folder=True,
        # Measured by benchmarks/search.py and startup.py: 10 ms and 0.8 GB a million.
        comfortable_rows=5_000_000,
        bytes_per_row=700,
    ),
    Engine(
        "milvus",
        "imagesearch.stores.milvus.server",
        ("http", "https", "tcp", "unix"),
        "",
        "a server's address such as http://localhost:19530",
    ),
)
