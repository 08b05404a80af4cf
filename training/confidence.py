"""Fit the seven numbers of ``imagesearch/search/confidence.py`` on labelled pictures; see how well they transfer.

    python -m training.confidence --classes NAME=DIR ... --copies NAME=DIR ... --model starter --model CHECKPOINT

``--classes`` takes folders of class folders; ``--copies`` takes photographs, and asks for six distorted copies of
each. As :mod:`imagesearch.learning.confidence_evaluation` measures, half of the classes (or photographs) are left
out of a collection and asked for all the same, another half for each of ``--seeds``; sets of many classes give
smaller collections, too. Then

* the *shift* is fitted by robust linear regression. Its target is how far the score that a tenth of the absent
  queries reach is, in probits, from the upper tenth of what :mod:`imagesearch.search.chance` drew without labels;
* the *logistic* is fitted to whether the first ten hits of queries are related, first hits weighing more.

Sets count the same however many pictures they have, or as ``--weight NAME=NUMBER`` says. Printed are the numbers,
and the errors on each set: fitted with all sets (``with it``), without that one (``without it``), and without that
one but with each collection's own target in place of the fitted shift (``right shift``): what is left to the
logistic when the cutoff is right.

With ``--labels``, pictures are compared as re-ranking by labels compares them, by vectors and by what the model's
own classifier says (:func:`imagesearch.search.reordering.with_labels`): an experiment, searches do not use its
numbers.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from imagesearch import ImageSearch
from imagesearch.images.find import EXTENSIONS
from imagesearch.images.sources import load_image
from imagesearch.learning.confidence_evaluation import (
    Split,
    calibration_error,
    exact_collection,
    reliability,
    split_classes,
    split_originals,
)
from imagesearch.learning.distortions import DISTORTIONS, SIDE, distorted
from imagesearch.records import Fingerprint
from imagesearch.search.chance import Draws, draw
from imagesearch.search.confidence import Background, Calibration, background_of, measures
from imagesearch.search.reordering import with_labels
from imagesearch.stores.base import Collection, CollectionSpec, Vectors

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

RATE, HITS = 0.1, 10
COPIES = ("JPEG", "Gaussian blur", "white noise", "crop", "rotation", "mirror")
# Of a set with at least so many classes also these parts: classes, and pictures of each (None: all). The whole set
# counts as much as three of them.
MANY_CLASSES, WHOLE = 100, 3.0
PARTS: tuple[tuple[int, int | None], ...] = ((20, None), (50, None), (60, 21), (200, 8))
# What a share of draws or queries is taken to be at least and at most: probits of 0 and 1 are infinite.
SHARES = 0.004, 0.95
# The shift: ridge penalty on standardised measures, and the error in probits from which an outlier counts less
# (Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35, 1964).
RIDGE, OUTLIER = 0.02, 0.5
# The logistic: how much a first hit counts beside another, a ridge penalty that only keeps the equations solvable,
# and log(expected) from which on hits are all alike: nobody looks for what is not even among the first few.
FIRST, TINY_RIDGE, UNLIKELY = 11.0, 1e-3, 2.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One collection that lacked half of what was asked of it.

    Attributes:
        name: of the set.
        weight: of this sample; those of one set have a sum of 1 times the set's weight.
        spec, fingerprint: of the collection, and of its model.
        draws: scores by chance, drawn without labels.
        target: the shift that would have been right at a false-alarm rate of :data:`RATE`.
        absent, present: scores of hits of queries that have nothing related, and of others: (queries, hits).
        related: whether the hits of the present queries are related, (queries, hits).
    """

    name: str
    weight: float
    spec: CollectionSpec
    fingerprint: Fingerprint
    draws: Draws
    target: float
    absent: Floats
    present: Floats
    related: NDArray[np.bool_]


def probit(share: float) -> float:
    """Quantile of the normal distribution."""
    return NormalDist().inv_cdf(min(max(share, SHARES[0]), SHARES[1]))


