"""Labels by the nearest annotated pictures of a collection: nothing is trained, and new pictures count at once.

The k nearest neighbours of a picture vote for their labels. The vote of one at similarity s weighs
``exp((s - usual) / reach)``, where usual is how similar the nearest ones are; ``smoothing`` votes are shared out
by how frequent each label is (Laplace's rule with a prior). So a label's share is small where neighbours disagree,
and also where they are far. Shares to the power of 1 / ``temperature``, scaled to sum 1, are the probabilities.

All of it is learned from the collection's own pictures, each left out in turn: reach and smoothing are those under
which their labels have the largest shares (least log loss), the temperature the one under which the most probable
label's probability is truest (least log loss of "it is right").
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import UsageError
from imagesearch.learning.labels import folder_labels
from imagesearch.models.classifier import most_probable
from imagesearch.models.preprocessing import Pixels
from imagesearch.records import ImageRecord, Prediction, parse_annotations
from imagesearch.search.labels import BY_FOLDER
from imagesearch.stores.base import Collection, Vectors
from imagesearch.stores.columns import ID

if TYPE_CHECKING:
    from PIL import Image

    from imagesearch.models.embedder import Encoder

Floats = NDArray[np.float64]

# Pictures that are left out in turn, at most; and how many shares the temperature is chosen with.
_SAMPLE, _MOST_SHARES = 2000, 4_000_000
# Queries of one search.
_BLOCK = 256
# What is tried: reaches in parts of how far similarities of neighbours lie apart, smoothing in usual votes.
_REACHES = tuple(2.0**step for step in range(-5, 4))
_SMOOTHINGS = tuple(2.0**step for step in range(-9, 5))
_TEMPERATURES: tuple[float, ...] = tuple(2.0 ** (step / 8) for step in range(-16, 33))
# Copies of a picture that are left out with it, at most; more vote for it.
_MOST_COPIES = 10
# Beyond these, exp() and log() are not finite.
_STEEPEST, _LEAST = 600.0, 1e-300


@dataclass(frozen=True, eq=False, slots=True)
class KnownLabels:
    """What the annotated pictures of a collection are.

    Attributes:
        names: the labels, sorted.
        codes: id of a picture -> place of its label in ``names``.
        content: id of a picture -> the digest of its file, for those whose digest is known.
    """

    names: tuple[str, ...]
    codes: Mapping[int, int]
    content: Mapping[int, str]

    @property
    def prior(self) -> Floats:
        """How frequent each label is, each counted once more than it occurs: shape (labels,), sum 1."""
        counts = np.bincount(list(self.codes.values()), minlength=len(self.names)) + 1.0
        shares: Floats = counts / counts.sum()
        return shares


def read_known_labels(collection: Collection, by: str = BY_FOLDER) -> KnownLabels:
    """The labels of a collection's pictures.

    Args:
        by: a column of :mod:`imagesearch.library.annotations`, or ``"folder"``.

    Raises:
        UsageError: there are fewer than two labels.
        StoreError: the database fails.
    """
    found: dict[int, str] = {}
    content: dict[int, str] = {}
    columns: Counter[str] = Counter()
    for key, digest, label, names in _labels(collection, by):
        columns.update(names)
        if label is not None:
            found[key] = label
            if digest:
                content[key] = digest
    names = tuple(sorted(set(found.values())))
    if len(names) < 2:
        raise UsageError(_too_few(collection.spec.name, by, names, columns))
    places = {name: place for place, name in enumerate(names)}
    return KnownLabels(names, {key: places[label] for key, label in found.items()}, content)


def _labels(collection: Collection, by: str) -> Iterator[tuple[int, str, str | None, Sequence[str]]]:
    """Id, digest, label, and names of the columns of each picture."""
    wanted = ("path", "root") if by == BY_FOLDER else ("annotations",)
    for columns in collection.scan_columns([ID, "content_hash", *wanted]):
        keys = zip(columns[ID], columns["content_hash"], strict=True)
        if by == BY_FOLDER:
            pictures = map(ImageRecord, columns["path"], columns["root"])
            for (key, digest), label in zip(keys, folder_labels(list(pictures)), strict=True):
                yield int(key), digest, label, ()
        else:
            for (key, digest), text in zip(keys, columns["annotations"], strict=True):
                said = parse_annotations(text)
                yield int(key), digest, str(said[by]) if by in said else None, tuple(said)


def _too_few(name: str, by: str, names: Sequence[str], columns: Mapping[str, int]) -> str:
    if by == BY_FOLDER:
        return (
            f"collection {name!r}: its pictures lie in {len(names)} sub-folders of the indexed folder, and at"
            " least two are needed as labels: index the folder above, or name a column with --by"
        )
    there = ", ".join(sorted(columns)) or "none: join some with 'imagesearch annotate'"
    return (
        f"collection {name!r}: {len(names)} labels in the column {by!r}, and at least two are needed (columns:"
        f" {there})"
    )


@dataclass(frozen=True, eq=False, slots=True)
class Neighbours:
    """The nearest annotated pictures of some queries, closest first.

    Attributes:
        codes: places of their labels, int64, shape (queries, k); -1 where there are fewer.
        similarities: float64, likewise; -inf where there are fewer.
    """

    codes: NDArray[np.int64]
    similarities: Floats


@dataclass(frozen=True, slots=True)
class Votes:
    """How neighbours vote; see the module.

    Attributes:
        usual: the similarity at which a neighbour has one vote.
        reach: by which difference of similarities votes change by a factor of e.
        smoothing: votes that are shared out by how frequent labels are.
        temperature: what logarithms of shares are divided by.
    """

    usual: float
    reach: float
    smoothing: float
    temperature: float = 1.0

    def weights(self, near: Neighbours) -> Floats:
        """Votes of each neighbour: shape (queries, k)."""
        return np.exp(np.minimum((near.similarities - self.usual) / self.reach, _STEEPEST))

    def probabilities(self, near: Neighbours, prior: Floats) -> Floats:
        """The probability of each label: float64, shape (queries, labels), rows of sum 1."""
        votes = np.outer(np.full(len(near.codes), self.smoothing), prior)
        rows, places = np.nonzero(near.codes >= 0)
        np.add.at(votes, (rows, near.codes[rows, places]), self.weights(near)[rows, places])
        return tempered(votes, self.temperature)

    def log_loss(self, near: Neighbours, truth: NDArray[np.int64], prior: Floats) -> float:
        """The mean negative logarithm of the true label's share."""
        weights = self.weights(near)
        own = (weights * (near.codes == truth[:, None])).sum(axis=1) + self.smoothing * prior[truth]
        return float(-np.log(np.maximum(own / (weights.sum(axis=1) + self.smoothing), _LEAST)).mean())


