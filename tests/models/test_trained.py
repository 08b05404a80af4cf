"""Which trained models are listed: those that are there, whatever lies beside them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from imagesearch.models.trained import REPORT, TrainedModel, remember, trained_models

SAID: dict[str, Any] = {
    "model": "starter",
    "best": "probe",
    "pictures": 36,
    "classes": 3,
    "several": False,
    "methods": [
        {"name": "kNN", "accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}},
        {"name": "probe", "accuracy": {"value": 0.75, "low": 0.625, "high": 0.875}},
    ],
}


def write(folder: Path, said: Any = SAID) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / REPORT).write_text(json.dumps(said))
    return folder


def names(folder: Path | str = ".") -> list[str]:
    return [Path(one.folder).name for one in trained_models(folder)]


def test_what_is_remembered_and_what_lies_here(tmp_path: Path) -> None:
    far = write(tmp_path / "far" / "b")
    write(tmp_path / "here" / "a")
    assert names(tmp_path / "here") == ["a"]
    remember(far)
    remember(tmp_path / "here" / "a")
    assert trained_models(tmp_path / "here") == [
        TrainedModel(str(tmp_path / where), "starter", "probe", 36, 3, False, 0.75, 0.625, 0.875)
        for where in ("far/b", "here/a")
    ]
    assert names("/nowhere") == ["b", "a"]


def test_a_folder_that_vanished_is_not_listed_until_it_is_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "disk" / "a")
    remember(folder)
    folder.rename(tmp_path / "elsewhere")
    assert names(tmp_path / "nothing") == []
    assert names(tmp_path) == ["elsewhere"]
    (tmp_path / "elsewhere").rename(folder)
    assert names(tmp_path / "nothing") == ["a"]
    shutil.rmtree(folder)
    (tmp_path / "disk" / "a").mkdir()
    assert names(tmp_path / "disk") == []


def test_one_folder_by_two_names_is_listed_once(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (tmp_path / "link").symlink_to(folder)
    remember(folder)
    remember(tmp_path / "link")
    assert len(trained_models(tmp_path)) == 1


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        {},
        {**SAID, "best": "none"},
        {**SAID, "methods": 3},
        {**SAID, "pictures": "many"},
        {**SAID, "methods": [{"name": "probe", "accuracy": {"value": float("nan"), "low": 0, "high": 1}}]},
    ],
)
def test_files_of_other_programs(tmp_path: Path, said: Any) -> None:
    write(tmp_path / "a", said)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / REPORT).write_bytes(b"\xff{" + b"[" * 100_000)
    os.mkfifo(tmp_path / "b" / "config.json")
    assert names(tmp_path) == []


def test_damaged_entries_and_a_folder_that_nobody_can_write(tmp_path: Path) -> None:
    registry = platformdirs.user_data_path("imagesearch") / "trained"
    remember(write(tmp_path / "a"))
    (registry / "x.json").write_text('{"folder": 3')
    (registry / "y.json").write_text('{"folder": "/gone\\u0000"}')
    assert names("/nowhere") == ["a"]
    for entry in registry.iterdir():
        entry.unlink()
    registry.rmdir()
    registry.write_text("no folder")
    remember(write(tmp_path / "b"))
    assert names("/nowhere") == []
    assert stat.S_ISREG(registry.stat().st_mode)


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    folders = [write(tmp_path / "models" / f"{number:02}") for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(remember, folders))
    assert names("/nowhere") == [folder.name for folder in folders]
