"""The Python API, with the bundled model and a database in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imagesearch import ImageSearch, Skipped, load_config
from imagesearch.errors import (
    CollectionNotFoundError,
    ConfigError,
    ModelError,
    ModelMismatchError,
    PictureError,
    UsageError,
)
from imagesearch.models.embedder import Embedder
from imagesearch.records import Fingerprint
from imagesearch.stores import engines
from imagesearch.stores.memory import MemoryDatabase

from .conftest import draw_picture
from .stores.conftest import TOY

EXACT = {"device": "cpu", "precision": "float32"}


def service(
    starter: Embedder | None = None,
    database: MemoryDatabase | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> ImageSearch:
    """The service over a database in memory, with the session's model where one is given."""
    merged = {"model": EXACT, **(settings or {})}
    config = load_config(overrides=merged)
    return ImageSearch(config, database=database or MemoryDatabase(), embedder=starter)


@pytest.fixture
def indexed(starter: Embedder, picture_folder: Path) -> ImageSearch:
    images = service(starter)
    images.index(picture_folder)
    return images


@pytest.fixture(scope="module")
def labels() -> ImageSearch:
    """The service for classification, with its model loaded once."""
    return ImageSearch(load_config(overrides={"model": EXACT, "extraction": {"batch_size": 2}}, environ={}))


class TestSearch:
    def test_each_picture_finds_itself_first(self, indexed: ImageSearch, picture_folder: Path) -> None:
        for path in sorted(picture_folder.rglob("*.*")):
            first, second, *_ = indexed.search(path, k=3)
            assert first.path == str(path)
            assert (first.rank, first.score) == (1, pytest.approx(1.0, abs=1e-5))
            assert second.score < first.score

    def test_hits_are_ranked(self, indexed: ImageSearch, picture_folder: Path) -> None:
        hits = indexed.search(picture_folder / "0.png", k=6, rerank="none")
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)

    def test_pictures_in_memory(self, indexed: ImageSearch, picture_folder: Path) -> None:
        expected = indexed.search(picture_folder / "2.png", k=1)
        assert indexed.search(draw_picture(2), k=1) == expected
        assert indexed.search(np.asarray(draw_picture(2)), k=1) == expected

    def test_how_many(self, starter: Embedder, picture_folder: Path) -> None:
        images = service(starter, settings={"search": {"top_k": 2}})
        images.index(picture_folder)
        query = picture_folder / "0.png"
        assert len(images.search(query)) == 2
        assert len(images.search(query, k=4)) == 4
        assert len(images.search(query, k=1000)) == 6

    @pytest.mark.parametrize("k", [0, -1])
    def test_k_below_one(self, k: int) -> None:
        """Refused before the model is loaded or the picture read."""
        with pytest.raises(UsageError, match=f"k = {k}: the number of results must be at least 1"):
            service().search("missing.jpg", k=k)

    def test_a_missing_collection_names_the_others(self, starter: Embedder, picture_folder: Path) -> None:
        database = MemoryDatabase()
        service(starter, database, {"milvus": {"collection_name": "holidays"}}).index(picture_folder)
        with pytest.raises(CollectionNotFoundError, match=r"'images_starter' in memory.*there: holidays"):
            service(starter, database).search(draw_picture(0))
        with pytest.raises(CollectionNotFoundError, match=r"there: none"):
            service(starter).search(draw_picture(0))

    def test_another_models_collection(self, starter: Embedder) -> None:
        database = MemoryDatabase()
        images = service(starter, database)
        database.create(images.spec, Fingerprint("google/vit", "abc", "cls", (224, 224), dim=768))
        with pytest.raises(ModelMismatchError) as caught:
            images.search(draw_picture(0))
        for part in ("images_starter", "'google/vit'", "'starter'", "--model google/vit"):
            assert part in str(caught.value)

    def test_a_query_that_cannot_be_read(self, indexed: ImageSearch) -> None:
        Path("q.jpg").write_text("no picture")
        with pytest.raises(PictureError, match=r"'q\.jpg': is not a picture"):
            indexed.search("q.jpg")


