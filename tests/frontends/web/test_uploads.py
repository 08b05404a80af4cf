"""Uploads: kept for a while, and nothing of those that cannot be kept."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest

from imagesearch.errors import UsageError
from imagesearch.frontends.web.uploads import Uploads

from ...conftest import draw_picture


def test_nothing_is_left_of_one_for_which_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    target = io.BytesIO()
    draw_picture(1).save(target, "PNG")
    uploads, write = Uploads(), Path.write_bytes

    def on_a_full_disk(file: Path, data: Any) -> int:
        written = write(file, data[:100])
        if file.suffix != ".jpg":  # the picture fits, its preview no more
            return written
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", on_a_full_disk)
    with pytest.raises(UsageError, match="no space left"):
        uploads.add(target.getvalue(), "picture.png", 200)
    assert list(uploads._folder.iterdir()) == []
    uploads.close()
