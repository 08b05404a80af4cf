"""The server as a process among others: its streams, its database, its end; and as a part of a web server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn

from imagesearch.errors import StoreLockedError
from imagesearch.frontends.mcp import tools
from imagesearch.frontends.mcp.schemas import MAX_RESULTS, MAX_SHEET, TOOLS
from imagesearch.frontends.mcp.server import streamable_http_app
from imagesearch.frontends.mcp.sheet import WIDEST
from imagesearch.service import ImageSearch

from ...conftest import REPOSITORY
from ..conftest import Run
from .conftest import Album, connected, make_album, process_of


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Album:
    return make_album(tmp_path_factory.mktemp("small"), range(1, 4), ())


@pytest.fixture
def plain(small: Album, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A server whose streams a test reads and writes itself."""
    given = process_of(small, home)
    process = subprocess.Popen(
        [given.command, *given.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=given.env,
        cwd=given.cwd,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def ask(process: subprocess.Popen[str], **message: Any) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    process.stdin.flush()


def introduce(process: subprocess.Popen[str]) -> None:
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    ask(process, id=1, method="initialize", params=about)
    ask(process, method="notifications/initialized")


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    read: dict[str, Any] = json.loads(process.stdout.readline())
    return read


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_stdout_is_the_protocols_and_all_processes_end(
    plain: subprocess.Popen[str], small: Album, home: Path
) -> None:
    """Whatever is asked, stdout has a line of JSON-RPC for each request; both processes end when stdin does."""
    (home / "config.yaml").write_text("search: {top_k: 3}\n")
    try:
        introduce(plain)
        ask(plain, id=2, method="tools/list", params={})
        assert plain.stdin is not None
        plain.stdin.write("no JSON\n")
        ask(plain, id=3, method="tools/call", params={"name": "status", "arguments": {}})
        ask(plain, id=4, method="tools/call", params={"name": "label_pictures", "arguments": {"ids": "x"}})
        ids = [small.id(name) for name in ("1.png", "2.png")]
        ask(plain, id=5, method="tools/call", params={"name": "contact_sheet", "arguments": {"ids": ids}})
        read: dict[Any, dict[str, Any]] = {}
        while not {1, 2, 3, 4, 5} <= read.keys():
            one = answer(plain)
            assert one["jsonrpc"] == "2.0"
            read[one.get("id")] = one
        assert read[1]["result"]["serverInfo"]["name"] == "imagesearch"
        assert read[3]["result"]["structuredContent"]["pictures"] == 3
        assert read[4]["result"]["isError"] is True
        family = [psutil.Process(plain.pid), *psutil.Process(plain.pid).children()]
        assert len(family) == 2
        out, err = plain.communicate(timeout=10)
    finally:
        (home / "config.yaml").unlink()
    assert out == ""
    assert f"settings: {home / 'config.yaml'}" in err
    assert "Traceback" not in err
    assert plain.returncode == 0
    wait_until(lambda: not any(process.is_running() for process in family))


def test_the_worker_ends_with_a_server_that_was_killed(plain: subprocess.Popen[str]) -> None:
    introduce(plain)
    answer(plain)
    (worker,) = psutil.Process(plain.pid).children()
    plain.kill()
    plain.wait()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_the_database_is_shared_with_other_processes(tmp_path: Path, home: Path) -> None:
    """While it is used elsewhere, an answer names who has it; when it is idle here, others can have it."""
    album = make_album(tmp_path, range(1, 4), ())
    with connected(process_of(album, home)) as session, ImageSearch(album.settings) as images:
        assert session.values("status")["pictures"] == 3

        refusals: list[str] = []

        def can_open() -> bool:
            try:
                return images.describe().rows == 3
            except StoreLockedError as error:
                refusals.append(str(error))
                return False

        wait_until(can_open)
        assert "frontends.mcp.worker" in refusals[0]
        message = session.error("status")
        assert f"is in use by process {psutil.Process().pid}" in message
        (album.folder / "2.png").unlink()
        assert images.index().removed == 1
        images.release()
        assert session.values("status")["pictures"] == 2


def test_a_server_that_holds_the_database_is_asked(tmp_path: Path, home: Path) -> None:
    album = make_album(tmp_path, range(1, 6), ())
    parameters = process_of(album, home)
    command = [parameters.command, "-m", "imagesearch", "serve", "--uri", album.uri, "--port", "0", "--log"]
    log = tmp_path / "log"
    with log.open("w") as stderr:
        server = subprocess.Popen(command, stderr=stderr, env={**os.environ, **(parameters.env or {})}, cwd=home)
    try:
        wait_until(lambda: "ImageSearch is at" in log.read_text() or server.poll() is not None)
        with connected(parameters) as session:
            assert session.values("status")["pictures"] == 5
            found = session.values("search_similar", id=album.id("1.png"), k=2)
            assert found["hits"][0]["id"] == album.id("1.png")
            assert '"path": "/mcp"' in log.read_text()
            assert "has no picture 1" in session.error("describe_picture", id="1")
            server.terminate()
            server.wait(30)
            assert session.values("status")["pictures"] == 5  # now it opens the database itself
    finally:
        server.kill()
        server.wait(30)


def test_a_worker_that_dies_is_started_again(small: Album, home: Path) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with connected(process_of(small, home)) as session, ThreadPoolExecutor() as pool:
        assert session.values("status")["pictures"] == 3
        mine = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        (worker,) = (child for child in mine if "frontends.mcp.worker" in " ".join(child.cmdline()))
        worker.suspend()  # so that it is killed before it has answered
        call = pool.submit(session.error, "status")
        time.sleep(0.5)  # until it waits for the answer
        worker.kill()
        assert "has ended by signal 9; the next call starts another" in call.result(20)
        assert session.values("status")["pictures"] == 3


def test_a_collection_that_is_not_there(tmp_path: Path, home: Path) -> None:
    with connected(process_of(Album(tmp_path, str(tmp_path / "none.db")), home)) as session:
        for tool, arguments in (("status", {}), ("list_pictures", {}), ("search_text", {"text": "dog"})):
            assert "index some pictures first" in session.error(tool, **arguments)
    assert not (tmp_path / "none.db").exists()


def test_wrong_settings_end_the_command(run: Run) -> None:
    Path("config.yaml").write_text("search: {top_k: 0}\n")
    ran = run("mcp")
    assert (ran.code, ran.out) == (2, "")
    assert "search.top_k" in ran.err


def test_the_sdk_is_optional(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp_types", None)
    ran = run("mcp")
    assert (ran.code, ran.out) == (1, "")
    assert "pip install 'mcp>=2'" in ran.err


@pytest.mark.parametrize("layout", ["known", "unknown"])
def test_the_sdk_is_imported_quickly_or_whole(layout: str) -> None:
    """Without its client; or, where it is made otherwise than expected, as anybody imports it."""
    program = """
import sys
from imagesearch.frontends.mcp import sdk
if sys.argv[1] == "unknown":
    sdk._NEEDED += ("mcp.no_such_module",)
sdk.import_quickly()
from mcp.server.lowlevel import Server
import mcp
print(Server("x").name, "mcp.client" in sys.modules, hasattr(mcp, "Client"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, layout], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["x", *(["False", "False"] if layout == "known" else ["True", "True"])]


def test_a_mistake_in_a_tool_is_an_answer(small: Album, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setitem(tools._CALLS, "status", broken)
    with ImageSearch(small.settings) as images:
        result = tools.call_tool(images, "status", {})
    assert result.is_error
    assert result.text == "status failed, which is a mistake in this program: RuntimeError: two\\nlines"


@pytest.fixture
def address(small: Album) -> Iterator[str]:
    """The server over HTTP on loopback, without what a web server adds to it."""
    with ImageSearch(small.settings) as images:
        config = uvicorn.Config(streamable_http_app(images), port=0, log_level="warning", lifespan="on")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/mcp"
        server.should_exit = True
        thread.join(10)


def test_the_same_tools_over_http(small: Album, address: str) -> None:
    with connected(address) as session:
        assert [tool.name for tool in session.tools()] == list(TOOLS)
        assert session.values("status")["pictures"] == 3
        sheet = session.call("contact_sheet", ids=[small.id("1.png")])
        assert [content.type for content in sheet.content] == ["image", "text"]
        assert "no picture 12" in session.error("describe_picture", id="12")


def test_the_documentation_names_tools_arguments_and_bounds() -> None:
    page = (REPOSITORY / "docs" / "mcp.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", page, re.M)
    assert [name for name, _ in rows] == list(TOOLS)
    shared = {"under", "after", "before", "camera", "k", "offset", "only_confident"}
    for name, arguments in rows:
        named = {word for word in re.findall(r"`(\w+)`", arguments) if word not in ("newest", "oldest", "path")}
        assert named == TOOLS[name].arguments.model_fields.keys() - shared
    assert f"up to {MAX_SHEET}" in page
    assert f"up to {MAX_RESULTS}" in page
    assert f"{WIDEST:,} pixels" in page
    (snippet,) = re.findall(r"```json\n(.*?)```", page, re.S)
    assert json.loads(snippet)["mcpServers"]["pictures"]["args"][0] == "mcp"
