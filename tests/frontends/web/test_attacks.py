"""What attackers send, to the whole server: the application behind the security layer, in uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest
from PIL import Image

from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import policy_for
from imagesearch.frontends.web.security.protocol import uvicorn_options
from imagesearch.service import ImageSearch

from ...conftest import draw_picture
from .serving import Reply, Served, serving

TOKEN = "a-token-that-nobody-guesses"
SECRET = "the-secret-of-the-owner-alone"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
NAMES = [
    "<img src=x onerror=alert(1)>.jpg",
    "\"quotes' & ampersands;.jpg",
    "line\nend and \x1b[31mcolour.jpg",
    "\u202egnp.exe.jpg",
    "long " + "n" * 200 + ".jpg",
]


class Target(NamedTuple):
    """A server that needs a token, and its library."""

    server: Served
    images: ImageSearch

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """A request with the token."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.server.ask(method, path, body, {**AUTHORIZED, **given})

    def upload(self, data: bytes, name: str = "x.jpg") -> Reply:
        """An upload with the token."""
        head = f'--b\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'.encode()
        kind = {"Content_Type": "multipart/form-data; boundary=b"}
        return self.ask("POST", "/api/v1/uploads", head + data + b"\r\n--b--\r\n", **kind)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Pictures of hostile names behind a token."""
    place = tmp_path_factory.mktemp("target")
    folder = place / "pictures"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        draw_picture(number, (200, 150)).save(folder / name)
    (place / "secret.txt").write_text("root:x:0:0")
    images = ImageSearch(config_of({"milvus": {"uri": str(place / "a.db")}}))
    images.index(folder)
    hosts = ["127.0.0.1"]
    policy = policy_for("127.0.0.1", 0, TOKEN, hosts=hosts, owner_secret=SECRET, max_body_bytes=300_000)
    # These tests guess too often; that is slowed down, as tests of security/ show.
    short = {"body_seconds": 1.0, "header_seconds": 1.0, "linger_seconds": 0.5}
    policy = dataclasses.replace(policy, free_attempts=10**6, **short)
    app = secured(create_app(Backend(images, cache=place / "cache")), policy)
    with serving(app, **uvicorn_options(policy)) as server:
        yield Target(server, images)


EVERYTHING = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/mcp"),
    ("POST", "/mcp"),
    ("GET", "/api/v1/status"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/pictures"),
    ("GET", "/api/v1/pictures/1/image"),
    ("GET", "/api/v1/skipped"),
    ("POST", "/api/v1/search"),
    ("POST", "/api/v1/uploads"),
    ("POST", "/api/v1/jobs"),
    ("DELETE", "/api/v1/jobs/x"),
]


@pytest.mark.parametrize(("method", "path"), EVERYTHING)
def test_nothing_is_told_without_the_token(target: Target, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer a-token-that-nobody-guesseS"}, {"Cookie": "imagesearch=guess"}):
        reply = target.server.ask(method, path, headers=headers)
        assert reply.status in (303, 401, 403, 429)
        assert b"pictures" not in reply.body
        assert TOKEN.encode() not in reply.body


@pytest.mark.parametrize("query", [f"token={TOKEN}", f"access_token={TOKEN}", f"q=1&key={TOKEN}", f"x={TOKEN}"])
def test_a_token_in_an_address_is_refused(target: Target, query: str) -> None:
    for headers in ({}, AUTHORIZED):
        reply = target.server.ask("GET", f"/api/v1/status?{query}", headers=headers)
        assert reply.status == 400
        assert TOKEN.encode() not in reply.body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "", "a b"])
def test_other_names_are_not_answered(target: Target, host: str) -> None:
    reply = target.ask("GET", "/api/v1/status", Host=host)
    assert reply.status in (400, 421)


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/uploads", "/api/v1/search", "/login", "/logout"])
def test_other_sites_cannot_make_a_browser_ask(target: Target, path: str) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "same-site"},
    ):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json"):
            assert target.ask("POST", path, b"{}", Content_Type=kind, **headers).status == 403
    assert target.ask("GET", "/api/v1/pictures", Sec_Fetch_Site="cross-site").status == 403
    preflight = target.ask("OPTIONS", path, Origin="https://evil.example", Access_Control_Request_Method="POST")
    assert not any(name.startswith("access-control") for name in preflight.headers)


TRICKS = [
    "../../../secret.txt",
    "..%2f..%2f..%2fsecret.txt",
    "..%252f..%252fsecret.txt",
    "....//....//secret.txt",
    "%2e%2e/%2e%2e/secret.txt",
    "..\\..\\secret.txt",
    "%00",
    "1%00.jpg",
    "1;/../../secret.txt",
    "\u2024\u2024/secret.txt",
]


@pytest.mark.parametrize("trick", TRICKS)
def test_paths_lead_nowhere(target: Target, trick: str) -> None:
    place = Path(target.images.indexed_folders()[0]).parent
    for path in (
        f"/api/v1/pictures/{trick}/image",
        f"/api/v1/uploads/{trick}/preview",
        f"/api/v1/jobs/{trick}/events",
        f"/static/{trick}",
        f"/static/x/{trick}",
        f"/{trick}",
        f"/api/v1/pictures/{quote(str(place / 'secret.txt'), safe='')}/image",
    ):
        reply = target.ask("GET", quote(path, safe="/%;.\\"))
        assert reply.status in (400, 404, 405, 422)
        assert b"root:x" not in reply.body
    header = target.ask(
        "GET", "/api/v1/status", X_Original_URL=trick.encode().decode("latin-1"), X_Rewrite_URL="/"
    )
    assert header.status in (200, 400)
    assert b"root:x" not in header.body


def test_a_query_by_path_reads_no_file(target: Target) -> None:
    secret = Path(target.images.indexed_folders()[0]).parent / "secret.txt"
    picture = secret.parent / "outside.jpg"
    draw_picture(9).save(picture)
    for path in (secret, picture):
        body = json.dumps({"parts": [{"kind": "path", "path": str(path)}]}).encode()
        reply = target.ask("POST", "/api/v1/search", body, Content_Type="application/json")
        assert reply.status == 422
        assert "is not in collection" in reply.json()["detail"]


def test_nobody_becomes_the_owner(target: Target) -> None:
    folder = str(Path(target.images.indexed_folders()[0]).parent)
    order = json.dumps({"folders": [folder], "dry_run": True}).encode()
    for headers in ({}, {"X_ImageSearch_Scope": "owner"}, {"Cookie": f"scope=owner; imagesearch={SECRET}"}):
        reply = target.ask("POST", "/api/v1/jobs", order, Content_Type="application/json", **headers)
        assert reply.status == 403
    extra = json.dumps({"folders": [folder], "scope": "owner"}).encode()
    assert target.ask("POST", "/api/v1/jobs", extra, Content_Type="application/json").status == 422
    owner = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    assert target.server.ask("POST", "/api/v1/jobs", order, owner).status == 202


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that says it has that many pixels."""
    target = io.BytesIO()
    Image.new("1", (8, 8)).save(target, "PNG")
    data = bytearray(target.getvalue())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (200_001, 1_000)])
