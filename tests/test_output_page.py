"""docs/output.md shows what --json and --csv print."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

PAGE = (Path(__file__).parent.parent / "docs" / "output.md").read_text(encoding="utf-8")


def example(kind: str, command: str) -> str:
    """The example of that command on the page."""
    (found,) = re.findall(rf"^```{kind} {command}\n(.*?)^```$", PAGE, re.M | re.S)
    return found


def fields_in_table(command: str) -> set[str]:
    """The fields that the page's last table names for a command."""
    (cell,) = (row for names, row in re.findall(r"^\| (`.*?) \| (.*) \|$", PAGE, re.M) if f"`{command}`" in names)
    return set(re.findall(r"`(\w+)`", cell))


def keys(value: Any) -> Any:
    """The names of a value of JSON, without its values."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value] if isinstance(value, list) else None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs the command line on a folder of a picture and a broken file, already indexed; returns its stdout."""
    from typer.testing import CliRunner

    from imagesearch.frontends.cli.app import app

    place = tmp_path_factory.mktemp("output")
    (place / "pictures").mkdir()
    Image.new("RGB", (80, 60), "teal").save(place / "pictures" / "photo.jpg")
    (place / "out.csv").write_text("name,stars\nphoto.jpg,5\n")
    (place / "pictures" / "broken.jpg").write_text("no picture")

    def run(command: str) -> str:
        words = [str(place / word) if word.startswith(("pictures", "out")) else word for word in command.split()]
        return CliRunner().invoke(app, words, env={"IMAGESEARCH_MILVUS__URI": str(place / "photos.db")}).stdout

    run.indexed = run("index pictures --json")  # type: ignore[attr-defined]
    return run


PHOTO, BROKEN = "pictures/photo.jpg", "pictures/broken.jpg"


def test_index(run: Callable[..., str]) -> None:
    assert keys(json.loads(run.indexed)) == keys(json.loads(example("json", "index")))


def test_search(run: Callable[..., str]) -> None:
    assert keys(json.loads(run(f"search {PHOTO} --json"))) == keys(json.loads(example("json", "search")))
    assert run(f"search {PHOTO} --csv").splitlines()[0] == example("csv", "search").splitlines()[0]


def test_search_for_many(run: Callable[..., str]) -> None:
    printed = json.loads(run(f"search {PHOTO} {PHOTO} --json"))
    (shown,) = json.loads(example("json", "search-many"))
    assert [answer.keys() for answer in printed] == [shown.keys()] * 2
    assert run(f"search {PHOTO} {PHOTO} --csv").splitlines()[0] == example("csv", "search-many").splitlines()[0]


def test_classify(run: Callable[..., str]) -> None:
    printed = json.loads(run(f"classify {PHOTO} {BROKEN} --top 1 --json"))
    assert keys(printed) == keys(json.loads(example("json", "classify")))
    assert run(f"classify {PHOTO} --csv").splitlines()[0] == example("csv", "classify").splitlines()[0]


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("extract pictures -o out/p --json", "extract"),
        ("info --json", "info"),
        ("info --skipped --json", "info --skipped"),
        ("collections --json", "collections"),
        ("check --json", "check"),
        ("export out.parquet --json", "export"),
        ("migrate --to out.db --json", "migrate"),
        ("models --json", "models"),
        ("config --json", "config"),
        ("annotate out.csv --on name --json", "annotate"),
        ("forget pictures/none --dry-run --json", "forget"),
    ],
)
def test_the_other_commands(run: Callable[..., str], command: str, named: str) -> None:
    printed = json.loads(run(command))
    first = printed[0] if isinstance(printed, list) else printed
    if named == "config":
        first = first["model"]["name"]
    shown = fields_in_table("export" if named == "migrate" else named)
    assert set(first) == shown
