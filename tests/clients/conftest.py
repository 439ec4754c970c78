"""What the clients' tests share: how a scripted model is named, and what the server has stored."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from antiphon.testing.server import Server

MODEL = "scripted/scripted-model"


@pytest.fixture
async def connection(server: Server) -> Any:
    """The asynchronous official client, which most frameworks are built on."""
    async with openai.AsyncOpenAI(base_url=server.url, api_key="unused", max_retries=0, timeout=30) as opened:
        yield opened
