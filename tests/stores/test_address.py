"""Addresses of databases: which engine they name, when two are the same place, and that no password is shown."""

from __future__ import annotations

import os
import sys
from itertools import combinations
from pathlib import Path

import pytest

from imagesearch.config import Config
from imagesearch.errors import ConfigError, ImageSearchError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, ConnectionOptions, is_same_collection
from imagesearch.stores.milvus.server_connection import server_place

from .conftest import fingerprint

parse = DatabaseAddress.parse

SECRET = "hunter2"

# Of a server with a password, however it is written.
WITH_SECRETS = [
    f"http://root:{SECRET}@localhost:19530",
    f"http://root:{SECRET}@localhost:19530/",
    f"https://{SECRET}@in03.zillizcloud.com",
    f"http://root:{SECRET}@localhost:19530/db?token={SECRET}",
    f"http://localhost?token={SECRET}",
    f"http://localhost:19530#{SECRET}",
    f"tcp://root:p@{SECRET}@localhost:19530",
    f"HTTP://root:{SECRET}@LOCALHOST:19530",
    f"http://root:{SECRET}@[::1]:19530",
]

# The same, but nothing that can be used.
REFUSED_WITH_SECRETS = [
    f"http://root:{SECRET}/x@localhost:19530",
    f"http://root:12/{SECRET}@localhost:19530",
    f"http://root:12?{SECRET}@localhost:19530",
    f"http://root:12#{SECRET}@localhost:19530",
    f"http://root:{SECRET}@localhost:port",
    f"http://root:{SECRET}@",
    f"http://root:{SECRET}@[::1",
    f"ftp://root:{SECRET}@localhost",
    f"root:{SECRET}@localhost:19530",
    f"root:{SECRET}/x@localhost:19530",
    f"{SECRET}@localhost",
]


# --- which engine ---


@pytest.mark.parametrize(
    ("uri", "engine", "path"),
    [
        ("photos.db", "milvus-lite", "photos.db"),
        ("~/photos.db", "milvus-lite", "~/photos.db"),
        ("/data/a@b.db", "milvus-lite", "/data/a@b.db"),
        ("/data/a:b.db", "milvus-lite", "/data/a:b.db"),
        ("file.db", "milvus-lite", "file.db"),
        ("unix.db", "milvus-lite", "unix.db"),
        ("photos.db/", "milvus-lite", "photos.db"),
        ("file:photos.db", "milvus-lite", "photos.db"),
        ("file:/data/my%20photos.db", "milvus-lite", "/data/my photos.db"),
        ("file:///data/100%25.db", "milvus-lite", "/data/100%.db"),
        ("FILE://localhost/data/a.db", "milvus-lite", "/data/a.db"),
        ("http://localhost:19530", "milvus", None),
        ("https://in03.zillizcloud.com", "milvus", None),
        ("tcp://127.0.0.1:19530", "milvus", None),
        ("Http://localhost", "milvus", None),
        ("unix:///run/milvus.sock", "milvus", None),
        ("unix:/run/milvus.sock", "milvus", None),
        ("unix:milvus.sock", "milvus", None),
    ],
)
def test_the_engine_and_the_path(uri: str, engine: str, path: str | None) -> None:
    address = parse(uri)
    assert (address.engine.name, address.path) == (engine, Path(path) if path else None)
    assert address.is_local == (path is not None)
    assert address.uri == uri


