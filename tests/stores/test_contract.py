"""What every store promises, once per store: exact memory, Milvus Lite, and a real Milvus server."""

from __future__ import annotations

import numpy as np
import pytest

from imagesearch.errors import (
    CollectionNotFoundError,
    ModelMismatchError,
    StoreError,
    UsageError,
)
from imagesearch.records import Metric, Picture
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryStore

from .conftest import METRICS, Opener, clustered, fingerprint, pictures, vectors

ODD_PATHS = [
    "/photos/with space.jpg",
    '/photos/it\'s "quoted".jpg',
    "/photos/two\nlines\r.jpg",
    "/photos/🏖 Łódź.jpg",
    "/photos/caf\udce9.jpg",
    "/photos/ends with space ",
    "relative/100%25.jpg",
    "file:/looks like ours",
    "/" + "long/" * 800 + "x.jpg",
]


def paths(hits: list) -> list[str]:
    return [hit.path for hit in hits]


# With the query (2, 0): a lies behind it, b on its line, c far away at cosine 0.6.
@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric.COSINE, [("b", 1.0), ("c", 0.6), ("a", -1.0)]),
        (Metric.IP, [("c", 60.0), ("b", 8.0), ("a", -4.0)]),
        (Metric.L2, [("b", 4.0), ("a", 16.0), ("c", 2384.0)]),
    ],
)
def test_scores_by_hand(open_store: Opener, metric: Metric, expected: list[tuple[str, float]]) -> None:
    store = open_store(metric=metric)
    store.create(fingerprint())
    store.upsert(pictures("a", "b", "c"), vectors([-2, 0], [4, 0], [30, 40]))
    hits = store.search(vectors([2, 0]), k=3)[0]
    assert [(hit.rank, hit.path) for hit in hits] == [
        (rank, f"/photos/{name}.jpg") for rank, (name, _) in enumerate(expected, start=1)
    ]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_everything_of_a_picture_comes_back(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    full = Picture(
        "/p/a.jpg", "/p", "ab" * 16, 2**40, 1_700_000_000_123_456_789, 4000, 3000, "2024-05-01T12:00:00"
    )
    bare = Picture("/p/b.jpg")
    store.upsert([full, bare], vectors([1, 0], [0, 1]))
    assert [hit.picture for hit in store.search(vectors([1, 0]), k=2)[0]] == [full, bare]
    assert sorted((p for batch in store.scan() for p in batch), key=lambda p: p.path) == [full, bare]


def test_odd_paths_survive(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    rows = [Picture(path, root=path[:9]) for path in ODD_PATHS]
    store.upsert(rows, vectors(*([i + 1, 1] for i in range(len(rows)))))
    assert {p for batch in store.scan() for p in batch} == set(rows)
    assert set(paths(store.search(vectors([1, 1]), k=len(rows))[0])) == set(ODD_PATHS)


def test_upsert_replaces_and_delete_removes(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    a, b = pictures("a", "b")
    store.upsert([a, b], vectors([1, 0], [0, 1]))
    store.upsert([Picture(a.path, size=7)], vectors([0, -1]))
    assert store.count() == 2
    best = store.search(vectors([0, -1]), k=1)[0][0]
    assert (best.picture.size, best.path, best.score) == (7, a.path, 1.0)
    store.delete([b.id, 12345])
    store.delete([])
    assert store.count() == 1
    assert paths(store.search(vectors([0, 1]), k=5)[0]) == [a.path]


def test_one_path_twice_in_a_batch_keeps_the_last(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    store.upsert([Picture("/a", size=1), Picture("/a", size=2)], vectors([1, 0], [0, 1]))
    assert store.count() == 1
    assert store.search(vectors([0, 1]), k=2)[0][0].picture.size == 2


def test_rows_survive_index_building_and_later_changes(open_store: Opener) -> None:
    store = open_store(index_type="HNSW")
    store.create(fingerprint(8))
    matrix = clustered(300, 8)
    rows = pictures(*map(str, range(300)))
    seen: list[tuple[str, int, int | None]] = []
    store.upsert(rows[:200], matrix[:200])
    store.build_index(lambda *report: seen.append(report))
    assert seen[-1] == ("index", 200, 200)
    assert all(stage == "index" and total == 200 for stage, _, total in seen)
    store.upsert(rows[200:], matrix[200:])  # found at once, without building again
    assert store.search(matrix[250:251], k=1)[0][0].path == rows[250].path
    store.delete([rows[0].id])
    store.build_index()
    info = store.describe()
    assert info is not None
    assert (info.rows, info.index_type) == (299, "HNSW")
    assert store.search(matrix[250:251], k=1)[0][0].path == rows[250].path


def test_another_index_type_is_built_anew(open_store: Opener) -> None:
    first = open_store(index_type="HNSW", index_params={"M": 8})
    first.create(fingerprint(8))
    matrix = clustered(100, 8)
    first.upsert(pictures(*map(str, range(100))), matrix)
    first.build_index()
    second = open_store(index_type="IVF_FLAT", index_params={"nlist": 1024}, search_params={"nprobe": 10})
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"  # through the index that is there
    second.build_index()
    info = second.describe()
    assert info is not None
    assert info.index_type == "IVF_FLAT"
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"
    assert len(second.search(matrix[:1], k=100)[0]) == 100  # cells beyond nprobe are searched if need be


def test_equal_scores_are_ordered_by_path(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    store.upsert(pictures(*"dbca"), vectors([1, 0], [3, 0], [0.1, 0], [7, 0]))
    assert paths(store.search(vectors([1, 0]), k=2)[0]) == ["/photos/a.jpg", "/photos/b.jpg"]


def test_several_queries_each_with_their_own_answer(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint(8))
    matrix = clustered(150, 8)
    rows = pictures(*map(str, range(150)))
    store.upsert(rows, matrix)
    found = store.search(matrix, k=1)
    assert [hits[0].path for hits in found] == [row.path for row in rows]


def test_scan_gives_every_row_once(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    expected = pictures(*map(str, range(120)))
    for rows in (0, 1, 50, 51, 120):
        store.upsert(expected[:rows], np.ones((rows, 2), np.float32))  # replaced rows count once
        batches = list(store.scan(batch_size=50))
        assert all(0 < len(batch) <= 50 for batch in batches)
        assert sorted(p.path for batch in batches for p in batch) == sorted(p.path for p in expected[:rows])
        assert store.count() == rows


def test_rows_may_be_deleted_while_they_are_scanned(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    store.upsert(pictures(*map(str, range(90))), np.ones((90, 2), np.float32))
    seen: list[str] = []
    for batch in store.scan(batch_size=30):
        seen += paths(batch)  # type: ignore[arg-type]
        store.delete([p.id for p in batch])
    assert len(seen) == len(set(seen)) == 90
    assert store.count() == 0


def test_an_empty_collection_has_no_hits(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    assert store.search(vectors([1, 0]), k=3) == [[]]
    store.build_index()
    assert store.search(vectors([1, 0]), k=3) == [[]]
    assert list(store.scan()) == []


def test_k_beyond_the_collection_gives_all_rows(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    store.upsert(pictures("a", "b"), vectors([1, 0], [0, 1]))
    assert len(store.search(vectors([1, 0]), k=100_000)[0]) == 2


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(open_store: Opener, k: int) -> None:
    with pytest.raises(UsageError, match=str(k)):
        open_store().search(vectors([1, 0]), k)


def test_without_a_collection(open_store: Opener) -> None:
    store = open_store()
    assert store.describe() is None
    assert store.count() == 0
    store.drop()
    name = store.spec.name
    assert name not in store.collections()
    for operation in (
        lambda: store.search(vectors([1, 0]), 1),
        lambda: list(store.scan()),
        lambda: store.upsert(pictures("a"), vectors([1, 0])),
        lambda: store.delete([1]),
        store.build_index,
    ):
        with pytest.raises(CollectionNotFoundError, match=name):
            operation()


def test_dropped_and_made_again_with_another_model(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    store.upsert(pictures("a"), vectors([1, 0]))
    store.drop()
    assert store.describe() is None
    other = fingerprint(3, model="other")
    assert store.create(other).fingerprint == other
    assert store.count() == 0
    store.upsert(pictures("b"), vectors([1, 0, 0]))
    assert paths(store.search(vectors([1, 0, 0]), k=2)[0]) == ["/photos/b.jpg"]


def test_the_collection_remembers_its_model(open_store: Opener) -> None:
    made = fingerprint(model="vit", revision="abc", pooling="pooler", input_size=(224, 192), normalized=False)
    store = open_store(metric=Metric.IP)
    store.create(made)
    again = open_store(metric=Metric.IP)
    assert again.create(made).fingerprint == made
    info = again.describe()
    assert info is not None
    assert (info.fingerprint, info.metric, info.rows, info.name) == (made, Metric.IP, 0, store.spec.name)
    assert store.spec.name in again.collections()


def test_another_model_is_refused_with_both_names(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint(model="vit"))
    with pytest.raises(ModelMismatchError) as caught:
        store.create(fingerprint(model="dinov2", revision="2"))
    for part in ("vit", "dinov2", store.spec.name, "--model vit", "milvus.collection_name"):
        assert part in str(caught.value)


def test_the_same_name_with_other_pooling_says_what_differs(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint(pooling="cls"))
    with pytest.raises(ModelMismatchError, match=r"pooling was cls, is mean"):
        store.create(fingerprint(pooling="mean"))


def test_another_metric_is_refused(open_store: Opener) -> None:
    open_store(metric=Metric.COSINE).create(fingerprint())
    with pytest.raises(StoreError, match=r"COSINE.*milvus\.metric_type is L2"):
        open_store(metric=Metric.L2).create(fingerprint())


def test_bad_rows_are_refused_and_nothing_is_stored(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    for names, rows, message in (
        ("a", [[1.0, 0.0], [0.0, 1.0]], "1 pictures but 2 vectors"),
        ("a", [[1.0, 0.0, 0.0]], "dimension 2"),
        ("ab", [[1.0, 0.0], [float("nan"), 1.0]], "vector 1 .*not finite"),
        ("a", [[float("inf"), 1.0]], "not finite"),
    ):
        with pytest.raises(StoreError, match=message):
            store.upsert(pictures(*names), vectors(*rows))
    assert store.count() == 0


def test_a_query_of_another_dimension_is_refused(open_store: Opener) -> None:
    store = open_store()
    store.create(fingerprint())
    with pytest.raises(StoreError, match="dimension 2"):
        store.search(vectors([1, 0, 0]), k=1)


@pytest.mark.parametrize("metric", METRICS)
def test_flat_ranks_like_the_exact_store(open_store: Opener, metric: Metric) -> None:
    matrix, queries = clustered(500, 32), clustered(5, 32, seed=1)
    rows = pictures(*map(str, range(500)))
    exact = MemoryStore(CollectionSpec("exact", metric=metric))
    store = open_store(metric=metric, index_type="FLAT")
    for each in (exact, store):
        each.create(fingerprint(32))
        each.upsert(rows, matrix)
        if metric is Metric.COSINE:  # the others are ranked without an index; a server takes seconds to build
            each.build_index()
    for ours, theirs in zip(store.search(queries, 20), exact.search(queries, 20), strict=True):
        assert paths(ours) == paths(theirs)
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=2e-6)


@pytest.mark.parametrize(
    ("index_type", "index_params", "search_params"),
    [("HNSW", {}, {}), ("IVF_FLAT", {"nlist": 1024}, {"nprobe": 10})],
)
def test_recall(open_store: Opener, index_type: str, index_params: dict, search_params: dict) -> None:
    matrix, queries = clustered(2000, 64), clustered(30, 64, seed=1)
    store = open_store(index_type=index_type, index_params=index_params, search_params=search_params)
    store.create(fingerprint(64))
    rows = pictures(*map(str, range(2000)))
    store.upsert(rows, matrix)
    store.build_index()
    truth = np.argsort(-(queries @ matrix.T), axis=1)[:, :10]
    found = store.search(queries, k=10)
    right = sum(
        len({rows[i].path for i in best} & set(paths(hits))) for best, hits in zip(truth, found, strict=True)
    )
    assert right / truth.size >= 0.95
