"""A Hugging Face hub for tests, on loopback: as much of its protocol as an upload by LFS needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_very_secret"


class FakeHub:
    """What arrives is kept; ``refuse`` makes one kind of request fail.

    Attributes:
        files: contents by name, after a commit.
        created: what was asked when the repository was made.
        private: whether a repository is, by its name; those that are not there are missing.
        asked: method and path of all requests.
        refuse: part of a path -> HTTP status.
        role: of the token.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.created: list[dict[str, Any]] = []
        self.private: dict[str, bool] = {}
        self.asked: list[str] = []
        self.message = ""
        self.refuse: dict[str, int] = {}
        self.role = "write"
        self._stored: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self._answer()

            def do_PUT(self) -> None:
                self._answer()

            def _answer(self) -> None:
                status, said = hub.answer(self.command, self.path, dict(self.headers), self._body())
                content = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[FakeHub]:
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        yield self
        self._server.shutdown()
        self._server.server_close()
        thread.join()

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path.partition('?')[0]}")
        for part, status in self.refuse.items():
            if part in path:
                return status, {"error": "no"}
        if path.startswith("/storage/"):  # a signed address: no token goes there
            assert headers.get("Authorization") is None
            oid = path.rpartition("/")[2].partition("?")[0]
            assert hashlib.sha256(body).hexdigest() == oid
            self._stored[oid] = body
            return 200, {}
        if {name.lower(): value for name, value in headers.items()}.get("authorization") != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid credentials"}
        if path == "/api/whoami-v2":
            access = {"accessToken": {"role": self.role}}
            return 200, {"name": "me", "orgs": [{"name": "club"}], "auth": access}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if (name := path.removeprefix("/api/models/")) in self.private:
            return 200, {"id": name, "private": self.private[name]}
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return 200, {}
        if "/preupload/" in path:
            return 200, {"files": [self._mode(one) for one in json.loads(body)["files"]]}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"objects": [self._place(one) for one in json.loads(body)["objects"]]}
        if "/commit/" in path:
            self._commit([json.loads(line) for line in body.splitlines()])
            return 200, {"commitUrl": f"{self.address}/me/x/commit/1", "commitOid": "1" * 40, "success": True}
        return 404, {"error": path}

    def _create(self, said: dict[str, Any]) -> tuple[int, Any]:
        name = f"{said.get('organization') or 'me'}/{said['name']}"
        if name in self.private:
            return 409, {"error": "You already created this model repo", "url": f"{self.address}/{name}"}
        self.created.append(said)
        # Earlier clients say it in another way.
        self.private[name] = bool(said.get("private", said.get("visibility") == "private"))
        return 200, {"url": f"{self.address}/{name}"}

    def _mode(self, one: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if one["path"].endswith(".safetensors") else "regular"
        return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False}

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        return {**one, "actions": {"upload": {"href": f"{self.address}/storage/{one['oid']}?signature=secret"}}}

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.message = value["summary"]
            elif line["key"] == "lfsFile":
                self.files[value["path"]] = self._stored[value["oid"]]
            else:
                assert (line["key"], value["encoding"]) == ("file", "base64")
                self.files[value["path"]] = base64.b64decode(value["content"])
