"""A Milvus server: reaching it, failing to, and what only servers do."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from imagesearch.errors import ConfigError, StoreError, StoreUnreachableError, UnsupportedIndexError
from imagesearch.stores.address import DatabaseAddress
from imagesearch.stores.base import CollectionSpec, ConnectionOptions, VectorDatabase
from imagesearch.stores.milvus import server_collection, server_connection
from imagesearch.stores.milvus.server_connection import index_types_of, tls_options

from .conftest import Specs, clustered, drop_leftovers, fingerprint, numbered, pictures, vectors
from .milvus_server import needs_milvus_server

# Seconds; what takes longer hangs.
HANGS = 60


def database_at(uri: str, **options: Any) -> VectorDatabase:
    return DatabaseAddress.parse(uri).open(ConnectionOptions(**options))


def unreachable(uri: str) -> str:
    database = database_at(uri, timeout=2)
    start = time.monotonic()
    with pytest.raises(StoreUnreachableError) as caught:
        database.names()
    assert time.monotonic() - start < HANGS
    database.close()
    return str(caught.value)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where connections are accepted (by the kernel) and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# --- reaching it ---


def test_a_server_that_accepts_and_says_nothing(silent_port: int) -> None:
    assert "within 2 s (no answer)" in unreachable(f"http://127.0.0.1:{silent_port}")


def test_a_closed_port_and_no_credentials_in_the_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = unreachable(f"http://root:hunter2@127.0.0.1:{port}/db?token=hunter2")
    assert f"http://127.0.0.1:{port}" in text
    assert "connection refused" in text
    assert "hunter2" not in text
    assert "milvus.uri" in text


@pytest.mark.parametrize(
    "uri",
    [
        *("http://no-such-host.invalid:19530", "http://192.0.2.1:19530", "https://127.0.0.1:1"),
        pytest.param(
            "unix:///no/such/socket", marks=pytest.mark.skipif(sys.platform == "win32", reason="no sockets")
        ),
    ],
)
def test_unknown_names_black_holes_tls_to_nowhere_and_no_socket(uri: str) -> None:
    assert uri in unreachable(uri)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    unreachable("http://127.0.0.1:1")
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")


def test_making_and_closing_one_reaches_nothing(silent_port: int) -> None:
    database = database_at(f"http://127.0.0.1:{silent_port}")
    database.close()
    with pytest.raises(StoreError, match="closed"):
        database.names()


# --- TLS ---


def test_a_missing_certificate_file() -> None:
    with pytest.raises(ConfigError, match=r"milvus\.tls_ca = 'nowhere\.pem'"):
        database_at("https://127.0.0.1:1", tls_ca="nowhere.pem").names()


def test_tls_options() -> None:
    def options(**values: str) -> dict[str, Any]:
        return tls_options(ConnectionOptions(**values))  # type: ignore[arg-type]

    assert options() == {}
    assert options(tls_ca=__file__, tls_server_name="x") == {
        "secure": True,
        "server_pem_path": __file__,
        "server_name": "x",
    }
    mutual = options(tls_ca=__file__, tls_client_cert=__file__, tls_client_key=__file__)
    assert set(mutual) == {"secure", "ca_pem_path", "client_pem_path", "client_key_path"}
    with pytest.raises(ConfigError, match="tls_client_key"):
        options(tls_ca=__file__, tls_client_cert=__file__)


# --- what it can do ---


@pytest.mark.parametrize(
    ("version", "has", "has_not"),
    [
        ("v2.3.5-lite", {"IVF_PQ", "SCANN", "DISKANN"}, {"HNSW_SQ", "GPU_IVF_FLAT", "GPU_CAGRA"}),
        ("v2.4.1-gpu", {"GPU_CAGRA", "GPU_IVF_FLAT"}, {"HNSW_SQ"}),
        ("2.6.0", {"HNSW_SQ"}, {"GPU_CAGRA"}),
        ("Zilliz Cloud", {"AUTOINDEX", "HNSW_SQ", "GPU_CAGRA"}, set()),
    ],
)
def test_index_types_by_version(version: str, has: set[str], has_not: set[str]) -> None:
    types = set(index_types_of(version))
    assert has <= types
    assert not has_not & types


@needs_milvus_server
def test_what_the_server_is(milvus_server: str) -> None:
    database = database_at(milvus_server, timeout=20)
    assert database.engine == f"Milvus 2.3.5-lite at {milvus_server}"
    database.close()


@needs_milvus_server
@pytest.mark.parametrize("index_type", ["HNSW_SQ", "GPU_CAGRA"])
def test_an_index_the_server_lacks(milvus_server: str, index_type: str) -> None:
    database = database_at(milvus_server, timeout=20)
    spec = CollectionSpec("unused", index_type=index_type)
    for use in (lambda: database.check(spec), lambda: database.create(spec, fingerprint())):
        with pytest.raises(UnsupportedIndexError, match=rf"{index_type}.*2\.3\.5.*HNSW"):
            use()
    assert "unused" not in database.names()
    database.close()


@needs_milvus_server
def test_vectors_that_are_too_many_for_one_answer(
    milvus_server: str, spec: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = spec()
    database = database_at(milvus_server, timeout=20)
    collection = database.create(asked, fingerprint(8))
    collection.upsert(numbered(0, 200), clustered(200, 8))
    queries = clustered(5, 8, seed=1)
    wanted = [(ids.tolist(), rows.tobytes()) for ids, rows in collection.search_vectors(queries, 20)]
    for most in (2 * 4 * 8 * 30, 10):  # two queries at once; not even one
        monkeypatch.setattr(server_collection, "_VECTOR_BYTES_PER_SEARCH", most)
        found = collection.search_vectors(queries, 20)
        assert [(ids.tolist(), rows.tobytes()) for ids, rows in found] == wanted
    database.drop(asked.name)
    database.close()


@needs_milvus_server
def test_a_server_that_refuses_an_index_after_all(
    milvus_server: str, spec: Specs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_connection, "index_types_of", lambda version: ["HNSW_SQ"])
    refused = spec(index_type="HNSW_SQ")
    database = database_at(milvus_server, timeout=20)
    with pytest.raises(UnsupportedIndexError, match="HNSW_SQ"):
        database.create(refused, fingerprint())
    database.close()
    drop_leftovers(milvus_server, refused.name)


@needs_milvus_server
def test_a_database_that_is_not_there(milvus_server: str) -> None:
    with pytest.raises(StoreError, match=r"nowhere.*milvus\.db_name"):
        database_at(milvus_server, db_name="nowhere", timeout=20).names()


@pytest.mark.parametrize("text", ["auth check failure, please check username [root] and password are correct"])
def test_a_refused_login_names_the_setting(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymilvus import MilvusException

    def refuse(*args: object, **kwargs: object) -> Callable[[], None]:
        raise MilvusException(1, text)

    monkeypatch.setattr(server_connection, "_new_client", refuse)
    with pytest.raises(StoreError, match=r"refused the login.*milvus\.token"):
        database_at("http://127.0.0.1:1", token="root:wrong").names()


# --- through a socket ---


@pytest.fixture
def milvus_socket(milvus_server: str, tmp_path: Path) -> Iterator[Path]:
    """The server behind a Unix socket."""
    server = urlsplit(milvus_server)
    path = tmp_path / "milvus.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):  # the end of the test
                while True:
                    here, _ = listening.accept()
                    there = socket.create_connection((server.hostname, server.port))
                    for ends in ((here, there), (there, here)):
                        threading.Thread(target=_pump, args=ends, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield path
        listening.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@needs_milvus_server
@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs Unix sockets")
@pytest.mark.parametrize("prefix", ["unix:", "unix://"])
def test_a_server_behind_a_socket(milvus_socket: Path, milvus_server: str, spec: Specs, prefix: str) -> None:
    database = database_at(f"{prefix}{milvus_socket}", timeout=20)
    assert database.engine == f"Milvus 2.3.5-lite at unix://{milvus_socket.resolve()}"
    collection = database.create(spec(), fingerprint())
    collection.upsert(pictures("a", "b"), vectors([1, 0], [0, 1]))
    assert [hit.path for hit in collection.search(vectors([0, 1]), 1)[0]] == ["/photos/b.jpg"]
    database.close()
    drop_leftovers(milvus_server, spec().name)
