"""Batches: laws that hold for any classes, and shares of several processes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import ModelError
from imagesearch.models.training_batches import PER_CLASS, BatchSampler, class_batches, shuffled_batches


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 3), st.integers(0, 3))
@settings(deadline=None)
def test_every_picture_comes_once_in_batches_of_about_one_size(
    count: int, size: int, seed: int, epoch: int
) -> None:
    batches = shuffled_batches(count, size, seed, epoch)
    assert sorted(np.concatenate(batches)) == list(range(count))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    again = shuffled_batches(count, size, seed, epoch)
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_other_epochs_have_another_order() -> None:
    assert len({tuple(np.concatenate(shuffled_batches(20, 5, 0, epoch))) for epoch in range(5)}) == 5
    codes = np.arange(40) % 4
    assert len({tuple(np.concatenate(class_batches(codes, 16, 0, epoch))) for epoch in range(5)}) == 5


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.integers(8, 40), st.integers(0, 5))
@settings(deadline=None)
def test_pictures_of_a_class_come_together(counts: list[int], size: int, epoch: int) -> None:
    codes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    batches = class_batches(codes, size, 0, epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(codes)))
    assert max(len(batch) for batch in batches) <= size
    assert len(batches) == len(class_batches(codes, size, 0, epoch + 1))
    for batch in batches:
        for code in set(codes[batch]):
            assert (codes[batch] == code).sum() >= min(2, counts[code])


@given(st.lists(st.integers(1, 60), min_size=2, max_size=6))
@settings(deadline=None)
def test_balanced_classes_come_equally_often(counts: list[int]) -> None:
    codes = np.repeat(np.arange(len(counts)), counts)
    drawn = codes[np.concatenate(class_batches(codes, 16, 0, 0, balanced=True))]
    assert len(set(np.bincount(drawn, minlength=len(counts)))) == 1
    assert len(drawn) <= len(codes) + PER_CLASS * len(counts)


def test_too_small_batches_are_refused() -> None:
    with pytest.raises(ModelError, match="need at least 8"):
        class_batches(np.arange(9) % 3, 7, 0, 0)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(processes: int) -> None:
    def batches(epoch: int) -> list[np.ndarray]:
        return shuffled_batches(50, 8, 1, epoch)

    for epoch in (0, 3):
        samplers = [
            BatchSampler(batches, lambda epoch=epoch: epoch, rank=rank, processes=processes)
            for rank in range(processes)
        ]
        assert {len(sampler) for sampler in samplers} == {7}
        shared = [[place for part in parts for place in part] for parts in zip(*samplers, strict=True)]
        assert shared == [batch.tolist() for batch in batches(epoch)]


def test_more_processes_than_pictures_are_refused() -> None:
    with pytest.raises(ModelError, match="start fewer processes"):
        BatchSampler(lambda epoch: shuffled_batches(9, 4, 0, epoch), lambda: 0, processes=4)


def test_small_batches_of_later_epochs_are_refused_beforehand() -> None:
    """Of pictures that are alone in their class some epoch may make a batch of one, and the first one need not."""
    codes = np.repeat(np.arange(5), [1, 1, 8, 8, 1])

    def batches(epoch: int) -> list[np.ndarray]:
        return class_batches(codes, 8, 0, epoch)

    smallest = [min(len(batch) for batch in batches(epoch)) for epoch in range(6)]
    assert smallest[0] > 1
    assert min(smallest) == 1
    assert len(BatchSampler(batches, lambda: 0, epochs=1, processes=2)) == len(batches(0))
    with pytest.raises(ModelError, match="2 processes share batches of 1 pictures: start fewer processes"):
        BatchSampler(batches, lambda: 0, epochs=6, processes=2)
