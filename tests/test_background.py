"""Indexing learns what scores mean, keeps it beside the list of skipped files, forgets it with the collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from imagesearch import ImageSearch
from imagesearch.config import load_config
from imagesearch.managing import Collections, ledger_folder
from imagesearch.records import Fingerprint, ImageRecord
from imagesearch.stores.base import Collection, CollectionSpec
from imagesearch.stores.memory import MemoryDatabase

from .search.test_confidence import DIM, clusters

MARK = Fingerprint("toy", "1", "cls", (8, 8), DIM)


def filled(database: MemoryDatabase, rows: int = 100) -> Collection:
    collection = database.create(CollectionSpec("c"), MARK)
    collection.upsert([ImageRecord(f"/{row}") for row in range(rows)], clusters(30, 10)[:rows])
    return collection


def test_it_is_learned_once_kept_and_forgotten(tmp_path: Path) -> None:
    config, database = load_config(overrides={"milvus": {"uri": str(tmp_path / "a.db")}}), MemoryDatabase()
    collections, collection = Collections(config, lambda: database), filled(database)
    assert collections.background(collection) is None
    assert collections.refresh_background(collection)
    assert not collections.refresh_background(collection)
    file = ledger_folder(config) / "c.background.json"
    assert file.is_file()
    assert collections.background(collection) is not None
    filled(database, 150)
    assert collections.refresh_background(collection)
    collections.drop("c")
    assert not file.exists()


def test_a_given_database_keeps_it_in_memory() -> None:
    database = MemoryDatabase()
    with ImageSearch(database=database) as images:
        collection = filled(database)
        assert images.database.refresh_background(collection)
        assert images.database.background(collection) is not None
        images.database.rename("c", "d")
        assert images.database.background(database.open(CollectionSpec("d"))) is None


def test_what_cannot_be_written_is_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, database = load_config(overrides={"milvus": {"uri": str(tmp_path / "a.db")}}), MemoryDatabase()
    folder = ledger_folder(config)
    folder.parent.mkdir(parents=True)
    folder.write_text("a file where the folder should be")
    collections = Collections(config, lambda: database)
    assert not collections.refresh_background(filled(database))
    assert "background.json" in caplog.text


def test_indexing_learns(tmp_path: Path) -> None:
    from PIL import Image

    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for number in range(45):
        small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        small.resize((64, 64)).save(folder / f"{number}.png")
    with ImageSearch({"milvus": {"uri": str(tmp_path / "a.db")}}) as images:
        images.index(folder)
        background = images.database.background(images.collection())
    assert background is not None
    assert background.rows == 45
