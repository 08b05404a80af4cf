"""What to do with hits that resemble each other: fold near-identical ones into one, or prefer different ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from imagesearch.errors import UsageError
from imagesearch.records import Hit, Metric

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from imagesearch.stores.base import Collection, Vectors

    _Precise: TypeAlias = NDArray[np.float64]

# Candidates per wanted hit: what is folded or passed over has to be replaced by something.
CANDIDATES_PER_HIT = 5
FEWEST_CANDIDATES = 50
# More hits are not looked at for that.
MOST_CANDIDATES = 10_000

# Of :func:`near_identical`, chosen by benchmarks/near_identical.py. Up to one pair of a hundred may be of copies,
# as where every picture of a thousand is there ten times.
_USUAL_SHARE = 0.99
_WAY_TO_EQUAL = 0.75
_HIGHEST = 0.97
# Pictures that stand for a collection; half a million pairs.
_SAMPLE = 1000


@dataclass(frozen=True, slots=True)
class Group:
    """A hit and those after it that show nearly the same.

    Attributes:
        best: the first of them, with the rank that it had among all hits.
        others: the others, by rank; each is near to ``best``, not only to one another.
    """

    best: Hit
    others: tuple[Hit, ...] = ()

    @property
    def hits(self) -> tuple[Hit, ...]:
        """All of them, by rank."""
        return (self.best, *self.others)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: those of the best hit, and the paths of the others."""
        return {**self.best.to_dict(), "others": [hit.path for hit in self.others]}


def candidates_for(k: int) -> int:
    """How many hits to search for, so that about ``k`` are left after :func:`fold` or :func:`diversify`.

    Examples:
        >>> candidates_for(3), candidates_for(20), candidates_for(5_000)
        (50, 100, 10000)
    """
    return max(FEWEST_CANDIDATES, k, min(CANDIDATES_PER_HIT * k, MOST_CANDIDATES))


def stored_vectors(collection: Collection, hits: Sequence[Hit]) -> tuple[list[Hit], Vectors]:
    """Hits with their vectors from the collection, float32, shape (number of hits, dim).

    A picture that was removed since it was found is left out.

    Raises:
        StoreError: the database fails.
    """
    pictures, vectors = collection.fetch([hit.picture.id for hit in hits])
    there = {picture.id for picture in pictures}
    return [hit for hit in hits if hit.picture.id in there], vectors


def near_identical(vectors: Vectors) -> float:
    """The cosine from which on two pictures of a collection count as nearly the same.

    No fixed one is good for all models: a copy of half the size has a cosine of .999 (in the median) with the
    bundled model and of .87 with MobileNetV2, where the two most similar of 1,000 different photographs have .96
    and .71. It is three quarters of the way from the cosine that one pair of a hundred exceeds to 1, and at most
    .97. ``benchmarks/near_identical.py`` says what is folded then.

    Args:
        vectors: some of the collection's, shape (n, dim), the more different the better; at most 1,000 of them are
            compared, evenly spread.
    """
    if len(vectors) < 2:
        return _HIGHEST
    chosen = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), _SAMPLE)).astype(int)]
    units = _units(chosen)
    cosines = (units @ units.T)[np.triu_indices(len(units), 1)]
    usual = float(np.quantile(cosines, _USUAL_SHARE))
    return min(_HIGHEST, usual + _WAY_TO_EQUAL * (1 - usual))


def near_identical_in(collection: Collection) -> float:
    """The same for a collection, of which 1,000 pictures are read, evenly spread over all.

    Raises:
        StoreError: the database fails.
    """
    ids = [int(row) for part in collection.scan_columns(["id"]) for row in part["id"]]
    chosen = np.linspace(0, len(ids) - 1, min(len(ids), _SAMPLE)).astype(int)
    _, vectors = collection.fetch([ids[place] for place in chosen])
    return near_identical(vectors)


