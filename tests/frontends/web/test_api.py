"""The HTTP API: what the library answers, over HTTP."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagesearch.frontends.web.routes.archive import unused_name
from imagesearch.records import Hit, ImageRecord
from imagesearch.search.query import Query, SearchOptions
from imagesearch.search.wire import answer_to_dict, hit_from_dict, hit_to_dict, to_json

from ...conftest import draw_picture
from .conftest import PICTURES, Gallery

texts = st.text(st.characters(), max_size=20)
paths = st.binary(min_size=1, max_size=30).map(lambda raw: "/" + raw.decode("utf-8", "surrogateescape"))
numbers = st.floats(allow_nan=False, allow_infinity=False)
records = st.builds(
    ImageRecord,
    path=paths,
    root=paths,
    content_hash=st.text("0123456789abcdef", max_size=32),
    size=st.integers(0, 2**40),
    mtime_ns=st.integers(0, 2**60),
    width=st.integers(0, 2**20),
    height=st.integers(0, 2**20),
    taken=st.none() | st.just("2024-05-31T12:00:00"),
    camera=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    latitude=st.none() | numbers,
    longitude=st.none() | numbers,
    annotations=st.none()
    | st.dictionaries(st.text("abc", min_size=1), st.integers(-9, 9), min_size=1).map(json.dumps),
)


@given(st.builds(Hit, st.integers(1, 9), numbers, records, st.none() | numbers, st.none() | numbers))
def test_hits_survive_json(hit: Hit) -> None:
    assert hit_from_dict(json.loads(to_json(hit_to_dict(hit)))) == hit


def parts_of(gallery: Gallery) -> list[list[dict[str, Any]]]:
    """Queries of every kind."""
    key, other = (str(hit.picture.id) for hit in gallery.images.search(gallery.folder / "03.jpg", 2))
    vector = gallery.images.embed([gallery.folder / "05.jpg"])[0].tolist()
    return [
        [{"kind": "picture", "id": key}],
        [{"kind": "picture", "id": key}, {"kind": "picture", "id": other, "weight": -0.5}],
        [{"kind": "path", "path": str(gallery.folder / "07.jpg")}],
        [{"kind": "words", "text": "goldfish"}],
        [{"kind": "words", "text": "goldfish", "weight": 0.5}, {"kind": "picture", "id": key}],
        [{"kind": "vector", "values": vector}],
        [{"kind": "picture", "id": key, "region": "10%,10%,50%,50%"}],
    ]


def query_of(gallery: Gallery, parts: list[dict[str, Any]]) -> Query:
    """The same for the library."""
    query = Query(())
    for part in parts:
        match part["kind"]:
            case "words":
                one = Query.words(part["text"])
            case "path":
                one = Query.stored(part["path"])
            case "vector":
                one = Query.vector(part["values"])
            case _ if "region" in part:
                record = gallery.images.collection().fetch([int(part["id"])])[0][0]
                one = Query.image(record.path, region=part["region"])
            case _:
                one = Query.stored(int(part["id"]))
        query += part.get("weight", 1.0) * one
    return query


@pytest.mark.parametrize("number", range(7))
@pytest.mark.parametrize(
    "options",
    [{}, {"k": 5, "offset": 3}, {"group": True}, {"sort": "date"}, {"rerank": "none"}, {"only_confident": True}],
    ids=str,
)
def test_answers_are_those_of_the_library(gallery: Gallery, number: int, options: dict[str, Any]) -> None:
    parts = parts_of(gallery)[number]
    reply = gallery.server.post("/api/v1/search", {"parts": parts, **options})
    assert reply.status == 200
    (expected,) = gallery.images.answer([query_of(gallery, parts)], SearchOptions(**{"k": 30, **options}))
    found = reply.json()
    wanted = json.loads(to_json(answer_to_dict(expected)))
    assert {**found, "query": ""} == {**wanted, "query": ""}
    assert found["hits"] or options.get("only_confident")


@pytest.mark.parametrize(
    "how", [{}, {"views": "crops"}, {"rerank": "patches"}, {"views": "mirrored", "rerank": "patches"}], ids=str
)
def test_an_upload_finds_what_its_file_finds(gallery: Gallery, how: dict[str, str]) -> None:
    file = gallery.folder / "11.jpg"
    expected = gallery.images.search(file.read_bytes(), 7, **how)
    upload = gallery.server.send("/api/v1/uploads", {"image": ("eleven.jpg", file.read_bytes())})
    assert upload.status == 201
    described = gallery.server.get(upload.headers["location"]).json()
    assert (described["name"], described["width"], described["height"]) == ("eleven.jpg", 320, 240)
    by_id = gallery.server.post(
        "/api/v1/search", {"parts": [{"kind": "upload", "id": described["id"]}], "k": 7, **how}
    ).json()
    at_once = gallery.server.send(
        "/api/v1/search/image", {"image": ("eleven.jpg", file.read_bytes())}, k="7", **how
    ).json()
    for found in (by_id, at_once):
        assert [hit["picture"]["path"] for hit in found["hits"]] == [hit.path for hit in expected]
        assert [hit["score"] for hit in found["hits"]] == pytest.approx([hit.score for hit in expected], abs=1e-6)
    assert by_id["query"] == "eleven.jpg"
    preview = gallery.server.get(f"/api/v1/uploads/{described['id']}/preview")
    assert Image.open(io.BytesIO(preview.body)).size == (320, 240)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"\x00" * 100, "zero bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
        (b"<html><script>alert(1)</script></html>", "is not a picture"),
        (b"\xff\xd8\xff\xe0 no picture", "damaged"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(gallery: Gallery, data: bytes, reason: str) -> None:
    for path in ("/api/v1/uploads", "/api/v1/search/image", "/api/v1/classify/image"):
        reply = gallery.server.send(path, {"image": ("x.svg", data)})
        assert reply.status == 422
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["type"] == "urn:imagesearch:problem:unreadable-picture"
        assert reason in reply.json()["detail"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"k": "0"}, "body.k: "),
        ({"k": "ten"}, "body.k: "),
        ({"only_confident": "perhaps"}, "body.only_confident: "),
        ({"region": "1" * 101}, "body.region: "),
        ({"views": "all"}, "body.views: "),
    ],
)
def test_a_form_with_a_wrong_field_is_refused(gallery: Gallery, fields: dict[str, str], complaint: str) -> None:
    picture = (gallery.folder / "11.jpg").read_bytes()
    reply = gallery.server.send("/api/v1/search/image", {"image": ("a.jpg", picture)}, **fields)
    assert reply.status == 422
    assert reply.json()["type"] == "urn:imagesearch:problem:invalid-value"
    assert reply.json()["detail"].startswith(complaint)


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("search", {"parts": [{"kind": "path", "path": "/\ud800"}]}, "body.parts.0.path.path: "),
        (
            "search",
            {"parts": [{"kind": "words", "text": "x"}], "where": {"under": ["\udc00"]}},
            "body.where.under.0: ",
        ),
        ("jobs", {"folders": ["/\ud800"]}, "body.folders.0: "),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(
    gallery: Gallery, path: str, body: dict[str, Any], place: str
) -> None:
    reply = gallery.server.post(f"/api/v1/{path}", body)
    assert reply.status == 422
    assert reply.json()["detail"].startswith(place)


def test_a_form_needs_a_file_and_what_is_left_empty_is_left_out(gallery: Gallery) -> None:
    path, picture = "/api/v1/search/image", (gallery.folder / "11.jpg").read_bytes()
    text = gallery.server.send(path, {}, image="a.jpg", k="3")
    assert (text.status, text.json()["detail"].split(": ")[0]) == (422, "body.image")
    for other in ("uploads", "search/image", "classify/image"):
        text = gallery.server.send(f"/api/v1/{other}", {}, image="a.jpg")
        assert text.json()["detail"] == "body.image: must be a file, as 'curl -F NAME=@FILE' sends it"
    for body, kind in ((b"{}", "application/json"), (b"", "multipart/form-data; boundary=x")):
        reply = gallery.server.ask("POST", path, body, {"Content-Type": kind})
        assert reply.status in (400, 422)
        assert reply.headers["content-type"] == "application/problem+json"
    for garbage in (b"no boundary in here", b'--x\r\nContent-Disposition: form-data; name="k"\r\n\r\n\xff\xfe'):
        reply = gallery.server.ask("POST", path, garbage, {"Content-Type": "multipart/form-data; boundary=x"})
        assert reply.status in (400, 422)
        assert reply.headers["content-type"] == "application/problem+json"
    file = {"image": ("a.jpg", picture)}
    empty = gallery.server.send(path, file, k="", region="", only_confident="")
    assert empty.json() == gallery.server.send(path, file).json()
    few = gallery.server.send(path, file, k="2", region="0%,0%,50%,50%", unknown="field")
    assert len(few.json()["hits"]) == 2


@pytest.mark.parametrize("path", ["uploads", "search/image", "classify/image"])
def test_that_the_disk_is_full_is_said(gallery: Gallery, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    class Full:
        _rolled = True

        def __init__(self, **_: Any) -> None:
            """Of any size."""

        def write(self, _: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            """There is nothing."""

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Full)
    reply = gallery.server.send(f"/api/v1/{path}", {"image": ("4.jpg", (gallery.folder / "04.jpg").read_bytes())})
    assert (reply.status, reply.json()["detail"]) == (422, "the upload cannot be kept: no space left on device")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(gallery: Gallery) -> None:
    target = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(target, "PNG")
    began = time.monotonic()
    reply = gallery.server.send("/api/v1/uploads", {"image": ("bomb.png", target.getvalue())})
    assert reply.status == 422
    assert "megapixels" in reply.json()["detail"]
    assert time.monotonic() - began < 2


def test_labels_are_those_of_the_library(gallery: Gallery) -> None:
    file = gallery.folder / "04.jpg"
    expected = [one.to_dict() for one in gallery.images.classify(file, 3)]
    key = str(gallery.images.search(file, 1)[0].picture.id)
    asked = gallery.server.post("/api/v1/classify", {"picture": {"kind": "picture", "id": key}, "top": 3})
    sent = gallery.server.send("/api/v1/classify/image", {"image": ("4.jpg", file.read_bytes())}, top="3")
    for reply in (asked, sent):
        found = reply.json()["predictions"]
        assert [one["label"] for one in found] == [one["label"] for one in expected]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in expected], abs=1e-5)


def test_what_is_asked_in_one_request_is_not_kept(gallery: Gallery) -> None:
    kept, picture = len(gallery.backend.uploads), (gallery.folder / "04.jpg").read_bytes()
    for what, field in (("search/image", "image"), ("classify/image", "image"), ("embed", "images")):
        assert gallery.server.send(f"/api/v1/{what}", {field: ("4.jpg", picture)}).status == 200
    assert len(gallery.backend.uploads) == kept


def test_vectors_are_those_of_the_library(gallery: Gallery) -> None:
    files = [gallery.folder / "01.jpg", gallery.folder / "02.jpg"]
    for file, vector in zip(files, gallery.images.embed(files), strict=True):
        found = gallery.server.send("/api/v1/embed", {"images": (file.name, file.read_bytes())}).json()
        assert found["vectors"][0] == pytest.approx(vector.tolist(), abs=1e-6)
        assert found["key"] == gallery.images.describe().fingerprint.key


def test_turned_pictures_are_to_the_server_what_they_are_to_the_library(gallery: Gallery, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # as a telephone held upright keeps them
    file = tmp_path / "turned.jpg"
    with Image.open(gallery.folder / "04.jpg") as upright:
        upright.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    sent = {"image": (file.name, file.read_bytes())}
    labels = gallery.server.send("/api/v1/classify/image", sent, top="3").json()["predictions"]
    expected = gallery.images.classify(file, 3)
    assert [one["label"] for one in labels] == [one.label for one in expected]
    assert [one["score"] for one in labels] == pytest.approx([one.score for one in expected], abs=1e-5)
    (vector,) = gallery.server.send("/api/v1/embed", {"images": sent["image"]}).json()["vectors"]
    assert vector == pytest.approx(gallery.images.embed([file])[0].tolist(), abs=1e-6)


def test_pictures_come_by_date(gallery: Gallery) -> None:
    seen = []
    for offset in range(0, PICTURES, 10):
        page = gallery.server.get(f"/api/v1/pictures?offset={offset}&limit=10").json()
        assert page["total"] == PICTURES
        seen += page["pictures"]
    dates = [picture["date"] for picture in seen]
    assert dates == sorted(dates, reverse=True)
    assert len({picture["id"] for picture in seen}) == PICTURES
    oldest = gallery.server.get("/api/v1/pictures?sort=oldest&limit=500").json()["pictures"]
    assert [picture["date"] for picture in oldest] == dates[::-1]


def test_filters_hold_for_browsing_and_for_searching(gallery: Gallery) -> None:
    month = gallery.server.get("/api/v1/pictures?after=2020-01-10&before=2020-01-20&limit=500").json()
    assert 0 < month["total"] < PICTURES
    found = gallery.server.post(
        "/api/v1/search",
        {
            "parts": [{"kind": "words", "text": "goldfish"}],
            "k": 500,
            "where": {"after": "2020-01-10", "before": "2020-01-20"},
        },
    ).json()
    assert {hit["picture"]["id"] for hit in found["hits"]} == {one["id"] for one in month["pictures"]}
    wrong = gallery.server.get("/api/v1/pictures?expression=widht%20%3E%203")
    assert wrong.status == 422
    assert "width" in wrong.json()["detail"]


def test_thumbnails_fit_and_are_cached(gallery: Gallery) -> None:
    picture = gallery.server.get("/api/v1/pictures?limit=1").json()["pictures"][0]
    path = f"/api/v1/pictures/{picture['id']}/thumbnail?size=100"
    first = gallery.server.get(path)
    assert Image.open(io.BytesIO(first.body)).size == (160, 120)
    assert first.headers["content-type"] == "image/jpeg"
    assert "no-cache" in first.headers["cache-control"]
    again = gallery.server.get(path, {"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    named = gallery.server.get(f"{path}&v={picture['content_hash']}")
    assert "immutable" in named.headers["cache-control"]
    assert named.body == first.body


def test_a_file_that_has_changed_is_not_cached_as_what_it_was(gallery: Gallery) -> None:
    file = gallery.folder / "06.jpg"
    picture = gallery.images.search(file, 1)[0].picture
    before = file.read_bytes()
    for what in ("image?", "image?download=true&", "thumbnail?size=900&"):
        path = f"/api/v1/pictures/{picture.id}/{what}v={picture.content_hash}"
        tag = {"If-None-Match": gallery.server.get(path.replace("v=", "w=")).headers["etag"]}
        try:
            draw_picture(77, (320, 240)).save(file, quality=90)
            changed = gallery.server.get(path, tag)
        finally:
            file.write_bytes(before)
            os.utime(file, ns=(picture.mtime_ns, picture.mtime_ns))
        assert (changed.status, changed.headers["cache-control"]) == (200, "no-store")
        assert "etag" not in changed.headers
        assert gallery.server.get(path, tag).status == 304


def test_pictures_are_sent_as_what_they_are(gallery: Gallery) -> None:
    picture = gallery.server.get("/api/v1/pictures?limit=1").json()["pictures"][0]
    whole = gallery.server.get(f"/api/v1/pictures/{picture['id']}/image")
    assert whole.body == Path(picture["path"]).read_bytes()
    assert whole.headers["content-type"] == "image/jpeg"
    assert whole.headers["content-disposition"].startswith("inline; filename*=UTF-8''")
    saved = gallery.server.get(f"/api/v1/pictures/{picture['id']}/image?download=true")
    assert saved.headers["content-disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    "key", ["1", "0", "-1", "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "9" * 19, "9" * 40, "x"]
)
@pytest.mark.parametrize("what", ["", "/thumbnail", "/image"])
def test_only_pictures_of_the_collection_can_be_read(gallery: Gallery, key: str, what: str) -> None:
    reply = gallery.server.get(f"/api/v1/pictures/{key}{what}")
    assert reply.status in (404, 422)
    assert b"root:" not in reply.body


def test_a_file_that_is_no_picture_any_more_is_not_sent(gallery: Gallery) -> None:
    extra = gallery.folder / "extra.jpg"
    extra.write_bytes((gallery.folder / "12.jpg").read_bytes() + b" ")
    gallery.images.index(gallery.folder)
    record = gallery.images.search(extra, 1, rerank="none")
    key = next(hit.picture.id for hit in gallery.images.search(extra, 5) if hit.path == str(extra))
    assert record
    try:
        extra.write_text("<script>alert(1)</script>")
        for what in ("image", "image?download=true", "thumbnail?size=1600"):
            reply = gallery.server.get(f"/api/v1/pictures/{key}/{what}")
            assert reply.status == 422
            assert b"script" not in reply.body
    finally:
        extra.unlink()
        gallery.images.index(gallery.folder)


def test_indexing_is_a_job_that_can_be_watched(gallery: Gallery) -> None:
    new = gallery.folder / "new.jpg"
    Image.new("RGB", (64, 64), "red").save(new)
    try:
        started = gallery.server.post("/api/v1/jobs", {})
        assert started.status == 202
        events = gallery.server.get(started.headers["location"] + "/events").body.decode()
        jobs = [json.loads(data) for data in re.findall(r"^data: (.*)$", events, re.MULTILINE)]
        assert jobs[-1]["state"] == "done", jobs[-1]["error"]
        assert jobs[-1]["report"]["indexed"] == 1
        assert [one["path"] for one in jobs[-1]["report"]["skipped"]] == [str(gallery.folder / "broken.jpg")]
        assert gallery.server.get("/api/v1/pictures").json()["total"] == PICTURES + 1
        assert gallery.server.get("/api/v1/skipped").json()["total"] == 1
    finally:
        new.unlink()
        gallery.images.index(gallery.folder)


def test_other_folders_cannot_be_indexed_by_anybody(gallery: Gallery, tmp_path: Path) -> None:
    for folder in (str(tmp_path), "/", f"{gallery.folder}/../..", f"{gallery.folder}-other"):
        reply = gallery.server.post("/api/v1/jobs", {"folders": [folder]})
        assert reply.status == 403
        assert "imagesearch serve FOLDER" in reply.json()["detail"]
    below = gallery.server.post("/api/v1/jobs", {"folders": [str(gallery.folder)], "dry_run": True})
    assert below.status == 202


def test_problems_say_what_is_wrong(gallery: Gallery) -> None:
    cases = [
        ({"parts": []}, "parts"),
        ({"parts": [{"kind": "words", "text": "goldfish"}], "kk": 3}, "kk"),
        ({"parts": [{"kind": "words", "text": "goldfish", "weight": -1}]}, "at least one thing"),
        ({"parts": [{"kind": "vector", "values": [1.0]}]}, "320 finite numbers"),
        ({"parts": [{"kind": "vector", "values": [1e308] * 320}]}, "320 finite numbers"),
        ({"parts": [{"kind": "words", "text": "goldfish"}], "rerank": "magic"}, "magic"),
        ({"parts": [{"kind": "words", "text": "goldfish"}], "where": {"after": "yesterday"}}, "yesterday"),
        ({"parts": [{"kind": "path", "path": "/nowhere.jpg"}]}, "is not in collection"),
    ]
    for request, words in cases:
        reply = gallery.server.post("/api/v1/search", request)
        assert reply.status == 422, request
        assert words in reply.json()["detail"]
    assert gallery.server.post("/api/v1/search", {"parts": [{"kind": "upload", "id": "x" * 32}]}).status == 404
    assert gallery.server.ask("DELETE", "/api/v1/pictures").headers["allow"] == "GET"


def test_head_has_the_headers_of_get(gallery: Gallery) -> None:
    key = gallery.server.get("/api/v1/pictures?limit=1").json()["pictures"][0]["id"]
    image = f"/api/v1/pictures/{key}/image"
    archive = f"/api/v1/archive?ids={key}"
    for path in ("/", "/healthz", "/metrics", "/api/v1/served", image, archive, "/api/v1/pictures/1", "/nowhere"):
        full, head = gallery.server.get(path), gallery.server.ask("HEAD", path)
        assert (head.status, head.body) == (full.status, b"")
        for name in ("content-type", "content-length", "etag", "cache-control"):
            if path != "/metrics" or name != "content-length":  # which counts this request
                assert head.headers.get(name) == full.headers.get(name)
    tag = {"If-None-Match": gallery.server.get(image).headers["etag"]}
    assert gallery.server.ask("HEAD", image, headers=tag).status == 304
    assert gallery.server.ask("HEAD", "/api/v1/search").status == 405


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_json_needs_its_type(gallery: Gallery, kind: str) -> None:
    body = json.dumps({"parts": [{"kind": "words", "text": "goldfish"}]}).encode()
    reply = gallery.server.ask("POST", "/api/v1/search", body, {"Content-Type": kind})
    assert reply.status == 422
    assert "sent with the header 'Content-Type: application/json'" in reply.json()["detail"]


def test_health_and_metrics(gallery: Gallery) -> None:
    assert gallery.server.get("/healthz").json() == {"status": "ok"}
    assert gallery.server.get("/readyz").json() == {"status": "ready"}
    gallery.server.get("/api/v1/pictures/1")
    text = gallery.server.get("/metrics").body.decode()
    assert f"imagesearch_pictures {PICTURES}.0" in text
    assert 'route="/api/v1/pictures/{key}",status="404"' in text


def test_an_archive_holds_the_files_as_they_are(gallery: Gallery) -> None:
    found = gallery.server.get("/api/v1/pictures?limit=3").json()["pictures"]
    reply = gallery.server.get("/api/v1/archive?" + "&".join(f"ids={one['id']}" for one in found))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    assert content == {Path(one["path"]).name: Path(one["path"]).read_bytes() for one in found}


def test_an_archive_says_what_could_not_be_read(gallery: Gallery) -> None:
    kept, gone = gallery.server.get("/api/v1/pictures?limit=2").json()["pictures"]
    path, aside = Path(gone["path"]), Path(gone["path"] + ".aside")
    path.rename(aside)
    try:
        reply = gallery.server.get(f"/api/v1/archive?ids={kept['id']}&ids={gone['id']}")
    finally:
        aside.rename(path)
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.namelist() == [Path(kept["path"]).name, "could not be read.txt"]
        assert path.name in archive.read("could not be read.txt").decode()


def test_files_of_one_name_have_several_in_an_archive() -> None:
    used: set[str] = set()
    names = ["a.jpg", "A.JPG", "a.jpg", "../../b.jpg", "b.jpg", "\n"]
    assert [unused_name(name, used) for name in names] == [
        "a.jpg",
        "A (2).JPG",
        "a (3).jpg",
        "b.jpg",
        "b (2).jpg",
        "picture",
    ]


def test_names_in_an_archive_can_be_names_on_every_system() -> None:
    used: set[str] = set()
    names = {
        "a: why?.jpg": "a_ why_.jpg",
        "con.jpg": "con_.jpg",
        "AUX": "AUX_",
        "dots. .": "dots",
        "\u200b.jpg": "picture.jpg",
        "caf\u00e9.jpg": "caf\u00e9.jpg",
        "cafe\u0301.jpg": "cafe\u0301 (2).jpg",
        "x" * 251 + ".jpg": "x" * 196 + ".jpg",
        "X" * 251 + ".jpg": "X" * 196 + " (2).jpg",
        "\u732b" * 83 + ".jpg": "\u732b" * 83 + ".jpg",
        "\u732b" * 83 + ".JPG": "\u732b" * 82 + " (2).JPG",
    }
    assert {name: unused_name(name, used) for name in names} == names


@pytest.mark.parametrize("ids", ["", "ids=x", "ids=-1", "&".join(["ids=1"] * 201)])
def test_an_archive_is_of_some_pictures_and_not_of_too_many(gallery: Gallery, ids: str) -> None:
    assert gallery.server.get(f"/api/v1/archive?{ids}").status == 422
    assert gallery.server.get("/api/v1/archive?ids=1").status == 404