class TestIndex:
    def test_twice(self, indexed: ImageSearch, picture_folder: Path) -> None:
        report = indexed.index(picture_folder)
        assert (report.found, report.indexed, report.unchanged) == (6, 0, 6)
        assert indexed.describe().rows == 6
        assert indexed.describe().fingerprint.model == "starter"

    def test_without_folders_all_that_were_indexed_are_refreshed(
        self, indexed: ImageSearch, picture_folder: Path, tmp_path: Path
    ) -> None:
        draw_picture(30).save(tmp_path / "single.png")
        indexed.index(tmp_path / "single.png")
        (picture_folder / "0.png").unlink()
        report = indexed.index()
        assert (report.found, report.unchanged, report.removed) == (6, 6, 1)

    def test_without_folders_before_the_first_time(self, starter: Embedder) -> None:
        with pytest.raises(UsageError, match=r"no folder given, .*nothing has been indexed yet"):
            service(starter).index()

    def test_an_empty_name_is_not_the_working_directory(self, indexed: ImageSearch) -> None:
        with pytest.raises(UsageError, match="the name of a folder is empty"):
            indexed.index("")

    def test_a_folder_that_is_away_is_offline(
        self, indexed: ImageSearch, picture_folder: Path, tmp_path: Path
    ) -> None:
        picture_folder.rename(tmp_path / "away")
        report = indexed.index(picture_folder)
        assert [(root.root, root.pictures) for root in report.offline] == [(str(picture_folder), 6)]
        assert indexed.search(draw_picture(0), k=1)[0].path == str(picture_folder / "0.png")
        report = indexed.index(tmp_path / "away")
        assert (report.indexed, report.reused, report.offline) == (6, 6, ())
        assert indexed.search(draw_picture(0), k=1)[0].path == str(tmp_path / "away" / "0.png")

    def test_what_was_skipped(self, indexed: ImageSearch, picture_folder: Path) -> None:
        assert indexed.skipped() == []
        (picture_folder / "bad.jpg").write_text("no picture")
        report = indexed.index(picture_folder)
        assert indexed.skipped() == list(report.skipped)
        assert indexed.skipped()[0].path == str(picture_folder / "bad.jpg")
        (picture_folder / "bad.jpg").unlink()
        indexed.index(picture_folder)
        assert indexed.skipped() == []

    def test_nothing_changed_and_the_network_is_not_loaded(
        self, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = {"milvus": {"uri": str(tmp_path / "p.db")}}
        with ImageSearch(settings) as images:
            images.index(picture_folder)
        (picture_folder / "0.png").rename(picture_folder / "zero.png")
        monkeypatch.setattr("imagesearch.models.runtimes.selection.open_embedder", pytest.fail)
        with ImageSearch(settings) as images:
            report = images.index(picture_folder)
            assert (report.unchanged, report.reused) == (5, 1)

    def test_another_model_has_a_collection_of_its_own(self, picture_folder: Path, tmp_path: Path) -> None:
        """Trying one, and switching back, encodes nothing again."""
        checkpoint = tmp_path / "tiny-vit"
        _save_tiny_vit(checkpoint)
        uri = {"milvus": {"uri": str(tmp_path / "p.db")}}
        with ImageSearch(uri) as images:
            assert images.index(picture_folder).indexed == 6
        with ImageSearch({**uri, "model": {"name": str(checkpoint)}}) as images:
            report = images.index(picture_folder)
            assert (report.indexed, report.reused, report.collection) == (6, 0, "images_tiny_vit")
        with ImageSearch(uri) as images:
            assert images.index(picture_folder).unchanged == 6
            assert set(images.database.collections()) == {"images_starter", "images_tiny_vit"}

    def test_folders_from_the_settings(self, starter: Embedder, picture_folder: Path) -> None:
        images = service(starter, settings={"data": {"raw_dir": str(picture_folder)}})
        assert images.index().indexed == 6
        with pytest.raises(UsageError, match=r"no folder given, data\.raw_dir is not set"):
            service(starter).index()

    def test_home(self, starter: Embedder) -> None:
        folder = Path.home() / "Pictures"
        folder.mkdir()
        draw_picture(0).save(folder / "a.png")
        images = service(starter)
        images.index("~/Pictures")
        assert images.search(draw_picture(0))[0].path == str(folder / "a.png")

    def test_hidden_and_large_pictures_by_the_settings(self, starter: Embedder, picture_folder: Path) -> None:
        draw_picture(7).save(picture_folder / ".hidden.png")
        draw_picture(8, (300, 200)).save(picture_folder / "large.png")
        settings = {"data": {"include_hidden": True, "max_megapixels": 0.05}}
        report = service(starter, settings=settings).index(picture_folder)
        assert (report.found, report.indexed) == (8, 7)
        assert "0.05 megapixels" in report.skipped[0].reason

    def test_extract_then_build_gives_the_same_collection(self, starter: Embedder, picture_folder: Path) -> None:
        direct, in_steps = service(starter), service(starter)
        direct.index(picture_folder)
        report = in_steps.extract(picture_folder, "out/pets")
        assert (report.extracted, report.dim) == (6, 320)
        in_steps.build(report.features, report.paths)
        query = draw_picture(3)
        assert [(h.path, h.score) for h in in_steps.search(query)] == [
            (h.path, h.score) for h in direct.search(query)
        ]


class TestEmbed:
    def test_unit_vectors_in_order(self, starter: Embedder) -> None:
        images = service(starter, settings={"extraction": {"batch_size": 2}})
        vectors = images.embed(draw_picture(number) for number in range(5))
        assert (vectors.shape, vectors.dtype) == ((5, 320), np.float32)
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
        assert np.abs(vectors[3] - images.embed([draw_picture(3)])[0]).max() < 1e-5

    def test_broken_pictures_are_raised(self, starter: Embedder) -> None:
        with pytest.raises(PictureError, match=r"'missing\.jpg'"):
            service(starter).embed([draw_picture(0), "missing.jpg"])

    def test_a_dimension_that_is_not_the_models(self) -> None:
        images = service(settings={"model": {**EXACT, "embedding_dim": 768}})
        with pytest.raises(ConfigError) as caught:
            images.embed([draw_picture(0)])
        assert str(caught.value) == (
            "flag: model.embedding_dim = 768: vectors of starter have dimension 320"
            " (allowed: 320, or leave it out)"
        )
        assert service(settings={"model": {**EXACT, "embedding_dim": 320}}).embed([]).shape == (0, 320)


class TestClassify:
    def test_most_probable_first(self, labels: ImageSearch) -> None:
        predictions = labels.classify(draw_picture(0), top=7)
        scores = [prediction.score for prediction in predictions]
        assert len(predictions) == 7
        assert scores == sorted(scores, reverse=True)
        assert 0 < scores[-1] <= scores[0] <= 1
        assert len(labels.classify(draw_picture(0))) == 5
        everything = labels.classify(draw_picture(0), top=10_000)
        assert len(everything) == 200
        assert sum(prediction.score for prediction in everything) == pytest.approx(1, abs=1e-3)
        assert everything[:7] == predictions

    def test_many_with_broken_ones_in_their_places(self, labels: ImageSearch, picture_folder: Path) -> None:
        Path("broken.jpg").write_bytes(b"")
        sources = [
            picture_folder / "0.png",
            "broken.jpg",
            draw_picture(1),
            "missing.jpg",
            picture_folder / "4.png",
        ]
        results = list(labels.classify_all(sources, top=2))
        assert [source for source, _ in results] == sources
        outcome = [result for _, result in results]
        assert [isinstance(result, Skipped) for result in outcome] == [False, True, False, True, False]
        assert outcome[1] == Skipped("broken.jpg", "is empty (0 bytes)")
        for index, source in ((0, sources[0]), (2, sources[2]), (4, sources[4])):
            alone = labels.classify(source, top=2)
            assert [p.label for p in alone] == [p.label for p in outcome[index]]

    def test_only_as_far_as_asked(self, labels: ImageSearch) -> None:
        pulled = []

        def sources() -> Any:
            for number in range(100):
                pulled.append(number)
                yield draw_picture(number)

        next(labels.classify_all(sources()))
        assert len(pulled) <= 6  # a batch of two, and two more that are decoded meanwhile

    @pytest.mark.parametrize("top", [0, -3])
    def test_top_below_one(self, labels: ImageSearch, top: int) -> None:
        with pytest.raises(UsageError, match=f"top = {top}: the number of labels must be at least 1"):
            labels.classify("missing.jpg", top=top)

    def test_a_broken_picture_is_raised(self, labels: ImageSearch) -> None:
        with pytest.raises(PictureError, match=r"'missing\.jpg': no such file"):
            labels.classify("missing.jpg")

    def test_a_model_without_labels(self) -> None:
        with pytest.raises(ModelError, match=r"clip does not label pictures; set model\.classifier"):
            service(settings={"model": {"name": "clip"}}).classify(draw_picture(0))

    def test_real_photographs_of_its_classes(self, labels: ImageSearch, photos: Path) -> None:
        """The bundled model knows 200 of the 1,000 classes; goldfish is one of them, and an easy one."""
        (goldfish,) = photos.glob("*_goldfish.*")
        assert "goldfish" in labels.classify(goldfish, top=1)[0].label.lower()


class TestSettings:
    def test_from_a_file_a_mapping_or_nothing(self) -> None:
        Path("mine.yaml").write_text("search: {top_k: 4}")
        assert ImageSearch("mine.yaml").config.search.top_k == 4
        assert ImageSearch(Path("mine.yaml")).config.search.top_k == 4
        assert ImageSearch({"search": {"top_k": 5}}).config.search.top_k == 5
        assert ImageSearch().config.search.top_k == 10

    def test_nothing_is_opened_before_it_is_needed(self) -> None:
        with ImageSearch({"milvus": {"uri": "photos.db"}}):
            pass
        assert os.listdir() == []

    def test_wrong_settings_are_refused_at_once(self) -> None:
        with pytest.raises(ConfigError, match=r"search\.topk"):
            ImageSearch({"search": {"topk": 5}})


def test_pictures_come_back_although_they_were_changed(starter: Embedder, photos: Path, tmp_path: Path) -> None:
    """Cropped, mirrored, smaller: each variant's original comes first among twenty-five photographs."""
    images = service(starter)
    folder = tmp_path / "some"
    folder.mkdir()
    originals = sorted(photos.iterdir())[::40]
    for path in originals:
        (folder / path.name).symlink_to(path)
    images.index(folder)
    found = 0
    for path in originals[:10]:
        with Image.open(path) as picture:
            width, height = picture.size
            variant = picture.convert("RGB").crop((width // 20, height // 20, width, height)).resize((160, 120))
        found += os.path.basename(images.search(variant, k=1)[0].path) == path.name
    assert found >= 9


def _save_tiny_vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(**shape, image_size=16, patch_size=8)).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)


def test_released_the_database_is_free_and_opens_again(picture_folder: Path, tmp_path: Path) -> None:
    settings = {"milvus": {"uri": str(tmp_path / "p.db")}}
    with ImageSearch(settings) as images:
        images.index(picture_folder)
        images.release()
        program = f"from imagesearch import ImageSearch; print(ImageSearch({settings}).describe().rows)"
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert other.stdout == "6\n"
        assert images.index(picture_folder).unchanged == 6


def test_a_closed_service_opens_nothing_again() -> None:
    images = ImageSearch({"model": {"name": "starter"}}, database=MemoryDatabase())
    images.close()
    for use in (images.find_collection, images.collection, lambda: images.engine, images.database.collections):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_a_misspelt_folder_is_found_before_a_model_is_loaded(tmp_path: Path) -> None:
    images = ImageSearch({"model": {"name": "vit"}}, database=MemoryDatabase())
    with pytest.raises(UsageError, match=r"cannot read .*pictuers"):
        images.index(tmp_path / "pictuers")


def test_another_index_type_is_built_though_no_picture_is_new(tmp_path: Path) -> None:
    draw_picture(0).save(tmp_path / "a.png")
    settings = {"milvus": {"uri": str(tmp_path / "p.db"), "index_type": "FLAT"}}
    with ImageSearch(settings) as images:
        images.index(tmp_path)
        assert images.describe().index_type == "FLAT"
        assert images.index_mismatch() is None
    settings["milvus"]["index_type"] = "HNSW"
    with ImageSearch(settings) as images:
        assert images.index_mismatch() == ("FLAT", "HNSW")
        assert images.index(tmp_path).unchanged == 1
        assert images.describe().index_type == "HNSW"
        assert images.index_mismatch() is None


def test_a_database_of_one_file_serves_everything(
    starter: Embedder, picture_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What else is kept about it, such as which files could not be read, lies elsewhere then."""
    monkeypatch.setattr(engines, "ENGINES", (*engines.ENGINES, TOY))
    (picture_folder / "broken.png").write_bytes(b"no picture")
    config = load_config(overrides={"model": EXACT, "milvus": {"uri": str(tmp_path / "pictures.sqlite")}})
    with ImageSearch(config, embedder=starter) as images:
        first, second = images.index(picture_folder), images.index(picture_folder)
        assert (first.indexed, second.indexed, second.unchanged) == (6, 0, 6)
        assert [Path(skip.path).name for skip in second.skipped] == ["broken.png"]
        assert images.search(picture_folder / "0.png", k=1)[0].path == str(picture_folder / "0.png")
    assert (tmp_path / "pictures.sqlite").is_file()


class TestManners:
    def test_a_list_of_folders_is_as_good_as_folders(self, starter: Embedder, picture_folder: Path) -> None:
        images = service(starter)
        assert images.index([picture_folder], dry_run=True).found == images.index(picture_folder).found

    @pytest.mark.parametrize("single", ["a.png", Path("a.png"), b"bytes", np.zeros((8, 8, 3), np.uint8), 5, None])
    @pytest.mark.parametrize("method", ["embed", "search_all"])
    def test_one_picture_where_a_list_belongs(self, indexed: ImageSearch, single: Any, method: str) -> None:
        with pytest.raises(UsageError, match="expected a list of pictures, got a single"):
            getattr(indexed, method)(single)

    @pytest.mark.parametrize("k", ["3", 2.0, True, [3]])
    def test_a_number_of_results_that_is_none(self, indexed: ImageSearch, picture_folder: Path, k: Any) -> None:
        with pytest.raises(UsageError, match="must be a whole number"):
            indexed.search(picture_folder / "0.png", k=k)

    def test_bytes_and_open_files(self, indexed: ImageSearch, picture_folder: Path) -> None:
        path = picture_folder / "0.png"
        expected = indexed.search(path, k=3)
        assert indexed.search(path.read_bytes(), k=3) == expected
        with open(path, "rb") as stream:
            assert indexed.search(stream, k=3) == expected
            assert not stream.closed
        with open(path, encoding="latin-1") as text, pytest.raises(UsageError, match="open for reading bytes"):
            indexed.search(text, k=3)  # type: ignore[arg-type]
        for nothing in (b"", b"no picture"):
            with pytest.raises(PictureError, match="<picture in memory>"):
                indexed.search(nothing, k=3)

    def test_many_at_once(self, indexed: ImageSearch, picture_folder: Path) -> None:
        paths = sorted(picture_folder.glob("*.png"))
        assert indexed.search_all(paths, k=2) == [indexed.search(path, k=2) for path in paths]
        assert indexed.search_all([]) == []
