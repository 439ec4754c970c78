"""Sends requests over kept connections and reads whole answers, with as little of its own as can be."""

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from typing import NamedTuple


class Request(NamedTuple):
    """One request of a scenario. `{id}` in the path stands for the id that the scenario's first answer gave."""

    method: str
    path: str
    body: object = None

    def raw(self, found: str) -> bytes:
        """As bytes on the wire. Over a WebSocket: a text frame, its mask all zeros."""
        if self.method == "WEBSOCKET":
            text = json.dumps(self.body).encode()
            return b"\x81\xfe%b\0\0\0\0%b" % (len(text).to_bytes(2), text)
        data = b"" if self.body is None else json.dumps(self.body).encode()
        head = f"{self.method} {self.path.replace('{id}', found)} HTTP/1.1\r\nhost: bench\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._upgraded = False

    async def ask(self, raw: bytes) -> bytes:
        """The body of the answer, which must be a 200."""
        self._writer.write(raw)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"{raw[:80]!r} got {head[:40]!r} {await self._reader.read(500)!r}")
        at = head.find(b"content-length:")
        if at >= 0:
            return await self._reader.readexactly(int(head[at + 15 :].split(b"\r\n", 1)[0]))
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            piece = await self._reader.read(65536)
            if not piece:
                raise RuntimeError("the answer broke off")
            body = body[-8:] + piece
        return body

    async def turn(self, frame: bytes, path: str) -> bytes:
        """The last frame of a turn over a WebSocket, which is opened by the first."""
        if not self._upgraded:
            self._upgraded = True
            head = f"GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
            key = base64.b64encode(bytes(16)).decode()
            self._writer.write(f"{head}sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode())
            await self._reader.readuntil(b"\r\n\r\n")
        self._writer.write(frame)
        text = b""
        while not text.startswith(b'{"type":"response.completed"'):
            short = (await self._reader.readexactly(2))[1]
            length = short if short < 126 else int.from_bytes(await self._reader.readexactly(2 if short == 126 else 8))
            text = await self._reader.readexactly(length)
        return text

    def close(self) -> None:
        """Hangs up."""
        self._writer.close()


async def load(port: int, requests: Sequence[Request], connections: int, seconds: float) -> int:
    """Goes through the requests again and again for so long, side by side; returns how often it did."""
    end = time.monotonic() + seconds
    names_id = any("{id}" in request.path for request in requests)

    async def work() -> int:
        client = Client(*await asyncio.open_connection("127.0.0.1", port, limit=2**20))
        done, found = 0, ""
        while time.monotonic() < end:
            for request in requests:
                raw = request.raw(found)
                socket = request.method == "WEBSOCKET"
                answer = await (client.turn(raw, request.path) if socket else client.ask(raw))
                if names_id and request is requests[0]:
                    found = json.loads(answer)["id"]
            done += 1
        client.close()
        return done

    return sum(await asyncio.gather(*(work() for _ in range(connections))))