def sample(split: Split, fingerprint: Fingerprint, *, name: str, weight: float, seed: int) -> Sample:
    """Ask one collection, and draw its scores by chance."""
    collection = exact_collection(split.rows, fingerprint)
    draws = draw(collection, seed)
    absent, _ = ask(collection, split.absent)
    present, rows = ask(collection, split.present)
    related = split.row_labels[rows] == split.present_labels[:, None]
    # The right cutoff as the absent queries tell it, and as rows do whose own class is taken away: half of either.
    unit = split.rows / np.maximum(np.linalg.norm(split.rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    close = unit @ unit.T
    close[split.row_labels[:, None] == split.row_labels] = -np.inf
    cutoff = (np.quantile(absent[:, 0], 1 - RATE) + np.quantile(close.max(axis=1), 1 - RATE)) / 2
    target = probit(RATE) - probit(float(np.mean(draws.fine > cutoff)))
    return Sample(name, weight, collection.spec, fingerprint, draws, target, absent, present, related)


def ask(collection: Collection, queries: Vectors) -> tuple[Floats, Labels]:
    """Scores and rows of the hits, each of shape (queries, hits)."""
    found = collection.search(queries, HITS)
    scores = np.array([[hit.score for hit in hits] for hits in found], np.float64)
    return scores, np.array([[int(hit.path) for hit in hits] for hits in found], np.int64)


def portions(labels: Labels, seed: int) -> Iterator[tuple[float, Labels]]:
    """Weights and places of the whole set and, if it has many classes, of its parts."""
    yield WHOLE, np.arange(len(labels))
    rng, classes = np.random.default_rng(seed), np.unique(labels)
    if len(classes) >= MANY_CLASSES:
        for number, each in PARTS:
            chosen = rng.permutation(classes)[:number]
            places = [rng.permutation(np.flatnonzero(labels == label))[:each] for label in chosen]
            yield 1.0, np.concatenate(places)


def class_samples(
    vectors: Vectors, labels: Labels, fingerprint: Fingerprint, name: str, seeds: Sequence[int]
) -> Iterator[Sample]:
    """All samples of one set of classes with one model."""
    for seed in seeds:
        for weight, places in portions(labels, seed):
            split = split_classes(vectors[places], labels[places], seed=seed)
            yield sample(split, fingerprint, name=name, weight=weight, seed=seed)


def copies_samples(
    vectors: Vectors, copies: Vectors, fingerprint: Fingerprint, name: str, seeds: Sequence[int]
) -> Iterator[Sample]:
    """All samples of photographs and their copies (as many of each, in the same order) with one model."""
    copy_of = np.repeat(np.arange(len(vectors)), len(copies) // len(vectors))
    for seed in seeds:
        split = split_originals(vectors, copies, copy_of, seed=seed)
        yield sample(split, fingerprint, name=name, weight=WHOLE, seed=seed)


def copies_of(images: ImageSearch, paths: Sequence[Path]) -> Vectors:
    """Vectors of a copy of each kind of each picture, neither barely nor badly distorted."""
    kinds = [kind for kind in DISTORTIONS if kind.name in COPIES]
    rng, vectors = np.random.default_rng(0), []
    for number, path in enumerate(paths):
        picture = load_image(path)
        picture.thumbnail((SIDE, SIDE))
        levels = [float(rng.choice(kind.levels[1:-1] or kind.levels)) for kind in kinds]
        vectors.append(
            images.embed([distorted(picture, *each, number) for each in zip(kinds, levels, strict=True)])
        )
    return np.concatenate(vectors)


def read(
    classes: Sequence[str], copies: Sequence[str], model: str, seeds: Sequence[int], *, labels: bool = False
) -> Iterator[Sample]:
    """All samples of the sets NAME=DIR with one model.

    Args:
        labels: compare by vectors and labels, not by vectors alone.

    Raises:
        SystemExit: the model has no labels to compare by.
    """
    with ImageSearch({"model": {"name": model}}) as images:
        mark = images.embedder.fingerprint
        axes = images.networks.label_axes(mark) if labels else None
        if labels and axes is None:
            raise SystemExit(f"{model}: pictures cannot be compared by labels; leave --labels out")
        for name, _, folder in (named.partition("=") for named in classes):
            paths = pictures(folder)
            _, kinds = np.unique([str(path.parent) for path in paths], return_inverse=True)
            vectors = compared(images.embed(paths), axes)
            yield from class_samples(vectors, kinds.astype(np.int64), mark, name, seeds)
        for name, _, folder in (named.partition("=") for named in copies):
            paths = pictures(folder)
            vectors, asked = (compared(each, axes) for each in (images.embed(paths), copies_of(images, paths)))
            yield from copies_samples(vectors, asked, mark, name, seeds)


def compared(vectors: Vectors, axes: Floats | None) -> Vectors:
    """Vectors as they are compared: themselves or, with axes of labels, beside what the labels make of them."""
    return vectors if axes is None else with_labels(vectors.astype(np.float64), axes).astype(np.float32)


def pictures(folder: str) -> list[Path]:
    """The pictures in a folder and its subfolders."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in EXTENSIONS)


def weighed(samples: Sequence[Sample], weights: Mapping[str, float]) -> list[Sample]:
    """Samples whose weights have, for each set, the sum that is asked for (default 1)."""
    sums: dict[str, float] = defaultdict(float)
    for each in samples:
        sums[each.name] += each.weight
    return [replace(each, weight=each.weight / sums[each.name] * weights.get(each.name, 1)) for each in samples]


def fit(samples: Sequence[Sample]) -> Calibration:
    """Both parts; the second of what the first makes of the scores."""
    weights = np.array([each.weight for each in samples])
    inputs = np.array([measures(each.draws) for each in samples])
    shift = robust(inputs, np.array([each.target for each in samples]), weights)
    calibration = Calibration(shift=(shift[0], shift[1], shift[2]))
    parts = [hits(each, calibration) for each in samples]
    constant, slope, level, steeper = logistic(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    return replace(calibration, logistic=(constant, slope, level, steeper))


def robust(inputs: Floats, targets: Floats, weights: Floats) -> list[float]:
    """The constant and the slopes of a linear regression in which outliers count less."""
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0)
    design = np.c_[np.ones(len(inputs)), (inputs - mean) / np.where(deviation > 0, deviation, 1)]
    penalty = RIDGE * weights.sum() * np.diag([0.0] + [1.0] * inputs.shape[1])
    trust = weights
    for _ in range(20):
        found = np.linalg.solve(design.T @ (trust[:, None] * design) + penalty, design.T @ (trust * targets))
        trust = weights * np.minimum(1, OUTLIER / np.maximum(np.abs(targets - design @ found), 1e-9))
    slopes = found[1:] / np.where(deviation > 0, deviation, 1)
    return [float(found[0] - slopes @ mean), *slopes.tolist()]


def logistic(inputs: Floats, related: Floats, weights: Floats) -> list[float]:
    """Coefficients by Newton's method, one for each column of the inputs."""
    found = np.zeros(inputs.shape[1])
    for _ in range(25):
        chances = 1 / (1 + np.exp(-inputs @ found))
        curvature = inputs.T @ ((weights * chances * (1 - chances))[:, None] * inputs)
        gradient = inputs.T @ (weights * (chances - related)) + TINY_RIDGE * found
        found -= np.linalg.solve(curvature + TINY_RIDGE * np.eye(len(found)), gradient)
    return [float(value) for value in found]


def hits(each: Sample, calibration: Calibration) -> tuple[Floats, Floats, Floats]:
    """What the logistic function takes of each hit, whether it is related, and its weight."""
    background, scores, related = answers(each, calibration)
    logs = np.minimum(np.log(np.maximum(background.expected(scores.ravel()), 1e-300)), UNLIKELY)
    level = np.log(np.clip(background.clustered, *calibration.clustered))
    weights = np.ones(scores.shape)
    weights[:, 0] = FIRST
    inputs = np.stack([np.ones(len(logs)), logs, np.full(len(logs), level), level * logs], axis=1)
    return inputs, related.ravel().astype(np.float64), (1000 * each.weight * weights / weights.sum()).ravel()


def answers(each: Sample, calibration: Calibration) -> tuple[Background, Floats, NDArray[np.bool_]]:
    """The background, and scores and relatedness of hits: of as many absent queries as present ones."""
    background = background_of(each.draws, each.spec, each.fingerprint, calibration)
    if background is None:
        raise SystemExit(f"{each.name}: nothing can be learned from a collection of {each.draws.rows} pictures")
    size = min(len(each.absent), len(each.present))
    scores = np.concatenate([each.present[:size], each.absent[:size]])
    return background, scores, np.concatenate([each.related[:size], np.zeros_like(each.related[:size])])


def errors(each: Sample, calibration: Calibration) -> Floats:
    """False alarms, recall, that of a flat cutoff with hindsight, calibration errors of all and of first hits."""
    background, scores, related = answers(each, calibration)
    stated = background.confidence(background.expected(scores.ravel()), calibration).reshape(scores.shape)
    firsts = each.absent[:, 0], each.present[:, 0]
    alarms, recall = (np.mean(-np.expm1(-background.expected(first)) <= RATE) for first in firsts)
    flat = np.mean(each.present[:, 0] > np.quantile(each.absent[:, 0], 1 - RATE))
    of_all = calibration_error(reliability(stated.ravel(), related.ravel()))
    return np.array([alarms, recall, flat, of_all, calibration_error(reliability(stated[:, 0], related[:, 0]))])


def report(samples: Sequence[Sample]) -> Iterator[str]:
    """The numbers, and the table of errors."""
    everything = fit(samples)
    for part in ("shift", "logistic"):
        yield f"{part}: ({', '.join(f'{value:.4f}' for value in getattr(everything, part))})"
    yield (
        "| set | model | fitted | false alarms | recall | of the flat cutoff | recall / flat cutoff "
        "| calibration error | of first hits |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in sorted({each.name for each in samples}):
        own, others = ([each for each in samples if (each.name == name) is here] for here in (True, False))
        yield from rows_of(own, "with it", [everything] * len(own))
        if others:
            without = fit(others)
            yield from rows_of(own, "without it", [without] * len(own))
            yield from rows_of(own, "right shift", [with_right_shift(without, each) for each in own])


def with_right_shift(calibration: Calibration, each: Sample) -> Calibration:
    """What a fit would have been that meets the nominal rate in this very collection."""
    return replace(calibration, shift=(each.target, 0.0, 0.0))


def rows_of(samples: Sequence[Sample], how: str, calibrations: Sequence[Calibration]) -> Iterator[str]:
    """One line of the table for each model: mean errors on one set, each sample with its calibration."""
    for model in dict.fromkeys(each.fingerprint.model for each in samples):
        own = [
            errors(each, calibration)
            for each, calibration in zip(samples, calibrations, strict=True)
            if each.fingerprint.model == model
        ]
        alarms, recall, flat, of_all, of_first = np.mean(own, axis=0).tolist()
        recalls = f"{recall:.2f} | {flat:.2f} | {recall / flat if flat else np.nan:.2f}"
        yield (
            f"| {samples[0].name} | {Path(model).name} | {how} | {alarms:.3f} | {recalls} "
            f"| {of_all:.3f} | {of_first:.3f} |"
        )


def main() -> None:
    """Collect, fit, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", action="append", default=[], metavar="NAME=DIR", help="of class folders")
    parser.add_argument("--copies", action="append", default=[], metavar="NAME=DIR", help="of photographs")
    parser.add_argument("--model", action="append", required=True, help="name or folder of a checkpoint")
    parser.add_argument("--weight", action="append", default=[], metavar="NAME=NUMBER", help="of a set; default 1")
    parser.add_argument("--seeds", type=int, default=4, help="how many random halves of each set")
    parser.add_argument("--seed", type=int, default=0, help="of the first half")
    parser.add_argument("--labels", action="store_true", help="compare by vectors and the model's own labels")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.seeds)
    found = [
        each
        for model in given.model
        for each in read(given.classes, given.copies, model, seeds, labels=given.labels)
    ]
    weights = {name: float(number) for name, _, number in (named.partition("=") for named in given.weight)}
    print("\n".join(report(weighed(found, weights))))


if __name__ == "__main__":
    main()
