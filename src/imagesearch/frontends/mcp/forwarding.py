"""Calls that a running server answers, because it holds the database: the same tools, over HTTP."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from imagesearch.config import Config
from imagesearch.frontends.mcp.results import ToolResult
from imagesearch.serving_file import LABELLING, SEARCHING, Announcement, find

# Seconds to wait for an answer; a sheet of large pictures takes some.
_SECONDS = 60.0
_HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

_log = logging.getLogger(__name__)


def server_of(config: Config) -> Announcement | None:
    """The server that says that it holds the configured database, if it would answer the same."""
    server = find(config)
    if server is None or server.differences(config, (*SEARCHING, *LABELLING)):
        return None
    return server


def forwarded(server: Announcement, tool: str, arguments: Mapping[str, Any]) -> ToolResult | None:
    """What the server answers; None if it is not there any more, or has no such tools."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": tool, "arguments": dict(arguments)},
    }
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_SECONDS)
    headers = {**_HEADERS, "Authorization": f"Bearer {server.secret}"}
    try:
        with contextlib.closing(connection):
            connection.request("POST", "/mcp", json.dumps(request), headers)
            answer = connection.getresponse()
            read = json.loads(answer.read())
            return _result(read["result"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        _log.debug("the server at %s did not answer: %s", server.url, error)
        return None


def _result(values: Mapping[str, Any]) -> ToolResult:
    """What a tool said, from its form in the protocol."""
    text = "\n".join(part["text"] for part in values["content"] if part["type"] == "text")
    images = [base64.b64decode(part["data"]) for part in values["content"] if part["type"] == "image"]
    structured = values.get("structuredContent") or {}
    return ToolResult(text, structured, images[0] if images else None, bool(values.get("isError")))
