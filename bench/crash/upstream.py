"""The model host of the crash test: says the same to the same request, slowly, and notes who asked it for what.

Each request names itself in its instructions, as `[tag]`; each process of Antiphon asks under a path of its own.
"""

import asyncio
import json
import re
import time
import zlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiohttp import web

from antiphon.limits import COMPACTION_PROMPT

MODEL: Final = "slow"
CHUNK_S_MAX: Final = 0.03
_TAG: Final = re.compile(r"\[(\w+)\]")

Step = Literal["summary", "answer"]


@dataclass
class Asked:
    """A model call. `ended_s` is there once the last byte of its answer was written."""

    tag: str
    step: Step
    process: int
    began_s: float
    ended_s: float | None = None


def words(tag: str) -> list[str]:
    """What the model says to the request with this tag, in the pieces in which it says it."""
    return [f"{tag}.{n} " for n in range(4 + _number(tag) % 9)]


def pause_s(tag: str) -> float:
    """How long it pauses after each piece."""
    return CHUNK_S_MAX * (_number(f"pause {tag}") % 100) / 100


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


class Upstream:
    """The host, within this process. `url` is that for process `n`."""

    def __init__(self) -> None:
        self.calls: list[Asked] = []
        self._port = 0
        self._runner: web.AppRunner | None = None

    def url(self, process: int) -> str:
        """Where process number `process` asks."""
        return f"http://127.0.0.1:{self._port}/p{process}/v1"

    async def start(self) -> None:
        """Listens on a free port."""
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/p{process}/v1/models", _models)
        app.router.add_post("/p{process}/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, backlog=512)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Listens no longer."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        messages = [_text(message["content"]) for message in body["messages"]]
        found = next((match for text in messages if (match := _TAG.search(text))), None)
        tag = found[1] if found else "untagged"
        step: Step = "summary" if messages[-1] == COMPACTION_PROMPT else "answer"
        call = Asked(tag, step, int(request.match_info["process"]), time.monotonic())
        self.calls.append(call)
        pieces = [f"summary for {tag}, ", "in two pieces."] if step == "summary" else words(tag)
        if body.get("stream"):
            return await _streamed(request, call, pieces)
        await asyncio.sleep(pause_s(tag) * len(pieces))
        message = {"role": "assistant", "content": "".join(pieces)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        call.ended_s = time.monotonic()
        return web.json_response({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": _USAGE})


_HEAD: Final = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
_USAGE: Final = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}


async def _models(_request: web.Request) -> web.Response:
    listed = [{"id": MODEL, "object": "model", "created": 1, "owned_by": "crash"}]
    return web.json_response({"object": "list", "data": listed})


async def _streamed(request: web.Request, call: Asked, pieces: list[str]) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    try:
        await answer.prepare(request)
        for piece in pieces:
            await answer.write(_chunk({"content": piece}))
            await asyncio.sleep(pause_s(call.tag))
        await answer.write(_chunk({}, finish_reason="stop"))
        await answer.write(b"data: %b\n\n" % json.dumps({**_HEAD, "choices": [], "usage": _USAGE}).encode())
        await answer.write(b"data: [DONE]\n\n")
        await answer.write_eof()
        call.ended_s = time.monotonic()
    except ConnectionError:  # whoever asked is gone
        pass
    return answer


def _chunk(delta: dict[str, str], **more: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": None, **more}
    return b"data: %b\n\n" % json.dumps({**_HEAD, "choices": [choice]}).encode()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())
