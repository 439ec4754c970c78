"""What the clients' tests share: a server whose host takes all that clients send, and the tools that it runs."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest

from antiphon.testing.host import Host, Raw, Request
from antiphon.testing.server import Server, running, until
from mcp_server import McpHost


@pytest.fixture(scope="session")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Antiphon that searches the web, and reaches MCP servers on this machine; its host gets its reasoning back."""
    quirks = {"files": True, "strict_tools": True, "reasoning_input": "reasoning_content"}
    settings = {
        "hosts": {"scripted": {"base_url": session_host.url, "preset": "custom", "quirks": quirks}},
        "web_search": {"providers": {"tavily": {"base_url": session_host.url, "key": "theirs"}}},
        "fetch": {"ports": [], "allowed_networks": ["127.0.0.0/8"]},
    }
    with running(settings, tmp_path_factory.mktemp("antiphon")) as started:
        yield started


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous official client, which most frameworks are built on."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0, timeout=30) as opened:
        yield opened


@pytest.fixture(scope="session")
def mcp() -> Iterator[McpHost]:
    """An MCP server."""
    with McpHost() as started:
        yield started


@pytest.fixture
def page(host: Host) -> str:
    """The address of the one page that web searches find: the scripted host is the search provider as well."""
    address = "https://example.org/a"
    found: dict[str, Any] = {"url": address, "title": "A", "content": "It is so.", "score": 0.9, "raw_content": None}

    def search(request: Request) -> Raw | None:
        if not request.path.endswith("/search"):
            return None
        return Raw(headers=[("content-type", "application/json")], steps=[json.dumps({"results": [found]}).encode()])

    host.by_request = search
    return address


@pytest.fixture
def beetles(client: openai.OpenAI) -> tuple[str, str]:
    """A file about beetles, and the vector store that it is in."""
    file = client.files.create(file=("beetles.md", b"Beetles have two pairs of wings."), purpose="assistants")
    store = client.vector_stores.create(name="Insects", file_ids=[file.id])
    until(lambda: client.vector_stores.retrieve(store.id).status, lambda status: status == "completed")
    return file.id, store.id
