"""Folding near-identical hits and preferring different ones, on vectors of two dimensions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from imagesearch.errors import UsageError
from imagesearch.records import Fingerprint, Hit, ImageRecord, Metric
from imagesearch.search.grouping import (
    Group,
    candidates_for,
    diversify,
    fold,
    near_identical,
    near_identical_in,
    stored_vectors,
)
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase


def hit(rank: int, score: float = 0.0) -> Hit:
    return Hit(rank, score, ImageRecord(f"/p/{rank}.jpg"))


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at angles to the first axis."""
    return np.array([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in degrees], np.float32)


def to_query(vectors: np.ndarray) -> list[Hit]:
    """Hits for the query (1, 0), with the scores of these vectors, in their order."""
    return [hit(rank, float(vector[0])) for rank, vector in enumerate(vectors, start=1)]


def ranks(groups: list[Group]) -> list[list[int]]:
    return [[hit.rank for hit in group.hits] for group in groups]


ten_degrees = math.cos(math.radians(10))


class TestFold:
    def test_hits_within_the_bound_of_a_better_one_join_it(self) -> None:
        vectors = at(0, 5, 40, 45, 8)
        groups = fold(to_query(vectors), vectors, ten_degrees)
        assert ranks(groups) == [[1, 2, 5], [3, 4]]

    def test_a_chain_is_not_one_group(self) -> None:
        vectors = at(0, 8, 16, 24)
        assert ranks(fold(to_query(vectors), vectors, ten_degrees)) == [[1, 2], [3, 4]]

    def test_of_two_groups_the_better_one_gets_it(self) -> None:
        vectors = at(0, 18, 9)
        assert ranks(fold(to_query(vectors), vectors, ten_degrees)) == [[1, 3], [2]]

    def test_the_length_of_vectors_is_of_no_account(self) -> None:
        vectors = at(0, 5, 40) * np.array([[1.0], [100.0], [0.01]], np.float32)
        assert ranks(fold(to_query(vectors), vectors, ten_degrees)) == [[1, 2], [3]]

    def test_equal_vectors_are_equal_whatever_their_rounding(self) -> None:
        vectors = np.array([[0.1, 0.2, 0.3]], np.float32) * np.float32([[1], [3], [7]])
        assert ranks(fold([hit(1), hit(2), hit(3)], vectors, 1.0)) == [[1, 2, 3]]

    def test_vectors_of_zeros_resemble_nothing(self) -> None:
        assert ranks(fold([hit(1), hit(2)], np.zeros((2, 2)), 0.5)) == [[1], [2]]

    def test_nothing(self) -> None:
        assert fold([], np.empty((0, 2)), 0.9) == []

    @pytest.mark.parametrize("bound", [-1.1, 1.1, math.nan])
    def test_a_bound_that_is_no_cosine(self, bound: float) -> None:
        with pytest.raises(UsageError, match="a cosine of"):
            fold([hit(1)], at(0), bound)

    def test_as_many_vectors_as_hits_are_needed(self) -> None:
        with pytest.raises(UsageError, match="2 hits with vectors of shape"):
            fold([hit(1), hit(2)], at(0), 0.9)

    @settings(deadline=None)
    @given(
        arrays(np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-1, 1, width=16)),
        st.floats(-1, 1),
    )
    def test_laws(self, vectors: np.ndarray, bound: float) -> None:
        """All hits, once; each near to the best of its group; the best ones far from each other, and in order."""
        hits = [hit(rank) for rank in range(1, len(vectors) + 1)]
        groups = fold(hits, vectors, bound)
        assert sorted(rank for group in ranks(groups) for rank in group) == [hit.rank for hit in hits]
        best = [group.best.rank for group in groups]
        assert best == sorted(best)
        for group in groups:
            assert list(group.others) == sorted(group.others, key=lambda other: other.rank)
            assert all(cosine(vectors, group.best, other) >= bound - 2e-6 for other in group.others)
        for number, one in enumerate(groups):
            assert all(cosine(vectors, one.best, other.best) < bound for other in groups[:number])


