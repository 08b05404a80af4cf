"""The cache of exported graphs: whole or not at all, whoever writes, and never in the way."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from pathlib import Path

import pytest

from imagesearch.models.runtimes import cache
from imagesearch.models.runtimes.cache import GraphKey, Manifest, find_graph, store_graph

KEY = GraphKey("abc", "features", "auto", "float32", "openvino 1", "2")
MANIFEST = Manifest({"dim": 3}, "float32", 20.0, 10.0)


def make(folder: Path) -> Manifest:
    (folder / "graph.xml").write_text("<graph/>")
    (folder / "graph.bin").write_bytes(bytes(range(256)) * 5000)
    return MANIFEST


def test_what_was_stored_is_found_and_nothing_is_left_over() -> None:
    assert find_graph(KEY) is None
    stored = store_graph(KEY, make)
    assert stored is not None
    assert stored == find_graph(KEY)
    assert stored.manifest == MANIFEST
    assert [path.name for path in KEY.folder.parent.iterdir()] == [KEY.folder.name]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(GraphKey)])
def test_every_part_of_the_key_counts(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dataclasses.replace(KEY, **{field: "other"}).folder != KEY.folder
    here = KEY.folder
    monkeypatch.setattr(cache, "_cpu", lambda: "another processor")
    assert KEY.folder != here


@pytest.mark.parametrize(
    "damage", ["truncated", "changed", "missing", "no manifest", "half a manifest", "another manifest", "empty"]
)
def test_a_damaged_one_is_thrown_away(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    stored = store_graph(KEY, make)
    assert stored is not None
    weights, manifest = stored.folder / "graph.bin", stored.folder / "manifest.json"
    whole = manifest.read_text()
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1])
    elif damage == "changed":
        weights.write_bytes(bytes(weights.stat().st_size))
    elif damage == "missing":
        weights.unlink()
    elif damage == "no manifest":
        manifest.unlink()
    else:
        texts = {"half a manifest": whole[:40], "another manifest": json.dumps({"manifest": {}}), "empty": ""}
        manifest.write_text(texts[damage])
    with caplog.at_level(logging.WARNING):
        assert find_graph(KEY) is None
    assert "damaged" in caplog.text
    assert not stored.folder.exists()
    assert store_graph(KEY, make) == find_graph(KEY) != None  # noqa: E711


def test_an_interrupted_one_is_never_seen() -> None:
    def interrupted(folder: Path) -> Manifest:
        make(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store_graph(KEY, interrupted)
    assert find_graph(KEY) is None
    assert list(KEY.folder.parent.iterdir()) == []


def test_what_a_killed_program_left_is_removed_in_the_end() -> None:
    KEY.folder.parent.mkdir(parents=True)
    old, new = (KEY.folder.parent / f"new-{name}" for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "graph.bin").write_bytes(b"half")
    os.utime(old, (0, 0))
    store_graph(KEY, make)
    assert not old.exists()
    assert new.exists()


def test_the_quicker_of_two_programs_wins() -> None:
    def slow(folder: Path) -> Manifest:
        store_graph(KEY, make)
        make(folder)
        return dataclasses.replace(MANIFEST, speed=1.0)

    stored = store_graph(KEY, slow)
    assert stored is not None
    assert stored.manifest == MANIFEST
    assert list(KEY.folder.parent.iterdir()) == [KEY.folder]


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("where a folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            stored = store_graph(KEY, make)
            assert stored is not None
            assert (stored.folder / "graph.xml").read_text() == "<graph/>"
    assert caplog.text.count("cannot keep exported graphs") == 1
    assert find_graph(KEY) is None


def test_no_room_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    def full(folder: Path) -> Manifest:
        raise OSError(28, "No space left on device")

    with caplog.at_level(logging.WARNING):
        assert store_graph(KEY, full) is None
    assert "No space left on device" in caplog.text


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners here")
class TestOwner:
    def test_others_rights_to_write_are_taken_back(self) -> None:
        assert store_graph(KEY, make) is not None
        graphs = KEY.folder.parent
        assert graphs.stat().st_mode & 0o077 == 0
        graphs.chmod(0o777)
        assert find_graph(KEY) is not None
        assert graphs.stat().st_mode & 0o077 == 0

    def test_a_folder_of_another_user_is_neither_read_nor_written(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert store_graph(KEY, make) is not None
        me = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: me + 1)
        with caplog.at_level(logging.WARNING):
            assert find_graph(KEY) is None
            stored = store_graph(KEY, make)
        assert stored is not None
        assert KEY.folder.parent not in stored.folder.parents
        assert "another user" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        {"speed": "fast"},
        {"precision": "int4"},
        {"files": {"../../graph.xml": "0"}},
        {"files": ["graph.xml"]},
    ],
)
def test_a_manifest_that_makes_no_sense_is_thrown_away(change: dict[str, object]) -> None:
    stored = store_graph(KEY, make)
    assert stored is not None
    file = stored.folder / "manifest.json"
    content = json.loads(file.read_text())
    if "files" not in change:
        change = {"manifest": {**content["manifest"], **change}}
    file.write_text(json.dumps({**content, **change}))
    assert find_graph(KEY) is None
