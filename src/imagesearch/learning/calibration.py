"""Whether scores are probabilities: expected calibration error, and the temperature that makes them so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.learning.confidence_evaluation import calibration_error, reliability
from imagesearch.learning.logistic import Numbers

# Of log(temperature), from 1/50 to 50, and how finely it is searched.
_WIDEST, _FINE = 4.0, 1e-3
# How many pictures' worth it weighs that logits are right as they are.
_PRIOR = 2.0
_GOLDEN = (5**0.5 - 1) / 2


def probabilities(logits: Numbers, *, several: bool = False) -> NDArray[np.float64]:
    """Softmax of each row, or the sigmoid of each number where a picture may have several labels."""
    precise = np.asarray(logits, np.float64)
    if several:
        return np.asarray(0.5 * (1 + np.tanh(0.5 * precise)))
    powers = np.exp(precise - precise.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_loss(logits: Numbers, members: NDArray[np.bool_], *, several: bool = False) -> float:
    """The mean over pictures of minus the log-probability of what they show.

    Args:
        logits: shape (n, classes).
        members: which labels each has, bool, shape (n, classes); without ``several`` one each.
        several: whether each label is decided by itself; the loss is their sum then.
    """
    precise = np.asarray(logits, np.float64)
    if several:
        return float((np.logaddexp(0, precise) - members * precise).sum(axis=1).mean())
    highest = precise.max(axis=1)
    totals = highest + np.log(np.exp(precise - highest[:, None]).sum(axis=1))
    return float((totals - (precise * members).sum(axis=1) / members.sum(axis=1)).mean())


def best_temperature(
    logits: Numbers, members: NDArray[np.bool_], *, several: bool = False, prior: float = _PRIOR
) -> float:
    """The number to divide logits by so that their log loss is least.

    Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", 2017. The order of labels stays as
    it is. Few pictures that are all labelled rightly would make all scores 1; so 1 / temperature has a gamma
    distribution around 1 beforehand, which hundreds of pictures overrule. Found by golden-section search, as the
    loss has a single minimum in 1 / temperature.

    Args:
        logits: of pictures that were not learnt from, shape (n, classes).
        members, several: see :func:`log_loss`.
        prior: strength of that distribution; 0: none.
    """
    low, high = -_WIDEST, _WIDEST

    def loss(log: float) -> float:
        strange = np.exp(-log) - 1 + log
        return log_loss(logits / np.exp(log), members, several=several) + prior / len(logits) * float(strange)

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > _FINE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = loss(right)
    return float(np.exp((low + high) / 2))


def expected_calibration_error(scores: NDArray[Any], correct: NDArray[Any]) -> float:
    """How far scores are from the part that is right, on average over ten equally wide bins of the score.

    Naeini, Cooper & Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", 2015.

    Args:
        scores: 0 to 1, of any shape; of pictures with one label, that of the first label.
        correct: whether each is right, of the same shape.
    """
    right = np.asarray(correct, bool).ravel()
    return calibration_error(reliability(np.asarray(scores, np.float64).ravel(), right))
