"""The contact sheet: complete in itself, harmless whatever files are called, readable for everybody."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imagesearch.errors import PictureError, UsageError
from imagesearch.frontends import sheet
from imagesearch.frontends.errors import WrongUsageError
from imagesearch.frontends.sheet import contact_sheet, thumbnail
from imagesearch.images.sources import ImageSource
from imagesearch.records import CollectionInfo, Fingerprint, Hit, ImageRecord, Metric
from imagesearch.search.answers import Answer
from imagesearch.search.grouping import Group
from imagesearch.search.query import Kind, Part, Query

from ..conftest import draw_picture

INFO = CollectionInfo("photos", 1234, Metric.COSINE, "FLAT", Fingerprint("starter", "1", "cls", (64, 64), 320))
EVIL = "</title><script>alert(1)</script>\"onerror='x' \u202egpj.\x1b[31m&amp;"
VOID = {"meta", "img", "wbr", "br", "source"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def hits(picture_folder: Path) -> list[Hit]:
    paths = sorted(picture_folder.rglob("*.png"))
    return [Hit(n, 1 - n / 10, ImageRecord(str(path))) for n, path in enumerate(paths, start=1)]


def asked(name: str, picture: ImageSource | None = None, weight: float = 1.0) -> Part:
    """A picture of that name, or words."""
    if picture is None:
        return Part(Kind.WORDS, name, weight)
    return Part(Kind.IMAGE, picture, weight, name=name)


def answered(query: Sequence[Part], found: Sequence[Hit | Group], remark: str = "") -> Answer:
    groups = tuple(item if isinstance(item, Group) else Group(item) for item in found)
    hits = tuple(group.best for group in groups)
    return Answer(Query(tuple(query)), hits, (remark,) if remark else (), groups)


def write(folder: Path, *answers: Answer) -> Page:
    return Page(contact_sheet(answers, folder / "sheet.html", info=INFO))


def test_what_a_photographer_sees(hits: list[Hit], tmp_path: Path) -> None:
    sure = replace(hits[0], confidence=0.924, expected=0.0021)
    dated = replace(hits[1], picture=replace(hits[1].picture, taken="2024-05-01T12:30:59"))
    changed = replace(hits[2], picture=replace(hits[2].picture, mtime_ns=1_700_000_000 * 10**9))
    query = [asked(hits[3].path, hits[3].path), asked("in the snow"), asked("b.jpg", draw_picture(9), -0.5)]
    page = write(tmp_path, answered(query, [sure, dated, changed], "'snow' means snowmobile, snowplow"))
    assert "Pictures like 3.png, in the snow, b.jpg" in page.text
    assert "3.png + in the snow \N{MINUS SIGN} b.jpg" in page.text
    assert "1,234 pictures in collection photos, model starter; cosine similarity: 1 is equal" in page.text
    assert "'snow' means snowmobile, snowplow" in page.text
    assert "3 hits" in page.text
    assert "192% sure0.9000.png" in page.text
    assert "20.8001.png2024-05-01 12:30" in page.text
    assert "30.7002.pngfile of 2023-11-14" in page.text
    assert "Not like this, weight 0.5: b.jpg" in page.text
    assert "unrelated pictures with such a score, on average: 0.0021" in page.html
    assert [link["href"] for link in page.all("a")] == [Path(hit.path).as_uri() for hit in hits[:3]]


def test_the_page_needs_nothing_else(hits: list[Hit], tmp_path: Path) -> None:
    page = write(tmp_path, answered([asked("a.jpg", draw_picture(1))], hits))
    images = page.all("img")
    assert len(images) == 1 + len(hits)
    assert all(re.match("data:image/(webp|jpeg);base64,", image["src"] or "") for image in images)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in page.elements}
    assert not re.search("https?://", page.html)
    # "default-src" forbids style attributes and handlers of events; there must be none.
    assert not [name for _, given in page.elements for name in given if name == "style" or name.startswith("on")]


def test_the_policy_allows_this_style_and_nothing_else(hits: list[Hit], tmp_path: Path) -> None:
    page = write(tmp_path, answered([asked("a.jpg")], hits))
    (policy,) = (meta["content"] for meta in page.all("meta") if meta.get("http-equiv"))
    (style,) = re.findall("<style>(.*?)</style>", page.html, re.S)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-{digest}'"
    )


def test_pictures_are_described_and_have_their_size(hits: list[Hit], tmp_path: Path) -> None:
    page = write(tmp_path, answered([asked("a.jpg", draw_picture(1))], hits))
    images = page.all("img")
    assert [image["alt"] for image in images[:2]] == ["Query: a.jpg", "Hit 1: 0.png, score 0.900"]
    assert {(image["width"], image["height"]) for image in images} == {("96", "64")}
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1


@pytest.mark.parametrize("kind", ["path", "query", "words", "remark", "taken", "name", "reason"])
def test_nothing_that_is_shown_is_markup(
    kind: str, tmp_path: Path, hits: list[Hit], monkeypatch: pytest.MonkeyPatch
) -> None:
    hit, words, query, remark, info = hits[0], "words", "a.jpg", "", INFO
    if kind == "path":
        hit = replace(hit, picture=ImageRecord(f"/photos/{EVIL}.jpg"))
    elif kind == "taken":
        hit = replace(hit, picture=replace(hit.picture, taken=EVIL))
    elif kind == "name":
        info = replace(INFO, name=EVIL, fingerprint=replace(INFO.fingerprint, model=EVIL))
    elif kind == "reason":

        def refuse(*_: object, **__: object) -> None:
            raise PictureError("a.jpg", EVIL)

        monkeypatch.setattr(sheet, "thumbnail", refuse)
    words, query, remark = (
        EVIL if kind == name else text for name, text in (("words", words), ("query", query), ("remark", remark))
    )
    answer = answered([asked(query, draw_picture(1)), asked(words)], [Group(hit, (hit,))], remark)
    page = Page(contact_sheet([answer], tmp_path / "sheet.html", info=info))
    tags = {tag for tag, _ in page.elements}
    assert tags <= {
        *VOID,
        *[
            "html",
            "head",
            "title",
            "style",
            "body",
            "header",
            "h1",
            "p",
            "main",
            "section",
            "h2",
            "ul",
            "li",
            "ol",
        ],
        *["figure", "figcaption", "div", "span", "a", "details", "summary"],
    }
    assert not [name for _, given in page.elements for name in given if name.startswith("on")]
    assert page.html.count("<script") == 0
    assert "\u202e" not in page.html
    assert "\x1b" not in page.html


@given(st.text(max_size=40))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_name_makes_a_page_that_is_whole(tmp_path: Path, name: str) -> None:
    hit = Hit(1, 0.5, ImageRecord(f"/photos/{name.replace(chr(0), '')}"))
    page = write(tmp_path, answered([asked(name)], [Group(hit, (hit,))], name))
    assert len(page.all("li")) == 3
    assert page.html.isprintable() or "\n" in page.html


def test_names_that_are_no_text(tmp_path: Path, hits: list[Hit]) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    page = write(tmp_path, answered([asked(path)], [replace(hits[0], picture=ImageRecord(path))]))
    assert "caf\\udce9.png" in page.text
    (link,) = page.all("a")
    assert (link["href"] or "").endswith("/caf%E9.png")


def test_what_cannot_be_read_says_why(tmp_path: Path, hits: list[Hit]) -> None:
    gone = replace(hits[0], picture=ImageRecord(str(tmp_path / "gone.jpg")))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"<svg>")
    page = write(tmp_path, answered([asked("q.jpg", str(broken))], [gone, hits[1]]))
    assert "no such file or directory" in page.text
    assert "is not a picture but an SVG drawing" in page.text
    assert len(page.all("img")) == 1


def test_several_queries_and_one_without_hits(tmp_path: Path, hits: list[Hit]) -> None:
    answers = [
        answered([asked("a.jpg", draw_picture(1))], hits[:2]),
        answered([asked("goldfish")], [], "best: 0.31"),
    ]
    page = write(tmp_path, *answers)
    assert "2 searches" in page.text
    assert len(page.all("section")) == 2
    assert "Nothing found." in page.text
    assert [image["alt"] for image in page.all("img")] == [
        "Query: a.jpg",
        "Hit 1: 0.png, score 0.900",
        "Hit 2: 1.png, score 0.800",
    ]


def test_no_queries(tmp_path: Path) -> None:
    assert "0 searches" in write(tmp_path).text


def test_near_identical_hits_are_folded(tmp_path: Path, hits: list[Hit]) -> None:
    page = write(tmp_path, answered([asked("a.jpg")], [Group(hits[0], tuple(hits[1:3])), Group(hits[3])]))
    assert "2 hits" in page.text
    assert "and 2 nearly the same" in page.text
    assert f"{hits[1].path} (0.800)" in page.text
    assert len(page.all("img")) == 2
    assert len(page.all("details")) == 1


def test_there_are_bounds(tmp_path: Path, hits: list[Hit], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MAX_THUMBNAILS", 3)
    monkeypatch.setattr(sheet, "_MAX_OTHERS", 1)
    answer = answered([asked("a.jpg", draw_picture(1))], [hits[0], Group(hits[1], tuple(hits[2:5])), *hits[2:4]])
    page = write(tmp_path, answer, answer)
    assert len(page.all("img")) == 3
    assert page.text.count("not shown: a page has at most 3 pictures") == 2 + 5
    assert "and 2 more" in page.text


def test_thumbnails_are_small_and_tell_nothing() -> None:
    picture = draw_picture(1, (3000, 1500))
    exif = Image.Exif()
    exif[0x010F] = "Secret Maker"
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif, comment=b"Secret comment")
    small = thumbnail(file.getvalue())
    assert (small.width, small.height) == (360, 180)
    data = base64.b64decode(small.uri.partition(",")[2])
    assert b"Secret" not in data
    assert len(data) < 20_000
    with Image.open(io.BytesIO(data)) as again:
        assert again.size == (360, 180)
        assert not {"exif", "icc_profile", "xmp", "comment"} & again.info.keys()


@pytest.mark.parametrize("webp", [True, False])
def test_nor_do_those_of_pictures_in_memory(webp: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda _: webp)
    picture = draw_picture(1, (800, 400))
    exif = Image.Exif()
    exif[0x010F] = "Secret Maker"
    secrets = {"exif": exif.tobytes(), "icc_profile": b"Secret", "xmp": b"Secret", "comment": b"Secret"}
    picture.info.update(secrets)
    small = thumbnail(picture)
    assert b"Secret" not in base64.b64decode(small.uri.partition(",")[2])
    assert small.uri.startswith(f"data:image/{'webp' if webp else 'jpeg'};")
    assert picture.size == (800, 400)
    assert picture.info == secrets


def test_where_it_goes(tmp_path: Path, hits: list[Hit]) -> None:
    written = contact_sheet([], tmp_path / "new" / "sheet", info=INFO)
    assert written == tmp_path / "new" / "sheet.html"
    before = written.stat().st_size
    contact_sheet([answered([asked("a.jpg")], hits)], written, info=INFO)
    assert written.stat().st_size > before
    assert os.listdir(written.parent) == ["sheet.html"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot write '.*sheet\.html'"):
        contact_sheet([], tmp_path / "file" / "sheet.html", info=INFO)
    for name in ("", ".", "..", "/"):
        with pytest.raises(WrongUsageError, match="names no file"):
            contact_sheet([], name, info=INFO)
