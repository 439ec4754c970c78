"""A model host that speaks OpenAI's chat completions: most of them do.

What a request and an answer look like is decided in `chat_codec`, `chat_chunks` and `chat_errors`, which are pure; here
is what awaits: sending, reading, closing.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from antiphon.clock import Clock, system_clock
from antiphon.config import Host, Kind
from antiphon.egress import read_whole
from antiphon.errors import Upstream
from antiphon.exchange import Incoming, Outgoing, Transport
from antiphon.models.base import NO_ACCESS, Access, ModelEvent, ModelInfo, ModelRequest
from antiphon.models.chat_chunks import ChunkReader
from antiphon.models.chat_codec import chat_request, left_out
from antiphon.models.chat_errors import Refused, host_error, rejection

ERROR_BYTES_MAX: Final = 256 * 1024
"""How much of a rejection is read."""
JSON: Final = "application/json"
DRAIN_S: Final = 0.5
"""How long the end of the connection's answer is awaited after `[DONE]`; with it, the connection can be used again."""

_encode = msgspec.json.Encoder().encode


class ChatStream:
    """A streamed chat completion that has begun (`models.base.ModelStream`)."""

    def __init__(self, incoming: Incoming, reader: ChunkReader, *, bytes_max: int) -> None:
        self._incoming = incoming
        self._reader = reader
        self._bytes_left = bytes_max

    async def __aiter__(self) -> AsyncGenerator[list[ModelEvent], None]:
        reader = self._reader
        try:
            async for piece in self._incoming.pieces:
                self._count(piece)
                if events := reader.feed(piece):
                    yield events
                if reader.ended:
                    break
        except Upstream:
            # The host had said why it stopped: nothing is missing but the count of tokens.
            if not reader.finished:
                raise
        if reader.ended:  # by `[DONE]`, or by an error: then a recording of it should be whole, too
            await self._drain()
        if not reader.done and (events := reader.close()):
            yield events

    def _count(self, piece: bytes) -> None:
        self._bytes_left -= len(piece)
        if self._bytes_left < 0:
            raise Upstream("The host of this model sent a larger answer than is allowed here.")

    async def _drain(self) -> None:
        """Reads to the end, so that the connection is not thrown away; a host that keeps it open is not waited for."""
        try:
            async with asyncio.timeout(DRAIN_S):
                async for _ in self._incoming.pieces:
                    pass
        except (Upstream, TimeoutError):
            pass

    async def aclose(self) -> None:
        """Ends the call at the host, at any time."""
        await self._incoming.close()


