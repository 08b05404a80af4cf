"""A linear probe: the last layer of a classifier, learnt on the vectors of a network that stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.calibration import best_temperature, expected_calibration_error, log_loss, probabilities
from imagesearch.learning.label_sets import Membership
from imagesearch.learning.logistic import Linear, LogisticRegression, Numbers, Spectrum
from imagesearch.learning.splits import Places, folds
from imagesearch.records import Progress, no_progress
from imagesearch.stores.base import Vectors

# Strengths of regularisation are powers of the square root of ten, tried from here downhill.
_FIRST, _STRONGEST, _WEAKEST = -3, 2, -12
# A step must lower the loss by this factor: where hardly anything changes, weights would only grow.
_WORTH = 0.998
# Tolerances of fits. Those of the folds only choose a strength, and where there are many numbers to fit (pictures
# times classes) rough ones choose the same one.
_ROUGH, _FINE, _MANY = 0.1, 0.01, 200_000
# So many times as many pictures as numbers of a vector, and folds may share a spectrum. With fewer, one that knows
# the fold left out keeps rough fits from saying anything of it: its pictures seem unlike all that was learnt from.
_AMPLE = 2


@dataclass(frozen=True, eq=False, slots=True)
class Probe:
    """A probe and what cross-validation says of it.

    Attributes:
        linear: from vectors to calibrated logits: they are divided by the temperature already.
        l2: the strength of regularisation that was chosen.
        temperature: what the logits were divided by.
        losses: mean out-of-fold log loss of each strength that was tried; this and what follows of the pictures
            whose class was learnt without their fold, if there are such.
        accuracy: out of folds: the part of pictures whose first label is right (with several labels: the part of
            labels that are rightly said or not said).
        calibration_error, uncalibrated_error: expected calibration error out of folds, with the temperature, and
            without.
    """

    linear: Linear
    l2: float
    temperature: float
    losses: dict[float, float]
    accuracy: float
    calibration_error: float
    uncalibrated_error: float


def train_probe(
    vectors: Vectors,
    members: Membership,
    groups: Places,
    *,
    fold_count: int = 5,
    several: bool = False,
    balanced: bool = False,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Probe:
    """Learn a probe; cross-validation chooses the regularisation, and the temperature of its scores.

    Args:
        vectors: float32, shape (n, dim), of any length.
        members: which labels each picture has, bool, shape (n, classes).
        groups: of related pictures, int64, shape (n,), which share a fold.
        fold_count: folds of cross-validation; fewer where no class has so many groups.
        several: whether a picture may have several labels.
        balanced: whether rare classes count as much as frequent ones.
        seed: of the folds.
        progress: told of the stage ``"fit"``: fits, how many there will be being unknown.

    Raises:
        UsageError: the pictures to learn from are a single group.
    """
    mean, scale = standard_of(vectors)
    standard = (vectors - mean) / scale
    importance = importance_of(members) if balanced else None
    places = folds(members, groups, _possible_folds(groups, fold_count), seed=seed)
    trial = _CrossValidation(standard, members, places, several=several, importance=importance, progress=progress)
    l2 = _downhill(trial.loss)
    logits, known = trial.logits[l2], members[trial.known]
    temperature = best_temperature(logits, known, several=several) if trial.says_something else 1.0
    fitted = fit_linear(vectors, members, l2, several=several, importance=importance, start=trial.average(l2))
    linear = Linear(fitted.weights / np.float32(temperature), fitted.bias / np.float32(temperature))
    accuracy, error = _quality(logits / temperature, known, several)
    return Probe(linear, l2, temperature, trial.losses, accuracy, error, _quality(logits, known, several)[1])


def fit_linear(
    vectors: Vectors,
    members: Membership,
    l2: float,
    *,
    several: bool = False,
    importance: NDArray[np.float64] | None = None,
    start: Linear | None = None,
) -> Linear:
    """The linear layer for one strength of regularisation, whose logits are not calibrated.

    Args:
        vectors, members, several: see :func:`train_probe`.
        l2: the strength.
        importance: weight of each picture, shape (n,).
        start: near the result, for vectors of zero mean and unit variance.
    """
    mean, scale = standard_of(vectors)
    regression = LogisticRegression((vectors - mean) / scale, members, several=several, importance=importance)
    fitted = regression.fit(l2, start, tolerance=_FINE)
    weights = fitted.weights / scale
    return Linear(weights, fitted.bias - weights @ mean)


def fit_validated(
    training: tuple[Vectors, Membership],
    validation: tuple[Vectors, Membership],
    *,
    importance: NDArray[np.float64] | None = None,
) -> tuple[Linear, float]:
    """A calibrated head on vectors of a network that was trained with some of the pictures.

    Of these it knows too well where they belong. So the others choose the regularisation and the temperature.

    Args:
        training: vectors and labels of pictures that the network was trained with, to fit to.
        validation: of pictures that it was not trained with.
        importance: weight of each picture to fit to.

    Returns:
        From vectors to calibrated logits, and the strength of regularisation.
    """
    fits: dict[float, Linear] = {}

    def loss(l2: float) -> float:
        fits[l2] = fit_linear(*training, l2, importance=importance)
        return log_loss(fits[l2].logits(validation[0]), validation[1])

    l2 = _downhill(loss)
    temperature = np.float32(best_temperature(fits[l2].logits(validation[0]), validation[1]))
    return Linear(fits[l2].weights / temperature, fits[l2].bias / temperature), l2


def standard_of(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """What to subtract from each number of a vector and to divide it by; 1 where it never differs.

    Args:
        vectors: float32, shape (n, dim).

    Returns:
        Both float32, shape (dim,).
    """
    spread = vectors.std(axis=0, dtype=np.float64)
    scale = np.where(spread > 1e-6 * max(float(spread.max()), 1e-12), spread, 1)
    return vectors.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)


def importance_of(members: Membership) -> NDArray[np.float64]:
    """The weight of each picture, so that all classes weigh the same; of several labels the mean."""
    weights = 1 / np.maximum(members.sum(axis=0), 1)
    return np.asarray((members * weights).sum(axis=1) / members.sum(axis=1), np.float64)


def _possible_folds(groups: Places, wanted: int) -> int:
    count = min(wanted, len(np.unique(groups)))
    if count < 2:
        raise UsageError("all pictures to learn from are copies of one another: nothing can be learnt")
    return count


def _downhill(loss: Callable[[float], float]) -> float:
    """The strength with the least loss, by steps from the first one."""

    def at(power: int) -> float:
        return float(f"{10 ** (power / 2):.3g}")

    best, step = _FIRST, -1
    if loss(at(best + step)) > loss(at(best)):
        step = 1
    while _WEAKEST <= best + step <= _STRONGEST and loss(at(best + step)) < _WORTH * loss(at(best)):
        best += step
    return at(best)


class _CrossValidation:
    """Fits on all folds but one, predictions on that one.

    A picture whose class is in its own fold alone is not judged: what was fitted without it cannot name the class,
    and the temperature would have to make all scores alike.

    Attributes:
        known: places of the pictures that are judged; of all where there would be none.
        says_something: whether there are some.
        losses: by strength.
        logits: of the pictures that are judged, out of their folds, shape (known, classes), by strength.
    """

    def __init__(
        self,
        vectors: Vectors,
        members: Membership,
        places: Places,
        *,
        several: bool,
        importance: NDArray[np.float64] | None,
        progress: Progress,
    ) -> None:
        self._vectors, self._members, self._places, self._several = vectors, members, places, several
        self._progress, self._done = progress, 0
        self._tolerance = _ROUGH if members.size > _MANY else _FINE
        known = _learnt_elsewhere(members, places)
        self.says_something = bool(known.any())
        self.known = np.flatnonzero(known | (not self.says_something))
        self.losses: dict[float, float] = {}
        self.logits: dict[float, Numbers] = {}
        self._fits: dict[float, list[Linear]] = {}
        self._folds = []
        spectrum = Spectrum.of(vectors) if len(vectors) >= _AMPLE * vectors.shape[1] else None
        for fold in range(int(places.max()) + 1):
            inside = places != fold
            own = None if importance is None else importance[inside]
            self._folds.append(
                LogisticRegression(
                    vectors[inside], members[inside], several=several, importance=own, spectrum=spectrum
                )
            )

    def loss(self, l2: float) -> float:
        """The mean log loss out of folds; fits begin where those of the nearest strength ended."""
        if l2 not in self.losses:
            nearest = min(self._fits, key=lambda other: abs(np.log(other / l2)), default=None)
            starts = [None] * len(self._folds) if nearest is None else self._fits[nearest]
            logits = np.empty(self._members.shape, np.float32)
            self._fits[l2] = []
            for fold, (regression, start) in enumerate(zip(self._folds, starts, strict=True)):
                fitted = regression.fit(l2, start, tolerance=self._tolerance)
                outside = self._places == fold
                logits[outside] = fitted.logits(self._vectors[outside])
                self._fits[l2].append(fitted)
                self._done += 1
                self._progress("fit", self._done, None)
            self.logits[l2] = logits[self.known]
            self.losses[l2] = log_loss(self.logits[l2], self._members[self.known], several=self._several)
        return self.losses[l2]

    def average(self, l2: float) -> Linear:
        """The mean of the folds' fits, near to which that of all pictures lies."""
        fits = self._fits[l2]
        weights = np.stack([one.weights for one in fits]).mean(axis=0)
        return Linear(weights, np.stack([one.bias for one in fits]).mean(axis=0))


def _learnt_elsewhere(members: Membership, places: Places) -> NDArray[np.bool_]:
    """Of each picture whether all its labels have pictures in other folds."""
    inside = np.stack([members[places == fold].sum(axis=0) for fold in range(int(places.max()) + 1)])
    return np.asarray(~(members & (inside == members.sum(axis=0))[places]).any(axis=1))


def _quality(logits: Numbers, members: Membership, several: bool) -> tuple[float, float]:
    """Accuracy and expected calibration error."""
    scores = probabilities(logits, several=several)
    if several:
        return float(((scores > 0.5) == members).mean()), expected_calibration_error(scores, members)
    first = scores.argmax(axis=1)
    right = members[np.arange(len(first)), first]
    return float(right.mean()), expected_calibration_error(scores.max(axis=1), right)
