"""Calibrated confidence: how surprising a score is in a collection, and how likely a hit is related to the query.

What a score means differs by model and collection: .8 is a chance hit here and a copy there. So :func:`learn` asks
the collection itself, without labels, what the *nearest unrelated picture* scores (see
:mod:`imagesearch.search.chance`). From that come

* ``expected``, the number of unrelated pictures of a collection of this size that would score as high, as BLAST's
  E-value (Karlin and Altschul, "Methods for assessing the statistical significance of molecular sequence features
  by using general scoring schemes", PNAS 87, 1990): ``1 - exp(-expected)`` is the probability that a query which
  has nothing related in the collection is answered by such a score;
* ``confidence``, the probability that the hit is related: a logistic function of ``log(expected)`` (Platt,
  "Probabilistic outputs for support vector machines", 1999). Its few numbers were fitted, by
  ``training/confidence.py``, on labelled sets with half of their classes left out, and hold where every second
  query has something related.

Scores beyond a threshold are taken as exponential excesses (peaks over threshold: Pickands, "Statistical inference
using extreme order statistics", Annals of Statistics 3, 1975; with shape 0: no score is impossible by chance).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from imagesearch.atomic import replacing
from imagesearch.records import Fingerprint, Hit, Metric
from imagesearch.search.chance import Draws, Floats, closeness, draw
from imagesearch.stores.base import Collection, CollectionSpec

_log = logging.getLogger(__name__)

# A file of another version is learned anew. Raise it with any change of what is stored or of the numbers below.
FORMAT = 1
# Fewer rows, or draws, say nothing about chance.
MIN_ROWS, _MIN_DRAWS = 40, 20
# A collection that grew or shrank by a larger factor is another one; below it, `expected` is scaled.
_STALE = 2.0
# One that changed by a smaller share need not be learned again.
_HARDLY = 0.1

# Share of the draws that is fitted as the tail.
_TAIL = 0.15


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was learned once, from many labelled sets, and holds for all collections.

    Clusters are not kinds: taking them away removes too much in a collection without clusters, and too little in
    one of large ones. Two measures that need no labels tell most of it: the number of rows, and the spread: the
    standard deviation of the closeness of nearest rows over that of nearest rows outside clusters.

    Attributes:
        rows, spread, clustered: bounds of the measures; beyond them, they count as the bound.
        shift: what is added to the probit of a draw's rank: (constant, per unit of the natural logarithm of rows,
            per unit of spread).
        logistic: logit of the confidence: (constant, per unit of ``log(expected)``, per unit of the logarithm of
            :attr:`Background.clustered`, per product of both).
    """

    rows: tuple[float, float] = (100.0, 2000.0)
    spread: tuple[float, float] = (0.7, 1.8)
    clustered: tuple[float, float] = (0.4, 4.0)
    shift: tuple[float, float, float] = (0.8501, -0.4097, 1.8230)
    logistic: tuple[float, float, float, float] = (-1.4288, -0.4993, 0.4556, -0.1308)


CALIBRATION = Calibration()


