"""Distorted copies, and whether their originals are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imagesearch.errors import UsageError
from imagesearch.learning.copies import CopiesPlan, evaluate_copies
from imagesearch.learning.distortions import DISTORTIONS, Distortion, available, distorted
from imagesearch.learning.exact import Rows
from imagesearch.learning.index_quality import IndexPoint, evaluate_index, recommended
from imagesearch.learning.metrics import Estimate
from imagesearch.learning.pictures import PictureFiles
from imagesearch.models.embedder import Embedder
from imagesearch.models.patches import PatchEncoder
from imagesearch.models.runtimes.torch import TorchRuntime
from imagesearch.records import Fingerprint, ImageRecord, Metric
from imagesearch.search.image_encoding import DEFAULT_READING
from imagesearch.search.patches import PatchMatcher
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from ..conftest import draw_picture

kinds = pytest.mark.parametrize("kind", DISTORTIONS, ids=lambda kind: kind.name)


def picture() -> Image.Image:
    """With detail everywhere, so that every distortion shows."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    drawn = draw_picture(3, (320, 240))
    return Image.blend(drawn, Image.fromarray(noise).resize(drawn.size, Image.Resampling.BICUBIC), 0.3)


@kinds
def test_a_distortion_is_the_same_for_the_same_seed_and_leaves_the_picture_alone(kind: Distortion) -> None:
    original = picture()
    before = original.tobytes()
    made = [distorted(original, kind, kind.levels[-1], 5) for _ in range(2)]
    assert made[0].tobytes() == made[1].tobytes()
    assert made[0].mode == "RGB"
    assert original.tobytes() == before


@pytest.mark.parametrize("kind", DISTORTIONS[:5], ids=lambda kind: kind.name)
def test_higher_levels_are_farther_from_the_original(kind: Distortion) -> None:
    if kind not in available():
        pytest.skip("this Pillow cannot write JPEG 2000")
    original = picture()
    pixels = np.asarray(original, np.float64)
    errors = [
        np.mean((np.asarray(distorted(original, kind, level, 1), np.float64) - pixels) ** 2)
        for level in kind.levels
    ]
    assert errors == sorted(errors)
    assert errors[0] > 0


def test_geometric_distortions_have_the_size_they_say() -> None:
    by_name = {kind.name: kind for kind in DISTORTIONS}
    assert distorted(picture(), by_name["crop"], 50, 0).size == (160, 120)
    assert distorted(picture(), by_name["screenshot"], 10, 0).size == (320 + 64, 240 + 96)
    twice = distorted(distorted(picture(), by_name["mirror"], 1, 0), by_name["mirror"], 1, 0)
    assert twice.tobytes() == picture().tobytes()


@kinds
@pytest.mark.parametrize("size", [(1, 1), (2, 500)])
def test_tiny_and_narrow_pictures_can_be_distorted(kind: Distortion, size: tuple[int, int]) -> None:
    if kind not in available():
        pytest.skip("this Pillow cannot write JPEG 2000")
    for level in kind.levels:
        assert distorted(Image.new("RGB", size, (9, 99, 199)), kind, level, 0).mode == "RGB"


def test_the_share_of_lost_blocks_is_the_level() -> None:
    kind = next(kind for kind in DISTORTIONS if kind.name == "fading")
    original = np.asarray(picture(), np.int64)
    shares = []
    for seed in range(12):
        changed = np.abs(np.asarray(distorted(picture(), kind, 0.35, seed), np.int64) - original).sum(axis=2) > 0
        shares.append(changed.mean())
    assert np.mean(shares) == pytest.approx(0.35, abs=0.1)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("originals")
    for number in range(6):
        draw_picture(number, (160, 120)).save(folder / f"{number}.png")
    return [str(folder / f"{number}.png") for number in range(6)]


def rows_of(paths: list[str], starter: Embedder) -> Rows:
    pixels = [starter.preprocess(Image.open(path).convert("RGB")) for path in paths]
    return Rows([ImageRecord(path) for path in paths], starter.encode(pixels), Metric.COSINE)


def files_of(starter: Embedder) -> PictureFiles:
    def patches() -> PatchEncoder:
        assert isinstance(starter.runtime, TorchRuntime)
        return PatchEncoder(starter.runtime.network)

    return PictureFiles(lambda: starter, PatchMatcher(patches, DEFAULT_READING), DEFAULT_READING)


