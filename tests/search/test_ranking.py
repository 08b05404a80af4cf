"""Ranking methods: what holds for every method, metric and collection, and that each does what its paper says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesearch.errors import UsageError
from imagesearch.records import Fingerprint, Hit, ImageRecord, Metric
from imagesearch.search import background, ranking, reordering
from imagesearch.search.background import Background
from imagesearch.search.ranking import METHODS, QUICK_METHODS, RECIPES, check_method
from imagesearch.stores.base import Collection, CollectionSpec, Ids
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

DIM = 32
methods = pytest.mark.parametrize("method", METHODS)
metrics = pytest.mark.parametrize("metric", list(Metric))


def clustered(count: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around some centres that overlap, and the number of each one's centre."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = random.normal(size=(classes, DIM)) + 1.5
    return (centres[labels] + 1.3 * random.normal(size=(count, DIM))).astype(np.float32), labels


def collection_of(vectors: np.ndarray, metric: Metric = Metric.COSINE, start: int = 0) -> Collection:
    spec = CollectionSpec("test", metric=metric)
    made = MemoryDatabase().create(spec, Fingerprint("toy", "1", "cls", (8, 8), DIM, normalized=False))
    made.upsert([ImageRecord(f"/{number + start:04}.jpg") for number in range(len(vectors))], vectors)
    return made


def axes_of(classes: int = 4, seed: int = 0, others: int = 12) -> np.ndarray:
    """What a classifier knows: the classes of :func:`clustered`, and some others."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, DIM)) + 1.5
    rows = np.concatenate([centres, random.normal(size=(others, DIM))])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows - rows.mean(axis=0)


# For every method there are labels that it may look at.
rank = partial(ranking.rank, label_axes=axes_of())


def paths(hits: list) -> list[str]:
    return [hit.path for hit in hits]


@methods
@metrics
def test_every_method_gives_each_row_once_with_its_raw_score(method: str, metric: Metric) -> None:
    vectors, _ = clustered(60)
    collection = collection_of(vectors, metric)
    plain = {hit.path: hit.score for hit in collection.search(vectors[:1] * 1.01, 60)[0]}
    hits = rank(method, collection, vectors[:1] * 1.01, 60)[0]
    assert sorted(paths(hits)) == sorted(plain)
    assert [hit.rank for hit in hits] == list(range(1, 61))
    assert [hit.score for hit in hits] == pytest.approx([plain[hit.path] for hit in hits], abs=2e-6, rel=1e-5)


