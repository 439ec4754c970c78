"""Sends requests over kept connections and reads whole answers, with as little of its own as can be."""

import asyncio
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
        """As bytes on the wire."""
        data = b"" if self.body is None else json.dumps(self.body).encode()
        head = f"{self.method} {self.path.replace('{id}', found)} HTTP/1.1\r\nhost: bench\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

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
                answer = await client.ask(request.raw(found))
                if names_id and request is requests[0]:
                    found = json.loads(answer)["id"]
            done += 1
        client.close()
        return done

    return sum(await asyncio.gather(*(work() for _ in range(connections))))