@dataclass(frozen=True, slots=True)
class Background:
    """What pictures of one collection score by chance.

    Attributes:
        collection: its name.
        fingerprint: key of the model of its vectors.
        metric: how they are compared.
        rows: how many it had.
        clustered: how much it is made of clusters: the mean loss of closeness of nearest rows by taking coarse
            clusters away, in standard deviations.
        close: closeness (higher is closer, whatever the metric), ascending.
        log_expected: the natural logarithm of how many unrelated pictures are as close, on average, descending.
    """

    collection: str
    fingerprint: str
    metric: Metric
    rows: int
    clustered: float
    close: tuple[float, ...]
    log_expected: tuple[float, ...]

    def expected(self, scores: Sequence[float] | Floats, rows: int | None = None) -> Floats:
        """How many unrelated pictures would score as high, on average; the closer, the fewer.

        Args:
            scores: as the collection gives them, shape (n,).
            rows: the collection's now; default: as many as it had.

        Returns:
            float64, shape (n,), at least 0.
        """
        knots, values = np.array(self.close), np.array(self.log_expected)
        close = closeness(np.asarray(scores, np.float64), self.metric)
        slope = (values[-1] - values[-2]) / (knots[-1] - knots[-2])
        logs = np.interp(close, knots, values) + np.maximum(close - knots[-1], 0) * slope
        return np.asarray(np.exp(logs) * ((self.rows if rows is None else rows) / self.rows))

    def confidence(self, expected: Floats, calibration: Calibration = CALIBRATION) -> Floats:
        """The probability that a hit with this value of :meth:`expected` is related; the fewer, the likelier."""
        constant, slope, level, steeper = calibration.logistic
        measure = math.log(float(np.clip(self.clustered, *calibration.clustered)))
        logs = np.log(np.maximum(expected, 1e-300))
        logit = constant + level * measure + (slope + steeper * measure) * logs
        return np.asarray(1 / (1 + np.exp(-np.clip(logit, -700, 700))))

    def describes(self, collection: Collection, rows: int) -> bool:
        """Whether it is this collection's, and not that of an earlier or much smaller or larger one."""
        ours = (self.collection, self.fingerprint, self.metric)
        theirs = (collection.spec.name, collection.fingerprint.key, collection.spec.metric)
        return ours == theirs and self.rows / _STALE <= rows <= self.rows * _STALE

    def is_fresh(self, collection: Collection, rows: int) -> bool:
        """Whether it :meth:`describes` a collection that hardly changed since."""
        return self.describes(collection, rows) and abs(rows - self.rows) <= _HARDLY * self.rows

    def to_json(self) -> str:
        """One line of JSON, read back by :meth:`from_json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Background:
        """The inverse of :meth:`to_json`.

        Raises:
            ValueError: the text is something else, or of another version of this program.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values.pop("format") != FORMAT:
                raise ValueError("another format")
            for name in ("close", "log_expected"):
                values[name] = tuple(map(float, values[name]))
            background = cls(**{**values, "metric": Metric(values["metric"])})
            background._check()
        except (TypeError, KeyError, AttributeError, ValueError, RecursionError) as error:
            raise ValueError(f"not a background of this version: {error}") from error
        return background

    def _check(self) -> None:
        knots, values = np.array(self.close), np.array(self.log_expected)
        fits = len(knots) == len(values) >= 2 and np.isfinite([*knots, *values, self.clustered]).all()
        if not (fits and (np.diff(knots) > 0).all() and (np.diff(values) < 0).all() and self.rows >= 1):
            raise ValueError("values that no collection has")


def learn(collection: Collection, *, seed: int = 0, calibration: Calibration = CALIBRATION) -> Background | None:
    """What pictures of a collection score by chance, found without labels; takes about a second.

    Args:
        collection: with a current index, or this takes longer.
        seed: of the random choices: the same rows and seed give the same result.
        calibration: what was learned from labelled sets.

    Returns:
        None where nothing can be said: fewer than :data:`MIN_ROWS` rows, or hardly two that differ.

    Raises:
        StoreError: the database fails.
    """
    if collection.count() < MIN_ROWS:
        return None
    return background_of(draw(collection, seed), collection.spec, collection.fingerprint, calibration)


def background_of(
    draws: Draws, spec: CollectionSpec, fingerprint: Fingerprint, calibration: Calibration = CALIBRATION
) -> Background | None:
    """What :func:`learn` says of a collection from which these scores were drawn; None where that is nothing."""
    spread = float(np.std(draws.nearest)) if len(draws.nearest) >= _MIN_DRAWS else 0.0
    if not spread > 0 or np.ptp(draws.fine) == 0 or np.ptp(draws.pairs) == 0:
        return None
    clustered = float(np.mean(draws.nearest - draws.coarse)) / spread
    close, logs = _curve(draws, _shift(draws, calibration))
    return Background(spec.name, fingerprint.key, spec.metric, draws.rows, clustered, close, logs)


def measures(draws: Draws, calibration: Calibration = CALIBRATION) -> tuple[float, float]:
    """The logarithm of the rows, and the spread, within their bounds: what :attr:`Calibration.shift` weighs."""
    rows = float(np.clip(draws.rows, *calibration.rows))
    return math.log(rows), float(np.clip(np.std(draws.nearest) / np.std(draws.fine), *calibration.spread))


def _shift(draws: Draws, calibration: Calibration) -> float:
    """What to add to the probit of a draw's rank, because clusters are not kinds."""
    constant, by_rows, by_spread = calibration.shift
    rows, spread = measures(draws, calibration)
    return constant + by_rows * rows + by_spread * spread