@pytest.mark.parametrize("same_paths", [False, True])
@pytest.mark.parametrize("method", ["feedback", "whiten"])
def test_other_pictures_in_the_place_of_those_that_were_searched(
    method: str, same_paths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many, so that their number tells nothing."""
    monkeypatch.setattr(background, "_TRUSTED", 0.0)
    before, after = clustered(80)[0], clustered(80, seed=1)[0] - 4
    collection = collection_of(before)
    rank(method, collection, after[:1], 80)
    collection.delete([row.id for rows in collection.scan() for row in rows])
    start = 0 if same_paths else 100
    collection.upsert([ImageRecord(f"/{number + start:04}.jpg") for number in range(80)], after)
    assert rank(method, collection, after[:1], 80) == rank(
        method, collection_of(after, start=start), after[:1], 80
    )


@methods
@metrics
def test_a_query_in_the_collection_changes_nothing_besides_itself(method: str, metric: Metric) -> None:
    vectors, _ = clustered(300)
    without = rank(method, collection_of(vectors[1:], metric, start=1), vectors[:1], 20)[0]
    within = rank(method, collection_of(vectors, metric), vectors[:1], 21)[0]
    # By inner product a query need not be its own nearest row, nor among the first at all.
    assert [path for path in paths(within) if path != "/0000.jpg"][:20] == paths(without)


@methods
@metrics
def test_more_results_begin_with_the_same(method: str, metric: Metric) -> None:
    vectors, _ = clustered(260)
    collection = collection_of(vectors[5:], metric)
    few, all_of_them = (paths(rank(method, collection, vectors[:1], k)[0]) for k in (7, 260))
    assert all_of_them[:7] == few
    assert len(all_of_them) == len(set(all_of_them)) == 255


@methods
def test_a_batch_gives_what_each_query_gives_alone(method: str) -> None:
    vectors, _ = clustered(120)
    collection = collection_of(vectors[40:])
    together = rank(method, collection, vectors[:40], 5)
    assert together == [rank(method, collection, vectors[number : number + 1], 5)[0] for number in range(40)]


@methods
@metrics
@given(count=st.integers(0, 14), k=st.integers(1, 20), seed=st.integers(0, 5), copies=st.booleans())
@settings(max_examples=15, deadline=None)
def test_small_collections_and_copies_are_no_special_cases(
    method: str, metric: Metric, count: int, k: int, seed: int, copies: bool
) -> None:
    vectors, _ = clustered(15, seed)
    rows = np.repeat(vectors[:1], count, axis=0) if copies else vectors[:count]
    hits = rank(method, collection_of(rows, metric), vectors[:1], k)[0]
    assert len(hits) == len(set(paths(hits))) == min(k, count)
    if copies:
        assert paths(hits) == sorted(paths(hits))


@methods
@metrics
def test_equal_pictures_are_neighbours_in_the_order_of_their_paths(method: str, metric: Metric) -> None:
    vectors, _ = clustered(80)
    doubled = np.repeat(vectors[1:], 2, axis=0)
    found = paths(rank(method, collection_of(doubled, metric), vectors[:1], 158)[0])
    numbers = [int(path[1:5]) for path in found]
    assert numbers[::2] == [number - 1 for number in numbers[1::2]]


@pytest.mark.parametrize("method", [name for name, one in RECIPES.items() if one.reordering or one.by_labels])
@metrics
def test_nearly_equal_pictures_come_first_by_distance(method: str, metric: Metric) -> None:
    """Among many pictures of one kind, and with labels that would have others before them."""
    vectors, _ = clustered(120, classes=1)
    random = np.random.default_rng(2)
    changed = vectors[0] + np.array([[0.01], [0.03], [0.08]]) * random.normal(size=(3, DIM))
    collection = collection_of(np.concatenate([vectors[1:], changed.astype(np.float32)]), metric)
    (hits,) = rank(method, collection, vectors[:1], 5)
    assert paths(hits)[:3] == ["/0119.jpg", "/0120.jpg", "/0121.jpg"]


@methods
def test_zero_vectors_are_found_too(method: str) -> None:
    vectors, _ = clustered(30)
    vectors[:3] = 0
    hits = rank(method, collection_of(vectors), np.zeros((1, DIM), np.float32), 30)[0]
    assert len(hits) == 30


@pytest.mark.parametrize("method", [name for name in QUICK_METHODS if name not in ("none", "whiten")])
@pytest.mark.parametrize("seed", range(3))
def test_every_method_gains_where_classes_are_clusters(method: str, seed: int) -> None:
    """The law that all of them live from: neighbours of neighbours are relevant."""
    vectors, labels = clustered(240, seed, classes=6)
    collection, queries = collection_of(vectors), vectors[:60]

    def precision(name: str) -> float:
        found = rank(name, collection, queries, 30, label_axes=axes_of(6, seed, others=0))
        right = [labels[int(hit.path[1:5])] == labels[row] for row, hits in enumerate(found) for hit in hits]
        return float(np.mean(right))

    assert precision(method) > precision("none")


@metrics
def test_whitening_gains_where_all_pictures_differ_in_what_does_not_count(metric: Metric) -> None:
    vectors, labels = clustered(240, classes=6)
    # How bright a picture is, say: along one direction, far more than classes are apart.
    common = np.random.default_rng(1).normal(size=DIM) / DIM**0.5
    vectors += np.random.default_rng(2).normal(size=(240, 1)).astype(np.float32) * (12 * common).astype(np.float32)
    collection = collection_of(vectors, metric)

    def precision(name: str) -> float:
        found = rank(name, collection, vectors[:60], 30)
        return float(
            np.mean([labels[int(hit.path[1:5])] == row % 6 for row, hits in enumerate(found) for hit in hits])
        )

    assert precision("whiten") > precision("none") + 0.05


def test_whitening_is_the_cosine_after_dividing_by_the_shrunk_covariance() -> None:
    """Whatever rows are left out: as if they had never been there."""
    vectors = clustered(1004)[0].astype(np.float64)
    background = Background(list(range(1001)), vectors[:1001])
    for left_out in ([], [5], [5, 1000], [5, 6], [1000], [2000]):
        rows = np.delete(vectors[:1001], [place for place in left_out if place < 1001], axis=0)[:1000]
        covariance = np.cov(rows.T, bias=True)
        shrunk = 0.2 * covariance + 0.8 * np.trace(covariance) / DIM * np.eye(DIM)
        values, axes = np.linalg.eigh(shrunk)
        query, *others = (vectors[1000:] - rows.mean(axis=0)) @ (axes / np.sqrt(values))
        expected = [query @ other / np.linalg.norm(query) / np.linalg.norm(other) for other in others]
        assert np.allclose(background.whitened(vectors[1000:], left_out), expected, rtol=0, atol=1e-9), left_out


@pytest.mark.parametrize("scale", [1.0, 100.0, 1000.0])
@pytest.mark.parametrize("count", [1, 2, 50])
def test_whitening_equal_rows_gives_numbers(count: int, scale: float) -> None:
    row = scale * np.random.default_rng(0).normal(size=DIM)
    background = Background(list(range(count)), np.tile(row, (count, 1)))
    for left_out in ([], [0]):
        found = background.whitened(np.stack([row, row, 2 * row]), left_out)
        assert np.isfinite(found).all()


@pytest.mark.parametrize("method", [name for name, recipe in RECIPES.items() if recipe.by_labels])
@metrics
def test_without_labels_pictures_are_compared_as_they_are(method: str, metric: Metric) -> None:
    vectors, _ = clustered(120)
    collection = collection_of(vectors, metric)
    plain = "+".join(part for part in method.split("+") if part != "labels") or "none"
    found = rank(method, collection, vectors[:3], 20, label_axes=None)
    assert [paths(hits) for hits in found] == [paths(hits) for hits in rank(plain, collection, vectors[:3], 20)]


@pytest.mark.parametrize("metric", list(Metric))
def test_copies_are_equal_but_for_rounding(metric: Metric) -> None:
    vectors = clustered(60)[0]
    rounded = np.nextafter(vectors[0], np.float32(2), dtype=np.float32)
    rows = reordering.as_compared(
        np.stack([vectors[0], rounded, 1.001 * vectors[0], 0 * vectors[0], vectors[1]]), metric
    )
    for query, copies in [(rows[0], [0, 1]), (rows[3], [3])]:
        found = reordering.is_copy(query, rows, reordering.similarities(query[None], rows, metric)[0])
        also = [2] if metric is Metric.COSINE and len(copies) > 1 else []
        assert np.flatnonzero(found).tolist() == copies + also


def test_labels_count_as_much_as_the_vector_itself() -> None:
    """What lies along a direction that all labels have alike is seen by the vector alone."""
    vectors, labels = clustered(60)[0].astype(np.float64), axes_of()
    _, _, axes = np.linalg.svd(labels)
    moved = vectors + np.random.default_rng(1).normal(size=(60, 1)) * axes[-1]
    ours, theirs = (reordering.with_labels(rows, labels) for rows in (vectors, moved))
    assert np.allclose(ours[:, DIM:], theirs[:, DIM:])
    assert not np.allclose(ours[:, :DIM], theirs[:, :DIM])
    for part in (ours[:, :DIM], ours[:, DIM:]):
        assert np.allclose(np.linalg.norm(part, axis=1), 0.5**0.5)
    assert np.allclose(ours[:, :DIM] * 2**0.5, reordering.as_compared(vectors, Metric.COSINE))
    for metric in Metric:
        compared = reordering.as_compared(vectors, metric)
        close = reordering.close_with_labels(vectors[0], compared[1:], metric, labels)
        assert np.allclose(close, ours[1:] @ ours[0], rtol=0, atol=1e-12)
        assert not reordering.close_with_labels(np.zeros(DIM), compared, metric, labels).any()


@methods
def test_a_filter_reaches_every_search(method: str) -> None:
    asked = []

    class Filtered:
        def __init__(self, inner: Collection) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def search(self, vectors: np.ndarray, k: int, among: Ids | None = None) -> list[list[Hit]]:
            asked.append(among)
            return self.inner.search(vectors, k, among)

        def search_vectors(
            self, vectors: np.ndarray, k: int, among: Ids | None = None
        ) -> list[tuple[Ids, np.ndarray]]:
            asked.append(among)
            return self.inner.search_vectors(vectors, k, among)

    vectors, _ = clustered(40)
    collection = collection_of(vectors)
    ids = np.array([record.id for rows in collection.scan() for record in rows[::2]], np.int64)
    (hits,) = rank(method, Filtered(collection), vectors[:1], 50, among=ids)
    assert asked
    assert all(among is ids for among in asked)
    assert {hit.picture.id for hit in hits} == set(ids.tolist())


@pytest.mark.parametrize("method", METHODS)
def test_a_picture_of_the_collection_finds_itself_first_however_few_are_asked_for(method: str) -> None:
    vectors, _ = clustered(40)
    collection = collection_of(vectors)
    for number in range(0, 40, 7):
        for k in (1, 2, 5):
            (hits,) = rank(method, collection, vectors[number : number + 1], k)
            assert hits[0].score == pytest.approx(1, abs=1e-5), (number, k)
            assert len(hits) == k


@methods
def test_no_more_rows_are_asked_for_than_are_wanted(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server gives so many rows and no more; as many as it gives can be had."""
    asked: list[int] = []

    def limited(collection: MemoryCollection, vectors: np.ndarray, k: int, among: Ids | None = None) -> object:
        asked.append(k)
        return searched(collection, vectors, k, among)

    searched = MemoryCollection.search_vectors
    monkeypatch.setattr(MemoryCollection, "search_vectors", limited)
    vectors, _ = clustered(300)
    (hits,) = rank(method, collection_of(vectors), vectors[:1], 250)
    assert len(hits) == 250
    assert max(asked, default=0) <= 250


def test_unknown_methods_are_refused_with_those_there_are() -> None:
    assert METHODS[0] == "none"
    with pytest.raises(UsageError, match=r"'shuffle': choose one of none, average"):
        check_method("shuffle")
    with pytest.raises(UsageError, match="k = 0"):
        rank("expand", collection_of(clustered(5)[0]), clustered(1)[0], 0)


def test_expansion_is_the_weighted_mean_of_the_paper() -> None:
    query, near = np.array([1.0, 0]), np.array([[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]])
    moved = reordering.expanded(query, near, reordering.Expansion(2, 3.0), Metric.COSINE)
    expected = query + 0.8**3 * near[0] + 0.6**3 * near[1]
    assert moved * (1 + 0.8**3 + 0.6**3) == pytest.approx(expected)
    pushed = reordering.expanded(query, near, reordering.Expansion(2, 3.0, push=2.0), Metric.COSINE, near[2])
    assert pushed == pytest.approx(3 * moved - 2 * near[2])
    average = reordering.expanded(query, near, reordering.Expansion(2, 0.0), Metric.COSINE)
    assert average == pytest.approx((query + near[0] + near[1]) / 3)


def test_reciprocal_scores_are_the_papers() -> None:
    """Against the paper's algorithm written down with sets, as its authors' code does it."""
    random = np.random.default_rng(0)
    rows = reordering.as_compared(random.normal(size=(40, 6)).astype(np.float32), Metric.COSINE)
    similar = reordering.similarities(rows, rows, Metric.COSINE)
    expected = jaccard_by_sets(similar, k1=8, k2=3, own_part=0.3)
    found = reordering.reciprocal(similar, neighbours=8, smoothing=3, own_part=0.3)
    assert found == pytest.approx(expected)


def jaccard_by_sets(similar: np.ndarray, k1: int, k2: int, own_part: float) -> np.ndarray:
    count = len(similar)
    distances = 1 - similar
    distances = np.clip(distances, 0, None) / distances.max(axis=1, keepdims=True)
    order = np.argsort(-similar, axis=1, kind="stable")

    def mutual(row: int, k: int) -> set[int]:
        return {int(other) for other in order[row, : k + 1] if row in order[other, : k + 1]}

    codes = np.zeros((count, count))
    for row in range(count):
        members = mutual(row, k1)
        for other in sorted(mutual(row, k1)):
            own = mutual(other, k1 // 2)
            if len(own & mutual(row, k1)) > 2 / 3 * len(own):
                members |= own
        chosen = sorted(members)
        weights = np.exp(-distances[row, chosen])
        codes[row, chosen] = weights / weights.sum()
    codes = np.stack([codes[order[row, :k2]].mean(axis=0) for row in range(count)])
    shared = np.minimum(codes[0], codes[1:]).sum(axis=1)
    return (1 - own_part) * shared / (2 - shared) + own_part * (1 - distances[0, 1:])


def test_diffusion_is_the_limit_of_its_steps() -> None:
    rows = reordering.as_compared(clustered(30)[0], Metric.COSINE)
    similar = reordering.similarities(rows, rows, Metric.COSINE)
    found = reordering.diffused(similar, neighbours=6, power=3.0, damping=0.8)
    near = np.argsort(-similar, axis=1)[:, :7]
    is_near = np.zeros(similar.shape, bool)
    np.put_along_axis(is_near, near, True, axis=1)
    edges = np.where(is_near & is_near.T, np.maximum(similar, 0) ** 3, 0)
    np.fill_diagonal(edges, 0)
    degrees = np.maximum(edges.sum(axis=1), 1e-12)
    step = 0.8 * edges / np.sqrt(degrees[:, None] * degrees)
    start = np.eye(30)[0]
    reached = start.copy()
    for _ in range(300):
        reached = start + step @ reached
    assert found == pytest.approx(reached[1:] + 1e-3 * similar[0, 1:])
