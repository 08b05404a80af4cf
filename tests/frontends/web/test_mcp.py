"""The tools for language models over HTTP, behind the same server."""

from __future__ import annotations

import json

import anyio
import pytest

from .conftest import PICTURES, Gallery

pytest.importorskip("mcp_types")


def test_the_official_client_calls_tools_over_http(gallery: Gallery) -> None:
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def talk() -> tuple[set[str], int]:
        async with (
            streamable_http_client(f"{gallery.server.url}/mcp") as (reader, writer, *_),
            ClientSession(reader, writer) as session,
        ):
            await session.initialize()
            tools = {tool.name for tool in (await session.list_tools()).tools}
            status = await session.call_tool("list_pictures", {"k": 1})
            return tools, int((status.structured_content or {})["total"])

    tools, total = anyio.run(talk)
    assert {"search_text", "contact_sheet"} <= tools
    assert total == PICTURES


def test_it_is_no_part_of_the_openapi_document(gallery: Gallery) -> None:
    paths = json.loads(gallery.server.get("/api/v1/openapi.json").body)["paths"]
    assert not [path for path in paths if "mcp" in path]
