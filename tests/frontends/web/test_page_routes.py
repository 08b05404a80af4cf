"""The page's routes: what they send, how long browsers may keep it, and what they never send."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.routes.page import page_version, static_files
from imagesearch.service import ImageSearch

from ...conftest import draw_picture
from .conftest import Gallery
from .serving import Served, serving

HOSTILE = (
    "</title><script>alert(1)</script>.jpg".replace("/", "\u2215"),
    "\"><img src=x onerror='alert(1)'>.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "line\nbreak & tab\t.jpg",
    os.fsdecode(b"not \xff text.jpg"),
)


class Parsed(HTMLParser):
    """What a document holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._in_title = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect it."""
        self.elements.append((tag, dict(attrs)))
        self._in_title = tag == "title"

    def handle_data(self, data: str) -> None:
        """The first text of the title."""
        if self._in_title:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        """The title has ended."""
        self._in_title = False


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, dict[str, str]]]:
    """A server of pictures with file names that try something, and the ids by file name."""
    place = tmp_path_factory.mktemp("hostile")
    folder = place / "pictures"
    folder.mkdir()
    for number, name in enumerate(HOSTILE):
        try:
            draw_picture(number, (64, 48)).save(folder / f"{number}.jpg")
            os.rename(folder / f"{number}.jpg", os.path.join(folder, name))
        except OSError:  # a file system that has only names that are text
            continue
    images = ImageSearch(config_of({"milvus": {"uri": str(place / "hostile.db")}}))
    images.index(folder)
    backend = Backend(images, cache=place / "thumbnails")
    with serving(create_app(backend)) as server:
        found = server.get("/api/v1/pictures").json()["pictures"]
        yield server, {os.path.basename(one["path"]): one["id"] for one in found}


def test_file_names_are_text_in_the_page_never_markup(hostile: tuple[Served, dict[str, str]]) -> None:
    server, ids = hostile
    harmless = Parsed(server.get("/").body.decode())
    assert len(ids) >= len(HOSTILE) - 1
    for name, key in ids.items():
        reply = server.get(f"/picture/{key}")
        assert reply.status == 200
        page = Parsed(reply.body.decode("utf-8"))
        assert page.title == name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") + " - ImageSearch"
        assert page.elements == harmless.elements, name


@pytest.mark.parametrize("path", ["/", "/jobs", "/label", "/picture/ID"])
def test_documents_need_nothing_that_the_security_policy_forbids(gallery: Gallery, path: str) -> None:
    key = gallery.server.get("/api/v1/pictures?limit=1").json()["pictures"][0]["id"]
    reply = gallery.server.get(path.replace("ID", key))
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    for tag, attributes in Parsed(reply.body.decode()).elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
        assert tag != "script" or (attributes.get("src") or "").startswith("/static/")
        for name in ("src", "href", "action"):
            value = attributes.get(name) or ""
            assert not value or (value[0] in "/#" and not value.startswith("//")), (tag, value)


def test_only_who_has_logged_in_can_log_out(gallery: Gallery) -> None:
    assert b"/logout" not in gallery.server.get("/").body


def test_everything_that_pages_and_modules_refer_to_is_there(gallery: Gallery) -> None:
    wanted = set()
    for path in ("/", "/jobs", "/label"):
        page = gallery.server.get(path).body.decode()
        wanted |= set(re.findall(r'/static/[^"]+', page))
        icons = set(re.findall(r'<use href="#([^"]+)"', page))
        assert icons <= set(re.findall(r'<symbol id="([^"]+)"', page))
    for file in static_files().values():
        for name in re.findall(rb'from "\./([^"]+)"', file.content):
            wanted.add(f"/static/{page_version()}/{name.decode()}")
    assert len(wanted) > 10
    for path in wanted:
        assert gallery.server.get(path).status == 200, path


def test_modules_name_only_elements_that_a_page_has(gallery: Gallery) -> None:
    pages = "".join(gallery.server.get(path).body.decode() for path in ("/", "/jobs", "/label"))
    known = set(re.findall(r'\bid="([^"]+)"', pages))
    code = b"".join(one.content for name, one in static_files().items() if name.endswith(".js")).decode()
    made = {one or other for one, other in re.findall(r'\.id = "([^"]+)"|\bid: "([^"]+)"', code)}
    made |= {"detail-previous", "detail-next"}
    used = set(re.findall(r'byId\("([^"]+)"\)', code))
    assert len(used) > 40
    assert used <= known | made


def test_files_with_the_version_in_their_address_are_kept_for_a_year(gallery: Gallery) -> None:
    reply = gallery.server.get(f"/static/{page_version()}/library.js")
    assert reply.headers["content-type"].startswith("text/javascript")
    assert reply.headers["cache-control"] == "private, max-age=31536000, immutable"
    # Under an address of another version they may be others tomorrow.
    assert gallery.server.get("/static/old/library.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/jobs", "/label", "/favicon.svg", "/static/old/base.css"])
def test_what_has_not_changed_is_not_sent_again(gallery: Gallery, path: str) -> None:
    first = gallery.server.get(path)
    assert "no-cache" in first.headers["cache-control"]
    again = gallery.server.get(path, {"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert gallery.server.get(path, {"If-None-Match": '"other"'}).body == first.body


def test_static_files_are_those_of_the_page_and_no_others(gallery: Gallery) -> None:
    folder = Path(__file__).parents[3] / "src" / "imagesearch" / "frontends" / "web"
    secret = (folder / "app.py").read_bytes()
    escapes = ["../app.py", "..%2fapp.py", "..%2f..%2fapp.py", "%2e%2e/%2e%2e/app.py", "....//app.py"]
    escapes += ["..%5capp.py", "%252e%252e%252fapp.py", "library.js%00.css", "/etc/passwd", "%2fetc%2fpasswd", ""]
    for escape in [*escapes, "../templates/base.html", "base.html"]:
        reply = gallery.server.get(f"/static/{page_version()}/{escape}")
        assert reply.status == 404, escape
        assert secret not in reply.body


@given(st.text("./%\\abcjs", max_size=20))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    found = static_files().get(name)
    assert found is None or name in {"base.css"}


def test_a_picture_that_is_not_there_is_told_so(gallery: Gallery) -> None:
    for key in ("1", "9223372036854775808"):
        reply = gallery.server.get(f"/picture/{key}")
        assert (reply.status, reply.headers["content-type"]) == (404, "text/html; charset=utf-8")
    for key in ("-1", "..%2f..", "x"):
        assert gallery.server.get(f"/picture/{key}").status in (404, 422)


def test_the_page_is_no_part_of_the_api(gallery: Gallery) -> None:
    paths = gallery.server.get("/api/v1/openapi.json").json()["paths"]
    assert "/api/v1/archive" in paths
    assert not [path for path in paths if path in ("/", "/jobs", "/favicon.svg") or path.startswith("/static")]
