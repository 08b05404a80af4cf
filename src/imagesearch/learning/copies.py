"""How well distorted copies find their originals: an evaluation that needs no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ImageSearchError, UsageError
from imagesearch.images.files import MAX_MEGAPIXELS
from imagesearch.images.sources import load_image
from imagesearch.learning import metrics
from imagesearch.learning.distortions import SIDE, Distortion, available, distorted
from imagesearch.learning.exact import ExactRows, Rows
from imagesearch.learning.metrics import Difference, Estimate, Floats
from imagesearch.learning.outcomes import Cost, MethodResult
from imagesearch.records import Progress, Skipped, no_progress
from imagesearch.search.ranking import METHODS, RECIPES, order
from imagesearch.search.vectors import ImageReading, embed_images
from imagesearch.stores.base import Vectors

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.models.embedder import Encoder

# The measure that methods are judged by where there are no labels: the mean reciprocal rank of the original.
MAIN = "MRR"
_BLOCK = 64


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
        methods: ranking methods over all copies, ``"none"`` first.
        skipped: originals that could not be read.
        paths: of the originals that were read.
    """

    model: str
    rows: int
    originals: int
    levels: list[Level]
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
            "methods": [one.to_dict() for one in self.methods],
            "skipped": [one.to_dict() for one in self.skipped],
        }


@dataclass(frozen=True, slots=True)
class CopiesPlan:
    """What to measure.

    Attributes:
        originals: a larger collection is sampled.
        methods: ranking methods; ``"none"`` is always measured.
        seed: of the sample, of what is random in distortions, and of resampling.
        max_megapixels: larger originals are skipped.
        batch_size, max_workers: see :class:`imagesearch.search.vectors.ImageReading`.
    """

    originals: int = 100
    methods: tuple[str, ...] = ("none",)
    seed: int = 0
    max_megapixels: float = MAX_MEGAPIXELS
    batch_size: int = 0
    max_workers: int = 0


def evaluate_copies(
    rows: Rows,
    embedder: Encoder,
    plan: CopiesPlan,
    *,
    costs: Mapping[str, Cost] | None = None,
    progress: Progress = no_progress,
) -> CopiesReport:
    """Make distorted copies of pictures of a collection, and look where the originals come.

    Args:
        rows: the collection; the originals' files are read again.
        embedder: the collection's model.
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
    kinds = [(one, level) for one in available() for level in one.levels]
    originals, parts, skipped = [], [], []
    for done, place in enumerate(chosen.tolist(), start=1):
        try:
            picture = _original(rows.pictures[place].path, plan.max_megapixels)
        except ImageSearchError as error:
            skipped.append(Skipped(rows.pictures[place].path, str(error)))
            continue
        copies = _copies(picture, kinds, plan.seed + place)
        originals.append(place)
        parts.append(embed_images(embedder, copies, ImageReading(plan.batch_size, plan.max_workers)))
        progress("distort", done, len(chosen))
    if not originals:
        raise UsageError(f"none of the {len(chosen)} pictures can be read; the first: {skipped[0].reason}")
    vectors, targets = np.concatenate(parts), np.repeat(originals, len(kinds))
    return CopiesReport(
        embedder.fingerprint.model,
        len(rows.pictures),
        len(originals),
        _levels(kinds, _ranks(rows, vectors, targets, "none").reshape(len(originals), -1), plan.seed),
        _methods(rows, vectors, targets, plan, costs or {}),
        skipped,
        [rows.pictures[place].path for place in originals],
    )


def _original(path: str, max_megapixels: float) -> Image.Image:
    """A picture no larger than the distortions are made for."""
    picture = load_image(path, max_megapixels)
    picture.thumbnail((SIDE, SIDE))
    return picture


def _copies(picture: Image.Image, kinds: Sequence[tuple[Distortion, float]], seed: int) -> Iterator[Image.Image]:
    for distortion, level in kinds:
        yield distorted(picture, distortion, level, seed)


def _ranks(rows: Rows, vectors: Vectors, targets: NDArray[np.int64], method: str) -> Floats:
    """Rank of the original for each copy, 1 the best; float64, shape (copies,).

    Rows with the original's own vector, duplicates of the file, do not count as better.
    """
    finder, ranks = ExactRows(rows, targets[:0]), np.empty(len(targets))
    twins = _twins(rows)
    for start in range(0, len(targets), _BLOCK):
        block = slice(start, start + _BLOCK)
        nobody = np.full(len(targets[block]), -1)
        ranked = order(RECIPES[method], finder.at(nobody), vectors[block], len(rows.pictures))
        same = twins[np.array(ranked)] == twins[targets[block]][:, None]
        ranks[block] = same.argmax(axis=1) + 1
    return ranks


def _twins(rows: Rows) -> NDArray[np.int64]:
    """For each row a number that rows with the same vector share: int64, shape (n,)."""
    _, numbers = np.unique(rows.vectors, axis=0, return_inverse=True)
    return numbers.reshape(-1)


def _levels(kinds: Sequence[tuple[Distortion, float]], ranks: Floats, seed: int) -> list[Level]:
    return [
        Level(
            one.name,
            one.unit,
            level,
            metrics.estimate(ranks[:, column] == 1, seed=seed),
            float(np.median(ranks[:, column])),
            int(ranks[:, column].max()),
        )
        for column, (one, level) in enumerate(kinds)
    ]


def _methods(
    rows: Rows, vectors: Vectors, targets: NDArray[np.int64], plan: CopiesPlan, costs: Mapping[str, Cost]
) -> list[MethodResult]:
    """Each method's reciprocal ranks and recall@1; the values are those of originals: means over their copies."""
    found: list[MethodResult] = []
    for method in ("none", *(name for name in METHODS if name in plan.methods and name != "none")):
        ranks = _ranks(rows, vectors, targets, method).reshape(len(np.unique(targets)), -1)
        values = {MAIN: (1 / ranks).mean(axis=1), "recall@1": (ranks == 1).mean(axis=1)}
        estimates = {name: metrics.estimate(own, seed=plan.seed) for name, own in values.items()}
        gains: dict[str, Difference] = {}
        if found:
            base = found[0].values
            gains = {name: metrics.compare(own, base[name], seed=plan.seed) for name, own in values.items()}
        found.append(MethodResult(method, RECIPES[method].summary, estimates, gains, costs.get(method), values))
    return found