@pytest.mark.parametrize(
    "uri",
    [
        *("", ".", "pictures", "pictures.sqlite", ".db", "folder/.db", "a\0.db", "file:", "file:///", "file:a"),
        *("file://elsewhere/a.db", "file://[a.db", "ftp://host:1", "http://", "http://:1", "http://h:port"),
        *("http://h:0", "http://h:99999", "http://[::1", "://h", "unix:", "unix:///", "unix://host/x"),
        *REFUSED_WITH_SECRETS,
    ],
)
def test_what_is_no_address_is_refused_in_one_line(uri: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(uri, "--to")
    text = str(caught.value)
    assert text.startswith("--to = ")
    assert ".db" in text
    assert "http://localhost:19530" in text
    assert "\n" not in text
    assert SECRET not in text


@pytest.mark.skipif(sys.platform == "win32", reason="there, '~name' may be anybody")
def test_the_home_of_nobody() -> None:
    with pytest.raises(ConfigError, match=r"milvus\.uri = '~nobody-of-this-name/a\.db'"):
        parse("~nobody-of-this-name/a.db")


# --- the same place ---


def test_one_local_database_has_one_place_however_it_is_written(tmp_path: Path) -> None:
    home = Path.home()
    (home / "data").mkdir()
    (home / "link").symlink_to(home / "data")
    (home / "linked.db").symlink_to(home / "data" / "photos.db")  # to nothing as yet
    os.chdir(home / "data")
    same = [
        *("photos.db", "./photos.db", "photos.db/", "../data/photos.db", "../link/photos.db"),
        *("~/data/photos.db", "~/link//photos.db", "~/linked.db", "file:photos.db", "file:~/data/photos.db"),
        *(f"{home}/data/photos.db", f"file:{home}/data/photos.db", f"file://localhost{home}/data/photos%2Edb"),
    ]
    assert {parse(uri).place for uri in same} == {str(Path(home, "data", "photos.db").resolve())}
    other = ["Photos.db", "photos.db.db", "~/photos.db", "~/link/sub/photos.db", "link/photos.db"]
    places = [parse(uri).place for uri in (same[0], *other)]
    assert all(one != two for one, two in combinations(places, 2))


def test_links_in_a_circle_are_a_place_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to(tmp_path / "b.db")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    database = parse(str(tmp_path / "a.db")).open()
    with pytest.raises(ImageSearchError, match=r"a\.db"):
        database.create(CollectionSpec("pictures"), fingerprint())
    database.close()


def test_one_server_has_one_place_however_it_is_written() -> None:
    same = [
        *("http://localhost:19530", "http://localhost:19530/", "http://localhost:19530//"),
        *("http://root:secret@localhost:19530", "HTTP://LocalHost:19530", "http://localhost:19530?x=y"),
    ]
    assert {parse(uri).place for uri in same} == {"http://localhost:19530"}
    other = [
        *("http://localhost", "http://localhost:19531", "https://localhost:19530", "http://127.0.0.1:19530"),
        *("http://localhost:19530/db", "http://localhost:19530/DB", "unix:///localhost:19530"),
    ]
    places = [parse(uri).place for uri in (same[0], *other)]
    assert all(one != two for one, two in combinations(places, 2))


def test_one_socket_has_one_place_however_it_is_written(tmp_path: Path) -> None:
    os.chdir(tmp_path)
    same = ["unix:milvus.sock", f"unix:{tmp_path}/milvus.sock", f"unix://{tmp_path}/x/../milvus.sock"]
    assert {parse(uri).place for uri in same} == {f"unix://{tmp_path.resolve()}/milvus.sock"}


@pytest.mark.parametrize(
    ("uris", "db_name", "place"),
    [
        (["http://h", "tcp://h:19530", "http://u:p@H:19530/", "http://h/default"], None, "http://h:19530"),
        (["https://h", "https://h:443/"], None, "https://h:443"),
        (["http://[::1]", "tcp://[::1]:19530"], None, "http://[::1]:19530"),
        (["http://h/db", "http://h:19530/db/"], None, "http://h:19530/db"),
        (["http://h", "http://h/other"], "db", "http://h:19530/db"),
        (["unix:///run/milvus"], "default", "unix:///run/milvus"),
        (["unix:///run/milvus"], "db", "unix:///run/milvus, database db"),
    ],
)
def test_what_only_the_engine_knows(uris: list[str], db_name: str | None, place: str) -> None:
    assert {server_place(parse(uri), db_name) for uri in uris} == {place}
    assert {parse(uri).open(ConnectionOptions(db_name=db_name)).place for uri in uris} == {place}


def test_collections_of_one_folder_are_the_same_under_all_its_names(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "photos.db")
    spec = CollectionSpec("pictures")
    databases = [parse(str(tmp_path / name)).open() for name in ("photos.db", "link.db", "other.db")]
    one, same, other = (database.create(spec, fingerprint()) for database in databases)
    assert is_same_collection(one, same)
    assert not is_same_collection(one, other)
    assert [database.names() for database in databases] == [["pictures"]] * 3
    for database in databases:
        database.close()


# --- relative to a file of settings ---


def test_relative_paths_are_anchored() -> None:
    def anchored(uri: str) -> str:
        return parse(uri).anchored("/etc/imagesearch").uri

    assert anchored("photos.db") == str(Path("/etc/imagesearch/photos.db"))
    assert anchored("../photos.db") == str(Path("/etc/photos.db"))
    assert anchored("file:photos.db") == str(Path("/etc/imagesearch/photos.db"))
    assert anchored("file:///data/my%20photos.db") == str(Path("/data/my photos.db"))
    assert anchored("/data/photos.db") == str(Path("/data/photos.db"))
    assert anchored("~/photos.db") == str(Path.home() / "photos.db")
    assert anchored("http://localhost:19530") == "http://localhost:19530"
    assert anchored("unix:///run/milvus") == "unix:///run/milvus"


# --- credentials ---


@pytest.mark.parametrize("uri", WITH_SECRETS)
def test_credentials_are_never_shown(uri: str) -> None:
    address = parse(uri)
    shown = [address.place, address.shown, repr(address), str(address), repr([address]), f"{address}"]
    options = ConnectionOptions(token=SECRET)
    database = address.open(options)
    shown += [database.place, repr(database), repr(options), repr(Config(milvus={"uri": uri, "token": SECRET}))]
    assert all(SECRET not in text for text in shown), shown
    assert address.uri == uri  # which is what the server gets


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@host:1/db?x=y", "https://host:1/db"),
        ("http://token@host", "http://host"),
        ("http://u:p@ss@host:1", "http://host:1"),
        ("http://Host:1/", "http://Host:1"),
        ("/data/a@b.db", "/data/a@b.db"),
        ("~/a.db", "~/a.db"),
        ("unix:///run/milvus", "unix:///run/milvus"),
        ("unix:milvus", "unix:milvus"),
    ],
)
def test_addresses_are_shown_as_they_were_given_without_credentials(uri: str, shown: str) -> None:
    assert parse(uri).shown.replace(os.sep, "/") == shown


def test_a_refused_path_is_shown_whole() -> None:
    for uri in ("/data/a@b", "photos/me@home.sqlite", "./a@b"):
        with pytest.raises(ConfigError) as caught:
            parse(uri)
        assert repr(uri) in str(caught.value)
