"""What every database promises, once per engine: memory, Milvus Lite, a real Milvus server, and a toy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import (
    CollectionNotFoundError,
    ModelMismatchError,
    StoreError,
    UsageError,
)
from imagesearch.records import ImageRecord, Metric, picture_id
from imagesearch.stores.base import CollectionSpec, VectorDatabase, find
from imagesearch.stores.memory import MemoryDatabase
from imagesearch.stores.milvus.index_types import INDEX_TYPES

from .conftest import METRICS, Opener, Specs, clustered, fingerprint, operations, pictures, vectors

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
def test_scores_by_hand(
    database: VectorDatabase, spec: Specs, metric: Metric, expected: list[tuple[str, float]]
) -> None:
    collection = database.create(spec(metric=metric), fingerprint())
    collection.upsert(pictures("a", "b", "c"), vectors([-2, 0], [4, 0], [30, 40]))
    hits = collection.search(vectors([2, 0]), k=3)[0]
    assert [(hit.rank, hit.path) for hit in hits] == [
        (rank, f"/photos/{name}.jpg") for rank, (name, _) in enumerate(expected, start=1)
    ]
    assert [hit.score for hit in hits] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_everything_of_a_picture_comes_back(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    full = ImageRecord(
        "/p/a.jpg", "/p", "ab" * 16, 2**40, 1_700_000_000_123_456_789, 4000, 3000, "2024-05-01T12:00:00"
    )
    bare = ImageRecord("/p/b.jpg")
    collection.upsert([full, bare], vectors([1, 0], [0, 1]))
    assert [hit.picture for hit in collection.search(vectors([1, 0]), k=2)[0]] == [full, bare]
    assert sorted((p for batch in collection.scan() for p in batch), key=lambda p: p.path) == [full, bare]


def test_odd_paths_survive(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    rows = [ImageRecord(path, root=path[:9]) for path in ODD_PATHS]
    collection.upsert(rows, vectors(*([i + 1, 1] for i in range(len(rows)))))
    assert {p for batch in collection.scan() for p in batch} == set(rows)
    assert set(paths(collection.search(vectors([1, 1]), k=len(rows))[0])) == set(ODD_PATHS)


def test_upsert_replaces_and_delete_removes(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    a, b = pictures("a", "b")
    collection.upsert([a, b], vectors([1, 0], [0, 1]))
    collection.upsert([ImageRecord(a.path, size=7)], vectors([0, -1]))
    assert collection.count() == 2
    best = collection.search(vectors([0, -1]), k=1)[0][0]
    assert (best.picture.size, best.path, best.score) == (7, a.path, 1.0)
    collection.delete([b.id, 12345])
    collection.delete([])
    assert collection.count() == 1
    assert paths(collection.search(vectors([0, 1]), k=5)[0]) == [a.path]


def test_one_path_twice_in_a_batch_keeps_the_last(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    collection.upsert([ImageRecord("/a", size=1), ImageRecord("/a", size=2)], vectors([1, 0], [0, 1]))
    assert collection.count() == 1
    assert collection.search(vectors([0, 1]), k=2)[0][0].picture.size == 2


def test_rows_survive_index_building_and_later_changes(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(index_type="HNSW"), fingerprint(8))
    matrix = clustered(300, 8)
    rows = pictures(*map(str, range(300)))
    seen: list[tuple[str, int, int | None]] = []
    collection.upsert(rows[:200], matrix[:200])
    collection.build_index(lambda *report: seen.append(report))
    assert seen[-1] == ("index", 200, 200)
    assert all(stage == "index" and total == 200 for stage, _, total in seen)
    collection.upsert(rows[200:], matrix[200:])  # found at once, without building again
    assert collection.search(matrix[250:251], k=1)[0][0].path == rows[250].path
    collection.delete([rows[0].id])
    collection.build_index()
    info = collection.info()
    assert (info.rows, info.index_type) == (299, "HNSW")
    assert collection.search(matrix[250:251], k=1)[0][0].path == rows[250].path


def test_another_index_type_takes_the_place(database: VectorDatabase, spec: Specs) -> None:
    first = database.create(spec(index_type="HNSW", index_params={"M": 8}), fingerprint(8))
    matrix = clustered(100, 8)
    first.upsert(pictures(*map(str, range(100))), matrix)
    first.build_index()
    other = spec(index_type="IVF_FLAT", index_params={"nlist": 1024}, search_params={"nprobe": 10})
    second = database.open(other)
    assert second.spec == other
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"  # through the index that is there
    second.build_index()
    assert second.info().index_type == "IVF_FLAT"
    assert second.search(matrix[:1], k=1)[0][0].path == "/photos/0.jpg"
    assert len(second.search(matrix[:1], k=100)[0]) == 100  # cells beyond nprobe are searched if need be


def test_equal_scores_are_ordered_by_path(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    collection.upsert(pictures(*"dbca"), vectors([1, 0], [3, 0], [0.1, 0], [7, 0]))
    assert paths(collection.search(vectors([1, 0]), k=2)[0]) == ["/photos/a.jpg", "/photos/b.jpg"]


@pytest.mark.parametrize("index_type", ["FLAT", "IVF_FLAT"])
def test_pages_of_many_equal_pictures_neither_repeat_nor_leave_out_any(
    index_type: str, database: VectorDatabase, spec: Specs
) -> None:
    """Whenever rows came: those that come first by path may have come last."""
    collection = database.create(spec(index_type=index_type), fingerprint())
    expected = sorted(f"/photos/{number}.jpg" for number in range(90))
    for number, part in enumerate((expected[60:], expected[30:60], expected[:30])):
        collection.upsert([ImageRecord(path) for path in part], np.ones((30, 2), np.float32))
        if number != 1:  # what is indexed at once may have come in two parts
            collection.build_index()
    query, everything = vectors([3, 3], [1, 0]), np.array([picture_id(path) for path in expected], np.int64)
    for k in (4, 8, 35):
        assert [paths(hits) for hits in collection.search(query, k)] == [expected[:k]] * 2
        for among in (None, everything):
            ids = [found.tolist() for found, _ in collection.search_vectors(query, k, among)]
            assert ids == [everything[:k].tolist()] * 2


def test_several_queries_each_with_their_own_answer(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint(8))
    matrix = clustered(150, 8)
    rows = pictures(*map(str, range(150)))
    collection.upsert(rows, matrix)
    found = collection.search(matrix, k=1)
    assert [hits[0].path for hits in found] == [row.path for row in rows]


def test_scan_gives_every_row_once(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    expected = pictures(*map(str, range(120)))
    for rows in (0, 1, 50, 51, 120):
        collection.upsert(expected[:rows], np.ones((rows, 2), np.float32))  # replaced rows count once
        batches = list(collection.scan(batch_size=50))
        assert all(0 < len(batch) <= 50 for batch in batches)
        assert sorted(p.path for batch in batches for p in batch) == sorted(p.path for p in expected[:rows])
        assert collection.count() == rows


def test_rows_may_be_deleted_while_they_are_scanned(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    collection.upsert(pictures(*map(str, range(90))), np.ones((90, 2), np.float32))
    seen: list[str] = []
    for batch in collection.scan(batch_size=30):
        seen += paths(batch)  # type: ignore[arg-type]
        collection.delete([p.id for p in batch])
    assert len(seen) == len(set(seen)) == 90
    assert collection.count() == 0


def test_an_empty_collection_has_no_hits(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    assert collection.search(vectors([1, 0]), k=3) == [[]]
    collection.build_index()
    assert collection.search(vectors([1, 0]), k=3) == [[]]
    assert list(collection.scan()) == []


def test_k_beyond_the_collection_gives_all_rows(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    collection.upsert(pictures("a", "b"), vectors([1, 0], [0, 1]))
    assert len(collection.search(vectors([1, 0]), k=100_000)[0]) == 2


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one_is_refused(database: VectorDatabase, spec: Specs, k: int) -> None:
    collection = database.create(spec(), fingerprint())
    with pytest.raises(UsageError, match=str(k)):
        collection.search(vectors([1, 0]), k)


def test_without_a_collection(database: VectorDatabase, spec: Specs, tmp_path: Path) -> None:
    name = spec().name
    before = sorted(tmp_path.rglob("*"))
    assert find(database, spec()) is None
    with pytest.raises(CollectionNotFoundError, match=name):
        database.open(spec())
    with pytest.raises(CollectionNotFoundError, match=name):
        database.rename(name, name + "n")
    database.drop(name)
    assert name not in database.names()
    assert sorted(tmp_path.rglob("*")) == before  # a question makes no database


def test_a_dropped_collection_is_gone(database: VectorDatabase, spec: Specs) -> None:
    collection, other = database.create(spec(), fingerprint()), database.open(spec())
    name = spec().name
    collection.upsert(pictures("a"), vectors([1, 0]))
    assert collection.count() == 1
    database.drop(name)
    database.drop(name)  # twice is once
    assert find(database, spec()) is None
    assert name not in database.names()
    for each in (collection, other):
        for operation in operations(each):
            with pytest.raises(CollectionNotFoundError, match=name):
                operation()


def test_dropped_and_made_again_with_another_model(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    collection.upsert(pictures("a"), vectors([1, 0]))
    database.drop(spec().name)
    assert find(database, spec()) is None
    other = fingerprint(3, model="other")
    collection = database.create(spec(), other)
    assert collection.info().fingerprint == collection.fingerprint == other
    assert collection.count() == 0
    collection.upsert(pictures("b"), vectors([1, 0, 0]))
    assert paths(collection.search(vectors([1, 0, 0]), k=2)[0]) == ["/photos/b.jpg"]


def test_the_collection_remembers_its_model(database: VectorDatabase, open_database: Opener, spec: Specs) -> None:
    made = fingerprint(model="vit", revision="abc", pooling="pooler", input_size=(224, 192), normalized=False)
    collection = database.create(spec(metric=Metric.IP), made)
    again = database.create(spec(metric=Metric.IP), made)
    assert again.info().fingerprint == made
    info = open_database().open(spec(metric=Metric.IP)).info()
    assert (info.fingerprint, info.metric, info.rows, info.name) == (made, Metric.IP, 0, spec().name)
    assert collection.fingerprint == again.fingerprint == database.open(spec(metric=Metric.IP)).fingerprint == made
    again.upsert(pictures("a", "b"), vectors([1, 0], [0, 1]))
    assert collection.info().rows == 2
    assert spec().name in database.names()


def test_another_model_is_refused_with_both_names(database: VectorDatabase, spec: Specs) -> None:
    database.create(spec(), fingerprint(model="vit"))
    with pytest.raises(ModelMismatchError) as caught:
        database.create(spec(), fingerprint(model="dinov2", revision="2"))
    for part in ("vit", "dinov2", spec().name, "--model vit", "milvus.collection_name"):
        assert part in str(caught.value)


def test_the_same_name_with_other_pooling_says_what_differs(database: VectorDatabase, spec: Specs) -> None:
    database.create(spec(), fingerprint(pooling="cls"))
    with pytest.raises(ModelMismatchError, match=r"pooling was cls, is mean"):
        database.create(spec(), fingerprint(pooling="mean"))


def test_another_metric_is_refused(database: VectorDatabase, spec: Specs) -> None:
    database.create(spec(metric=Metric.COSINE), fingerprint())
    with pytest.raises(StoreError, match=r"COSINE.*milvus\.metric_type is L2"):
        database.create(spec(metric=Metric.L2), fingerprint())


def test_an_opened_collection_has_the_metric_it_was_made_with(database: VectorDatabase, spec: Specs) -> None:
    database.create(spec(metric=Metric.L2), fingerprint())
    opened = database.open(spec(metric=Metric.COSINE))
    assert opened.spec.metric is opened.info().metric is Metric.L2


def test_the_index_type_is_chosen_where_it_is_left_open(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(index_type="auto"), fingerprint(8))
    assert collection.spec.index_type in INDEX_TYPES
    assert database.open(spec(index_type="auto")).spec == collection.spec
    collection.upsert(pictures("a"), clustered(1, 8))
    collection.build_index()
    assert collection.info().index_type == collection.spec.index_type


def test_bad_rows_are_refused_and_nothing_is_stored(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    for names, rows, message in (
        ("a", [[1.0, 0.0], [0.0, 1.0]], "1 pictures but 2 vectors"),
        ("a", [[1.0, 0.0, 0.0]], "dimension 2"),
        ("ab", [[1.0, 0.0], [float("nan"), 1.0]], "vector 1 .*not finite"),
        ("a", [[float("inf"), 1.0]], "not finite"),
    ):
        with pytest.raises(StoreError, match=message):
            collection.upsert(pictures(*names), vectors(*rows))
    assert collection.count() == 0


def test_a_query_of_another_dimension_is_refused(database: VectorDatabase, spec: Specs) -> None:
    collection = database.create(spec(), fingerprint())
    with pytest.raises(StoreError, match="dimension 2"):
        collection.search(vectors([1, 0, 0]), k=1)


@pytest.mark.parametrize("metric", METRICS)
def test_flat_ranks_like_the_exact_database(database: VectorDatabase, spec: Specs, metric: Metric) -> None:
    matrix, queries = clustered(500, 32), clustered(5, 32, seed=1)
    rows = pictures(*map(str, range(500)))
    exact = MemoryDatabase().create(CollectionSpec("exact", metric=metric), fingerprint(32))
    collection = database.create(spec(metric=metric, index_type="FLAT"), fingerprint(32))
    for each in (exact, collection):
        each.upsert(rows, matrix)
        if metric is Metric.COSINE:  # the others are ranked without an index; a server takes seconds to build
            each.build_index()
    for ours, theirs in zip(collection.search(queries, 20), exact.search(queries, 20), strict=True):
        assert paths(ours) == paths(theirs)
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=2e-6)


@pytest.mark.parametrize(
    ("index_type", "index_params", "search_params"),
    [("HNSW", {}, {}), ("IVF_FLAT", {"nlist": 1024}, {"nprobe": 10})],
)
def test_recall(
    database: VectorDatabase, spec: Specs, index_type: str, index_params: dict, search_params: dict
) -> None:
    matrix, queries = clustered(2000, 64), clustered(30, 64, seed=1)
    collection = database.create(
        spec(index_type=index_type, index_params=index_params, search_params=search_params), fingerprint(64)
    )
    rows = pictures(*map(str, range(2000)))
    collection.upsert(rows, matrix)
    collection.build_index()
    truth = np.argsort(-(queries @ matrix.T), axis=1)[:, :10]
    found = collection.search(queries, k=10)
    right = sum(
        len({rows[i].path for i in best} & set(paths(hits))) for best, hits in zip(truth, found, strict=True)
    )
    assert right / truth.size >= 0.95