def fold(hits: Sequence[Hit], vectors: Vectors, bound: float) -> list[Group]:
    """Put every hit that is nearly the same as a better one behind that one.

    A hit joins the first group whose best hit is that near, so that a chain of pictures, each near to the next,
    does not become one group.

    Args:
        hits: best first.
        vectors: theirs, shape (number of hits, dim), of any length.
        bound: the least cosine of two vectors that count as nearly the same; see :func:`near_identical`.

    Returns:
        Groups, best first. All hits are in them, once.

    Raises:
        UsageError: there are more or fewer vectors than hits, or the bound is not within -1 to 1.
    """
    _check(hits, vectors)
    if not -1 <= bound <= 1:
        raise UsageError(f"a cosine of {bound:g}: near-identical hits are told by one of -1 to 1")
    units = _units(vectors)
    leaders: list[int] = []
    members: dict[int, list[Hit]] = {}
    for place, hit in enumerate(hits):
        # Rounding must not tell equal vectors apart.
        near = np.flatnonzero(units[leaders] @ units[place] >= bound - 1e-6)
        if near.size:
            members[leaders[near[0]]].append(hit)
        else:
            leaders.append(place)
            members[place] = []
    return [Group(hits[leader], tuple(members[leader])) for leader in leaders]


def diversify(
    hits: Sequence[Hit],
    vectors: Vectors,
    *,
    k: int | None = None,
    weight: float = 0.7,
    metric: Metric = Metric.COSINE,
) -> list[Hit]:
    """Choose hits that are similar to the query, but not to each other: maximal marginal relevance (MMR).

    One after the other is taken that has the largest ``weight * s(query, hit) - (1 - weight) * max s(taken, hit)``
    (for the first one the maximum is 0), where ``s`` is the collection's similarity; for squared L2 distance, its
    negative. Of equally good ones the first is taken. The n-th is taken from the first ranks, as many as
    :func:`candidates_for` says of n, or is the next by rank where all of these are taken: so it is the same one
    whatever ``k`` is, and pages follow one another. J. Carbonell and J. Goldstein, "The use of MMR,
    diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.

    Args:
        hits: candidates, best first; those of the first :func:`candidates_for` ranks. Their scores are
            ``s(query, hit)``; an order that re-ranking gave them only counts among equals.
        vectors: theirs, float32, shape (number of hits, dim).
        k: how many; default: all, in the order in which they are taken.
        weight: 1: the most similar ones, whatever they are like; towards 0: the most different ones. With .7, ten
            of fifty hits of the bundled model on Tiny ImageNet are less similar to each other (cosine .69 instead
            of .73), and nearly as often of the query's class (26 instead of 29 %).
        metric: what the scores are.

    Returns:
        At most ``k`` hits with new ranks, from 1; their scores are as they were.

    Raises:
        UsageError: there are more or fewer vectors than hits, or the weight is not within 0 to 1.
    """
    _check(hits, vectors)
    if not 0 <= weight <= 1:
        raise UsageError(f"a weight of {weight:g}: that of similarity to the query must be 0 to 1")
    wanted = len(hits) if k is None else min(k, len(hits))
    sign = 1.0 if metric.higher_is_closer else -1.0
    relevance = weight * sign * np.array([hit.score for hit in hits], dtype=np.float64)
    measured = _units(vectors) if metric is Metric.COSINE else vectors.astype(np.float64)
    ranks = np.array([hit.rank for hit in hits])
    nearest = np.full(len(hits), -np.inf)
    free = np.ones(len(hits), dtype=bool)
    taken: list[int] = []
    while len(taken) < wanted:
        marginal = relevance - (1 - weight) * nearest if taken and weight < 1 else relevance
        candidates = free & (ranks <= candidates_for(len(taken) + 1))
        # Hits are in order of their ranks: the first that is free is the next.
        best = int(np.argmax(np.where(candidates, marginal, -np.inf) if candidates.any() else free))
        taken.append(best)
        free[best] = False
        nearest = np.maximum(nearest, _similarities(measured, best, metric))
    return [replace(hits[place], rank=rank) for rank, place in enumerate(taken, start=1)]


def _similarities(vectors: _Precise, one: int, metric: Metric) -> _Precise:
    if metric is Metric.L2:
        return np.asarray(-((vectors - vectors[one]) ** 2).sum(axis=1))
    return np.asarray(vectors @ vectors[one])


def _units(vectors: Vectors) -> _Precise:
    """Scaled to unit length; a vector of zeros stays as it is, and resembles nothing."""
    precise = vectors.astype(np.float64)
    lengths = np.linalg.norm(precise, axis=1, keepdims=True)
    return np.asarray(precise / np.where(lengths > 0, lengths, 1.0))


def _check(hits: Sequence[Hit], vectors: Vectors) -> None:
    if np.ndim(vectors) != 2 or len(vectors) != len(hits):
        raise UsageError(
            f"{len(hits)} hits with vectors of shape {np.shape(vectors)}: one vector for each is needed"
        )
