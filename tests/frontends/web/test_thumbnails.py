"""Thumbnails: made once, kept up to a size, never more than asked for."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from imagesearch.errors import PictureError
from imagesearch.frontends.web import thumbnails as module
from imagesearch.frontends.web.thumbnails import Thumbnails
from imagesearch.images.files import examine

from ...conftest import draw_picture


def pictures(folder: Path, count: int) -> list[Path]:
    files = [folder / f"{number}.png" for number in range(count)]
    for number, file in enumerate(files):
        draw_picture(number, (400, 300)).save(file)
    return files


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def test_they_fit_are_upright_and_never_enlarged(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    file = tmp_path / "turned.jpg"
    draw_picture(1, (400, 300)).save(file, exif=exif)
    made = Thumbnails(tmp_path / "cache", 10**6, 200)
    small, large = (Image.open(io.BytesIO(made.get(examine(str(file)), side).result(10))) for side in (160, 640))
    assert (small.size, large.size) == ((120, 160), (300, 400))
    assert not small.getexif()
    made.close()


def test_what_is_made_between_two_looks_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, original, read = [], module.as_jpeg, module._read
    monkeypatch.setattr(module, "as_jpeg", lambda *given: made.append(given) or original(*given))
    thumbnails = Thumbnails(tmp_path / "cache", 10**6, 200)
    record = examine(str(pictures(tmp_path, 1)[0]))

    def late(file: Path) -> bytes | None:
        """Sees nothing, and while it looks somebody else makes it."""
        monkeypatch.setattr(module, "_read", read)
        thumbnails.get(record, 160).result(10)
        return None

    monkeypatch.setattr(module, "_read", late)
    assert thumbnails.get(record, 160).result(10)
    assert len(made) == 1


def test_each_is_made_once_though_many_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = module.as_jpeg
    monkeypatch.setattr(module, "as_jpeg", lambda *given: made.append(given) or original(*given))
    thumbnails = Thumbnails(tmp_path / "cache", 10**6, 200, workers=2)
    records = [examine(str(file)) for file in pictures(tmp_path, 3)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: thumbnails.get(records[number % 3], 160).result(10), range(60)))
    assert len(made) == 3
    assert len(set(found)) == 3
    thumbnails.close()


def test_they_are_kept_for_the_next_start(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 1)
    record = examine(str(file))
    for _ in range(2):
        thumbnails = Thumbnails(tmp_path / "cache", 10**6, 200)
        assert thumbnails.get(record, 160).result(10)
        thumbnails.close()
        file.unlink(missing_ok=True)  # the second time it comes from the cache


def test_one_of_a_file_that_was_replaced_is_not_kept_for_the_picture_that_it_was(tmp_path: Path) -> None:
    file, renamed = tmp_path / "picture.png", tmp_path / "original.png"
    Image.new("RGB", (400, 300), "red").save(file)
    before = examine(str(file))
    file.rename(renamed)
    Image.new("RGB", (300, 400), "blue").save(file)
    thumbnails = Thumbnails(tmp_path / "cache", 10**6, 200)
    for record, size in ((before, (120, 160)), (examine(str(renamed)), (160, 120))):
        assert Image.open(io.BytesIO(thumbnails.get(record, 160).result(10))).size == size
    thumbnails.close()


def test_the_oldest_go_where_there_are_too_many(tmp_path: Path) -> None:
    cache, bound = tmp_path / "cache", 20_000
    records = [examine(str(file)) for file in pictures(tmp_path, 30)]
    thumbnails = Thumbnails(cache, bound, 200)
    for age, record in enumerate(records):
        thumbnails.get(record, 320).result(10)
        for file in cache.rglob(f"{record.content_hash}*"):
            os.utime(file, (age, age))
        assert size_of(cache) <= bound
    assert list(cache.rglob(f"{records[-1].content_hash}*"))
    assert not list(cache.rglob(f"{records[0].content_hash}*"))
    thumbnails.close()


def test_none_are_kept_where_there_is_no_room(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 1)
    blocked = tmp_path / "a file"
    blocked.write_text("where the folder should be")
    for cache, bound in ((tmp_path / "cache", 0), (blocked, 10**6)):
        thumbnails = Thumbnails(cache, bound, 200)
        assert thumbnails.get(examine(str(file)), 160).result(10)
        thumbnails.close()
    assert not (tmp_path / "cache").exists()


def test_a_picture_that_is_gone_is_an_error(tmp_path: Path) -> None:
    (file,) = pictures(tmp_path, 1)
    record = examine(str(file))
    file.unlink()
    thumbnails = Thumbnails(tmp_path / "cache", 10**6, 200)
    with pytest.raises(PictureError, match="no such file"):
        thumbnails.get(record, 160).result(10)
    thumbnails.close()
