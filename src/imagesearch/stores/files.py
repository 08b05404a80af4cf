"""Looking after the files of a database: part of the contract for those that have them on this machine."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from imagesearch.records import Progress, no_progress
from imagesearch.reports import Finding
from imagesearch.stores.base import VectorDatabase


@runtime_checkable
class HasFiles(Protocol):
    """What a database offers besides whose files can be looked at, and repaired, from here."""

    def folders(self) -> list[str]:
        """Names of all collections, sorted; also of those that are too damaged to be opened."""

    def check_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:
        """What is wrong with the files of a collection; every byte is read, nothing is changed.

        Raises:
            StoreError: the disk fails.
        """

    def repair_files(self, name: str, progress: Progress = no_progress) -> list[Finding]:
        """Repair the files of a collection, so that it can be opened; interrupted, it can be repeated.

        Damaged originals are kept aside. Rows that cannot be read are lost: they have to be encoded again.

        Returns:
            What was wrong, and whether it is right now.

        Raises:
            StoreError: the disk fails, or can only be read.
        """

    def unchanging(self) -> VectorDatabase:
        """The same database, for reading only: using it changes no file. To be closed by the caller."""
