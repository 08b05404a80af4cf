"""Writing one setting leaves the rest of the file as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesearch.config import load_config
from imagesearch.errors import ConfigError
from imagesearch.search.ranking import METHODS
from imagesearch.yaml_files import read_sections, write_setting

REPOSITORYS = Path(__file__).resolve().parents[1] / "config.yaml"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "search:\n  rerank: expand\n"),
        ("model:\n  name: vit", "model:\n  name: vit\nsearch:\n  rerank: expand\n"),
        ("search:\n  rerank: none # old\n  top_k: 3\n", "search:\n  rerank: expand\n  top_k: 3\n"),
        ("search: # how\n    top_k: 3\ndata:\n  raw_dir: a\n", None),
        ("search:\n", "search:\n  rerank: expand\n"),
        ("search:\n  # rerank: none\n", "search:\n  rerank: expand\n  # rerank: none\n"),
        (
            "data:\n  rerank: 1\nsearch:\n  top_k: 3\n",
            "data:\n  rerank: 1\nsearch:\n  rerank: expand\n  top_k: 3\n",
        ),
    ],
)
def test_the_key_is_set_and_the_rest_stays(tmp_path: Path, before: str, after: str | None) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(before)
    values = read_sections(file)
    write_setting(file, "search", "rerank", "expand")
    assert read_sections(file) == {**values, "search": {**values.get("search", {}), "rerank": "expand"}}
    if after is not None:
        assert file.read_text() == after
    assert [path for path in tmp_path.iterdir() if path.is_file()] == [file]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_a_setting(tmp_path: Path, method: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(REPOSITORYS.read_text(encoding="utf-8"), encoding="utf-8")
    write_setting(file, "search", "rerank", method)
    assert load_config(file).search.rerank == method
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (REPOSITORYS, file))
    assert sum(old != new for old, new in zip(before, after, strict=True)) == (method != "feedback+labels")


def test_other_names_are_no_settings() -> None:
    with pytest.raises(ConfigError, match="rerank"):
        load_config(overrides={"search": {"rerank": "shuffle"}})


def test_a_layout_that_cannot_be_edited_by_lines_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("search: {top_k: 3}\n")
    with pytest.raises(ConfigError, match="write 'rerank: expand' there by hand"):
        write_setting(file, "search", "rerank", "expand")
    assert file.read_text() == "search: {top_k: 3}\n"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.*cannot be written"):
        write_setting(tmp_path / "none" / "config.yaml", "search", "rerank", "expand")
