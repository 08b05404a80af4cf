"""Servers for the tests of the page: drawn pictures behind the security layer, as ``imagesearch serve`` has it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.protocol import uvicorn_options
from imagesearch.library.features import FeaturesFiles
from imagesearch.service import ImageSearch

from ....conftest import draw_picture
from ..conftest import draw_gallery
from ..serving import Served, serving

# Names that would do harm as markup, or mislead; no slash may stand in one.
HOSTILE = (
    "<img src=x onerror=alert(1)>.jpg",
    '"onfocus="alert(2)" autofocus=\'.jpg',
    "&lt;b&gt; {{7*7}} ${alert(3)}.jpg",
    "gpj.\u202eexe.jpg",
    "n" * 196 + ".jpg",
)
# The one picture of which everything is known.
PLACED = "placed.jpg"
_EXIF, _GPS, _TAKEN, _MODEL = 0x8769, 0x8825, 0x9003, 0x0110


@dataclass(frozen=True)
class Site:
    """A server with the page, and what it serves."""

    server: Served
    backend: Backend
    folder: Path

    @property
    def url(self) -> str:
        """Its address."""
        return self.server.url

    @property
    def images(self) -> ImageSearch:
        """The library behind it."""
        return self.backend.images

    def pictures(self, query: str = "") -> list[dict[str, Any]]:
        """What the API lists, the newest first."""
        pictures: list[dict[str, Any]] = self.server.get(f"/api/v1/pictures?limit=500{query}").json()["pictures"]
        return pictures

    def id_of(self, name: str) -> str:
        """The id of a picture, by the name of its file."""
        return next(one["id"] for one in self.pictures() if os.path.basename(one["path"]) == name)

    def search(self, *parts: dict[str, Any], **options: Any) -> dict[str, Any]:
        """What the API finds."""
        answer: dict[str, Any] = self.server.post("/api/v1/search", {"parts": parts, "k": 60, **options}).json()
        return answer


@contextlib.contextmanager
def site(folder: Path, images: ImageSearch, *allowed: Path) -> Iterator[Site]:
    """Serve pictures with the policy that a server on this machine has."""
    listening = socket.create_server(("127.0.0.1", 0))
    policy = policy_for("127.0.0.1", listening.getsockname()[1], None)
    backend = Backend(images, tuple(map(str, allowed)), cache=folder.parent / "thumbnails")
    app = secured(create_app(backend), policy)
    with serving(app, listening, **uvicorn_options(policy)) as server:
        yield Site(server, backend, folder)


def images_in(place: Path, **model: Any) -> ImageSearch:
    """A library with its database in a folder."""
    settings = {"milvus": {"uri": str(place / "pictures.db")}, "model": model, "server": {"allow_labels": True}}
    return ImageSearch(config_of(settings))


def draw_pictures(folder: Path) -> None:
    """What ``draw_gallery`` draws; a picture with a place and a camera; and some of hostile names."""
    draw_gallery(folder)
    exif = Image.Exif()
    exif[_MODEL] = "Pinhole 5"
    exif.get_ifd(_EXIF)[_TAKEN] = "2021:06:05 09:30:00"
    exif.get_ifd(_GPS).update({1: "N", 2: (48.0, 51.0, 29.6), 3: "E", 4: (2.0, 17.0, 40.2)})
    draw_picture(60, (400, 300)).save(folder / PLACED, quality=90, exif=exif)
    if os.name == "posix":  # elsewhere there are no such names
        for number, name in enumerate(HOSTILE, 61):
            draw_picture(number, (320, 240)).save(folder / name, quality=90)


def build_many(place: Path, count: int, *, different: int = 16) -> ImageSearch:
    """A collection of many rows: names of few files, with the vectors of these a little shifted."""
    images = images_in(place)
    drawn = [draw_picture(number, (320, 180 + number * 16)) for number in range(different)]
    (place / "many").mkdir()
    paths = []
    for number in range(count):
        path = place / "many" / f"{number:05}.jpg"
        if number < different:
            drawn[number].save(path, quality=85)
        else:
            os.link(place / "many" / f"{number % different:05}.jpg", path)
        paths.append(str(path))
    vectors = np.tile(images.embed(drawn), (-(-count // different), 1))[:count]
    vectors += np.random.default_rng(0).normal(scale=0.03, size=vectors.shape).astype(np.float32)
    files = FeaturesFiles.of_prefix(place / "many")
    np.save(files.features, vectors)
    files.paths.write_text("\n".join(paths) + "\n")
    images.build(files.features, files.paths)
    return images
