"""In which order pictures are trained with: batches that depend on the seed and the epoch alone.

So a run that goes on sees the batches of an unbroken one, and several processes share those of a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imagesearch.errors import ModelError, PictureError
from imagesearch.images.pipeline import decode_ahead
from imagesearch.records import Skipped

Places = NDArray[np.int64]

# Pictures of a class that come together where a loss compares pictures.
PER_CLASS = 4


def shuffled_batches(count: int, size: int, seed: int, epoch: int) -> list[Places]:
    """All pictures in random order, in as few batches as possible, all about equally large.

    Args:
        count: how many pictures.
        size: of the largest batch.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count).astype(np.int64)
    return np.array_split(order, -(-count // size))


def class_batches(codes: Places, size: int, seed: int, epoch: int, *, balanced: bool = False) -> list[Places]:
    """Batches with up to :data:`PER_CLASS` pictures of a class beside each other, as losses that compare pictures
    need some that belong together.

    Every picture is in one batch of each epoch; with ``balanced`` all classes have the same number of places, so
    that pictures of rare ones come several times, and of frequent ones some in this epoch and some in another.

    Args:
        codes: the class of each picture, shape (n,).
        size: of the largest batch.

    Raises:
        ModelError: there is no room for two classes.
    """
    at_once = size // PER_CLASS
    if at_once < 2:
        raise ModelError(f"batches of {size}: losses for retrieval need at least {2 * PER_CLASS} (--train-batch)")
    random = np.random.default_rng((seed, epoch))
    piles = [np.flatnonzero(codes == code) for code in np.unique(codes)]
    if balanced:
        wanted = PER_CLASS * max(1, round(len(codes) / len(piles) / PER_CLASS))
        piles = [_drawn(pile, wanted, random) for pile in piles]
    else:
        piles = [random.permutation(pile) for pile in piles]
    sets = [part for pile in piles for part in np.array_split(pile, -(-len(pile) // PER_CLASS))]
    order = random.permutation(len(sets))
    return [
        np.concatenate([sets[place] for place in part]).astype(np.int64)
        for part in np.array_split(order, -(-len(sets) // at_once))
    ]


def _drawn(pile: Places, wanted: int, random: np.random.Generator) -> Places:
    """So many of them, none a second time before all have come."""
    rounds = [random.permutation(pile) for _ in range(-(-wanted // len(pile)))]
    return np.concatenate(rounds)[:wanted]


class BatchSampler:
    """One process's share of the batches, for PyTorch's ``DataLoader``."""

    def __init__(
        self,
        batches: Callable[[int], list[Places]],
        epoch: Callable[[], int],
        *,
        epochs: int = 1,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        """Share the batches of an epoch out.

        Args:
            batches: those of an epoch, as many in each.
            epoch: which one it is.
            epochs: how many there will be; sizes of batches may differ between them.
            rank, processes: which process this is, and of how many.

        Raises:
            ModelError: some batch has fewer pictures than there are processes.
        """
        self._batches, self._epoch, self._rank, self._processes = batches, epoch, rank, processes
        self._count = len(batches(0))
        if processes == 1:
            return
        smallest = min(len(batch) for number in range(epochs) for batch in batches(number))
        if smallest < processes:
            raise ModelError(
                f"{processes} processes share batches of {smallest} pictures: start fewer processes, or choose a"
                " larger --train-batch"
            )

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches(self._epoch()):
            yield np.array_split(batch, self._processes)[self._rank].tolist()


class Loader:
    """Batches of pictures, read and augmented in threads while the network computes; in place of a ``DataLoader``.

    Attributes:
        dataset: of the pictures.
    """

    def __init__(
        self, dataset: Any, sampler: BatchSampler, collate: Callable[[Sequence[Mapping[str, Any]]], Any]
    ) -> None:
        """Load pictures of a data set in a sampler's order.

        Args:
            dataset: its items are taken in several threads.
            collate: makes a batch of items.
        """
        self.dataset, self._sampler, self._collate = dataset, sampler, collate

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[Any]:
        """One epoch.

        Raises:
            PictureError: a picture cannot be read.
        """
        batches = list(self._sampler)
        ahead = 2 * max(len(batch) for batch in batches)
        places = (place for batch in batches for place in batch)
        with closing(decode_ahead(places, self.dataset.__getitem__, ahead=ahead)) as items:  # type: ignore[type-var]
            for batch in batches:
                yield self._collate([_required(next(items)) for _ in batch])


def _required(item: Mapping[str, Any] | Skipped) -> Mapping[str, Any]:
    if isinstance(item, Skipped):
        raise PictureError(item.path, item.reason, retryable=item.retryable)
    return item