def cosine(vectors: np.ndarray, one: Hit, other: Hit) -> float:
    a, b = (vectors[hit.rank - 1].astype(float) for hit in (one, other))
    length = math.sqrt(a @ a) * math.sqrt(b @ b)
    return float(a @ b) / length if length else 0.0


class TestDiversify:
    def test_the_second_hit_differs_from_the_first(self) -> None:
        """After 10°, another 12° counts .5 (cos 12° - cos 2°) < 0, but -15° .5 (cos 15° - cos 25°) > 0."""
        vectors = at(10, 12, -15, 60)
        chosen = diversify(to_query(vectors), vectors, weight=0.5)
        assert [hit.path for hit in chosen] == ["/p/1.jpg", "/p/3.jpg", "/p/2.jpg", "/p/4.jpg"]
        assert [hit.rank for hit in chosen] == [1, 2, 3, 4]
        assert [hit.score for hit in chosen] == pytest.approx(
            [math.cos(math.radians(a)) for a in (10, 15, 12, 60)], abs=1e-6
        )

    def test_weight_one_changes_nothing(self) -> None:
        vectors = at(10, 12, -15, 60)
        assert diversify(to_query(vectors), vectors, weight=1.0) == to_query(vectors)

    def test_weight_zero_looks_for_what_is_different(self) -> None:
        vectors = at(0, 10, 90, 170)
        chosen = diversify(to_query(vectors), vectors, k=3, weight=0.0)
        assert [hit.path for hit in chosen] == ["/p/1.jpg", "/p/4.jpg", "/p/3.jpg"]

    def test_distances(self) -> None:
        """On a line, the query at 0: after 1, the other side (-2: .5 (-4 + 9)) beats 1.1 (.5 (-1.21 + .01))."""
        vectors = np.array([[1.0, 0], [1.1, 0], [-2, 0]], np.float32)
        hits = [hit(1, 1.0), hit(2, 1.21), hit(3, 4.0)]
        chosen = diversify(hits, vectors, weight=0.5, metric=Metric.L2)
        assert [hit.path for hit in chosen] == ["/p/1.jpg", "/p/3.jpg", "/p/2.jpg"]

    def test_inner_products_are_of_the_vectors_as_they_are(self) -> None:
        """The query (1, 1): after (3, 0), the long (0, 2) counts .5 (2 - 0), the short (1, .2) .5 (1.2 - 3)."""
        vectors = np.array([[3.0, 0], [1, 0.2], [0, 2]], np.float32)
        hits = [hit(1, 3.0), hit(2, 1.2), hit(3, 2.0)]
        chosen = diversify(hits, vectors, k=2, weight=0.5, metric=Metric.IP)
        assert [hit.path for hit in chosen] == ["/p/1.jpg", "/p/3.jpg"]

    def test_a_copy_of_the_best_comes_late(self) -> None:
        """The copy counts .5 (.8 - 1); as near to the query, on its other side: .5 (.8 - .28)."""
        wide = np.array([[0.8, 0.6, 0], [0.8, 0.6, 0], [0.8, -0.6, 0]], np.float32)
        chosen = diversify(to_query(wide), wide, k=2, weight=0.5)
        assert [hit.path for hit in chosen] == ["/p/1.jpg", "/p/3.jpg"]

    def test_more_than_there_are(self) -> None:
        assert len(diversify(to_query(at(0, 1)), at(0, 1), k=9)) == 2
        assert diversify([], np.empty((0, 2)), k=9) == []

    @pytest.mark.parametrize("weight", [-0.1, 1.1, math.nan])
    def test_a_weight_that_is_none(self, weight: float) -> None:
        with pytest.raises(UsageError, match="a weight of"):
            diversify([hit(1)], at(0), weight=weight)

    @settings(deadline=None)
    @given(
        arrays(np.float32, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-1, 1, width=16)),
        st.floats(0, 1),
        st.sampled_from(list(Metric)),
    )
    def test_every_choice_is_the_best_that_is_left(
        self, vectors: np.ndarray, weight: float, metric: Metric
    ) -> None:
        """The definition, written out for each step."""

        def similarity(a: np.ndarray, b: np.ndarray) -> float:
            a, b = a.astype(float), b.astype(float)
            if metric is Metric.L2:
                return -float(((a - b) ** 2).sum())
            length = math.sqrt(a @ a) * math.sqrt(b @ b) if metric is Metric.COSINE else 1.0
            return float(a @ b) / length if length else 0.0

        sign = 1 if metric.higher_is_closer else -1
        scores = [sign * similarity(vector, np.array([1.0, 0])) for vector in vectors]
        hits = [hit(rank, score) for rank, score in enumerate(scores, start=1)]
        chosen = [int(h.path[3:-4]) - 1 for h in diversify(hits, vectors, weight=weight, metric=metric)]
        assert sorted(chosen) == list(range(len(hits)))

        def marginal(place: int, taken: list[int]) -> float:
            nearest = max((similarity(vectors[place], vectors[other]) for other in taken), default=0.0)
            return weight * sign * scores[place] - (1 - weight) * nearest

        for step, place in enumerate(chosen):
            taken = chosen[:step]
            best = max(marginal(other, taken) for other in set(chosen) - set(taken))
            assert marginal(place, taken) == pytest.approx(best, abs=1e-9)


