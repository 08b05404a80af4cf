"""How long a query takes with each ranking method and in each view, measured on the collection itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from imagesearch.errors import ImageSearchError
from imagesearch.learning.exact import Rows
from imagesearch.learning.outcomes import Cost, variant
from imagesearch.learning.pictures import PictureFiles
from imagesearch.search.image_encoding import Views, embed_images
from imagesearch.search.patches import COMPARED, PatchMatcher
from imagesearch.search.ranking import by_patches, rank
from imagesearch.search.reordering import Floats
from imagesearch.stores.base import Collection, Vectors

# Queries of a sample that costs are measured with, and results per query; and pictures that are read for it.
_TIMED_QUERIES, _TIMED_RESULTS, _TIMED_PICTURES = 40, 10, 12


def encoding_seconds(files: PictureFiles, rows: Rows, others: Sequence[Views] = ()) -> dict[Views, float | None]:
    """Seconds to read and encode one picture as a whole and in other views, by turns; None if none can be read."""

    def encode(path: str, views: Views) -> None:
        embed_images(files.encoder, [path], files.reading, views)

    seconds: dict[Views, list[float]] = {"whole": [], **{views: [] for views in others}}
    for number, picture in enumerate(_some(rows)):
        # Whoever comes first reads the file from the disk.
        turns = deque(seconds.items())
        turns.rotate(number)
        for views, times in turns:
            try:
                times.append(_seconds(encode, picture.path, views))
            except ImageSearchError:  # moved or damaged since it was indexed: its time says nothing
                continue
    return {views: float(np.median(times[1:] or times)) if times else None for views, times in seconds.items()}


def measure_costs(
    collection: Collection,
    vectors: Vectors,
    methods: Sequence[str],
    encoding: float,
    label_axes: Floats | None = None,
) -> dict[str, Cost]:
    """How long one query takes with each method that looks at vectors, methods by turns.

    Args:
        collection: what is searched.
        vectors: of queries, float32, shape (q, dim); the first :data:`_TIMED_QUERIES` are used.
        methods: to measure; ``"none"`` is always.
        encoding: seconds to read and encode one picture.
        label_axes: see :func:`~imagesearch.search.ranking.rank`.

    Raises:
        StoreError: the database fails.
    """

    def search(method: str, query: Vectors) -> None:
        rank(method, collection, query, _TIMED_RESULTS, label_axes=label_axes)

    names = ["none", *(name for name in methods if name != "none" and not by_patches(name))]
    for name in names:  # what is read and built at the first search of a kind
        search(name, vectors[:1])
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for query in vectors[:_TIMED_QUERIES]:
        for name in names:
            seconds[name].append(_seconds(search, name, query[None]))
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    whole = encoding + medians["none"]
    return {name: Cost(1000 * taken, (taken - medians["none"]) / whole) for name, taken in medians.items()}


def measure_patches(files: PictureFiles, rows: Rows, none: Cost, encoding: float) -> Cost:
    """What putting hits in order by patches takes where none of them was looked at before.

    Args:
        none: the cost of a search by distance.
        encoding: seconds to read and encode one picture.
    """
    random, seconds = np.random.default_rng(0), []
    for picture in _some(rows)[:4]:
        places = random.permutation(len(rows.pictures))[:COMPARED]
        matcher = PatchMatcher(files.matcher.encoder, files.reading)
        (patches,) = matcher.patches([picture])
        if patches is not None:
            candidates = [rows.pictures[place] for place in places.tolist()]
            seconds.append(_seconds(matcher.order, patches.astype(np.float32), candidates))
    taken = float(np.median(seconds[1:] or seconds)) if seconds else 0.0
    return Cost(none.milliseconds + 1000 * taken, taken / (encoding + none.milliseconds / 1000))


def with_views(costs: dict[str, Cost], views: Views, more: float, encoding: float) -> dict[str, Cost]:
    """The costs of the same methods for queries in several views.

    Args:
        more: seconds that reading and encoding takes longer for it.
        encoding: seconds that it takes for a whole picture.
    """
    extra = more / (encoding + costs["none"].milliseconds / 1000)
    return {variant(name, views): Cost(one.milliseconds, one.extra + extra) for name, one in costs.items()}


def _some(rows: Rows) -> list[Any]:
    """Pictures from all over the collection, and one more, as the first takes longer."""
    return rows.pictures[:: max(1, len(rows.pictures) // _TIMED_PICTURES)][: _TIMED_PICTURES + 1]


def _seconds(work: Callable[..., object], *given: Any) -> float:
    began = time.perf_counter()
    work(*given)
    return time.perf_counter() - began
