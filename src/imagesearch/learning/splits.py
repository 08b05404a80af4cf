"""Which pictures to learn from and which to measure with, without one picture being in both under two names.

Pictures that show the same (identical files, near-identical ones, shots of one burst) are *related*. What is
related, directly or through others, stays together: a model that has learnt one of them knows the others, and
would be measured by memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.label_sets import LabelledPictures, Membership
from imagesearch.records import ImageRecord, PlainValues
from imagesearch.search.grouping import near_identical
from imagesearch.stores.base import Vectors

Places = NDArray[np.int64]

# Shots of a burst follow each other within so many seconds.
BURST_SECONDS = 3.0
# Rows whose cosines with all others are in memory at once.
_BLOCK = 1000


@dataclass(frozen=True, eq=False, slots=True)
class Relations:
    """What is related.

    Attributes:
        groups: int64, shape (n,): pictures with the same number are related; numbers run from 0.
        identical, near_identical, burst: how many pictures have a relative of each kind.
    """

    groups: Places
    identical: int
    near_identical: int
    burst: int


def find_relations(pictures: Sequence[ImageRecord], vectors: Vectors, *, bound: float | None = None) -> Relations:
    """Find pictures that show the same.

    Args:
        pictures: n of them.
        vectors: float32, shape (n, dim), of any length.
        bound: the cosine from which on two of them are nearly the same; default:
            :func:`~imagesearch.search.grouping.near_identical`.
    """
    kinds = (
        list(_identical_pairs(pictures)),
        list(_near_pairs(vectors, near_identical(vectors) if bound is None else bound)),
        list(_burst_pairs(pictures)),
    )
    sets = _DisjointSets(len(pictures))
    for pairs in kinds:
        for one, other in pairs:
            sets.join(one, other)
    counts = [len({place for pair in pairs for place in pair}) for pairs in kinds]
    return Relations(sets.numbers(), *counts)


def unrelated(count: int) -> Relations:
    """Relations of pictures that have none: a split without the guard."""
    return Relations(np.arange(count, dtype=np.int64), 0, 0, 0)


class _DisjointSets:
    """Union-find (Galler & Fischer 1964) with path halving."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))

    def _root(self, place: int) -> int:
        parents = self._parents
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        self._parents[second] = first

    def numbers(self) -> Places:
        """The set of each member, numbered from 0 in the order of their first members."""
        roots = [self._root(place) for place in range(len(self._parents))]
        return np.unique(np.array(roots, np.int64), return_inverse=True)[1].astype(np.int64)


def _identical_pairs(pictures: Sequence[ImageRecord]) -> Iterator[tuple[int, int]]:
    first: dict[str, int] = {}
    for place, picture in enumerate(pictures):
        if picture.content_hash and (known := first.setdefault(picture.content_hash, place)) != place:
            yield known, place


def _near_pairs(vectors: Vectors, bound: float) -> Iterator[tuple[int, int]]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1)
    for start in range(0, len(units), _BLOCK):
        cosines = units[start : start + _BLOCK] @ units[start:].T
        # Rounding must not tell equal vectors apart.
        rows, columns = np.nonzero(cosines >= bound - 1e-6)
        later = columns > rows
        yield from zip((rows[later] + start).tolist(), (columns[later] + start).tolist(), strict=True)


def _burst_pairs(pictures: Sequence[ImageRecord]) -> Iterator[tuple[int, int]]:
    """Neighbours in time of one camera; where no camera is named, of one folder."""
    shots: dict[str, list[tuple[float, int]]] = {}
    for place, picture in enumerate(pictures):
        if (moment := _moment(picture.taken)) is not None:
            shots.setdefault(picture.camera or os.path.dirname(picture.path), []).append((moment, place))
    for listed in shots.values():
        listed.sort()
        for (before, one), (after, other) in pairwise(listed):
            if after - before <= BURST_SECONDS:
                yield one, other


