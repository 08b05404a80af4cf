"""Rows whose files were not found: deleted, or on a disk that is not there now?"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np

from imagesearch.images.find import Walk, below, is_gone
from imagesearch.library.snapshot import Snapshot
from imagesearch.reports import OfflineRoot
from imagesearch.stores.base import Collection

# A folder that lost a larger share of its pictures at once looks like an unplugged disk, not like tidying.
_CREDIBLE_LOSS = 0.5


@dataclass(frozen=True, slots=True)
class Missing:
    """What became of rows whose files were not found.

    Attributes:
        remove: ids of those whose files are gone for good, or left out now.
        offline: folders whose rows stay, because their files may come back; sorted.
        depleted: see :attr:`~imagesearch.library.ledger.Ledger.depleted`, as it is from now on.
    """

    remove: list[int]
    offline: list[OfflineRoot]
    depleted: frozenset[str]


def find_missing(
    collection: Collection | None,
    walk: Walk,
    snapshot: Snapshot,
    found_below: Counter[str],
    depleted: frozenset[str],
    *,
    prune: bool,
) -> Missing:
    """Tell the rows to remove from those of folders that look offline.

    Args:
        collection: None if it does not exist yet.
        walk: over the folders, ended.
        snapshot: of the collection, which has seen what was found.
        found_below: number of files found by unit: see :class:`~imagesearch.library.snapshot.Snapshot`.
        depleted: folders that had lost most of their pictures before.
        prune: remove rows of missing files even where their folder looks offline.

    Raises:
        StoreError: the database fails.
    """
    gone, behind_links, remove = _missing_rows(collection, walk, snapshot)
    offline = [OfflineRoot(link, walk.dangling[link], count) for link, count in behind_links.items()]
    lossy = set[str]()
    settled = {folder for folder, refreshed in zip(snapshot.units, snapshot.refreshed, strict=True) if refreshed}
    for unit, ids in gone.items():
        folder, held = snapshot.units[unit], snapshot.rows_in(unit)
        reason = _absence(folder, walk, found_below[folder])
        has_lost = reason is None and (len(ids) > _CREDIBLE_LOSS * held or below(folder, depleted) is not None)
        if prune or not (reason or has_lost):
            remove += ids
            continue
        offline.append(OfflineRoot(folder, reason or f"lost {len(ids):,} of its {held:,} pictures", len(ids)))
        settled.discard(folder)
        if has_lost:
            lossy.add(folder)
    still = {folder for folder in depleted if below(folder, settled) is None}
    return Missing(remove, sorted(offline, key=lambda root: root.root), frozenset(still | lossy))


def _missing_rows(
    collection: Collection | None, walk: Walk, snapshot: Snapshot
) -> tuple[dict[int, list[int]], Counter[str], list[int]]:
    """Ids of rows whose files are gone, by unit; how many are behind links to nowhere; ids of those left out."""
    unseen = snapshot.unseen()
    gone: dict[int, list[int]] = defaultdict(list)
    behind_links: Counter[str] = Counter()
    left_out: list[int] = []
    if collection is None or not unseen:
        return gone, behind_links, left_out
    closed, dangling = [folder.path for folder in walk.closed], list(walk.dangling)
    for rows in collection.scan_columns(("id", "path")):
        for key, path in zip(np.asarray(rows["id"]).tolist(), rows["path"], strict=True):
            if key not in unseen or below(path, closed):
                continue
            if (link := below(path, dangling)) is not None:
                behind_links[link] += 1
            elif is_gone(path):
                gone[unseen[key]].append(key)
            elif os.path.lexists(path):
                left_out.append(key)  # by a pattern, or known by another path
    return gone, behind_links, left_out


def _absence(folder: str, walk: Walk, found: int) -> str | None:
    """Why nothing is found below a folder that may come back; None where something is."""
    if folder in walk.missing:
        return walk.missing[folder]
    if is_gone(folder):
        return "no such file or directory"
    return None if found else "is empty"
