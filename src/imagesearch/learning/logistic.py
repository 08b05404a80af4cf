"""Logistic regression on vectors: multinomial, or one against the rest where a picture may have several labels.

Minimises the mean loss plus ``l2 / 2`` times the squared weights (biases are free) by L-BFGS (Liu & Nocedal, "On
the limited memory BFGS method for large scale optimization", 1989). Its initial Hessian is that of the covariance
of the vectors, after Böhning, "Multinomial logistic regression algorithm", 1992: some ten evaluations are enough
then, where plain L-BFGS needs hundreds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# float32 or float64: the dtype of the vectors is that of everything.
Numbers: TypeAlias = "NDArray[Any]"
# From a point to its value, and what computes the gradient there, which a rejected point does not need.
_Objective: TypeAlias = "Callable[[Numbers], tuple[float, Callable[[], Numbers]]]"

# Steps that L-BFGS remembers.
_MEMORY = 10
# Sufficient decrease of a step (Armijo), and the shortest part of one that is tried.
_DECREASE, _SHORTEST = 1e-4, 1e-6
# Variances below this part of the largest are rounding.
_FLATTEST = 1e-6


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """A linear layer: ``logits = vectors @ weights.T + bias``.

    Attributes:
        weights: shape (classes, dim).
        bias: shape (classes,).
    """

    weights: Numbers
    bias: Numbers

    def logits(self, vectors: Numbers) -> Numbers:
        """Shape (n, classes)."""
        return np.asarray(vectors @ self.weights.T + self.bias)


@dataclass(frozen=True, eq=False, slots=True)
class Spectrum:
    """In which directions vectors vary, and how much; they vary in no others.

    Attributes:
        variances: mean squares, shape (r,).
        axes: directions, orthonormal columns, shape (dim, r).
    """

    variances: Numbers
    axes: Numbers

    @classmethod
    def of(cls, vectors: Numbers) -> Spectrum:
        """Of vectors of shape (n, dim), by the smaller of their two matrices of products."""
        count, dim = vectors.shape
        if count >= dim:
            values, axes = np.linalg.eigh((vectors.T @ vectors / count).astype(np.float64))
            return cls(np.maximum(values, 0).astype(vectors.dtype), axes.astype(vectors.dtype))
        values, mixed = np.linalg.eigh((vectors @ vectors.T / count).astype(np.float64))
        kept = values > _FLATTEST * max(values[-1], 1e-30)
        axes = vectors.T @ (mixed[:, kept] / np.sqrt(values[kept] * count))
        return cls(values[kept].astype(vectors.dtype), axes.astype(vectors.dtype))


class LogisticRegression:
    """Vectors and what they show; fitted for one strength of regularisation after the other.

    Args:
        vectors: float32 or float64, shape (n, dim); of zero mean and unit variance, or it takes longer.
        members: bool, shape (n, classes): which labels each has.
        several: whether each label is decided by itself (sigmoid), not one of all (softmax).
        importance: weight of each row, shape (n,); default: 1.
        spectrum: of these vectors or of ones like them, where it is known; it saves steps. Of few vectors it must
            be their own: a rough fit says next to nothing of others that the spectrum knows.
    """

    def __init__(
        self,
        vectors: Numbers,
        members: NDArray[np.bool_],
        *,
        several: bool = False,
        importance: Numbers | None = None,
        spectrum: Spectrum | None = None,
    ) -> None:
        kind = vectors.dtype
        self._vectors, self._several = vectors, several
        self._truth = members.astype(kind)
        if not several:  # of a picture with several labels each is as likely
            self._truth /= self._truth.sum(axis=1, keepdims=True)
        weights = np.ones(len(vectors)) if importance is None else np.asarray(importance, np.float64)
        self._weights = (weights / weights.sum()).astype(kind)[:, None]
        # The variance of a label's indicator, in the mean over labels, is how curved the loss is.
        shares = (self._truth * self._weights).sum(axis=0)
        curvature = max(float((shares * (1 - shares)).mean()), 1e-6)
        own = Spectrum.of(vectors) if spectrum is None else spectrum
        self._axes, self._curvatures = own.axes, kind.type(curvature) * own.variances
        self._free = kind.type(curvature)
        errors = ((0.5 if several else 1 / members.shape[1]) - self._truth) * self._weights
        self._scale = float(max(np.abs(errors.T @ vectors).max(), np.abs(errors.sum(axis=0)).max()))

    def fit(self, l2: float, start: Linear | None = None, *, tolerance: float = 1e-4, limit: int = 200) -> Linear:
        """The weights that minimise the loss.

        Args:
            l2: strength of the regularisation.
            start: where to begin, such as the result for a stronger one; default: zeros.
            tolerance: of the largest entry of the gradient in units of its initial largest, from zeros.
            limit: of iterations.
        """
        classes, dim = self._truth.shape[1], self._vectors.shape[1]
        begin = np.zeros((classes, dim + 1), self._vectors.dtype)
        if start is not None:
            begin[:, :-1], begin[:, -1] = start.weights, start.bias
        evaluate = self._objective(l2)
        found = _minimise(evaluate, self._preconditioner(l2), begin, tolerance * self._scale, limit)
        return Linear(found[:, :-1].copy(), found[:, -1].copy())

    def _objective(self, l2: float) -> _Objective:
        vectors, truth, weights = self._vectors, self._truth, self._weights
        likelihood = _several if self._several else _one_of_all

        def evaluate(point: Numbers) -> tuple[float, Callable[[], Numbers]]:
            logits = vectors @ np.ascontiguousarray(point[:, :-1].T)
            logits += point[:, -1]
            loss, errors = likelihood(logits, truth, weights)

            def gradient() -> Numbers:
                found = np.empty_like(point)
                found[:, :-1] = errors.T @ vectors
                found[:, :-1] += l2 * point[:, :-1]
                found[:, -1] = errors.sum(axis=0)
                return found

            return loss + 0.5 * l2 * float(np.vdot(point[:, :-1], point[:, :-1])), gradient

        return evaluate

    def _preconditioner(self, l2: float) -> Callable[[Numbers], Numbers]:
        flat = self._vectors.dtype.type(1 / l2)
        # Where vectors do not vary, only the regularisation curves the loss.
        is_whole = self._axes.shape[0] == self._axes.shape[1]
        scales = 1 / (self._curvatures + self._vectors.dtype.type(l2)) - (0 if is_whole else flat)

        def apply(gradient: Numbers) -> Numbers:
            found = np.empty_like(gradient)
            found[:, :-1] = ((gradient[:, :-1] @ self._axes) * scales) @ self._axes.T
            if not is_whole:
                found[:, :-1] += flat * gradient[:, :-1]
            found[:, -1] = gradient[:, -1] / self._free
            return found

        return apply


def _one_of_all(logits: Numbers, truth: Numbers, weights: Numbers) -> tuple[float, Numbers]:
    """Cross-entropy of the softmax, and its derivative by the logits."""
    logits -= logits.max(axis=1, keepdims=True)
    fitting = np.einsum("ij,ij->i", logits, truth)
    np.exp(logits, out=logits)
    totals = logits.sum(axis=1, keepdims=True)
    loss = float(np.vdot(weights[:, 0], np.log(totals[:, 0]) - fitting))
    logits /= totals
    logits -= truth
    logits *= weights
    return loss, logits


def _several(logits: Numbers, truth: Numbers, weights: Numbers) -> tuple[float, Numbers]:
    """Cross-entropy of each label's sigmoid, summed over labels, and its derivative by the logits."""
    losses = np.logaddexp(0, logits) - truth * logits
    errors = (0.5 * (1 + np.tanh(0.5 * logits)) - truth) * weights
    return float((losses * weights).sum(dtype=np.float64)), errors


