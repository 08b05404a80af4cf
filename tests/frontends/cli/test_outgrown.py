"""When a collection outgrows a local database, that is said once while indexing, and always by 'info'."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from imagesearch import managing
from imagesearch.config import Config
from imagesearch.records import CollectionInfo, Fingerprint, Metric

from ..conftest import Library, Run

MOVE = "imagesearch migrate images_starter --to http://SERVER:19530"


@pytest.fixture
def tiny_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose memory half fills with a row."""
    monkeypatch.setattr(managing, "_physical_memory", lambda: 1000)


@pytest.mark.usefixtures("tiny_machine")
def test_it_is_said_once_while_indexing(run: Run, library: Library, tmp_path: Path) -> None:
    pictures, uri = tmp_path / "pictures", tmp_path / "own.db"
    shutil.copytree(library.folder, pictures)
    first = run("index", pictures, "--uri", uri)
    assert first.code == 0
    assert MOVE in " ".join(first.err.split())
    assert "IMAGESEARCH_MILVUS__URI=http://SERVER:19530" in " ".join(first.err.split())
    assert "SERVER" not in run("index", pictures, "--uri", uri).err
    described = run("info", "--uri", uri)
    assert MOVE in " ".join(described.err.split())
    assert "SERVER" not in described.out


def test_small_collections_need_not_move(run: Run, library: Library) -> None:
    assert "SERVER" not in run("info", "--uri", library.uri).err


def test_what_outgrows_a_local_database() -> None:
    mark = Fingerprint("toy", "1", "cls", (8, 8), 320)
    local = managing.Collections(Config(), lambda: pytest.fail("no database is needed"))

    def info(rows: int) -> CollectionInfo:
        return CollectionInfo("many", rows, Metric.COSINE, "FLAT", mark)

    assert local.outgrown(info(1000)) is None
    assert "6,000,000 pictures" in str(local.outgrown(info(6_000_000)))
    server = Config.model_validate({"milvus": {"uri": "http://localhost:19530"}})
    assert managing.Collections(server, lambda: pytest.fail("none")).outgrown(info(10**9)) is None
