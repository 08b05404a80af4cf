"""The client of the HTTP API gives what the library gives: the same hits, vectors, labels, reports and errors."""

from __future__ import annotations

import http.server
import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from imagesearch import (
    Client,
    CollectionNotFoundError,
    Filter,
    ImageSearch,
    ImageSearchError,
    PictureError,
    Query,
    SearchOptions,
    StoreUnreachableError,
    UsageError,
)
from imagesearch.client_connection import Form
from imagesearch.config import config_of
from imagesearch.frontends.web.app import create_app
from imagesearch.frontends.web.backend import Backend
from imagesearch.frontends.web.security.authorities import Authority
from imagesearch.frontends.web.security.layers import secured
from imagesearch.frontends.web.security.policy import Policy
from imagesearch.frontends.web.uploads import Uploads
from imagesearch.records import Progress, Skipped

from .conftest import draw_picture
from .frontends.web.serving import serving

SECRET, TOKEN = "owner" * 8, "user" * 8
# Bytes of a request: so few that a photograph of noise is too large.
LONGEST = 400_000
ODD = "caf\udce9.png"
POLICY = Policy(
    hosts=frozenset({Authority("127.0.0.1", None)}), token=TOKEN, owner_secret=SECRET, max_body_bytes=LONGEST
)


class Shelf(NamedTuple):
    """A library, a server of it, and its pictures."""

    images: ImageSearch
    url: str
    folder: Path
    uploads: Uploads

    @property
    def place(self) -> Path:
        """For files that are not in the collection."""
        return self.folder.parent

    def client(self, token: str | None = SECRET, **options: Any) -> Client:
        return Client(self.url, token, **options)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    place = tmp_path_factory.mktemp("shelf").resolve()
    folder = place / "pictures"
    (folder / "sub").mkdir(parents=True)
    for number in range(40):
        draw_picture(number).save(folder / f"{number:02}.png")
    draw_picture(3).save(folder / "sub" / "three again.jpg", quality=70)
    draw_picture(50).save(os.fsencode(folder / ODD).decode("utf-8", "surrogateescape"))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    settings = {"milvus": {"uri": str(place / "shelf.db")}, "server": {"max_upload_mb": LONGEST / 1e6}}
    images = ImageSearch(config_of(settings))
    images.index(folder)
    backend = Backend(images, cache=place / "thumbnails")
    with serving(secured(create_app(backend), POLICY)) as server:
        yield Shelf(images, server.url, folder, backend.uploads)


@pytest.fixture
def client(shelf: Shelf) -> Iterator[Client]:
    with shelf.client() as client:
        yield client


@pytest.fixture(scope="module")
def new(shelf: Shelf) -> Path:
    """A picture that is not in the collection."""
    file = shelf.place / "new.png"
    draw_picture(7, (300, 200)).save(file)
    return file


