"""A real Milvus server for tests: the PyPI package ``milvus``, started on free ports in a temporary folder.

Use the fixture ``milvus_server`` (its value is the URI) and mark tests with ``needs_milvus_server``, so that
pytest-xdist starts one server and not one per worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

needs_milvus_server = pytest.mark.xdist_group("milvus-server")

# Seconds; 8 on an idle machine.
_START_TIMEOUT = 150

# The server polls itself for work; these (milliseconds) make it look more often than its defaults of 0.2 to
# 1 s, so that tests do not spend their time waiting. Nothing else differs from the shipped configuration.
_QUICK = {
    "queryCoord.checkInterval": 50,
    "queryCoord.distPullInterval": 50,
    "rootCoord.timeTickInterval": 50,
    "proxy.timeTickInterval": 50,
}


def why_not() -> str:
    """Why no server can be started here; empty if one can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the milvus package has a server for x86-64 Linux only"
    if importlib.util.find_spec("milvus") is None:
        return "the milvus package (a server for tests) is not installed"
    return ""


@contextlib.contextmanager
def running_server(folder: Path) -> Iterator[str]:
    """Run a server that keeps its data in ``folder``; gives its URI, stops it at the end."""
    from milvus import MilvusServer, MilvusServerConfig

    config = MilvusServerConfig(data_dir=str(folder))
    keys = [key for key in config.configurable_items if key.endswith("_port")]
    *ports, metrics_port, client_port, peer_port = _free_ports(len(keys) + 3)
    config.configs.update(zip(keys, ports, strict=True))
    for key, value in _QUICK.items():
        config.set(key, value)
    _move_etcd(config, folder, client_port, peer_port)
    server = MilvusServer(config, wait_for_started=False)
    server.webservice_port = metrics_port
    # In a session of its own, so that it can be stopped with its children, and no Ctrl+C reaches it.
    with _new_session():
        server.start()
    try:
        server.wait_started(timeout=1000 * _START_TIMEOUT)
        yield f"http://127.0.0.1:{server.listen_port}"
    finally:
        _stop(server)
        shutil.rmtree(folder, ignore_errors=True)


class Servers:
    """A server that is started when it is first wanted, and again after it was stopped."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._uri: str | None = None

    def uri(self, folders: pytest.TempPathFactory) -> str:
        """Where it is."""
        if self._uri is None:
            self._uri = self._stack.enter_context(running_server(folders.mktemp("milvus-server")))
        return self._uri

    def stop(self) -> None:
        """End it, if it runs."""
        self._uri = None
        self._stack.close()


milvus_servers = Servers()


@pytest.fixture
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URI of a Milvus server; the test is skipped where none can run."""
    if reason := why_not():
        pytest.skip(reason)
    return milvus_servers.uri(tmp_path_factory)


def needs_server(item: pytest.Item | None) -> bool:
    """Whether a test is marked with :data:`needs_milvus_server`."""
    return item is not None and needs_milvus_server.mark in item.iter_markers()


def _move_etcd(config: Any, folder: Path, client_port: int, peer_port: int) -> None:
    """Give the embedded etcd ports of its own: it takes 2379 and 2380 whatever the package configures."""
    client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
    file = folder / "etcd.json"
    settings = {
        "name": "default",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    file.write_text(json.dumps(settings))  # etcd reads YAML, of which JSON is a part
    before = "  use:\n    embed: true"
    assert before in config.template_text
    config.template_text = config.template_text.replace(before, f"  config:\n    path: {file}\n{before}")


def _free_ports(count: int) -> list[int]:
    """Free ports, different from each other: all are held until the last is found."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def _new_session() -> Iterator[None]:
    """Make the package's Popen start a session that dies with us, even of kill -9; it has no option for it."""
    original = subprocess.Popen

    def popen(*args: Any, **kwargs: Any) -> Any:
        return original(*args, start_new_session=True, preexec_fn=_die_with_parent, **kwargs)

    subprocess.Popen = popen  # type: ignore[misc,assignment]
    try:
        yield
    finally:
        subprocess.Popen = original  # type: ignore[misc]


def _die_with_parent() -> None:
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _stop(server: Any) -> None:
    process = server.server_proc
    if process is None:
        return
    # Its data are thrown away, so there is nothing to save: kill the whole session.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    server.stop()
