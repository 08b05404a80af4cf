"""Putting the first hits of a picture in order by its parts: which of them show what it shows, wherever it is.

One vector of a whole picture changes when a part is cut out of it, or stands in front of something else. Patches
of the query are looked for one by one: each counts with its most similar patch of the candidate (Razavian,
Sullivan, Carlsson & Maki, "Visual instance retrieval with deep convolutional networks", ITE Transactions on Media
Technology and Applications 2016; the same sum for texts: Khattab & Zaharia, "ColBERT", SIGIR 2020).

Patches are not stored: they take a hundred times the room of a vector. The candidates' files are read and encoded
for every query, which takes as long as indexing them; some are remembered.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import PictureError, UsageError
from imagesearch.images.sources import bytes_of
from imagesearch.records import Hit, ImageRecord, Skipped
from imagesearch.search.image_encoding import ImageReading, Preprocessed, encode_parts
from imagesearch.search.query import Kind, Part, Query
from imagesearch.stores.base import Collection

if TYPE_CHECKING:
    from imagesearch.models.embedder import PictureEncoder

# Patches of one picture: unit vectors, shape (patches, dim).
Patches: TypeAlias = NDArray[np.float32]

# Hits that are looked at.
COMPARED = 100
# Room for patches of pictures that were looked at before, in bytes.
_REMEMBERED = 256 * 2**20


class PatchMatcher:
    """Puts hits in order by patches.

    Args:
        encoder: loads what makes patches of pictures; called when it is first needed.
        reading: limits for images.
    """

    def __init__(self, encoder: Callable[[], PictureEncoder], reading: ImageReading) -> None:
        self.encoder, self.reading = encoder, reading
        self._known: OrderedDict[tuple[str, int, int], NDArray[np.float16]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def reordered(self, collection: Collection, query: Query, hits: Sequence[Hit]) -> list[Hit]:
        """The hits of a query for one picture, the first :data:`COMPARED` in order of patches; others as they are.

        Those that cannot be read any more come after those that can. Where the query is no single picture, or that
        picture cannot be read, all stay where they are.

        Raises:
            ModelError: the network gives no patches.
            StoreError: the database fails.
        """
        if (part := _picture_of(query, collection)) is None or not hits:
            return list(hits)
        (patches,) = encode_parts(self.encoder(), [part], self.reading)
        if isinstance(patches, Skipped):
            return list(hits)
        first = hits[:COMPARED]
        places = self.order(patches, [hit.picture for hit in first])
        found = [*(first[place] for place in places), *hits[COMPARED:]]
        return [replace(hit, rank=rank) for rank, hit in enumerate(found, start=1)]

    def order(self, patches: Patches, candidates: Sequence[ImageRecord]) -> list[int]:
        """Places of candidates, those in which the patches are found best first; unreadable ones last.

        Raises:
            ModelError: the network gives no patches.
        """
        scores = [
            -np.inf if theirs is None else float((patches @ theirs.T.astype(np.float32)).max(axis=1).mean())
            for theirs in self.patches(candidates)
        ]
        places: list[int] = np.argsort(-np.round(scores, 6), kind="stable").tolist()
        return places

    def patches(self, pictures: Sequence[ImageRecord]) -> list[NDArray[np.float16] | None]:
        """Patches of pictures in the collection; None: its file cannot be read.

        Raises:
            ModelError: the network gives no patches.
        """
        keys = [(one.path, one.size, one.mtime_ns) for one in pictures]
        with self._lock:
            found = {key: self._known[key] for key in keys if key in self._known}
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        if missing:
            parts = [Part(Kind.IMAGE, path) for path, _, _ in missing]
            made = encode_parts(self.encoder(), parts, self.reading)
            for key, patches in zip(missing, made, strict=True):
                if not isinstance(patches, Skipped):
                    found[key] = patches.astype(np.float16)
        self._remember(found)
        return [found.get(key) for key in keys]

    def _remember(self, found: dict[tuple[str, int, int], NDArray[np.float16]]) -> None:
        """Keep these, and forget those that were not needed for the longest time."""
        with self._lock:
            for key, patches in found.items():
                if key not in self._known:
                    self._bytes += patches.nbytes
                self._known[key] = patches
                self._known.move_to_end(key)
            while self._bytes > _REMEMBERED:
                self._bytes -= self._known.popitem(last=False)[1].nbytes


def readable_again(query: Query, max_megapixels: float) -> Query:
    """The same query, with the bytes of open files, which can be read only once, in place of them."""
    return Query(tuple(_readable_again(part, max_megapixels) for part in query.parts))


def _readable_again(part: Part, max_megapixels: float) -> Part:
    if part.kind is not Kind.IMAGE or not hasattr(part.value, "read"):
        return part
    start = part.value.tell() if part.value.seekable() else None
    try:
        return replace(part, value=bytes_of(part.value, max_megapixels))
    except (PictureError, UsageError):  # whoever encodes it finds the same, from the same place, and says so
        if start is not None:
            part.value.seek(start)
        return part


def _picture_of(query: Query, collection: Collection) -> Part | None:
    """The picture that a query is, if it is one, as a file or an image."""
    if len(query.parts) != 1 or query.parts[0].weight <= 0:
        return None
    (part,) = query.parts
    if isinstance(part.value, Preprocessed):  # patches are of the whole, however it is searched for
        return replace(part, value=Preprocessed(part.value.views[:1]))
    if part.kind is Kind.STORED:
        if isinstance(part.value, str):
            return replace(part, kind=Kind.IMAGE)
        records, _ = collection.fetch([part.value])
        return replace(part, kind=Kind.IMAGE, value=records[0].path) if records else None
    return part if part.kind is Kind.IMAGE else None
