"""What version 0.1.0 wrote opens unchanged: a database with its list of skipped files, features files, a graph.

``fixtures/earlier.tar.gz`` was made by the last commit before the stores were redesigned. Its ``photos`` lay in
``/photos`` when they were indexed and extracted with the bundled model. (More databases: ``stores/fixtures``.)
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from imagesearch import ImageSearch, load_config
from imagesearch.models.embedder import Embedder
from imagesearch.models.runtimes import cache
from imagesearch.search.filters import Filter

SHAPES = [f"/photos/shape {number}.png" for number in range(3)]


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "fixtures" / "earlier.tar.gz") as archive:
        archive.extractall(tmp_path)  # ours, so without the filter that Python 3.10 and 3.11 lack at first
    return tmp_path / "earlier"


def service(database: Path, starter: Embedder) -> ImageSearch:
    return ImageSearch(load_config(overrides={"milvus": {"uri": str(database)}}), embedder=starter)


def test_the_database_is_searched_and_its_vectors_are_reused(earlier: Path, starter: Embedder) -> None:
    with service(earlier / "photos.db", starter) as images:
        assert images.describe().rows == 3
        hits = images.search(earlier / "photos" / "shape 1.png", k=3)
        assert (hits[0].path, hits[0].score) == (SHAPES[1], pytest.approx(1, abs=1e-3))
        report = images.index(earlier / "photos")
        assert (report.found, report.indexed, report.reused, len(report.skipped)) == (5, 3, 3, 2)


def test_its_pictures_can_be_annotated(earlier: Path, starter: Embedder, tmp_path: Path) -> None:
    (tmp_path / "stars.csv").write_text("name,stars\nshape 1.png,5\n")
    with service(earlier / "photos.db", starter) as images:
        assert images.describe().missing_columns
        assert images.annotate(tmp_path / "stars.csv", "name").pictures == 1
        hits = images.search(SHAPES[0], where=Filter(expression="stars > 4"))
        assert [(hit.path, hit.to_dict()["annotations"]) for hit in hits] == [(SHAPES[1], {"stars": 5})]


def test_the_list_of_skipped_files_is_read(earlier: Path, starter: Embedder) -> None:
    with service(earlier / "photos.db", starter) as images:
        assert [(skip.path, skip.retryable) for skip in images.skipped()] == [
            ("/photos/empty.jpg", False),
            ("/photos/half.png", False),
        ]
        assert all(skip.reason for skip in images.skipped())


def test_the_features_are_indexed_and_belong_to_the_same_model(earlier: Path, starter: Embedder) -> None:
    with service(earlier / "new.db", starter) as images:
        images.build(earlier / "shapes_features.npy", earlier / "shapes_paths.txt")
        hits = images.search(earlier / "photos" / "shape 0.png")
        rows, vectors = images.collection().fetch([hit.picture.id for hit in hits])
        assert [row.path for row in rows] == [hit.path for hit in hits]
        order = np.argsort([row.path for row in rows])
        np.testing.assert_allclose(vectors[order], np.load(earlier / "shapes_features.npy"), atol=1e-6)
        assert sorted(hit.path for hit in hits) == SHAPES


def test_a_graph_whose_files_were_only_sampled_is_left_alone(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the way of no other: today's digests are of whole files, so it is made again beside it."""
    monkeypatch.setattr(cache, "_cpu", lambda: "a processor")
    key = cache.GraphKey("f66136c8f737779030ca", "features", "pooler", "float32", "openvino 2025.0", "2.13.0")
    graphs = key.folder.parent
    graphs.parent.mkdir(parents=True)
    (earlier / "graphs").rename(graphs)
    (old,) = graphs.iterdir()
    assert cache.find_graph(key) is None
    assert old.is_dir()
    made = cache.store_graph(key, lambda folder: cache.Manifest({"dim": 320}, "float32", 300.0, 100.0))
    assert made is not None
    assert made == cache.find_graph(key)
