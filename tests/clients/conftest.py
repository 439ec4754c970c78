"""What the clients' tests share: a server whose host takes all that clients send, and the client they build on."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from antiphon.testing.host import Host
from antiphon.testing.server import Server, running


@pytest.fixture(scope="session")
def session_server(session_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An Antiphon whose host gets its own reasoning back."""
    quirks = {"files": True, "strict_tools": True, "reasoning_input": "reasoning_content"}
    settings = {"hosts": {"scripted": {"base_url": session_host.url, "preset": "custom", "quirks": quirks}}}
    with running(settings, tmp_path_factory.mktemp("antiphon")) as started:
        yield started


@pytest.fixture
async def connection(server: Server) -> AsyncIterator[openai.AsyncOpenAI]:
    """The asynchronous official client, which most frameworks are built on."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0, timeout=30) as opened:
        yield opened
