"""Collections of a database: list, copy, rename, drop, export, import, migrate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesearch import ImageSearch
from imagesearch.errors import CollectionNotFoundError, StoreError, TransferError, UsageError
from imagesearch.records import Metric

from .conftest import draw_picture
from .stores.milvus_server import needs_milvus_server

QUERY = 3


@pytest.fixture
def images(picture_folder: Path, tmp_path: Path) -> Iterator[ImageSearch]:
    """Six pictures and a broken one, in Milvus Lite, with an exact index."""
    (picture_folder / "bad.jpg").write_text("no picture")
    with opened(tmp_path / "p.db") as opened_images:
        opened_images.index(picture_folder)
        yield opened_images


def opened(uri: Path | str, **milvus: Any) -> ImageSearch:
    settings = {"uri": str(uri), "index_type": "FLAT", **milvus}
    return ImageSearch({"milvus": settings, "model": {"device": "cpu", "precision": "float32"}})


def ranking(images: ImageSearch) -> list[tuple[str, float]]:
    return [(hit.path, hit.score) for hit in images.search(draw_picture(QUERY), k=6)]


def test_list(images: ImageSearch) -> None:
    (name, info), *others = images.database.collections().items()
    assert (name, info.rows if info else 0, others) == ("images_starter", 6, [])


def test_copy_and_drop(images: ImageSearch) -> None:
    report = images.database.copy("images_starter", "spare")
    assert (report.collection, report.rows, report.already_there) == ("spare", 6, 0)
    again = images.database.copy("images_starter", "spare")
    assert (again.rows, again.already_there) == (0, 6)
    before = ranking(images)
    images.database.drop("images_starter")
    assert list(images.database.collections()) == ["spare"]
    assert images.skipped() == []
    images.database.copy("spare", "images_starter")
    assert ranking(images) == before
    with pytest.raises(CollectionNotFoundError, match=r"no collection 'missing'"):
        images.database.copy("missing", "new")


def test_a_copy_keeps_what_may_be_on_another_disk(images: ImageSearch, tmp_path: Path) -> None:
    """Its rows alone do not tell that the folder lost most of its pictures: those of the second disk are more."""
    place, first = tmp_path / "disk", tmp_path / "first"
    for numbers in ([1, 2], [3, 4, 5, 6, 7]):
        place.mkdir()
        for number in numbers:
            draw_picture(number).save(place / f"{number}.png")
        images.index(place)
        if not first.exists():
            place.rename(first)
    images.database.copy("images_starter", "spare")
    with opened_like(images, collection_name="spare") as spare:
        assert spare.index(place).removed == 0


def test_rename_takes_the_skipped_files_along(images: ImageSearch) -> None:
    before, skipped = ranking(images), images.skipped()
    assert len(skipped) == 1
    images.database.rename("images_starter", "holidays")
    with opened_like(images, collection_name="holidays") as renamed:
        assert (ranking(renamed), renamed.skipped()) == (before, skipped)
    images.database.copy("holidays", "images_starter")
    with pytest.raises(StoreError, match=r"there is a collection 'images_starter'"):
        images.database.rename("holidays", "images_starter")
    with pytest.raises(CollectionNotFoundError, match=r"no collection 'missing'"):
        images.database.rename("missing", "new")


def test_dropping_what_is_not_there(images: ImageSearch) -> None:
    with pytest.raises(CollectionNotFoundError, match=r"no collection 'missing'"):
        images.database.drop("missing")


def test_export_delete_import(images: ImageSearch, tmp_path: Path, picture_folder: Path) -> None:
    before, file = ranking(images), tmp_path / "out.parquet"
    report = images.database.export(file)
    assert (report.collection, report.rows, report.target) == ("images_starter", 6, str(file))
    images.close()
    with opened(tmp_path / "fresh.db") as fresh:
        assert fresh.database.import_file(file).rows == 6
        assert ranking(fresh) == before
        assert fresh.index(picture_folder).unchanged == 6
        assert fresh.database.import_file(file, "again").collection == "again"


def test_migrate_to_another_file(images: ImageSearch, tmp_path: Path) -> None:
    before = ranking(images)
    images.database.copy("images_starter", "second")
    reports = images.database.migrate(str(tmp_path / "other.db"))
    assert sorted(report.collection for report in reports) == ["images_starter", "second"]
    with opened(tmp_path / "other.db") as other:
        assert ranking(other) == before
    with pytest.raises(TransferError, match=r"'images_starter' cannot be copied onto itself"):
        images.database.migrate(str(tmp_path / "p.db"))
    with pytest.raises(CollectionNotFoundError, match=r"no collection 'missing'"):
        images.database.migrate(str(tmp_path / "other.db"), ["missing"])


def test_copies_of_collections_of_two_metrics(images: ImageSearch, picture_folder: Path, tmp_path: Path) -> None:
    with opened_like(images, metric_type="L2", collection_name="far") as far:
        far.index(picture_folder)
    with opened_like(images) as again:
        again.database.copy("far", "farther")
        again.database.migrate(str(tmp_path / "other.db"))
    with opened_like(images, collection_name="far") as again:
        again.database.export(tmp_path / "far.parquet")
    with opened(tmp_path / "other.db") as other:
        other.database.import_file(tmp_path / "far.parquet", "imported")
        metrics = {name: info.metric for name, info in other.database.collections().items() if info}
    assert metrics == {"images_starter": Metric.COSINE, **dict.fromkeys(("far", "farther", "imported"), Metric.L2)}


def test_a_copy_into_a_collection_of_another_metric(images: ImageSearch, picture_folder: Path) -> None:
    with opened_like(images, metric_type="L2", collection_name="far") as far:
        far.index(picture_folder)
        far.database.copy("far", "farther")
        far.database.drop("far")
    with opened_like(images, metric_type="IP") as again:
        again.database.copy("images_starter", "near")
        for source, target in (("images_starter", "farther"), ("farther", "near")):
            with pytest.raises(StoreError, match=f"'{target}' compares .* those of '{source}' .* another name"):
                again.database.copy(source, target)


def test_migrate_from_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "none.db") as images, pytest.raises(UsageError, match="nothing to copy"):
        images.database.migrate(str(tmp_path / "other.db"))


@needs_milvus_server
def test_migrate_to_a_server(images: ImageSearch, milvus_server: str) -> None:
    before = ranking(images)
    images.database.rename("images_starter", "migrated_pictures")
    assert images.database.migrate(milvus_server)[0].rows == 6
    with opened(milvus_server, collection_name="migrated_pictures") as server:
        assert ranking(server) == before
        server.database.drop("migrated_pictures")


def opened_like(images: ImageSearch, **milvus: Any) -> ImageSearch:
    """Another service on the same database."""
    return opened(images.config.milvus.uri, **milvus)