class ChatCompletions:
    """A host of the chat-completions dialect (`models.base.Provider`); `host.quirks` say how it departs from it."""

    def __init__(self, host: Host, transport: Transport, *, clock: Clock = system_clock) -> None:
        self._host = host
        self._transport = transport
        self._clock = clock
        self._base_url = host.base_url.rstrip("/")
        self._query = f"?{urlencode(host.quirks.query)}" if host.quirks.query else ""
        quirks = host.quirks
        self._paths = {
            "/chat/completions": quirks.chat_path,
            "/completions": quirks.completions_path,
            "/embeddings": quirks.embeddings_path,
            "/rerank": quirks.rerank_path,
        }

    async def open(self, request: ModelRequest, access: Access = NO_ACCESS) -> ChatStream:
        """Starts a model call; returns once the host has accepted it."""
        body = _encode(chat_request(request, self._host.quirks))
        incoming = await self._send("POST", self._host.quirks.chat_path, body, access=access)
        reader = ChunkReader(self._host.name, secrets=self._secrets(access))
        return ChatStream(incoming, reader, bytes_max=self._host.answer_bytes_max)

    def left_out(self, request: ModelRequest) -> list[str]:
        """The parameters that the client gave and this host will not be told, by the Responses API's names."""
        return left_out(request, self._host.quirks)

    async def post(self, path: str, body: bytes, access: Access = NO_ACCESS, *, content_type: str = JSON) -> Incoming:
        """Sends a body as it is to one of the host's OpenAI-shaped routes; the answer comes back as it is."""
        return await self._send("POST", self._paths.get(path, path), body, access=access, content_type=content_type)

    async def models(self, access: Access = NO_ACCESS) -> list[ModelInfo]:
        """The models that the host lists, in whichever of the known forms."""
        incoming = await self._send("GET", self._host.quirks.models_path, b"", access=access)
        body = await read_whole(incoming, bytes_max=self._host.answer_bytes_max)
        try:
            return models_in(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = host_error(body[:ERROR_BYTES_MAX], self._secrets(access))
            shown = said.message[:200] if said else "nothing"
            raise Upstream(f"Host {self._host.name!r} sent something that is no list of models: {shown}") from error

    # ------------------------------------------------------------ the exchange

    async def _send(self, method: str, path: str, body: bytes, *, access: Access, content_type: str = JSON) -> Incoming:
        """An answer of status 200; every other one is raised as what it says."""
        request = Outgoing(
            method=method,
            url=f"{self._base_url}{path}{self._query}",
            headers=self._headers(access, content_type if body else ""),
            body=body,
            host=self._host.name,
            timeouts=self._host.timeouts,
            replay=access.replay,
        )
        incoming = await self._transport.send(request)
        if incoming.status == 200:
            return incoming
        refused = Refused(
            status=incoming.status, headers=incoming.headers, body=await _beginning(incoming), at=self._clock()
        )
        raise rejection(self._host.name, refused, self._secrets(access))

    def _headers(self, access: Access, content_type: str) -> dict[str, str]:
        headers = {"content-type": content_type} if content_type else {}
        if key := self._key(access):
            bare = self._host.quirks.api_key_header == "api-key"
            headers[self._host.quirks.api_key_header] = key if bare else f"Bearer {key}"
        headers.update((name.lower(), value) for name, value in self._host.headers.items())
        return headers

    def _key(self, access: Access) -> str:
        return access.key_for(self._host.provider_data_keys) or self._host.key

    def _secrets(self, access: Access) -> tuple[str, ...]:
        """What no message may show, whatever the host repeats of it."""
        given = (self._key(access), self._host.key, *self._host.headers.values())
        return tuple({secret for secret in given if len(secret) >= 8})


async def _beginning(incoming: Incoming) -> bytes:
    """As much of a rejection's body as can matter. That it breaks off does not make the rejection another one."""
    body = b""
    try:
        async for piece in incoming.pieces:
            body += piece
            if len(body) >= ERROR_BYTES_MAX:
                break
    except Upstream:
        pass
    finally:
        await incoming.close()
    return body[:ERROR_BYTES_MAX]


# ---------------------------------------------------------------- lists of models


def models_in(listed: Any) -> list[ModelInfo]:
    """The models in a host's list: OpenAI's `data`, a bare array, `models` (Ollama, Google), objects or names."""
    if isinstance(listed, dict):
        listed = next((listed[key] for key in ("data", "models") if isinstance(listed.get(key), list)), None)
    if not isinstance(listed, list):
        raise msgspec.ValidationError("no list of models")
    found = (_model(entry if isinstance(entry, dict) else {"id": entry}) for entry in listed)
    return list({model.id: model for model in found if model is not None}.values())


def _model(entry: dict[str, Any]) -> ModelInfo | None:
    name = next((entry[key] for key in ("id", "name", "model") if isinstance(entry.get(key), str)), "")
    if not name:
        return None
    created = entry.get("created")
    return ModelInfo(
        id=name,
        kind=_kind(entry),
        created=created if isinstance(created, int) and created > 0 else 0,
        owned_by=owner if isinstance(owner := entry.get("owned_by"), str) else "",
        context_window=_size(entry, _WINDOWS),
        dimension=_size(entry, _DIMENSIONS),
    )


_WINDOWS = (
    "context_window",
    "max_model_len",
    "context_length",
    "max_context_length",
    "loaded_context_length",
    "inputTokenLimit",
    "n_ctx",
    "n_ctx_train",
)
_DIMENSIONS = ("embedding_dimension", "n_embd_out")
_NESTED = ("meta", "metadata", "custom_metadata", "top_provider", "details")


def _size(entry: dict[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of these members that is a positive number, in the entry or in what hosts nest in it."""
    places = [entry, *(entry[key] for key in _NESTED if isinstance(entry.get(key), dict))]
    sizes = (place.get(name) for place in places for name in names)
    return next((int(size) for size in sizes if isinstance(size, (int, float)) and size > 0), None)


def _kind(entry: dict[str, Any]) -> Kind:
    """What a host says a model is for; what its name says is for the catalog to judge."""
    architecture = entry.get("architecture")
    outputs = architecture.get("output_modalities") if isinstance(architecture, dict) else None
    words = [entry.get("type"), entry.get("model_type"), entry.get("task")]
    words += outputs if isinstance(outputs, list) else []
    said = " ".join(word.lower() for word in words if isinstance(word, str))
    if "embed" in said:
        return "embedding"
    if "image" in said and "text" not in said.replace("text-to-image", "image"):
        return "image"
    return "rerank" if "rerank" in said else "llm"