def test_bombs_are_refused_at_once(target: Target, width: int, height: int) -> None:
    began = time.monotonic()
    reply = target.upload(bomb(width, height))
    assert reply.status == 422
    assert time.monotonic() - began < 1


HOSTILE = [
    b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    b"<!doctype html><script>alert(1)</script>",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    b"GIF89a<script>alert(1)</script>",
    b"\xff\xd8\xff<script>alert(1)</script>",
    b"%PDF-1.4\n",
]


@pytest.mark.parametrize("data", HOSTILE)
def test_what_is_no_picture_is_not_kept(target: Target, data: bytes) -> None:
    for name in ("x.jpg", "x.svg", "x.html", "../../x.jpg"):
        reply = target.upload(data, name)
        assert reply.status == 422
        assert reply.headers["content-type"] == "application/problem+json"
        assert b"<script" not in reply.body


def test_what_is_sent_back_is_a_picture_and_nothing_else(target: Target) -> None:
    """A picture that is also a page: valid, with markup in its metadata and behind its end."""
    content = io.BytesIO()
    draw_picture(1, (64, 64)).save(content, "JPEG", comment=b"<script>alert(1)</script>")
    upload = target.upload(content.getvalue() + b"<html><script>alert(1)</script></html>", "page.html")
    assert upload.status == 201
    preview = target.ask("GET", f"/api/v1/uploads/{upload.json()['id']}/preview")
    assert preview.headers["content-type"] == "image/jpeg"
    assert preview.headers["x-content-type-options"] == "nosniff"
    assert b"script" not in preview.body
    assert "script-src 'self'" in preview.headers["content-security-policy"]


def test_names_of_files_stay_text(target: Target) -> None:
    pictures = target.ask("GET", "/api/v1/pictures").json()["pictures"]
    assert sorted(Path(picture["path"]).name for picture in pictures) == sorted(NAMES)
    for picture in pictures:
        sent = target.ask("GET", f"/api/v1/pictures/{picture['id']}/image?download=true")
        assert sent.status == 200
        shown = sent.headers["content-disposition"]
        assert shown.startswith("attachment; filename*=UTF-8''")
        assert not set(shown) & set('\r\n\x1b<>"\u202e')
    assert all(ord(char) < 128 for char in target.ask("GET", "/api/v1/pictures").body.decode())


@pytest.mark.parametrize(
    "name", ["a\\r\\nSet-Cookie: x=1.jpg", "<b>.jpg", "%0d%0aX: y.jpg", "x" * 5000 + ".jpg", ""]
)
def test_names_of_uploads_stay_text(target: Target, name: str) -> None:
    content = io.BytesIO()
    draw_picture(2).save(content, "PNG")
    reply = target.upload(content.getvalue(), name)
    assert reply.status in (201, 400, 422)  # 400: headers of a part are bounded
    assert "set-cookie" not in reply.headers
    if reply.status == 201:
        assert len(reply.json()["name"]) <= 200
        assert "/" not in reply.json()["name"]


@contextlib.contextmanager
def raw(target: Target) -> Iterator[socket.socket]:
    """A connection to write anything to."""
    with socket.create_connection(("127.0.0.1", target.server.port), timeout=10) as connection:
        yield connection


def answered(connection: socket.socket) -> bytes:
    """The status of the answer."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while b"\r\n" not in found and (data := connection.recv(65536)):
            found += data
    return found.split()[1]


def test_slow_uploads_end(target: Target) -> None:
    head = f"POST /api/v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b\r\n"
    with raw(target) as connection:
        connection.sendall(head.encode())
        began = time.monotonic()
        assert answered(connection) == b"408"
        assert time.monotonic() - began < 5


def test_large_uploads_are_refused(target: Target) -> None:
    assert target.upload(bytes(400_000)).status == 413


def test_giant_headers_are_refused(target: Target) -> None:
    with raw(target) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000)
        assert answered(connection) in (b"400", b"431")
    with raw(target) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n")
        assert answered(connection) in (b"400", b"431")


def test_it_still_answers(target: Target) -> None:
    assert target.ask("GET", "/readyz").status == 200
    assert target.ask("GET", "/api/v1/pictures").json()["total"] == len(NAMES)
