"""A model host that costs next to nothing: prepared bytes over a bare protocol. `python bench/host.py PORT`.

The model `paced` sends a chunk every few milliseconds, as a real one does; any other sends all of them at once.
"""

import asyncio
import json
import sys
from typing import Final, cast

CHUNKS: Final = 50
PACE_S: Final = 0.005
_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 12}


def _chunk(delta: dict[str, str], **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fast"}
    return b"data: %b\n\n" % json.dumps({**head, "choices": [choice]}).encode()


def _sized(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _whole(body: object) -> bytes:
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(data), data)


_TEXTS: Final = [f"word{n} " for n in range(CHUNKS)]
_STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_STREAM: Final = [
    _sized(_chunk({"role": "assistant", "content": ""})),
    *(_sized(_chunk({"content": text})) for text in _TEXTS),
    _sized(_chunk({}, finish_reason="stop")),
    _sized(b"data: %b\n\n" % json.dumps({"id": "chatcmpl-1", "choices": [], "usage": _USAGE}).encode()),
    _sized(b"data: [DONE]\n\n"),
    b"0\r\n\r\n",
]
_STREAM_WHOLE: Final = _STREAM_HEAD + b"".join(_STREAM)
_MESSAGE: Final = {"role": "assistant", "content": "".join(_TEXTS)}
_CHAT: Final = _whole(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fast",
        "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
        "usage": _USAGE,
    }
)
_VECTOR: Final = {"object": "embedding", "index": 0, "embedding": [n / 384 for n in range(384)]}
_EMBEDDING: Final = _whole(
    {"object": "list", "data": [_VECTOR], "model": "fast", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
)
_MODELS: Final = _whole(
    {"object": "list", "data": [{"id": "fast", "object": "model"}, {"id": "paced", "object": "model"}]}
)


class Host(asyncio.Protocol):
    """One connection. Requests come one after the other."""

    def __init__(self) -> None:
        self._received = b""
        self._paced: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def connection_lost(self, _error: Exception | None) -> None:
        """Stops what is being sent."""
        if self._paced:
            self._paced.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers each request that is whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if b"/embeddings" in head[:60]:
            self._transport.write(_EMBEDDING)
        elif b"/models" in head[:60]:
            self._transport.write(_MODELS)
        elif b'"stream":true' not in body.replace(b" ", b""):
            self._transport.write(_CHAT)
        elif b'"paced"' in body:
            self._paced = asyncio.get_running_loop().create_task(self._pace())
        else:
            self._transport.write(_STREAM_WHOLE)

    async def _pace(self) -> None:
        self._transport.write(_STREAM_HEAD)
        for piece in _STREAM:
            self._transport.write(piece)
            await asyncio.sleep(PACE_S)


async def main(port: int) -> None:
    """Serves until it is told to stop."""
    server = await asyncio.get_running_loop().create_server(Host, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
