"""A server of the bundled model and a collection of drawn pictures, shared by the tests of a module."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.protocol import uvicorn_options
from imagesearch.service import ImageSearch

from ...conftest import draw_picture
from .serving import Served, serving

PICTURES = 48


class Gallery(NamedTuple):
    """A server and what it serves."""

    server: Served
    backend: Backend
    folder: Path

    @property
    def images(self) -> ImageSearch:
        """The library behind it."""
        return self.backend.images


def draw_gallery(folder: Path) -> None:
    """Drawn pictures, some of them dated, one twice, and one file that is no picture."""
    folder.mkdir()
    for number in range(PICTURES - 1):
        exif = Image.Exif()
        if number % 2:
            exif.get_ifd(0x8769)[0x9003] = f"2020:01:{number % 28 + 1:02} 12:00:00"
        draw_picture(number, (320, 240)).save(folder / f"{number:02}.jpg", quality=90, exif=exif)
    draw_picture(0, (320, 240)).save(folder / "zero again.jpg", quality=60)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    """Forty-eight pictures behind a server."""
    place = tmp_path_factory.mktemp("gallery")
    folder = place / "pictures"
    draw_gallery(folder)
    images = ImageSearch(config_of({"milvus": {"uri": str(place / "gallery.db")}}))
    images.index(folder)
    backend = Backend(images, cache=place / "thumbnails")
    listening = socket.create_server(("127.0.0.1", 0))
    policy = policy_for("127.0.0.1", listening.getsockname()[1], None)
    # By the protocol of `imagesearch serve`: uvicorn's own resets connections before a refusal was read.
    with serving(create_app(backend), listening, **uvicorn_options(policy)) as server:
        yield Gallery(server, backend, folder)
