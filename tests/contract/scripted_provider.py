"""A provider for tests that answers every request with one body, and a catalog of it."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from antiphon.config import Host, Kind, ModelConfig
from antiphon.exchange import Incoming
from antiphon.models.base import Access, ModelInfo, ModelRequest, ModelStream
from antiphon.models.catalog import Catalog


class Scripted:
    """Answers with `body`, and keeps what it was asked."""

    def __init__(self, body: Any = None) -> None:
        self.body = body if isinstance(body, bytes) else msgspec.json.encode(body)
        self.asked: list[tuple[str, Any]] = []

    async def post(self, path: str, body: bytes, access: Access) -> Incoming:
        self.asked.append((path, msgspec.json.decode(body)))
        return Incoming(200, {}, _pieces(self.body))

    async def models(self, access: Access) -> list[ModelInfo]:
        return []

    async def open(self, request: ModelRequest, access: Access) -> ModelStream:
        raise AssertionError("nobody chats here")

    def left_out(self, request: ModelRequest) -> list[str]:
        return []


def catalog_with(provider: Scripted, kind: Kind, **host: Any) -> Catalog:
    """A catalog of the host `h`, which has the model `m` of that kind."""
    known = Host(name="h", base_url="http://h", models={"m": ModelConfig(kind=kind)}, list_models=False, **host)
    return Catalog({"h": known}, {"h": provider})


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    yield body