class TestNearIdentical:
    def test_three_quarters_of_the_way_to_equality(self) -> None:
        """Every two of three axes have cosine 0."""
        assert near_identical(np.eye(3)) == pytest.approx(0.75)

    def test_duplicates_do_not_move_it(self) -> None:
        """Half of all pictures being copies of the other half, one of a thousand pairs is equal."""
        vectors = np.random.default_rng(0).normal(size=(500, 16))
        without = near_identical(vectors)
        assert 0.85 < without < 0.95
        assert near_identical(np.concatenate([vectors, vectors])) == pytest.approx(without, abs=0.01)

    @pytest.mark.parametrize("number", [0, 1])
    def test_too_few_to_know(self, number: int) -> None:
        assert near_identical(np.ones((number, 4))) == 0.97

    def test_equal_pictures_only(self) -> None:
        assert near_identical(np.ones((5, 4))) == 0.97


def test_enough_candidates() -> None:
    assert candidates_for(1) == 50
    assert candidates_for(100) == 500


def test_hits_that_are_gone_are_left_out() -> None:
    mark = Fingerprint("toy", "1", "cls", (8, 8), 2)
    collection = MemoryDatabase().create(CollectionSpec("toy", Metric.COSINE, "FLAT"), mark)
    vectors = at(0, 10, 20)
    pictures = [ImageRecord(f"/p/{n}.jpg") for n in range(3)]
    collection.upsert(pictures, vectors)
    hits = collection.search(at(0), 3)[0]
    collection.delete([pictures[1].id])
    there, stored = stored_vectors(collection, hits)
    assert [hit.path for hit in there] == ["/p/0.jpg", "/p/2.jpg"]
    np.testing.assert_allclose(stored, vectors[[0, 2]], atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 3, 2500])
def test_the_bound_of_a_collection(rows: int) -> None:
    mark = Fingerprint("toy", "1", "cls", (8, 8), 16)
    collection = MemoryDatabase().create(CollectionSpec("toy", Metric.COSINE, "FLAT"), mark)
    vectors = np.random.default_rng(0).normal(size=(rows, 16)).astype(np.float32)
    collection.upsert([ImageRecord(f"/p/{number}.jpg") for number in range(rows)], vectors)
    assert near_identical_in(collection) == pytest.approx(near_identical(vectors), abs=0.01)


def test_arguments_are_not_changed() -> None:
    vectors: Any = at(0, 10)
    before = vectors.copy()
    hits = to_query(vectors)
    fold(hits, vectors, 0.9)
    diversify(hits, vectors)
    np.testing.assert_array_equal(vectors, before)
