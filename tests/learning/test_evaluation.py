"""Evaluation by labels: what is measured is what an unseen picture would get."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imagesearch.errors import UsageError
from imagesearch.learning.costs import measure_costs
from imagesearch.learning.evaluation import evaluate_labels
from imagesearch.learning.exact import ExactRows, Rows, read_rows
from imagesearch.learning.labels import file_labels, folder_labels
from imagesearch.learning.metrics import average_precision
from imagesearch.learning.outcomes import LabelReport, Plan, choose_method, compare_models
from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search.ranking import METHODS, RECIPES, order, rank
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryCollection, MemoryDatabase

DIM = 16


def clustered(count: int, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, list[str | None]]:
    random = np.random.default_rng(seed)
    numbers = np.arange(count) % classes
    vectors = random.normal(size=(classes, DIM))[numbers] + 1.2 * random.normal(size=(count, DIM))
    return vectors.astype(np.float32), [f"class {number}" for number in numbers]


def rows_of(vectors: np.ndarray, metric: Metric = Metric.COSINE) -> Rows:
    return Rows([ImageRecord(f"/{place:04}.jpg") for place in range(len(vectors))], vectors, metric)


def collection_of(rows: Rows) -> MemoryCollection:
    spec = CollectionSpec("test", metric=rows.metric)
    made = MemoryDatabase().create(spec, Fingerprint("toy", "1", "cls", (8, 8), DIM, normalized=False))
    made.upsert(rows.pictures[::-1], rows.vectors[::-1])
    return made


@pytest.mark.parametrize("metric", list(Metric))
@pytest.mark.parametrize("method", METHODS)
def test_exact_rows_give_what_the_collection_without_the_query_gives(metric: Metric, method: str) -> None:
    vectors, _ = clustered(250)
    rows, absent = rows_of(vectors, metric), np.array([3, 77])
    rows = replace(rows, label_axes=np.random.default_rng(1).normal(size=(9, DIM)))
    found = order(RECIPES[method], ExactRows(rows, absent), vectors[absent], 20)
    for query, places in zip(absent.tolist(), found, strict=True):
        kept = [place for place in range(len(vectors)) if place != query]
        others = collection_of(Rows([rows.pictures[place] for place in kept], vectors[kept], metric))
        one = vectors[query : query + 1]
        expected = [hit.path for hit in rank(method, others, one, 20, label_axes=rows.label_axes)[0]]
        assert [rows.pictures[place].path for place in places] == expected


def test_rows_are_read_in_the_order_of_their_paths() -> None:
    rows = rows_of(clustered(30)[0])
    read = read_rows(collection_of(rows))
    assert read.pictures == rows.pictures
    assert np.array_equal(read.vectors, rows.vectors)


def test_an_empty_collection_cannot_be_evaluated() -> None:
    with pytest.raises(UsageError, match="no pictures to evaluate"):
        read_rows(collection_of(rows_of(np.zeros((0, DIM), np.float32))))


def test_map_is_that_of_complete_leave_one_out_rankings() -> None:
    vectors, labels = clustered(40)
    report = evaluate_labels(rows_of(vectors), labels, Plan())
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = []
    for query in range(40):
        others = np.argsort(-(unit @ unit[query]), kind="stable")
        relevant = [labels[place] == labels[query] for place in others if place != query]
        expected.append(average_precision([relevant])[0])
    assert report.methods[0].values["mAP"] == pytest.approx(expected)
    assert report.methods[0].estimates["mAP"].value == pytest.approx(np.mean(expected))
    assert (report.rows, report.classes, report.queries) == (40, 5, 40)


def test_perfect_classes_have_perfect_measures() -> None:
    vectors = np.repeat(np.eye(4, DIM, dtype=np.float32), 5, axis=0)
    labels: list[str | None] = [f"{place // 5}" for place in range(20)]
    report = evaluate_labels(rows_of(vectors), labels, Plan(k=4))
    assert {name: one.value for name, one in report.methods[0].estimates.items()} == dict.fromkeys(
        ("mAP", "precision@1", "precision@4", "recall@4", "R-precision", "nDCG@4", "kNN accuracy@4"), 1.0
    )


def test_unlabelled_and_lonely_pictures_are_no_queries() -> None:
    vectors, labels = clustered(20)
    labels[0], labels[1] = None, "alone"
    report = evaluate_labels(rows_of(vectors), labels, Plan())
    assert (report.unlabelled, report.rows, report.queries) == (1, 19, 18)
    assert "/0001.jpg" not in report.paths


def test_a_sample_is_the_same_every_time_and_has_as_many_as_wanted() -> None:
    vectors, labels = clustered(60)
    first, again = (evaluate_labels(rows_of(vectors), labels, Plan(most_queries=20)) for _ in range(2))
    assert first.to_dict() == again.to_dict()
    assert len(first.paths) == first.queries == 20
    assert evaluate_labels(rows_of(vectors), labels, Plan(most_queries=20, seed=1)).paths != first.paths


def test_methods_are_compared_with_none_and_the_worst_queries_are_the_last_ones() -> None:
    vectors, labels = clustered(80)
    report = evaluate_labels(rows_of(vectors), labels, Plan(methods=("expand", "reciprocal"), worst=3))
    assert [one.method for one in report.methods] == ["none", "expand", "reciprocal"]
    none, last = report.methods[0], report.methods[-1]
    assert not none.gains
    difference = last.estimates["mAP"].value - none.estimates["mAP"].value
    assert last.gains["mAP"].value == pytest.approx(difference)
    assert [one.average_precision for one in report.worst] == sorted(last.values["mAP"])[:3]
    assert all(len(one.found) == 10 for one in report.worst)
    assert sum(one["queries"] for one in report.per_class.values()) == report.queries


@pytest.mark.parametrize("labels", [["a"] * 6, [None] * 6, ["a", "b", "c", "d", "e", "f"]])
def test_too_few_labels_are_refused(labels: list[str | None]) -> None:
    with pytest.raises(UsageError, match="at least two are needed"):
        evaluate_labels(rows_of(clustered(6)[0]), labels, Plan())


def report_of(seed: int = 0, methods: tuple[str, ...] = ("expand",)) -> LabelReport:
    vectors, labels = clustered(100, seed=seed)
    return evaluate_labels(rows_of(vectors), labels, Plan(methods=methods), model=f"model {seed}")


def test_models_are_compared_on_the_queries_they_share() -> None:
    ours, theirs = report_of(0), report_of(1)
    gain = compare_models(ours, theirs)["mAP"]
    assert gain.value == pytest.approx(
        ours.methods[-1].values["mAP"].mean() - theirs.methods[-1].values["mAP"].mean()
    )
    assert compare_models(ours, ours)["mAP"].value == 0
    assert not compare_models(ours, ours)["mAP"].is_gain


def test_the_method_is_chosen_by_one_half_and_judged_by_the_other() -> None:
    methods = report_of(methods=("expand", "reciprocal")).methods
    choice = choose_method(methods)
    assert choice.method in ("expand", "reciprocal")
    assert choice.gain is not None
    assert choice.is_sure == (choice.gain.low > 0)
    assert choose_method(methods[:1]).gain is None


def test_a_method_without_a_sure_gain_is_not_recommended() -> None:
    methods = report_of(methods=("expand",)).methods
    random = np.random.default_rng(0)
    values = dict(methods[0].values) | {"mAP": methods[0].values["mAP"] + 1e-3 * random.standard_normal(100)}
    object.__setattr__(methods[1], "values", values)
    assert not choose_method(methods).is_sure


def test_costs_are_relative_to_a_whole_query() -> None:
    rows = rows_of(clustered(50)[0])
    costs = measure_costs(collection_of(rows), rows.vectors[:5], ["expand"], encoding=10.0)
    assert costs["none"].extra == 0
    assert costs["expand"].extra == pytest.approx(
        (costs["expand"].milliseconds - costs["none"].milliseconds) / (10_000 + costs["none"].milliseconds)
    )


class TestLabels:
    def test_the_first_folder_below_the_root_is_the_label(self, tmp_path: Path) -> None:
        root = str(tmp_path)
        paths = [("cat", "1.jpg"), ("cat", "2024", "2.jpg"), ("3.jpg",)]
        pictures = [ImageRecord(str(tmp_path.joinpath(*parts)), root) for parts in paths]
        assert folder_labels([*pictures, ImageRecord(str(tmp_path / "cat" / "4.jpg"))]) == [
            "cat",
            "cat",
            None,
            None,
        ]

    def test_a_file_may_name_pictures_through_links(self, tmp_path: Path) -> None:
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        (tmp_path / "real" / "inner").symlink_to(tmp_path)  # links within a folder are kept when it is indexed
        pictures = [ImageRecord(str(tmp_path / "real" / name)) for name in ("a.jpg", "b.jpg", "inner/c.jpg")]
        lines = f"a.jpg,cat\n{tmp_path}/link/b.jpg,dog\n{tmp_path}/real/inner/c.jpg,cow\n"
        (tmp_path / "real" / "labels.csv").write_text(lines)
        assert file_labels(tmp_path / "link" / "labels.csv", pictures) == ["cat", "dog", "cow"]

    def test_a_file_names_pictures_relative_to_itself_or_absolutely(self, tmp_path: Path) -> None:
        pictures = [ImageRecord(str(tmp_path / name)) for name in ("a.jpg", "sub/b, c.jpg", "d.jpg")]
        text = f'path,label\na.jpg,cat\n"sub/b, c.jpg",dog\n\n{tmp_path}/elsewhere.jpg,cow\n'
        (tmp_path / "labels.csv").write_text(text)
        assert file_labels(tmp_path / "labels.csv", pictures) == ["cat", "dog", None]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a.jpg\n", "line 1: expected a path and a label"),
            ("other.jpg,cat\n", "names none of the pictures"),
            ("a.jpg,cat\na.jpg,cat\n./a.jpg,dog\n", "is both 'cat' and 'dog'"),
        ],
    )
    def test_wrong_files_are_refused(self, tmp_path: Path, text: str, expected: str) -> None:
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(UsageError, match=expected):
            file_labels(tmp_path / "labels.csv", [ImageRecord(str(tmp_path / "a.jpg"))])

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none\.csv"):
            file_labels(tmp_path / "none.csv", [])
