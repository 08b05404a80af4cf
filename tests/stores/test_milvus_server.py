"""A Milvus server: reaching it, failing to, and what only servers do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
from imagesearch.stores.milvus_connection import Connection, Tls, display_uri

from imagesearch.errors import ConfigError, StoreError, StoreUnreachableError, UnsupportedIndexError
from imagesearch.stores.base import CollectionSpec
from imagesearch.stores.milvus import MilvusStore

from .conftest import fingerprint
from .milvus_server import needs_milvus_server


def store_at(uri: str, **options: object) -> MilvusStore:
    return MilvusStore(CollectionSpec("unused"), uri, **options)  # type: ignore[arg-type]


def unreachable_within_five_seconds(store: MilvusStore) -> str:
    start = time.monotonic()
    with pytest.raises(StoreUnreachableError) as caught:
        store.count()
    assert time.monotonic() - start < 5
    return str(caught.value)


@pytest.fixture
def silent_port() -> object:
    """A port where connections are accepted (by the kernel) and never answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_server_that_accepts_and_says_nothing(silent_port: int) -> None:
    text = unreachable_within_five_seconds(store_at(f"http://127.0.0.1:{silent_port}"))
    assert "no answer" in text


def test_a_closed_port_and_no_credentials_in_the_message() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    text = unreachable_within_five_seconds(store_at(f"http://root:hunter2@127.0.0.1:{port}/db?token=hunter2"))
    assert f"http://127.0.0.1:{port}" in text
    assert "connection refused" in text
    assert "hunter2" not in text
    assert "milvus.uri" in text


@pytest.mark.parametrize(
    "uri", ["http://no-such-host.invalid:19530", "http://192.0.2.1:19530", "https://127.0.0.1:1"]
)
def test_unknown_names_black_holes_and_tls_to_nowhere(uri: str) -> None:
    assert uri in unreachable_within_five_seconds(store_at(uri))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    unreachable_within_five_seconds(store_at("http://127.0.0.1:1"))
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://u:p@host:1/db?x=y", "https://host:1/db"),
        ("http://token@host", "http://host"),
        ("http://u:p@ss@host:1", "http://host:1"),
        ("/data/a@b.db", "/data/a@b.db"),
    ],
)
def test_uris_are_shown_without_credentials(uri: str, shown: str) -> None:
    assert display_uri(uri) == shown


def test_a_missing_certificate_file() -> None:
    with pytest.raises(ConfigError, match=r"milvus\.tls_ca = 'nowhere\.pem'"):
        store_at("https://127.0.0.1:1", tls_ca="nowhere.pem").count()


def test_tls_options() -> None:
    assert Tls().options() == {}
    assert Tls(ca=__file__, server_name="x").options() == {
        "secure": True,
        "server_pem_path": __file__,
        "server_name": "x",
    }
    mutual = Tls(ca=__file__, client_cert=__file__, client_key=__file__).options()
    assert set(mutual) == {"secure", "ca_pem_path", "client_pem_path", "client_key_path"}
    with pytest.raises(ConfigError, match="tls_client_key"):
        Tls(ca=__file__, client_cert=__file__).options()


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
    types = set(Connection(client=None, version=version, place="x").index_types())
    assert has <= types
    assert not has_not & types


@needs_milvus_server
def test_what_the_server_is(milvus_server: str) -> None:
    store = store_at(milvus_server, timeout=20)
    assert store.engine == f"Milvus 2.3.5-lite at {milvus_server}"
    store.close()


@needs_milvus_server
@pytest.mark.parametrize("index_type", ["HNSW_SQ", "GPU_CAGRA"])
def test_an_index_the_server_lacks(milvus_server: str, index_type: str) -> None:
    store = MilvusStore(CollectionSpec("unused", index_type=index_type), milvus_server, timeout=20)
    with pytest.raises(UnsupportedIndexError, match=rf"{index_type}.*2\.3\.5.*HNSW"):
        store.create(fingerprint())
    store.close()


@needs_milvus_server
def test_a_server_that_refuses_an_index_after_all(milvus_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Connection, "index_types", lambda self: ["HNSW_SQ"])
    spec = CollectionSpec("refused", index_type="HNSW_SQ")
    store = MilvusStore(spec, milvus_server, timeout=20)
    with pytest.raises(UnsupportedIndexError, match="HNSW_SQ"):
        store.create(fingerprint())
    store.drop()
    store.close()


@needs_milvus_server
def test_a_database_that_is_not_there(milvus_server: str) -> None:
    with pytest.raises(StoreError, match=r"nowhere.*milvus\.db_name"):
        store_at(milvus_server, db_name="nowhere", timeout=20).count()


@pytest.mark.parametrize("text", ["auth check failure, please check username [root] and password are correct"])
def test_a_refused_login_names_the_setting(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from pymilvus import MilvusException

    def refuse(*args: object, **kwargs: object) -> Callable[[], None]:
        raise MilvusException(1, text)

    monkeypatch.setattr("imagesearch.stores.milvus_connection._client", refuse)
    with pytest.raises(StoreError, match=r"refused the login.*milvus\.token"):
        store_at("http://127.0.0.1:1", token="root:wrong").count()
