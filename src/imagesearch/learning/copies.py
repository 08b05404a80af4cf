"""How well distorted copies find their originals: an evaluation that needs no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ImageSearchError, UsageError
from imagesearch.images.sources import load_image
from imagesearch.learning import metrics
from imagesearch.learning.distortions import SIDE, Distortion, available, distorted
from imagesearch.learning.exact import ExactRows, Rows
from imagesearch.learning.metrics import Difference, Estimate
from imagesearch.learning.outcomes import Cost, MethodResult, variant, ways
from imagesearch.learning.pictures import PictureFiles
from imagesearch.records import Progress, Skipped, no_progress
from imagesearch.search.image_encoding import checked_views, embed_images, encode_images
from imagesearch.search.patches import Patches
from imagesearch.search.ranking import RECIPES, by_patches, order
from imagesearch.stores.base import Vectors

if TYPE_CHECKING:
    from PIL import Image

# The measure that methods are judged by where there are no labels: the mean reciprocal rank of the original.
MAIN = "MRR"


@dataclass(frozen=True, slots=True)
class Level:
    """One distortion at one level.

    Attributes:
        distortion: its name.
        unit: of ``level``.
        level: how strong.
        recall: at 1: the part of the copies whose original is the first result.
        median_rank, worst_rank: of the originals, 1 being the best.
    """

    distortion: str
    unit: str
    level: float
    recall: Estimate
    median_rank: float
    worst_rank: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "distortion": self.distortion,
            "unit": self.unit,
            "level": self.level,
            "recall@1": self.recall.to_dict(),
            "median_rank": self.median_rank,
            "worst_rank": self.worst_rank,
        }


@dataclass(frozen=True, slots=True)
class CopiesReport:
    """What distorted copies find.

    Attributes:
        model: the model's name.
        rows: pictures in the collection.
        originals: pictures that copies were made of.
        levels: each distortion at each level, by distance alone.
        distortions: recall at 1 of all levels of each distortion, by ranking method.
        methods: ranking methods over all copies, ``"none"`` first.
        skipped: originals that could not be read.
        paths: of the originals that were read.
    """

    model: str
    rows: int
    originals: int
    levels: list[Level]
    distortions: dict[str, dict[str, Estimate]]
    methods: list[MethodResult]
    skipped: list[Skipped]
    paths: list[str] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "pictures": self.rows,
            "originals": self.originals,
            "levels": [one.to_dict() for one in self.levels],
            "distortions": {
                name: {method: one.to_dict() for method, one in recalls.items()}
                for name, recalls in self.distortions.items()
            },
            "methods": [one.to_dict() for one in self.methods],
            "skipped": [one.to_dict() for one in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class CopiesPlan:
    """What to measure.

    Attributes:
        originals: a larger collection is sampled.
        methods: ranking methods; ``"none"`` is always measured.
        views: how copies are seen, besides as a whole.
        seed: of the sample, of what is random in distortions, and of resampling.
    """

    originals: int = 100
    methods: tuple[str, ...] = ("none",)
    views: tuple[str, ...] = ()
    seed: int = 0


def evaluate_copies(
    rows: Rows,
    files: PictureFiles,
    plan: CopiesPlan,
    *,
    costs: Mapping[str, Cost] | None = None,
    progress: Progress = no_progress,
) -> CopiesReport:
    """Make distorted copies of pictures of a collection, and look where the originals come.

    Args:
        rows: the collection.
        files: its files; those of the originals are read again.
        plan: what to measure.
        costs: of the methods.
        progress: told of the stage ``"distort"``.

    Raises:
        UsageError: none of the originals can be read.
        ModelError: the network fails.
    """
    chosen = np.arange(len(rows.pictures))
    if len(chosen) > plan.originals:
        chosen = np.sort(np.random.default_rng(plan.seed).choice(chosen, plan.originals, replace=False))
    copies = _Copies(rows, files, [(one, level) for one in available() for level in one.levels], plan)
    for done, place in enumerate(chosen.tolist(), start=1):
        copies.add(place)
        progress("distort", done, len(chosen))
    if not copies.originals:
        raise UsageError(f"no picture of {len(chosen):,} can be read; the first: {copies.skipped[0].reason}")
    methods = copies.methods(costs or {})
    return CopiesReport(
        files.encoder.fingerprint.model,
        len(rows.pictures),
        len(copies.originals),
        copies.levels(),
        copies.distortions(),
        methods,
        copies.skipped,
        [rows.pictures[place].path for place in copies.originals],
    )


class _Copies:
    """Distorted copies of pictures of a collection, and at which ranks they find their originals."""

    def __init__(
        self, rows: Rows, files: PictureFiles, kinds: Sequence[tuple[Distortion, float]], plan: CopiesPlan
    ) -> None:
        self._rows, self._files, self._kinds, self._plan = rows, files, kinds, plan
        self._finder, self._twins = ExactRows(rows, np.empty(0, np.int64)), _twins(rows)
        self._ways = ways(plan.methods, plan.views)
        # By the way of asking: for each original the ranks at which its copies find it.
        self._ranks: dict[tuple[str, str], list[list[float]]] = {way: [] for way in self._ways}
        self.originals: list[int] = []
        self.skipped: list[Skipped] = []

    def add(self, place: int) -> None:
        """Make copies of one of the rows, and ask for them."""
        path = self._rows.pictures[place].path
        try:
            picture = _original(path, self._files.reading.max_megapixels)
        except ImageSearchError as error:
            self.skipped.append(Skipped(path, str(error)))
            return
        self.originals.append(place)
        copies = list(_copies(picture, self._kinds, self._plan.seed + place))
        vectors = {
            views: embed_images(self._files.encoder, copies, self._files.reading, checked_views(views))
            for views in {views for _, views in self._ways}
        }
        patches: list[Patches | None] = []
        if any(by_patches(method) for method, _ in self._ways):
            made = encode_images(self._files.matcher.encoder(), copies, self._files.reading)
            patches = [None if isinstance(one, Skipped) else one for one in made]
        for method, views in self._ways:
            ranked = self._ranked(method, vectors[views], patches)
            same = self._twins[np.array(ranked)] == self._twins[place]
            self._ranks[method, views].append((same.argmax(axis=1) + 1).tolist())

    def _ranked(self, method: str, vectors: Vectors, patches: Sequence[Patches | None]) -> list[list[int]]:
        recipe, nobody = RECIPES[method], np.full(len(vectors), -1)
        ranked = order(recipe, self._finder.at(nobody), vectors, len(self._rows.pictures))
        if not recipe.by_patches:
            return ranked
        return [
            before if one is None else self._files.by_patches(self._rows, one, before)
            for one, before in zip(patches, ranked, strict=True)
        ]

    def levels(self) -> list[Level]:
        """Each distortion at each level, by distance."""
        ranks = np.array(self._ranks[self._ways[0]])
        return [
            Level(
                one.name,
                one.unit,
                level,
                metrics.estimate(ranks[:, column] == 1, seed=self._plan.seed),
                float(np.median(ranks[:, column])),
                int(ranks[:, column].max()),
            )
            for column, (one, level) in enumerate(self._kinds)
        ]

    def distortions(self) -> dict[str, dict[str, Estimate]]:
        """Recall at 1 of each distortion by each way, over its levels."""
        names = [one.name for one, _ in self._kinds]
        found: dict[str, dict[str, Estimate]] = {name: {} for name in names}
        for (method, views), ranks in self._ranks.items():
            right = np.array(ranks) == 1
            for name, recalls in found.items():
                own = right[:, [column for column, one in enumerate(names) if one == name]]
                recalls[variant(method, views)] = metrics.estimate(own.mean(axis=1), seed=self._plan.seed)
        return found

    def methods(self, costs: Mapping[str, Cost]) -> list[MethodResult]:
        """Each way's reciprocal ranks and recall@1; the values are those of originals: means over their copies."""
        found: list[MethodResult] = []
        for method, views in self._ways:
            ranks, seed = np.array(self._ranks[method, views]), self._plan.seed
            values = {MAIN: (1 / ranks).mean(axis=1), "recall@1": (ranks == 1).mean(axis=1)}
            estimates = {name: metrics.estimate(own, seed=seed) for name, own in values.items()}
            gains: dict[str, Difference] = {}
            if found:
                base = found[0].values
                gains = {name: metrics.compare(own, base[name], seed=seed) for name, own in values.items()}
            name, summary = variant(method, views), RECIPES[method].summary
            found.append(MethodResult(name, summary, estimates, gains, costs.get(name), values))
        return found


def _original(path: str, max_megapixels: float) -> Image.Image:
    """A picture no larger than the distortions are made for."""
    picture = load_image(path, max_megapixels)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _copies(picture: Image.Image, kinds: Sequence[tuple[Distortion, float]], seed: int) -> Iterator[Image.Image]:
    for distortion, level in kinds:
        yield distorted(picture, distortion, level, seed)


def _twins(rows: Rows) -> NDArray[np.int64]:
    """For each row a number that rows with the same vector share: int64, shape (n,).

    Those with the original's own vector, duplicates of the file, do not count as better.
    """
    _, numbers = np.unique(rows.vectors, axis=0, return_inverse=True)
    return numbers.reshape(-1)