def _curve(draws: Draws, shift: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots of closeness, ascending, and the logarithm of the expected number at each, strictly descending."""
    from statistics import NormalDist  # ten milliseconds that searching need not spend

    normal = NormalDist()
    threshold = float(np.quantile(draws.fine, 1 - _TAIL))
    excesses = draws.fine[draws.fine > threshold] - threshold
    scale = max(float(excesses.mean()) if len(excesses) else 0.0, 1e-6 * float(np.ptp(draws.pairs)))
    raw = np.concatenate([np.linspace(0.7, _TAIL, 24), _TAIL * np.exp(-np.arange(1, 49) / 3)])
    close = np.where(raw >= _TAIL, np.quantile(draws.fine, 1 - np.maximum(raw, _TAIL)), 0.0)
    close = np.where(raw < _TAIL, threshold + scale * np.log(_TAIL / raw), close)
    chance = np.array([normal.cdf(normal.inv_cdf(float(p)) + shift) for p in raw])
    upper = np.log(-np.log1p(-np.minimum(chance, 1 - 1e-9)))
    # Below: counts of random pairs, stretched in the logarithm so that the two parts meet.
    shares = np.linspace(1.0, 0.0, 50)[1:-1]
    below = np.quantile(draws.pairs, 1 - shares)
    meeting = max(float(np.mean(draws.pairs > close[0])), 0.5 / len(draws.pairs))
    rows = math.log(draws.rows)
    lower = rows + np.log(shares) * (upper[0] - rows) / math.log(meeting)
    keep = (below < close[0]) & (lower > upper[0])
    knots = np.concatenate([[draws.pairs[0] - 1e-6], below[keep], close])
    values = np.concatenate([[rows], lower[keep], upper])
    return _strictly(knots, np.minimum(values, rows))


def _strictly(knots: Floats, values: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots without those that are not closer, or not rarer, than one before."""
    kept: list[tuple[float, float]] = []
    for knot, value in zip(knots.tolist(), values.tolist(), strict=True):
        if not kept or (knot > kept[-1][0] and value < kept[-1][1]):
            kept.append((knot, value))
    return tuple(knot for knot, _ in kept), tuple(value for _, value in kept)


def assess(background: Background | None, collection: Collection, found: Sequence[list[Hit]]) -> list[list[Hit]]:
    """Hits with ``expected`` and ``confidence``; unchanged where the background is none, or not this collection's.

    Args:
        background: what :func:`learn` or :func:`read_background` returned.
        collection: where the hits are from.
        found: hits by query; scores and order stay.

    Raises:
        StoreError: the database fails.
    """
    rows = collection.count() if background else 0
    if background is None or not background.describes(collection, rows):
        return list(found)
    scores = np.array([hit.score for hits in found for hit in hits], np.float64)
    expected = background.expected(scores, rows)
    # The same vector is the same picture, to this model: no chance is left, whatever the fit says of its tail.
    same = {Metric.COSINE: 1.0, Metric.L2: 0.0}.get(collection.spec.metric)
    sure = np.where(scores == same, 1.0, background.confidence(expected))
    values = zip(expected.tolist(), sure.tolist(), strict=True)
    return [[_with(hit, *next(values)) for hit in hits] for hits in found]


def _with(hit: Hit, expected: float, confidence: float) -> Hit:
    # By its fields: dataclasses.replace takes several times as long, once for each hit of each query.
    return Hit(hit.rank, hit.score, hit.picture, expected, confidence)


def is_confident(hit: Hit, rate: float = 0.1) -> bool | None:
    """Whether a score like this hit's is rarer among queries that have nothing related than ``rate``.

    The first hit decides whether anything was found: of the queries with nothing related, ``rate`` get an answer.

    Returns:
        None where nothing is known (``hit.expected`` is None).
    """
    return None if hit.expected is None else -math.expm1(-hit.expected) <= rate


# Every search reads the file anew, as another process may have written it; what it says hardly ever changes.
_parsed = lru_cache(maxsize=4)(Background.from_json)


def read_background(file: Path, collection: Collection) -> Background | None:
    """What was learned of a collection; None, with a note in the log, where the file cannot be used."""
    try:
        background = _parsed(file.read_text(encoding="ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("ignored %s: %s; `imagesearch index` writes it anew", file, error)
        return None
    if background.describes(collection, collection.count()):
        return background
    _log.info("ignored %s: it describes another collection, or one of another size", file)
    return None


def write_background(file: Path, background: Background | None) -> None:
    """Keep what was learned; None removes the file.

    Raises:
        OSError: it cannot be written; the older one is untouched.
    """
    if background is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as fresh:
        fresh.write_text(background.to_json(), encoding="ascii")