def test_originals_of_mild_copies_come_first(originals: list[str], starter: Embedder) -> None:
    rows = rows_of(originals, starter)
    report = evaluate_copies(rows, files_of(starter), CopiesPlan(originals=4, methods=("expand",)))
    levels = {(one.distortion, one.level): one for one in report.levels}
    assert levels["JPEG", 50].recall.value == 1
    assert levels["JPEG", 50].worst_rank == 1
    assert (report.originals, report.rows, len(report.paths)) == (4, 6, 4)
    assert [one.method for one in report.methods] == ["none", "expand"]
    assert len(report.methods[0].values["MRR"]) == 4
    everything = np.mean([one.recall.value for one in report.levels])
    assert list(report.distortions) == list(dict.fromkeys(one.distortion for one in report.levels))
    for name, recalls in report.distortions.items():
        own = [one.recall.value for one in report.levels if one.distortion == name]
        assert recalls["none"].value == pytest.approx(np.mean(own))
    assert report.methods[0].estimates["recall@1"].value == pytest.approx(everything)


def test_copies_are_asked_for_by_patches_and_in_several_views(originals: list[str], starter: Embedder) -> None:
    plan = CopiesPlan(originals=3, methods=("patches",), views=("crops",))
    report = evaluate_copies(rows_of(originals, starter), files_of(starter), plan)
    names = ["none", "patches", "none, crops", "patches, crops"]
    assert [one.method for one in report.methods] == names
    assert list(report.distortions["crop"]) == names
    values = [tuple(one.values["MRR"]) for one in report.methods]
    assert len({*values}) > 1, "views and patches make a difference"


def test_duplicates_of_the_original_do_not_count_as_better(originals: list[str], starter: Embedder) -> None:
    rows = rows_of(originals, starter)
    doubled = Rows(
        [*(ImageRecord(f"/0{path}") for path in originals), *rows.pictures],
        np.concatenate([rows.vectors, rows.vectors]),
        rows.metric,
    )
    plan = CopiesPlan(originals=12)
    report = evaluate_copies(doubled, files_of(starter), plan)
    assert len(report.skipped) == 6  # the doubles' files are not there
    assert report.levels[0].recall.value == 1


def test_pictures_that_are_gone_are_named(originals: list[str], starter: Embedder, tmp_path: Path) -> None:
    rows = rows_of(originals, starter)
    gone = Rows([ImageRecord(str(tmp_path / f"{place}.png")) for place in range(6)], rows.vectors, rows.metric)
    with pytest.raises(UsageError, match="no picture of 6 can be read"):
        evaluate_copies(gone, files_of(starter), CopiesPlan())


class TestIndex:
    @pytest.mark.parametrize(
        ("points", "expected"),
        [
            ([(0.9, 1.0), (0.995, 3.0), (1.0, 2.0)], 2),  # the fastest that finds enough
            ([(0.5, 1.0), (0.9, 3.0), (0.8, 2.0)], 1),  # none does: the one that finds most
            ([(1.0, 1.05), (1.0, 1.0)], 0),  # a difference that is noise
        ],
    )
    def test_what_is_recommended(self, points: list[tuple[float, float]], expected: int) -> None:
        made = [IndexPoint({}, Estimate(recall, 0, 1, 9), speed, speed) for recall, speed in points]
        assert recommended(made) is made[expected]

    def test_exact_search_finds_all(self) -> None:
        vectors = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
        rows = Rows([ImageRecord(f"/{place:03}") for place in range(200)], vectors, Metric.COSINE)
        database, spec = MemoryDatabase(), CollectionSpec("test", index_type="HNSW")
        collection = database.create(spec, Fingerprint("toy", "1", "cls", (8, 8), 8))
        collection.upsert(rows.pictures, vectors)
        collection.build_index()
        report = evaluate_index(database, spec, rows, vectors[:20] + np.float32(0.1), k=20)
        assert {point.recall.value for point in report.points} == {1.0}
        tried = [point.params.get("ef") for point in report.points]
        assert tried == [None, 32, 64, 128, 256, 512]  # none below k
        assert report.to_dict()["index"] == "HNSW"

    def test_what_misses_rows_is_not_recommended(self) -> None:
        class Forgetful(MemoryDatabase):
            def open(self, spec: CollectionSpec) -> object:  # type: ignore[override]
                inner = super().open(spec)
                lost = 5 if spec.search_params.get("ef", 0) < 100 else 0

                class Losing:
                    def __getattr__(self, name: str) -> object:
                        return getattr(inner, name)

                    def search(self, vectors: np.ndarray, k: int) -> list:
                        return [hits[lost:] for hits in inner.search(vectors, k)]

                return Losing()

        vectors = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
        rows = Rows([ImageRecord(f"/{place:03}") for place in range(100)], vectors, Metric.COSINE)
        database, spec = Forgetful(), CollectionSpec("test", index_type="HNSW")
        collection = MemoryDatabase.create(database, spec, Fingerprint("toy", "1", "cls", (8, 8), 8))
        collection.upsert(rows.pictures, vectors)
        collection.build_index()
        report = evaluate_index(database, spec, rows, vectors[:10])
        assert report.points[0].recall.value == 0.5
        assert report.recommended.params["ef"] >= 100
