"""``imagesearch serve`` as a process: how it starts, who gets in, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesearch.config import config_of
from imagesearch.service import ImageSearch

from ...conftest import draw_picture
from .serving import Served

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


class Process:
    """A running server."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "imagesearch", "serve", *map(str, arguments)]
        self.log = Path("serve.log")
        with self.log.open("w") as stderr:
            self.running = subprocess.Popen(command, stderr=stderr, stdout=subprocess.PIPE)

    def served(self) -> Served:
        """It, once it answers."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.running.poll() is None:
            if told := re.search(r"ImageSearch is at http://[^:]*:(\d+)/", self.log.read_text()):
                server = Served(int(told[1]))
                with contextlib.suppress(OSError):
                    if server.get("/healthz").status == 200:
                        return server
            time.sleep(0.05)
        raise AssertionError(self.log.read_text())

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.running.send_signal(number)
        return self.running.wait(30)


@contextlib.contextmanager
def process(*arguments: object) -> Iterator[Process]:
    """A server that does not outlive the test."""
    started = Process(*arguments)
    try:
        yield started
    finally:
        started.running.kill()
        started.running.wait(30)


@posix
def test_it_answers_and_ends_when_it_is_told_to(picture_folder: Path, tmp_path: Path) -> None:
    with ImageSearch(config_of({"milvus": {"uri": str(tmp_path / "a.db")}})) as images:
        images.index(picture_folder)
    for number in (signal.SIGTERM, signal.SIGINT):
        with process("--uri", tmp_path / "a.db", "--port", 0) as started:
            server = started.served()
            assert server.get("/api/v1/pictures").json()["total"] == 6
            assert started.end(number) in (0, -number, 128 + number)
            log = started.log.read_text()
            lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
            assert "/api/v1/pictures" in [line.get("path") for line in lines]
            assert "Traceback" not in log
    with ImageSearch(config_of({"milvus": {"uri": str(tmp_path / "a.db")}})) as images:
        assert images.describe().rows == 6  # nobody holds it any more


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_is_cut_short_loses_nothing(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for picture in range(400):
        draw_picture(picture, (400, 300)).save(folder / f"{picture}.jpg")
    with process(folder, "--uri", tmp_path / "a.db", "--port", 0) as started:
        server = started.served()
        job = server.post("/api/v1/jobs", {"folders": [str(folder)]}).json()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            progress = server.get(f"/api/v1/jobs/{job['id']}").json()["progress"]
            if progress and progress["stage"] == "encode" and progress["done"]:
                break
        started.end(number)
        assert "Traceback" not in started.log.read_text()
    with ImageSearch(config_of({"milvus": {"uri": str(tmp_path / "a.db")}})) as images:
        kept = images.find_collection()
        rows = kept.count() if kept else 0
        report = images.index(folder)
        assert (report.indexed, report.unchanged) == (400 - rows, rows)
        assert images.check().is_sound


def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process("--uri", tmp_path / "a.db", "--port", port) as started:
            assert started.running.wait(60) == 1
            assert f"cannot listen at 127.0.0.1 port {port}: another program has it" in started.log.read_text()
    with process("--uri", tmp_path / "a.db", "--port", 0, "--host", "not.a.name.invalid") as started:
        assert started.running.wait(60) == 1
        assert "cannot listen at not.a.name.invalid" in started.log.read_text()
    with process("--uri", tmp_path / "a.db", "--port", 0, "--token-file", tmp_path / "absent") as started:
        assert started.running.wait(60) == 1
        assert "absent" in started.log.read_text()


def test_others_need_the_token_that_is_printed(picture_folder: Path, tmp_path: Path) -> None:
    with process("--uri", tmp_path / "a.db", "--port", 0, "--host", "0.0.0.0") as started:
        server = started.served()
        token = re.search(r"token, until it ends: (\S+)", started.log.read_text())
        assert token
        assert server.get("/api/v1/status").status == 401
        assert server.get("/api/v1/status", {"Authorization": "Bearer wrong-token-wrong"}).status == 401
        assert server.get("/api/v1/status", {"Authorization": f"Bearer {token[1]}"}).status == 200
        page = server.get("/", {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        assert (page.status, page.headers["location"][:6]) == (303, "/login")
        assert token[1] not in started.log.read_text().replace(token[0], "")
        login = server.post("/login", {"token": token[1]})
        cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]}
        assert b'action="/logout"' in server.get("/", cookie).body
        left = server.ask(
            "POST", "/logout", headers={**cookie, "Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
        )
        assert (left.status, left.headers["location"]) == (303, "/login")
        assert server.get("/api/v1/status", cookie).status == 401
