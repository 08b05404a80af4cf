"""The evaluation of checkpoints runs on what the program gives it."""

from __future__ import annotations

from pathlib import Path

from imagesearch import ImageSearch

from ..conftest import draw_picture


def test_speeds_are_measured_from_files(tmp_path: Path) -> None:
    from training import evaluate

    files = []
    for number in range(3):
        files.append(tmp_path / f"{number}.png")
        draw_picture(number).save(files[-1])
    with ImageSearch({"model": {"name": "starter"}, "milvus": {"uri": str(tmp_path / "a.db")}}) as images:
        rates = evaluate.speeds({"starter": images}, files)
    assert list(rates) == ["starter"]
    assert rates["starter"] > 0