def tempered(votes: Floats, temperature: float) -> Floats:
    """Positive votes, shape (queries, labels), to the power of 1 / temperature, scaled to rows of sum 1."""
    logarithms = np.log(np.maximum(votes, _LEAST)) / temperature
    powers = np.exp(logarithms - logarithms.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


class NearestLabels:
    """Labels pictures as the nearest annotated pictures of a collection are labelled.

    Attributes:
        labels: all that there are, sorted.
        votes: how neighbours vote, as was learned from them.
    """

    def __init__(self, embedder: Encoder, collection: Collection, known: KnownLabels, neighbours: int) -> None:
        """Learn how they vote.

        Args:
            embedder: the model of the collection.
            collection: the annotated pictures, and perhaps others.
            known: what they are.
            neighbours: how many vote, at least 1.

        Raises:
            StoreError: the database fails.
        """
        self.labels = known.names
        self._embedder, self._collection, self._known = embedder, collection, known
        self._k = min(neighbours, len(known.codes))  # there is room for so many, whether they are there or not
        self._ids = np.fromiter(known.codes, np.int64, len(known.codes))
        self._prior = known.prior
        self._copies: dict[str, list[int]] = {}
        for key, digest in known.content.items():
            self._copies.setdefault(digest, []).append(key)
        self.votes = self._learn()

    @property
    def decode_side(self) -> int | None:
        """See :func:`imagesearch.models.preprocessing.decode_side`."""
        return self._embedder.decode_side

    @property
    def batch_size(self) -> int:
        """How many pictures to label at once where nobody says."""
        return self._embedder.batch_size

    def preprocess(self, image: Image.Image) -> Pixels:
        """An upright RGB picture as input of :meth:`predict`. Thread-safe."""
        return self._embedder.preprocess(image)

    def predict(self, batch: Sequence[Pixels], top: int = 5) -> list[list[Prediction]]:
        """The most probable labels of preprocessed pictures, most probable first.

        Raises:
            ModelError, StoreError: memory does not hold the batch; the database fails.
        """
        return self.predict_vectors(self._embedder.encode(batch), top)

    def predict_vectors(
        self, vectors: Vectors, top: int = 5, without: Sequence[frozenset[int]] | None = None
    ) -> list[list[Prediction]]:
        """The same of vectors, float32, shape (n, dim).

        Args:
            without: for each of them ids of pictures that have no vote; see :meth:`same_picture`.
        """
        scores = self.votes.probabilities(self.neighbours(vectors, without), self._prior)
        return most_probable(scores.astype(np.float32), self.labels, top)

    def same_picture(self, key: int, digest: str = "") -> frozenset[int]:
        """Ids of the pictures of the collection that are this one, or copies of its file.

        Args:
            key: its id.
            digest: of its file's content, if it may not be in the collection.
        """
        digest = self._known.content.get(key, digest)
        return frozenset((key, *self._copies.get(digest, ())[:_MOST_COPIES])) if digest else frozenset((key,))

    def neighbours(self, vectors: Vectors, without: Sequence[frozenset[int]] | None = None) -> Neighbours:
        """The nearest annotated pictures of each vector; arguments as in :meth:`predict_vectors`."""
        left_out = without or [frozenset()] * len(vectors)
        more = max(map(len, left_out), default=0)
        codes = np.full((len(vectors), self._k), -1, np.int64)
        similarities = np.full((len(vectors), self._k), -np.inf)
        sign = 1.0 if self._collection.spec.metric.higher_is_closer else -1.0
        for start in range(0, len(vectors), _BLOCK):
            found = self._collection.search(vectors[start : start + _BLOCK], self._k + more, self._ids)
            for row, (hits, absent) in enumerate(zip(found, left_out[start:], strict=False), start):
                kept = [(hit.picture.id, hit.score) for hit in hits if hit.picture.id not in absent][: self._k]
                codes[row, : len(kept)] = [self._known.codes[key] for key, _ in kept]
                similarities[row, : len(kept)] = [sign * score for _, score in kept]
        return Neighbours(codes, similarities)

    def _learn(self) -> Votes:
        """How they vote, by a sample of the pictures, each of them left out."""
        chosen = self._ids
        if len(chosen) > _SAMPLE:
            chosen = np.random.default_rng(0).choice(np.sort(chosen), _SAMPLE, replace=False)
        records, vectors = self._collection.fetch(chosen.tolist())
        near = self.neighbours(vectors, [self.same_picture(record.id) for record in records])
        truth = np.array([self._known.codes[record.id] for record in records])
        return choose_votes(near, truth, self._prior)


def choose_votes(near: Neighbours, truth: NDArray[np.int64], prior: Floats) -> Votes:
    """How neighbours should vote; see the module.

    Args:
        near: neighbours of some pictures, without these themselves.
        truth: places of these pictures' labels, shape (pictures,).
        prior: see :attr:`KnownLabels.prior`.
    """
    there = near.codes >= 0
    some = there.any(axis=1)
    if not some.any():  # only copies of each other
        return Votes(1.0, 1.0, 1.0)
    closest = near.similarities[some, 0]
    farthest = np.where(there, near.similarities, np.inf).min(axis=1)[some]
    spread = max(float(np.median(closest - farthest)), 1e-6)  # all alike: then only their number counts
    tried = (
        Votes(float(np.median(closest)), spread * reach, smoothing)
        for reach, smoothing in itertools.product(_REACHES, _SMOOTHINGS)
    )
    votes = min(tried, key=lambda votes: votes.log_loss(near, truth, prior))
    few = slice(max(1, _MOST_SHARES // len(prior)))
    shares = votes.probabilities(Neighbours(near.codes[few], near.similarities[few]), prior)
    return replace(votes, temperature=choose_temperature(shares, truth[few]))


def choose_temperature(shares: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature under which the first label's probability is truest.

    Args:
        shares: of labels, shape (pictures, labels).
        truth: places of the true labels, shape (pictures,).
    """
    is_right = shares.argmax(axis=1) == truth
    # A few pictures that are all right do not make one certain: targets as in Platt, "Probabilistic outputs for
    # support vector machines", 1999, section 2.2.
    count = int(is_right.sum())
    target = np.where(is_right, (count + 1) / (count + 2), 1 / (len(truth) - count + 2))

    def log_loss(temperature: float) -> float:
        first = np.clip(tempered(shares, temperature).max(axis=1), 1e-9, 1 - 1e-9)
        return float(-(target * np.log(first) + (1 - target) * np.log(1 - first)).mean())

    return float(min(_TEMPERATURES, key=log_loss))