def noise(file: Path) -> Path:
    """A JPEG that is too large to send, and whose pixels at the size that the network sees are not."""
    pixels = np.random.default_rng(0).integers(0, 256, (960, 1280, 3), np.uint8)
    Image.fromarray(pixels).save(file, quality=95)
    assert file.stat().st_size > LONGEST
    return file


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns; or the kind of its error, its message, and what else it knows."""
    try:
        return call()
    except ImageSearchError as error:
        return type(error), str(error), vars(error)


QUERIES: dict[str, Callable[[Shelf, Path], Any]] = {
    "a path in the collection": lambda shelf, _: shelf.folder / "05.png",
    "a path through a link": lambda shelf, _: shelf.place / "link" / "06.png",
    "a name that is not text": lambda shelf, _: str(shelf.folder / ODD),
    "a new path": lambda _, new: str(new),
    "bytes": lambda _, new: new.read_bytes(),
    "an open file": lambda _, new: io.BytesIO(new.read_bytes()),
    "an image": lambda _, new: Image.open(new),
    "an array": lambda _, new: np.asarray(Image.open(new).convert("RGB")),
    "an image without pixels": lambda *_: Image.new("RGB", (0, 5)),
    "a region": lambda shelf, _: Query.image(shelf.folder / "05.png", region="33.3333333%,10%,50%,60.25%"),
    "a region outside": lambda _, new: Query.image(new, region="900,0,5,5"),
    "a region of a large image": lambda *_: Query.image(draw_picture(3, (5100, 5000)), region="2550,0,2550,2500"),
    "words": lambda *_: Query.words("dog"),
    "unknown words": lambda *_: Query.words("xyzzy"),
    "a stored picture": lambda shelf, _: Query.stored(shelf.folder / "09.png"),
    "a picture that is not stored": lambda _, new: Query.stored(new),
    "an id that is not there": lambda *_: Query.stored(12345),
    "an id that no picture has": lambda *_: Query.stored(2**63),
    "a sum": lambda shelf, new: Query.image(new) + 0.3 * Query.image(shelf.folder / "01.png") - Query.words("dog"),
    "parts that cancel": lambda _, new: Query.image(new) - Query.image(new),
    "a vector": lambda shelf, _: Query.vector(shelf.images.embed([shelf.folder / "11.png"])[0]),
    "a row of vectors": lambda shelf, _: Query.vector(shelf.images.embed([shelf.folder / "11.png"])),
    "a vector of doubles": lambda *_: Query.vector(np.random.default_rng(1).standard_normal(320)),
    "a short vector": lambda *_: Query.vector(np.ones(3)),
    "numbers without end": lambda *_: Query.vector(np.full(320, np.nan)),
    "numbers that are too large": lambda *_: Query.vector(np.full(320, 1e300)),
    "a vector of objects": lambda *_: Query.vector(np.random.default_rng(1).standard_normal(320).astype(object)),
    "nothing to look for": lambda _, new: -1 * Query.image(new),
    "no such file": lambda shelf, _: shelf.place / "nowhere.png",
    "no picture": lambda shelf, _: shelf.folder / "broken.jpg",
    "a folder": lambda shelf, _: shelf.folder,
    "no bytes": lambda *_: b"",
    "bytes that are no picture": lambda *_: b"no picture",
    "another type": lambda *_: 3.5,
    "too large to send": lambda shelf, _: noise(shelf.place / "noise.jpg"),
    "an open file that is too large": lambda shelf, _: io.BytesIO(noise(shelf.place / "noise.jpg").read_bytes()),
    "a region of what is too large": lambda shelf, _: Query.image(
        noise(shelf.place / "noise.jpg"), region="10%,10%,30%,30%"
    ),
}


class TestSearch:
    @pytest.mark.parametrize("kind", QUERIES)
    def test_same_as_the_library(self, shelf: Shelf, client: Client, new: Path, kind: str) -> None:
        link = shelf.place / "link"
        if not link.exists():
            link.symlink_to(shelf.folder)

        def ask(images: Any) -> Any:
            return outcome(lambda: images.search(QUERIES[kind](shelf, new), k=6))

        assert ask(client) == ask(shelf.images)

    def test_a_picture_that_has_changed_is_sent(self, shelf: Shelf, client: Client) -> None:
        file = shelf.folder / "08.png"
        before = file.read_bytes()
        try:
            draw_picture(31).save(file)
            found = client.search(file, k=1)
            assert found == shelf.images.search(file, k=1)
            assert found[0].path.endswith("31.png")
            file.unlink()  # then its vector is all there is
            assert client.search(file, k=1)[0].path == str(file)
        finally:
            file.write_bytes(before)
        os.utime(file, ns=(shelf.images.search(file, k=1)[0].picture.mtime_ns,) * 2)

    @pytest.mark.parametrize(
        "options",
        [
            {"k": 3, "offset": 2},
            {"threshold": 0.9},
            {"threshold": float("nan")},
            {"threshold": -float("inf")},
            {"threshold": np.float32(0.9), "k": np.int64(3), "group": np.bool_(True)},
            {"k": np.uint8(3), "offset": np.int8(1)},
            {"k": np.int16(30), "group": True},
            {"where": Filter(min_width=np.int64(90), near=tuple(np.ones(3, np.float32)))},
            {"only_confident": True},
            {"sort": "date"},
            {"rerank": "none"},
            {"group": True},
            {"diverse": True, "k": 5},
            {"where": Filter(under=("pictures/sub",), formats=("jpeg",))},
            {"where": Filter(expression="width > 90 and height < 70", min_width=2)},
            {"k": 0},
            {"sort": "size"},
            {"rerank": "best"},
            {"where": Filter(expression="width >")},
        ],
        ids=str,
    )
    def test_options(
        self, shelf: Shelf, client: Client, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
    ) -> None:
        monkeypatch.chdir(shelf.place)  # relative folders are this process's
        file = shelf.folder / "03.png"

        def ask(images: Any) -> Any:
            found = images.answer([file], SearchOptions(**options))[0]
            return found.hits, found.groups, found.best, found.meanings, str(found.query)

        assert outcome(lambda: ask(client)) == outcome(lambda: ask(shelf.images))

    @pytest.mark.parametrize("views", [None, "whole", "crops"])
    def test_files_are_seen_as_the_servers_settings_say(self, shelf: Shelf, views: str | None) -> None:
        settings = {"milvus": shelf.images.config.milvus.model_dump(), "search": {"views": "crops"}}
        images, file = ImageSearch(config_of(settings)), shelf.folder / "03.png"
        app = secured(create_app(Backend(images, cache=shelf.place / "others")), POLICY)
        with serving(app) as server, Client(server.url, SECRET) as client:
            ours, theirs = (one.answer([file], SearchOptions(5, views=views)) for one in (client, images))
        assert ours[0].hits == theirs[0].hits
        stored = shelf.images.answer([file], SearchOptions(5))[0].hits
        assert (ours[0].hits == stored) == (views == "whole")

    def test_many_and_those_that_fail(self, shelf: Shelf, client: Client, new: Path) -> None:
        asked = [
            new,
            shelf.folder / "broken.jpg",
            Query.words("dog"),
            shelf.place / "nowhere.png",
            Query.words("zz"),
        ]
        ours, theirs = client.answer(asked), shelf.images.answer(asked)
        assert [found.hits for found in ours] == [found.hits for found in theirs]
        assert [str(found.error) for found in ours] == [str(found.error) for found in theirs]
        assert [type(found.error) for found in ours] == [type(found.error) for found in theirs]
        assert [found.to_dict() for found in ours] == [found.to_dict() for found in theirs]
        assert client.search_all([new] * 3) == shelf.images.search_all([new] * 3)
        assert client.search_all([]) == []

    def test_numbers_that_are_too_large_stop_no_others(self, shelf: Shelf, client: Client, new: Path) -> None:
        for images in (client, shelf.images):
            one, wrong, other = images.answer([new, Query.vector(np.full(320, -1e39)), Query.words("dog")])
            assert one.hits
            assert other.hits
            assert isinstance(wrong.error, UsageError)

    def test_more_results_than_one_request_may_ask_for(self, shelf: Shelf, client: Client, new: Path) -> None:
        asked = [Query.image(new), Query.words("dog"), Query.image(shelf.folder / "01.png")] * 10
        ours = client.answer(asked, SearchOptions(10_000, rerank="none"))
        assert [len(found.hits) for found in ours] == [42] * 30
        several = {"queries": [{"parts": [{"kind": "words", "text": "dog"}]}] * 30, "k": 10_000}
        with pytest.raises(UsageError, match="at most 256,000 results"):
            client._connection.post("/api/v1/search/several", several)

    def test_one_picture_is_no_list_of_them(self, client: Client, new: Path) -> None:
        with pytest.raises(UsageError, match="put it into brackets"):
            client.search_all(str(new))

    def test_nothing_is_left_on_the_server(self, shelf: Shelf, client: Client, new: Path) -> None:
        kept = len(shelf.uploads)
        client.answer([new, new.read_bytes()])
        assert len(shelf.uploads) == kept

    @pytest.mark.parametrize("kind", ["path", "bytes", "file", "array", "image"])
    def test_more_than_lies_on_the_server_at_a_time(
        self, shelf: Shelf, client: Client, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        file = shelf.place / "large.png"
        Image.effect_noise((300, 300), 90).convert("RGB").save(file)
        make: dict[str, Callable[[], Any]] = {
            "path": lambda: file,
            "bytes": file.read_bytes,
            "file": lambda: io.BytesIO(file.read_bytes()),
            "array": lambda: np.asarray(Image.open(file)),
            "image": lambda: Image.open(file),
        }
        monkeypatch.setattr(shelf.uploads, "_most_bytes", 4 * file.stat().st_size)
        monkeypatch.setattr("imagesearch.client_pictures._MOST_UPLOADED", 2 * file.stat().st_size)
        pictures = [make[kind]() for _ in range(10)]
        assert [found.error for found in client.answer([Query.image(one) for one in pictures])] == [None] * 10
        labels = [result for _, result in client.classify_all([make[kind]() for _ in range(10)], 1)]
        assert labels == [shelf.images.classify(file, 1)] * 10

    def test_threads(self, shelf: Shelf, client: Client, new: Path) -> None:
        files = [shelf.folder / f"{number:02}.png" for number in range(12)]
        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(client.search, files)) == [shelf.images.search(file) for file in files]
            assert len(set(map(str, pool.map(client.search, [new] * 12)))) == 1


class TestPictures:
    def test_vectors(self, shelf: Shelf, client: Client, new: Path) -> None:
        files = [new, shelf.folder / "02.png", new.read_bytes()]
        ours, theirs = client.embed(files), shelf.images.embed(files)
        assert (ours.dtype, ours.shape) == (np.float32, (3, 320))
        np.testing.assert_array_equal(ours, theirs)
        assert client.embed([]).shape == (0, 320)

    def test_vectors_of_what_is_too_large_to_send(self, shelf: Shelf, client: Client, new: Path) -> None:
        large = noise(shelf.place / "noise.jpg")
        for files in ([large], [new, io.BytesIO(large.read_bytes()), large, new]):
            ours = client.embed(files)
            again = [large if isinstance(file, io.BytesIO) else file for file in files]
            np.testing.assert_array_equal(ours, shelf.images.embed(again))
        pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
        with pytest.raises(PictureError, match=r"is too large for the server, which takes 400,000 bytes"):
            client.embed([pixels])

    def test_vectors_of_what_is_no_picture(self, shelf: Shelf, client: Client, new: Path) -> None:
        half = shelf.place / "half.png"
        half.write_bytes(new.read_bytes()[:700])
        for files in ([new, half], [shelf.place / "nowhere.png"], [b"no picture"], str(new)):
            ours = outcome(lambda files=files: client.embed(files))
            assert ours == outcome(lambda files=files: shelf.images.embed(files))

    def test_labels(self, shelf: Shelf, client: Client, new: Path) -> None:
        assert client.classify(new, 3) == client.classify(new, np.int64(3)) == shelf.images.classify(new, 3)
        files = [new, shelf.folder / "broken.jpg", new.read_bytes(), shelf.place / "nowhere.png"]
        ours = list(client.classify_all(files, 2))
        assert ours == list(shelf.images.classify_all(files, 2))
        assert [isinstance(result, Skipped) for _, result in ours] == [False, True, False, True]
        for images in (client, shelf.images):
            with pytest.raises(PictureError, match=r"broken\.jpg"):
                images.classify(shelf.folder / "broken.jpg")
            with pytest.raises(UsageError, match="top = 0"):
                images.classify(new, 0)

    def test_files_and_thumbnails(self, shelf: Shelf, client: Client) -> None:
        record = client.search(shelf.folder / "04.png", k=1)[0].picture
        assert client.picture(record.id) == (shelf.folder / "04.png").read_bytes()
        with Image.open(io.BytesIO(client.thumbnail(record.id, 160))) as small:
            assert (small.format, small.size) == ("JPEG", (96, 64))
        with pytest.raises(UsageError, match="there is no picture 17"):
            client.picture(17)


class TestCollection:
    def test_what_is_known(self, shelf: Shelf, client: Client) -> None:
        assert client.describe() == shelf.images.describe()
        assert client.engine == shelf.images.engine
        assert client.place == str(shelf.place / "shelf.db")
        assert client.collections() == shelf.images.database.collections()
        assert client.indexed_folders() == shelf.images.indexed_folders() == [str(shelf.folder)]
        assert client.skipped() == shelf.images.skipped()
        assert [skip.path for skip in client.skipped()] == [str(shelf.folder / "broken.jpg")]
        assert client.index_mismatch() is None
        assert client.status()["model"] == "starter"

    def test_indexing(self, shelf: Shelf, client: Client) -> None:
        more = shelf.place / "m\udce9hr"
        more.mkdir()
        draw_picture(60).save(more / "60.png")
        heard: list[tuple[str, int, int | None]] = []
        report = client.index(more, progress=lambda *news: heard.append(news))
        assert (report.found, report.indexed, report.collection) == (1, 1, "images_starter")
        assert heard
        hits = client.answer([more / "60.png"], SearchOptions(where=Filter(under=(str(more),))))[0].hits
        assert [hit.path for hit in hits] == [str(more / "60.png")]
        assert client.forget(more, dry_run=True).removed == 1
        forgotten = client.forget(more)
        assert (forgotten.removed, forgotten.folders, forgotten.dry_run) == (1, (str(more),), False)
        assert shelf.images.describe().rows == 42

    def test_columns_of_ones_own(self, shelf: Shelf, client: Client, tmp_path: Path) -> None:
        table = tmp_path / "labels.csv"
        table.write_text("name,stars,nice,kind\n01.png,5,yes,owl\n02.png,2,,'q'\nnowhere.png,1,no,cat\n")
        report = client.annotate(table, "name")
        assert report == shelf.images.annotate(table, "name")
        assert (report.pictures, report.unmatched) == (2, ("nowhere.png",))
        found = client.answer([Query.words("dog")], SearchOptions(where=Filter(expression="stars > 4")))[0]
        assert [hit.path for hit in found.hits] == [str(shelf.folder / "01.png")]
        assert json.loads(found.hits[0].picture.annotations or "") == {"kind": "owl", "nice": "yes", "stars": 5}
        for wrong in (lambda images: images.annotate(table, "place"), lambda images: images.annotate("no.csv")):
            ours = outcome(lambda wrong=wrong: wrong(client))
            assert ours == outcome(lambda wrong=wrong: wrong(shelf.images))

    def test_a_table_with_empty_cells_where_it_names_pictures(self, shelf: Shelf, client: Client) -> None:
        table = shelf.place / "gaps.parquet"  # Python 3.10 reads no CSV with NUL
        pq.write_table(pa.table({"name": ["", "a\0b", "03.png"], "hue": ["red", "red", "blue"]}), table)
        report = client.annotate(table, "name")
        assert report == shelf.images.annotate(table, "name")
        assert (report.pictures, report.unmatched) == (1, ("", "a\0b"))

    def test_a_table_that_is_longer_than_a_request(self, shelf: Shelf, client: Client) -> None:
        table = shelf.place / "long.csv"
        lines = [f"{number:02}.png,{number},{'x' * 20_000}" for number in (*range(40), *range(90, 99))]
        table.write_text("name,number,text\n" + "\n".join(lines) + "\n")
        assert table.stat().st_size > 2 * LONGEST
        report = client.annotate(table, "name")
        assert report == shelf.images.annotate(table, "name")
        assert (report.pictures, len(report.unmatched)) == (40, 9)
        found = client.answer([Query.words("dog")], SearchOptions(50, where=Filter(expression="number >= 0")))[0]
        assert len(found.hits) == 40

    def test_indexing_that_fails(self, shelf: Shelf, client: Client) -> None:
        where = shelf.place / "nowhere"
        with pytest.raises(UsageError, match="no such file or directory"):
            client.index(where)
        with pytest.raises(UsageError, match="the name of a folder is empty"):
            client.index("")

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_who_stops_waiting_cancels_the_job(
        self, shelf: Shelf, client: Client, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        def index(*_: Any, progress: Progress, **__: Any) -> None:
            for done in range(1000):
                progress("encode", done, 1000)
                time.sleep(0.01)

        def interrupted(*_: Any) -> None:
            raise error

        monkeypatch.setattr(shelf.images, "index", index)
        with pytest.raises(error):
            client.index(shelf.folder, progress=interrupted)
        deadline = time.monotonic() + 5
        while (job := client._connection.get("/api/v1/jobs")["jobs"][0])["state"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert job["state"] == "cancelled"

    def test_a_job_that_somebody_else_cancels(
        self, shelf: Shelf, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def index(*_: Any, progress: Progress, **__: Any) -> None:
            while True:
                progress("encode", 1, 2)
                time.sleep(0.01)

        def cancel(*_: Any) -> None:
            job = client._connection.get("/api/v1/jobs")["jobs"][0]
            client._connection.delete(f"/api/v1/jobs/{job['id']}")

        monkeypatch.setattr(shelf.images, "index", index)
        with pytest.raises(ImageSearchError, match="somebody cancelled the job"):
            client.index(shelf.folder, progress=cancel)

    def test_rights(self, shelf: Shelf) -> None:
        with shelf.client(TOKEN) as user:
            assert user.search(shelf.folder / "01.png", k=1)
            with pytest.raises(UsageError, match="lies in no folder that was indexed before"):
                user.index(shelf.place)
            with pytest.raises(UsageError, match="only the owner"):
                user.forget(shelf.folder)
            (shelf.place / "table.csv").write_text("name,stars\n01.png,5\n")
            with pytest.raises(UsageError, match="only the owner"):
                user.annotate(shelf.place / "table.csv", "name")
        for wrong in ("wrong" * 8, None):
            with shelf.client(wrong) as nobody, pytest.raises(UsageError, match="lets nobody in"):
                nobody.describe()

    def test_nothing_indexed_yet(self, tmp_path: Path, new: Path) -> None:
        images = ImageSearch(config_of({"milvus": {"uri": str(tmp_path / "empty.db")}}))
        with serving(create_app(Backend(images, cache=tmp_path))) as server, Client(server.url) as client:
            for call in (client.describe, lambda: client.search(new), lambda: client.search(Query.words("dog"))):
                with pytest.raises(CollectionNotFoundError, match="images_starter"):
                    call()
            assert client.index_mismatch() is None
            assert client.collections() == {}


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("ftp://here", "must be http"),
            ("127.0.0.1:8000", "must be http"),
            ("http://", "must be http"),
            ("http://here:port", "must be http"),
            ("http://here\r\nX: y", "must be http"),
            ("http://a..b", "must be http"),
            (f"http://{'a' * 64}", "must be http"),
            ("http://here/\udcff", "must be http"),
            ("http://me:hunter2@here", "must hold no user"),
            ("http://here/?token=hunter2", "must hold no user"),
        ],
    )
    def test_wrong_ones(self, url: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            Client(url)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("token", ["", "two words", "line\nend", "é", "x" * 5000])
    def test_wrong_tokens_are_not_told(self, token: str) -> None:
        with pytest.raises(UsageError, match="the token must be") as caught:
            Client("http://localhost", token)
        assert not token or token not in str(caught.value)

    def test_tokens_in_the_clear(self) -> None:
        with pytest.raises(UsageError, match="others can read it"):
            Client("http://pictures.example", "secret")
        for url, options in (
            ("https://pictures.example", {}),
            ("http://[::1]:8000", {}),
            ("http://pictures.example", {"allow_insecure_token": True}),
        ):
            assert "secret" not in repr(Client(url, "secret", **options))

    @pytest.mark.parametrize("path", ["/büro/bilder/", "/b%C3%BCro/bilder"])
    def test_paths_of_proxies(self, path: str) -> None:
        asked: list[str] = []

        def reply(handler: Any) -> None:
            asked.append(handler.path)
            send(handler, 200, b'{"place": "here"}')

        with answering(reply) as url:
            client = Client(url + path)
            assert (client.place, client.url) == ("here", url + path.rstrip("/"))
        assert asked == ["/b%C3%BCro/bilder/api/v1/served"]

    def test_nothing_there(self) -> None:
        with pytest.raises(StoreUnreachableError, match=r"cannot reach the server at http://127\.0\.0\.1:9"):
            Client("http://127.0.0.1:9", timeout=5).describe()


@contextmanager
def answering(reply: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server whose every answer a test writes itself."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing."""

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply(self)

        do_GET = do_POST = do_DELETE = handle_any

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def send(handler: Any, status: int, body: bytes = b"{}", **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


BUSY = json.dumps({"type": "urn:imagesearch:problem:busy", "detail": "too busy"}).encode()


class TestTransport:
    def test_redirects_are_not_followed(self) -> None:
        seen: list[str] = []

        def trap(handler: Any) -> None:
            seen.append(handler.headers.get("Authorization"))
            send(handler, 200)

        with (
            answering(trap) as elsewhere,
            answering(lambda handler: send(handler, 302, Location=elsewhere)) as url,
            pytest.raises(UsageError, match="leads elsewhere"),
        ):
            Client(url, "secret").status()
        assert seen == []

    def test_a_busy_server_is_asked_again(self) -> None:
        replies = iter([(503, BUSY), (503, BUSY), (200, b'{"place": "here"}')])

        def reply(handler: Any) -> None:
            send(handler, *next(replies), Retry_After="0")

        with answering(reply) as url:
            assert Client(url).place == "here"

    def test_but_not_for_ever(self) -> None:
        asked: list[str] = []

        def reply(handler: Any) -> None:
            asked.append(handler.path)
            send(handler, 503, BUSY, Retry_After="0")

        with answering(reply) as url:
            with pytest.raises(ImageSearchError, match="too busy"):
                Client(url).status()
            assert len(asked) == 6
            del asked[:]
            with pytest.raises(ImageSearchError, match="too busy"):
                Client(url).index("/somewhere")  # which must not begin twice
            assert len(asked) == 1

    def test_a_connection_that_was_closed_meanwhile(self) -> None:
        def reply(handler: Any) -> None:
            send(handler, 200, b'{"place": "here"}')
            handler.close_connection = True  # without a word

        with answering(reply) as url, Client(url) as client:
            assert [client.place for _ in range(3)] == ["here"] * 3

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no process can be forked here")
    def test_a_forked_process_has_connections_of_its_own(self) -> None:
        seen: list[tuple[str, int]] = []

        def reply(handler: Any) -> None:
            seen.append(handler.client_address)
            send(handler, 200, b'{"place": "here"}')

        with answering(reply) as url, Client(url) as client:
            assert client.place == "here"
            child = os.fork()
            if child == 0:
                os._exit(0 if client.place == client.place == "here" else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert client.place == "here"
        ours, theirs, again, last = seen
        assert ours == last != theirs == again

    @pytest.mark.parametrize(
        ("status", "body", "message"),
        [
            (502, b"<html>", "answered HTTP 502"),
            (200, b"<html>", "is no ImageSearch server"),
            (200, b"[]", "is no ImageSearch server"),
            (404, b'{"detail": "Not Found"}', r"is no ImageSearch server, or one of another version \(HTTP 404\)"),
            (404, b"<html>", "is no ImageSearch server"),
            (403, b'{"detail": "a proxy says no"}', "a proxy says no"),
        ],
    )
    def test_answers_of_others(self, status: int, body: bytes, message: str) -> None:
        with (
            answering(lambda handler: send(handler, status, body)) as url,
            pytest.raises(ImageSearchError, match=message),
        ):
            Client(url).status()

    def test_answers_that_lack_a_field(self) -> None:
        calls: list[Callable[[Client], Any]] = [
            lambda client: client.engine,
            lambda client: client.describe(),
            lambda client: client.search(Query.words("dog")),
            lambda client: client.search(Query.words("dog"), 3),
            lambda client: client.embed([b"picture"]),
            lambda client: client.classify(b"picture"),
            lambda client: client.index("/somewhere"),
            lambda client: client.forget("/somewhere"),
            lambda client: client.label_session(),
        ]
        with answering(lambda handler: send(handler, 200, b'{"status": "ok"}')) as url:
            for call in calls:
                with pytest.raises(ImageSearchError, match="is no ImageSearch server"):
                    call(Client(url))

    def test_an_answer_that_does_not_come(self) -> None:
        waits = threading.Event()
        with answering(lambda _: waits.wait(5)) as url:
            with pytest.raises(StoreUnreachableError, match=r"no answer in 0\.2 s"):
                Client(url, timeout=0.2).status()
            waits.set()

    def test_news_of_a_job_that_break_off(self) -> None:
        """They are asked for again, a bounded number of times."""
        job = {"id": "7", "state": "running", "progress": {"stage": "encode", "done": 1, "total": 2}}
        ended = {**job, "state": "failed", "problem": None, "error": "an error of the program"}
        last = b"event: job\ndata: %s\n\n" % json.dumps(ended).encode()
        news = iter([b"", b": still there\n\n", last[:40], last[:17], last])

        def reply(handler: Any) -> None:
            if handler.path.endswith("/events"):
                send(handler, 200, b"data: %s\n\n" % json.dumps(job).encode() + next(news))
            else:
                send(handler, 202, json.dumps(job).encode())

        heard: list[Any] = []
        with answering(reply) as url, pytest.raises(ImageSearchError, match="an error of the program"):
            Client(url).index("/somewhere", progress=lambda *told: heard.append(told))
        assert heard == [("encode", 1, 2)]

    def test_file_names_cannot_leave_their_header(self) -> None:
        form = Form([("image", 'a"\r\nX: y\r\n\r\n.png\udce9', b"data")], {"preview": "false"})
        (line,) = (line for line in form.body.split(b"\r\n") if b"filename" in line)
        assert line == b'Content-Disposition: form-data; name="image"; filename="a___X: y____.png?"'


def test_the_client_imports_no_other_http_library() -> None:
    import subprocess
    import sys

    program = "import imagesearch.client, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in run.stdout.split()}
    assert not loaded & {"requests", "httpx", "urllib3", "aiohttp", "fastapi", "torch", "PIL", "pyarrow"}
