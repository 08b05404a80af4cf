"""Taking folders out of a collection, whether they are there or not; their files stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from imagesearch.images.find import Walk, below
from imagesearch.library.exclusive import changing
from imagesearch.library.ledger import Ledger
from imagesearch.library.snapshot import roots_of
from imagesearch.reports import ForgetReport
from imagesearch.stores.base import Collection
from imagesearch.stores.columns import ID


def forget_folders(
    collection: Collection, ledger: Ledger, folders: Sequence[str], *, dry_run: bool = False
) -> ForgetReport:
    """Remove the rows of all pictures below folders, and what the list of skipped files says of them.

    Args:
        folders: absolute paths of folders or files; one that leads through links to what was indexed stands for
            that, if nothing was indexed by this name.
        dry_run: change nothing.

    Raises:
        StoreError: the database fails; what was removed stays removed.
    """
    folders = _as_indexed(collection, ledger, folders)
    keys: list[int] = []
    for columns in collection.scan_columns((ID, "path")):
        for key, path in zip(columns[ID], columns["path"], strict=True):
            if below(path, folders):
                keys.append(int(key))
    if not dry_run:
        with changing(collection):
            collection.delete(keys)
        ledger.remove([skip.path for skip in ledger if below(skip.path, folders)])
        ledger.save()
    larger = (root for root in roots_of(collection) if any(below(folder, [root]) for folder in folders))
    still = tuple(sorted(root for root in larger if root not in folders))
    return ForgetReport(collection.spec.name, len(keys), tuple(folders), still, dry_run)


def _as_indexed(collection: Collection, ledger: Ledger, folders: Sequence[str]) -> Sequence[str]:
    """Folders by the names that indexing gave them: without links where it was told a link."""
    real = {folder: Walk.of([folder]).roots[0] for folder in folders}
    linked = [folder for folder in folders if real[folder] != folder]
    if not linked:
        return folders
    known = {below(skip.path, linked) for skip in ledger}
    for columns in collection.scan_columns(("path",)):
        known.update(below(path, linked) for path in columns["path"])
    return list(dict.fromkeys(folder if folder in known else real[folder] for folder in folders))