def _moment(taken: str | None) -> float | None:
    """Seconds since an arbitrary moment; None where the file does not say, or no time that exists."""
    if not taken:
        return None
    try:
        moment = datetime.fromisoformat(taken).replace(tzinfo=None)
    except ValueError:
        return None
    return (moment - datetime(1970, 1, 1)).total_seconds()


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Two parts of n pictures; together they are all of them.

    Attributes:
        training, held_out: places, sorted, int64.
    """

    training: Places
    held_out: Places


def split(members: Membership, relations: Relations, *, held_out: float = 0.2, seed: int = 0) -> Split:
    """Set pictures aside for measuring: of each class about the same part, related ones together.

    Groups of related pictures are visited in random order, and one is set aside where that brings its classes
    nearer to their parts. So a class is off by no more than the size of its largest group. Every class keeps a
    picture to learn from; one that has a single picture, or a single group, has none set aside.

    Args:
        members: which labels each picture has, bool, shape (n, classes).
        relations: of the n pictures.
        held_out: the part to set aside, above 0 and below 1.
        seed: of the order.

    Raises:
        UsageError: the part is not within 0 and 1, or nothing can be set aside.
    """
    check_held_out(held_out)
    counts = members.sum(axis=0)
    # Of two pictures one is set aside, however small the part: a class without any is not measured.
    wanted = np.where(counts > 1, np.maximum(np.round(held_out * counts), 1), 0).astype(np.int64)
    left = counts.astype(np.int64)
    aside: list[int] = []
    for group in _shuffled_groups(relations, seed):
        own = members[group].sum(axis=0)
        is_nearer = np.abs(wanted - own).sum() < np.abs(wanted).sum()
        if is_nearer and (left[own > 0] > own[own > 0]).all():
            wanted = wanted - own
            left = left - own
            aside += group.tolist()
    if not aside:
        raise UsageError(
            "no picture can be set aside to measure with: every class has a single picture, or only pictures that"
            " are copies of one another"
        )
    places = np.sort(np.array(aside, np.int64))
    return Split(np.setdiff1d(np.arange(len(members)), places), places)


def check_held_out(part: float) -> None:
    """Refuse a part of the pictures that cannot be set aside.

    Raises:
        UsageError: it is not above 0 and below 1.
    """
    if not 0 < part < 1:
        raise UsageError(f"a held-out part of {part:g}: must be above 0 and below 1")


def folds(members: Membership, groups: Places, count: int, *, seed: int = 0) -> Places:
    """Divide pictures into folds for cross-validation: classes evenly, related ones together.

    Args:
        members: bool, shape (n, classes).
        groups: int64, shape (n,); see :class:`Relations`.
        count: how many folds, at least 2.
        seed: of the order.

    Returns:
        The fold of each picture, int64, shape (n,), from 0.
    """
    if count < 2:
        raise UsageError(f"cross-validation with {count} fold(s): at least 2 are needed")
    filled = np.zeros((count, members.shape[1]))
    sizes = np.zeros(count)
    found = np.empty(len(members), np.int64)
    shares = np.maximum(members.sum(axis=0), 1)
    # Large groups first, while all folds have room.
    for group in sorted(_shuffled_groups(Relations(groups, 0, 0, 0), seed), key=len, reverse=True):
        own = members[group].sum(axis=0)
        classes = np.flatnonzero(own)
        burden = (filled[:, classes] / shares[classes]).sum(axis=1)
        fold = int(np.lexsort((sizes, burden))[0])
        filled[fold] += own
        sizes[fold] += len(group)
        found[group] = fold
    return found


def _shuffled_groups(relations: Relations, seed: int) -> Iterable[Places]:
    """The pictures of each group, groups in random order."""
    order = np.argsort(relations.groups, kind="stable")
    starts = np.flatnonzero(np.diff(relations.groups[order])) + 1
    listed = np.split(order, starts)
    return [listed[place] for place in np.random.default_rng(seed).permutation(len(listed))]


@dataclass(frozen=True, slots=True)
class SplitReport(PlainValues):
    """What the split did.

    Attributes:
        training, held_out: numbers of pictures.
        identical, near_identical, burst: pictures with a relative of each kind.
        leaking: pictures that a split without regard to relatives would have measured with although a relative of
            theirs was learnt from.
        leaks: some of them, each with a relative: paths.
        single: classes with one picture, all of which are learnt from.
        unmeasured: classes none of whose pictures could be set aside, those with one picture included.
        conflicts: groups of related pictures that have different labels.
    """

    training: int
    held_out: int
    identical: int
    near_identical: int
    burst: int
    leaking: int
    leaks: list[tuple[str, str]]
    single: list[str]
    unmeasured: list[str]
    conflicts: int


def report_split(
    labelled: LabelledPictures, parts: Split, relations: Relations, naive: Split, *, shown: int = 10
) -> SplitReport:
    """Say what a split did, and what would have gone wrong with another one.

    Args:
        labelled: what was split.
        parts: the split.
        relations: that it heeds.
        naive: a split without regard to relatives, with the same seed: see :func:`unrelated`.
        shown: leaks that are listed.
    """
    groups, members, pictures = relations.groups, labelled.members, labelled.pictures
    learnt = dict(zip(groups[naive.training].tolist(), naive.training.tolist(), strict=True))
    leaks = [(place, learnt[group]) for place in naive.held_out if (group := int(groups[place])) in learnt]
    counts, measured = members.sum(axis=0), members[parts.held_out].sum(axis=0)
    _, first = np.unique(groups, return_index=True)
    differs = (members != members[first[groups]]).any(axis=1)
    return SplitReport(
        training=len(parts.training),
        held_out=len(parts.held_out),
        identical=relations.identical,
        near_identical=relations.near_identical,
        burst=relations.burst,
        leaking=len(leaks),
        leaks=[(pictures[one].path, pictures[other].path) for one, other in leaks[:shown]],
        single=[name for name, count in zip(labelled.names, counts, strict=True) if count == 1],
        unmeasured=[name for name, count in zip(labelled.names, measured, strict=True) if count == 0],
        conflicts=len(np.unique(groups[differs])),
    )
