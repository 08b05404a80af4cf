"""``imagesearch forget``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from PIL import Image

from ..conftest import Run


def paths(run: Run, query: Path) -> set[str]:
    hits = json.loads(run("search", query, "-k", "50", "--uri", "a.db", "--json").out)
    return {hit["path"] for hit in hits}


def test_a_folder_and_its_skipped_files_are_forgotten_and_others_are_not(run: Run, tmp_path: Path) -> None:
    query = tmp_path / "query.png"
    Image.new("RGB", (40, 30), "red").save(query)
    for name in ("one", "two", "two more"):
        (tmp_path / name).mkdir()
        for colour in ("red", "blue"):
            Image.new("RGB", (40, 30), colour).save(tmp_path / name / f"{colour}.png")
        (tmp_path / name / "broken.png").write_bytes(b"no picture")
    assert run("index", tmp_path / "one", tmp_path / "two", tmp_path / "two more", "--uri", "a.db").code == 0
    told = run("forget", tmp_path / "two", "--dry-run", "--uri", "a.db")
    assert (told.code, told.out) == (0, "2 pictures would be removed from collection images_starter\n")
    assert len(paths(run, query)) == 6
    shutil.rmtree(tmp_path / "two")  # as a disk that is gone for good
    report = json.loads(run("forget", tmp_path / "two", "--uri", "a.db", "--json").out)
    assert (report["removed"], report["still_indexed"]) == (2, [])
    left = {str(tmp_path / name / f"{colour}.png") for name in ("one", "two more") for colour in ("red", "blue")}
    assert paths(run, query) == left
    skipped = json.loads(run("info", "--skipped", "--uri", "a.db", "--json").out)
    assert "two more" in json.dumps(skipped)
    assert str(tmp_path / "two" / "broken.png") not in json.dumps(skipped)
    again = run("index", "--uri", "a.db", "--json")
    assert json.loads(again.out)["removed"] == 0
    assert json.loads(again.out)["offline"] == []


def test_part_of_an_indexed_folder_would_come_back(run: Run, tmp_path: Path) -> None:
    (tmp_path / "all" / "part").mkdir(parents=True)
    for place in ("all", "all/part"):
        Image.new("RGB", (40, 30), "red").save(tmp_path / place / "a.png")
    run("index", tmp_path / "all", "--uri", "a.db")
    told = run("forget", tmp_path / "all" / "part", "--uri", "a.db")
    assert told.out == "1 picture removed from collection images_starter\n"
    assert f"{tmp_path / 'all'} is indexed as a whole" in told.err


def test_nothing_was_indexed(run: Run, tmp_path: Path) -> None:
    told = run("forget", tmp_path, "--uri", "a.db")
    assert told.code == 1
    assert len(told.err.splitlines()) == 1


def test_a_link_stands_for_the_folder_that_was_indexed(run: Run, tmp_path: Path) -> None:
    for folder in ("disk/part", "other"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (40, 30), "red").save(tmp_path / folder / "a.png")
    pictures = tmp_path / "pictures"
    pictures.symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "more").symlink_to(tmp_path / "other")
    run("index", pictures, "--uri", "a.db")
    more, part = tmp_path / "disk" / "more", pictures / "part"
    for folder, real in ((more, more), (part, tmp_path / "disk" / "part")):  # a link below it kept its name
        report = json.loads(run("forget", folder, "--uri", "a.db", "--json").out)
        assert (report["removed"], report["folders"]) == (1, [str(real)])
