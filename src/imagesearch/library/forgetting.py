"""Taking folders out of a collection, whether they are there or not; their files stay as they are."""

from __future__ import annotations

from collections.abc import Sequence

from imagesearch.images.find import below
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
        folders: absolute paths of folders or files.
        dry_run: change nothing.

    Raises:
        StoreError: the database fails; what was removed stays removed.
    """
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
