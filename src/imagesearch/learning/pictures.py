"""Queries of an evaluation that need more than a stored vector: pictures in several views, and their patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from imagesearch.learning.exact import Rows
from imagesearch.models.embedder import Encoder
from imagesearch.records import Skipped
from imagesearch.search.image_encoding import ImageReading, Views, encode_images
from imagesearch.search.patches import COMPARED, Patches, PatchMatcher
from imagesearch.stores.base import Vectors


class PictureFiles:
    """The files of a collection's rows.

    Args:
        encoder: loads the collection's model, when it is first needed.
        matcher: compares patches.
        reading: limits for images.
    """

    def __init__(self, encoder: Callable[[], Encoder], matcher: PatchMatcher, reading: ImageReading) -> None:
        self._encoder, self.matcher, self.reading = encoder, matcher, reading

    @property
    def encoder(self) -> Encoder:
        """The collection's model."""
        return self._encoder()

    def vectors(self, rows: Rows, places: NDArray[np.int64], views: Views) -> Vectors:
        """Vectors of rows as queries, float32, shape (places, dim); of files that are gone the stored ones."""
        if views == "whole":
            return rows.vectors[places]
        paths = [rows.pictures[place].path for place in places.tolist()]
        found = encode_images(self.encoder, paths, self.reading, views)
        return np.stack(
            [
                rows.vectors[place] if isinstance(one, Skipped) else one
                for place, one in zip(places.tolist(), found, strict=True)
            ]
        )

    def reordered(self, rows: Rows, query: int, ranked: Sequence[int]) -> list[int]:
        """A ranking for one of the rows, the first :data:`~imagesearch.search.patches.COMPARED` by patches."""
        (patches,) = self.matcher.patches([rows.pictures[query]])
        return list(ranked) if patches is None else self.by_patches(rows, patches.astype(np.float32), ranked)

    def by_patches(self, rows: Rows, patches: Patches, ranked: Sequence[int]) -> list[int]:
        """The same for patches of any picture."""
        first = ranked[:COMPARED]
        places = self.matcher.order(patches, [rows.pictures[place] for place in first])
        return [*(first[place] for place in places), *ranked[COMPARED:]]
