"""Tokens go to the address that they were set together with, never in the clear: a server listens."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imagesearch import load_config
from imagesearch.config import Config
from imagesearch.credentials import token_for
from imagesearch.errors import ConfigError
from imagesearch.stores.address import DatabaseAddress

TOKEN = "root:very-secret"
SENT = base64.b64encode(TOKEN.encode()).decode()
HTTPS = "https://milvus.example:443"


class Listener:
    """A server that takes every call, answers none, and keeps what was sent along."""

    def __init__(self) -> None:
        import grpc

        self.heard: list[str] = []
        listener = self

        class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, details: Any) -> None:
                listener.heard += [f"{key}: {value!r}" for key, value in details.invocation_metadata]

        self._server = grpc.server(ThreadPoolExecutor(2), handlers=[Everything()])
        self.uri = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    @property
    def heard_token(self) -> bool:
        return any(SENT in line or TOKEN in line for line in self.heard)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.stop()


def imagesearch(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imagesearch", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestWhatAServerHears:
    def test_a_token_from_where_the_address_is_from(self, listener: Listener) -> None:
        done = imagesearch("info", IMAGESEARCH_MILVUS__URI=listener.uri, IMAGESEARCH_MILVUS__TOKEN=TOKEN)
        assert listener.heard_token
        assert done.returncode == 1
        assert "Traceback" not in done.stderr

    def test_not_the_environments_token_for_a_file_that_was_found(self, listener: Listener) -> None:
        Path("config.yaml").write_text(f"milvus:\n  uri: {listener.uri}\n")
        done = imagesearch("info", IMAGESEARCH_MILVUS__TOKEN=TOKEN)
        assert listener.heard
        assert not listener.heard_token
        assert f"settings: {Path.cwd() / 'config.yaml'}" in done.stderr
        assert "token is not sent" in done.stderr.replace(
            "the token (environment IMAGESEARCH_MILVUS__TOKEN)", "token"
        )
        assert TOKEN not in done.stderr

    @pytest.mark.parametrize(
        "setting", ["tls_ca: mine.pem", "tls_server_name: mine", "allow_insecure_token: true"]
    )
    def test_not_where_a_file_that_was_found_decides_who_can_read_it(self, setting: str) -> None:
        Path("config.yaml").write_text(f"milvus:\n  {setting}\n")
        for uri in (HTTPS, "http://milvus.example:1"):
            environment = {"IMAGESEARCH_MILVUS__URI": uri, "IMAGESEARCH_MILVUS__TOKEN": TOKEN}
            found = load_config(environ=environment)
            assert token_for(found, found.database_address) is None
            with pytest.raises(ConfigError, match="in the clear"):
                token_for(found, DatabaseAddress.parse("http://other.example:1"), TOKEN)

    def test_the_environments_token_for_a_file_that_was_named(self, listener: Listener) -> None:
        Path("mine.yaml").write_text(f"milvus:\n  uri: {listener.uri}\n")
        done = imagesearch("info", "--config", "mine.yaml", IMAGESEARCH_MILVUS__TOKEN=TOKEN)
        assert listener.heard_token
        assert "settings:" not in done.stderr

    def test_not_a_files_token_for_another_address(self, listener: Listener) -> None:
        Path("config.yaml").write_text(f"milvus:\n  uri: {HTTPS}\n  token: {TOKEN}\n")
        imagesearch("info", "--uri", listener.uri)
        assert listener.heard
        assert not listener.heard_token

    def test_migrating_gives_the_other_server_its_own_token_only(self, listener: Listener) -> None:
        from imagesearch.records import Fingerprint
        from imagesearch.stores.base import CollectionSpec

        database = DatabaseAddress.parse("here.db").open()
        database.create(CollectionSpec("images"), Fingerprint("m", "r", "cls", (8, 8), 4))
        database.close()
        imagesearch("migrate", "--uri", "here.db", "--to", listener.uri, IMAGESEARCH_MILVUS__TOKEN=TOKEN)
        assert listener.heard
        assert not listener.heard_token
        imagesearch("migrate", "--uri", "here.db", "--to", listener.uri, "--to-token", TOKEN)
        assert listener.heard_token
        done = imagesearch("migrate", "--uri", "here.db", "--to", "there.db", "--to-token", TOKEN)
        assert done.returncode == 1
        assert "takes no token" in done.stderr


def config(uri: str, **milvus: Any) -> Config:
    return load_config(overrides={"milvus": {"uri": uri, "token": TOKEN, **milvus}}, environ={})


@pytest.mark.parametrize(
    "uri",
    [
        "http://milvus.example:19530",
        "tcp://10.0.0.7:19530",
        "http://localhost.example:1",
        "http://127.0.0.1.example:1",
    ],
)
def test_nothing_crosses_the_network_in_the_clear(uri: str) -> None:
    settings = config(uri)
    with pytest.raises(ConfigError, match="in the clear") as raised:
        token_for(settings, settings.database_address)
    assert TOKEN not in str(raised.value)
    allowed = config(uri, allow_insecure_token=True)
    assert token_for(allowed, allowed.database_address) == TOKEN


def test_nor_does_a_password_in_the_address() -> None:
    settings = load_config(overrides={"milvus": {"uri": "http://me:pw@milvus.example:19530"}}, environ={})
    with pytest.raises(ConfigError, match="in the clear") as raised:
        token_for(settings, settings.database_address)
    assert "pw" not in str(raised.value)


@pytest.mark.parametrize(
    "uri", [HTTPS, "http://localhost:19530", "http://127.0.0.1:1", "http://[::1]:1", "unix:///run/milvus.sock"]
)
def test_what_is_encrypted_or_stays_here_is_fine(uri: str) -> None:
    settings = config(uri)
    assert token_for(settings, settings.database_address) == TOKEN


def test_a_file_needs_none() -> None:
    settings = config("photos.db")
    assert token_for(settings, settings.database_address) is None
