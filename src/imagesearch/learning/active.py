"""Which pictures a person should label next, so that few labels teach much: active learning.

Two stages, because what is useful depends on how much is known (Hacohen, Dekel & Weinshall, "Active learning on a
budget: opposite strategies suit high and low budgets", 2022):

* **Coverage**, from the first picture on. Each picture is explained by the labelled one most similar to it,
  through a kernel of their cosine; the next one is that which explains most of what is not explained yet. So first
  come pictures typical of many others, each of another kind. A picture counts by how unsure the probe is of it
  (one minus the margin between its two most probable labels), so that what is known already attracts no more;
  but only once classes have some labels, before which margins say nothing.
  Bae, Sutherland & Oliveira, "Uncertainty herding: one active learning method for all label budgets", 2024;
  without the uncertainty it is MaxHerding (Bae, Oliveira & Sutherland, "Generalized coverage for more robust
  low-budget active learning", 2024), a smooth ProbCover (Yehuda et al., "Active learning through a covering lens",
  2022).
* **Variance**, once classes have some labels each: the next picture is that which most lowers the variance of the
  probe's predictions for all pictures, by Bayesian linear regression on the vectors (Cohn, Ghahramani & Jordan,
  "Active learning with statistical models", 1996; V-optimal design), again weighted by margin. Unlike uncertainty
  alone it does not ask for pictures that stay ambiguous whatever is labelled.

Both choose one picture after the other, each in view of those before it, so that a batch is diverse.
Near-identical pictures are never asked about twice. ``benchmarks/labelling.py`` simulates it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.learning.calibration import best_temperature, probabilities
from imagesearch.learning.label_sets import Membership
from imagesearch.learning.logistic import Linear, LogisticRegression
from imagesearch.learning.probe import standard_of
from imagesearch.learning.splits import Places, folds
from imagesearch.models.pooling import unit_vectors
from imagesearch.records import PlainValues
from imagesearch.search.grouping import near_identical
from imagesearch.stores.base import Vectors

Scores = NDArray[np.float64]

# Of the kernel exp((cosine - 1) / width) of standardised vectors.
_WIDTH = 0.15
# Regularisation of the probe: cross-validation, which chooses it in training, needs more labels than there are.
# Twice as much gains a little accuracy, but makes the probe so unsure that it cannot tell how good it is.
_L2 = 0.01
# Labels per class, and labels, from which on variance counts: of fewer labels than that, it says little.
_ENOUGH, _FEWEST = 2, 200
# Labels per class from which on the probe's uncertainty counts: that of one or two says nothing.
_TRUSTED = 3
# Pictures that stand for all others, and that are compared for the largest gain in variance.
_REFERENCES, _CANDIDATES = 2000, 1500
# Tolerance of fits; a finer one changes no accuracy.
_TOLERANCE = 0.03
# Labels from which on one fold, not five, gives the temperature.
_MANY = 400


@dataclass(frozen=True, slots=True)
class Expectation(PlainValues):
    """The accuracy to expect of the probe on pictures without a label.

    Attributes:
        accuracy: the middle of the other two.
        low, high: two estimates, no interval; in order of size. One is the probe's own mean confidence, which is
            mostly too high; the other one is that after a temperature by which it is as sure as it is right in
            cross-validation on the labelled pictures, which are no random ones: mostly too low.
    """

    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, slots=True)
class Known:
    """What has been labelled.

    Attributes:
        places: of labelled pictures, each once, int64, shape (n,).
        codes: numbers of their labels, int64, shape (n,); not all numbers have to occur.
        skipped: places of pictures that shall not be asked for.
    """

    places: Places
    codes: Places
    skipped: Places

    @classmethod
    def of(cls, places: Sequence[int], codes: Sequence[int], skipped: Sequence[int] = ()) -> Known:
        """From any sequences of numbers."""
        return cls(*(np.asarray(values, np.int64) for values in (places, codes, skipped)))

    @property
    def classes(self) -> Places:
        """Numbers of the labels that occur, sorted."""
        return np.unique(self.codes)

    @property
    def members(self) -> Membership:
        """Which of :attr:`classes` each labelled picture has: bool, shape (n, classes)."""
        return np.asarray(self.codes[:, None] == self.classes)

    @property
    def seen(self) -> Places:
        """Labelled and skipped pictures."""
        return np.concatenate([self.places, self.skipped])


class ActivePool:
    """Pictures of which some are labelled, one after the other.

    A step takes well under a second for 10,000 pictures. Of more, give a sample.

    Attributes:
        size: how many pictures.
    """

    def __init__(self, vectors: Vectors, *, seed: int = 0, bound: float | None = None) -> None:
        """Compare the pictures.

        Args:
            vectors: float32, shape (n, dim), of any length, n at least 1.
            seed: of the samples that larger pools are represented by.
            bound: the cosine from which on pictures are nearly the same; default:
                :func:`~imagesearch.search.grouping.near_identical`.
        """
        self.size = len(vectors)
        self._random = np.random.default_rng(seed)
        self._units = unit_vectors(vectors)
        self._bound = near_identical(vectors) if bound is None else bound
        self._mean, self._scale = standard_of(vectors)
        self._standard = np.asarray((vectors - self._mean) / self._scale, np.float32)
        chosen = self._random.choice(self.size, min(self.size, _REFERENCES), replace=False)
        self._references = np.sort(chosen)
        directions = unit_vectors(self._standard)
        cosines = directions @ directions[self._references].T
        self._kernel = np.exp((cosines - 1) / np.float32(_WIDTH))
        # What is near to a picture that was labelled or skipped, as far as that is known.
        self._near = np.zeros(self.size, bool)
        self._compared: frozenset[int] = frozenset()
        self._fitted: tuple[Known, Linear | None] | None = None

    def choose(self, known: Known, count: int) -> Places:
        """Pictures to label next, the most useful first.

        Args:
            known: what is labelled and skipped already.
            count: how many; fewer come where all others are labelled, skipped, or nearly the same as such ones.
        """
        free = self._free(known)
        importance = self._importance(known)
        if len(known.places) >= max(_ENOUGH * len(known.classes), _FEWEST):
            return self._by_variance(known, free, importance, count)
        return self._by_coverage(known, free, importance, count)

    def left(self, known: Known) -> int:
        """How many pictures could still be asked for, before near-identical ones among them are left out."""
        return int(self._free(known).sum())

    def scores(self, known: Known, places: Sequence[int] | Places) -> Scores:
        """How probable each of ``known.classes`` is, shape (places, classes); uniform before there are two."""
        return self._scores(known, self._standard[places])

    def scores_of(self, known: Known, vectors: Vectors) -> Scores:
        """The same of other pictures, by their vectors, float32, shape (n, dim)."""
        return self._scores(known, np.asarray((vectors - self._mean) / self._scale, np.float32))

    def _scores(self, known: Known, standard: Vectors) -> Scores:
        linear = self._probe(known)
        return (
            np.ones((len(standard), len(known.classes)))
            if linear is None
            else probabilities(linear.logits(standard))
        )

    def expect(self, known: Known, seed: int = 0) -> Expectation | None:
        """The accuracy to expect on pictures without a label; None where too little is known to say.

        Pictures that show something that nobody has named yet cannot be foreseen: at the beginning it is too high.

        Args:
            seed: of the folds.
        """
        rest = np.setdiff1d(np.arange(self.size), known.seen)
        linear = self._probe(known)
        counts = known.members.sum(axis=0)
        if linear is None or not len(rest) or 2 * counts[counts > 1].sum() < len(known.places):
            return None
        logits = linear.logits(self._standard[rest])
        high = float(probabilities(logits).max(axis=1).mean())
        low = float(probabilities(logits / self._temperature(known, seed)).max(axis=1).mean())
        low, high = min(low, high), max(low, high)
        return Expectation(*(round(value, 4) for value in ((low + high) / 2, low, high)))

    # --- what is asked for ---

    def _by_coverage(self, known: Known, free: NDArray[np.bool_], importance: Scores, count: int) -> Places:
        """Uncertainty herding; see the module."""
        weights = importance[self._references].astype(np.float32)
        covered = np.zeros(len(self._references), np.float32)
        if len(known.seen):  # where somebody did not know an answer, asking again next to it will not help
            covered = self._kernel[known.seen].max(axis=0)
        gains = np.where(free, np.maximum(self._kernel - covered, 0) @ weights, -1)
        chosen: list[int] = []
        while len(chosen) < count and gains.max() >= 0:
            # Gains only fall while pictures are chosen: what is still the largest is the largest of all
            # (Minoux, "Accelerated greedy algorithms for maximizing submodular set functions", 1978).
            best = int(gains.argmax())
            gains[best] = np.maximum(self._kernel[best] - covered, 0) @ weights
            if gains[best] >= gains.max():
                chosen.append(best)
                covered = np.maximum(covered, self._kernel[best])
                gains[self._near_to([best])] = -1
        return np.array(chosen, np.int64)

    def _by_variance(self, known: Known, free: NDArray[np.bool_], importance: Scores, count: int) -> Places:
        """V-optimal design; see the module."""
        inputs = np.hstack([self._standard, np.ones((self.size, 1), np.float32)])
        inputs /= np.sqrt(np.float32(inputs.shape[1] - 1))
        learnt = inputs[known.places]
        precision = learnt.T @ learnt + _L2 * len(learnt) * np.eye(inputs.shape[1], dtype=np.float32)
        candidates = np.flatnonzero(free)
        if len(candidates) > _CANDIDATES:
            candidates = np.sort(self._random.choice(candidates, _CANDIDATES, replace=False))
        mine = inputs[candidates]
        solved = np.linalg.solve(precision, mine.T)
        # Of predictions: of references with candidates, and of candidates with each other, up to a factor.
        covariances = inputs[self._references] @ solved
        mutual = mine @ solved
        weights = importance[self._references].astype(np.float32)
        open_ = np.ones(len(candidates), bool)
        chosen: list[int] = []
        while len(chosen) < count and open_.any():
            gains = weights @ covariances**2 / (1 + np.diagonal(mutual))
            best = int(np.where(open_, gains, -1).argmax())
            chosen.append(int(candidates[best]))
            open_ &= ~self._near_to([chosen[-1]])[candidates]
            column, row = covariances[:, best].copy(), mutual[best].copy()
            scale = 1 + row[best]
            covariances -= np.outer(column, row / scale)
            mutual -= np.outer(row, row / scale)
        return np.array(chosen, np.int64)

    def _importance(self, known: Known) -> Scores:
        """One minus the margin of each picture's two most probable labels, shape (n,); 1 while little is known."""
        linear = self._probe(known)
        if linear is None or len(known.places) < _TRUSTED * len(known.classes):
            return np.ones(self.size)
        highest = np.partition(probabilities(linear.logits(self._standard)), -2, axis=1)[:, -2:]
        return np.asarray(1 - (highest[:, 1] - highest[:, 0]))

    def _free(self, known: Known) -> NDArray[np.bool_]:
        """Which pictures may be asked for, shape (n,)."""
        seen = frozenset(known.seen.tolist())
        if not seen >= self._compared:  # something was taken back
            self._near[:], self._compared = False, frozenset()
        if fresh := sorted(seen - self._compared):
            self._near |= self._near_to(fresh)
            self._compared = seen
        return ~self._near

    def _near_to(self, places: Sequence[int]) -> NDArray[np.bool_]:
        """Which pictures are nearly the same as one of these, or are one of these, shape (n,)."""
        near = (self._units @ self._units[places].T >= self._bound - 1e-6).any(axis=1)
        near[places] = True  # of a vector of zeros the cosine is 0
        return np.asarray(near)

    # --- what is known ---

    def _probe(self, known: Known) -> Linear | None:
        """The probe for the labels so far; None before there are two."""
        if self._fitted is None or self._fitted[0] is not known:
            self._fitted = known, self._fit(known) if len(known.classes) > 1 else None
        return self._fitted[1]

    def _fit(self, known: Known) -> Linear:
        return _fitted(self._standard[known.places], known.members, _TOLERANCE)

    def _temperature(self, known: Known, seed: int) -> float:
        """By cross-validation, of pictures whose label occurs twice or more: others cannot be told."""
        members, vectors = known.members, self._standard[known.places]
        count = len(members)
        places = folds(members, np.arange(count), min(5, count), seed=seed)
        logits = np.zeros(members.shape, np.float32)
        tried = np.zeros(count, bool)
        for fold in range(1 if count >= _MANY else int(places.max()) + 1):
            outside = places == fold
            logits[outside] = _fitted(vectors[~outside], members[~outside], 0.1).logits(vectors[outside])
            tried |= outside
        tried &= members.sum(axis=0)[members.argmax(axis=1)] > 1
        return best_temperature(logits[tried], members[tried], prior=0) if tried.sum() > 1 else 1.0


def _fitted(vectors: Vectors, members: Membership, tolerance: float) -> Linear:
    """A probe that takes all labels to be as frequent as each other; a label without a picture it never gives.

    What is labelled was not drawn at random, so how often a label was given says little about how frequent it is;
    of few pictures it would say little in any case. Menon et al., "Long-tail learning via logit adjustment", 2021.
    """
    linear = LogisticRegression(vectors, members).fit(_L2, tolerance=tolerance)
    shares = members.mean(axis=0, dtype=linear.bias.dtype)
    return Linear(linear.weights, linear.bias - np.log(np.where(shares > 0, shares, 1)))