def _minimise(
    evaluate: _Objective,
    precondition: Callable[[Numbers], Numbers],
    point: Numbers,
    tolerance: float,
    limit: int,
) -> Numbers:
    """L-BFGS with backtracking; ends at the tolerance, the limit, or where rounding hides all progress."""
    pairs: deque[tuple[Numbers, Numbers, float]] = deque(maxlen=_MEMORY)
    value, slope_at = evaluate(point)
    gradient = slope_at()
    for _ in range(limit):
        if np.abs(gradient).max() <= tolerance:
            break
        step = -_direction(gradient, pairs, precondition)
        slope, part = float(np.vdot(gradient, step)), 1.0
        if slope >= 0:
            break
        while True:
            moved = part * step
            new_value, slope_at = evaluate(point + moved)
            if new_value <= value + _DECREASE * part * slope:
                break
            part /= 2
            if part < _SHORTEST:
                return point
        new_gradient = slope_at()
        change = new_gradient - gradient
        if (bend := float(np.vdot(change, moved))) > 0:
            pairs.append((moved, change, bend))
        point, value, gradient = point + moved, new_value, new_gradient
    return point


def _direction(
    gradient: Numbers, pairs: deque[tuple[Numbers, Numbers, float]], precondition: Callable[[Numbers], Numbers]
) -> Numbers:
    """The inverse Hessian, as far as known, times the gradient: the two-loop recursion."""
    direction, parts = gradient.copy(), []
    for moved, change, bend in reversed(pairs):
        part = float(np.vdot(moved, direction)) / bend
        direction -= part * change
        parts.append(part)
    direction = precondition(direction)
    if pairs:
        _, change, bend = pairs[-1]
        direction *= bend / float(np.vdot(change, precondition(change)))
    for (moved, change, bend), part in zip(pairs, reversed(parts), strict=True):
        direction += (part - float(np.vdot(change, direction)) / bend) * moved
    return direction
