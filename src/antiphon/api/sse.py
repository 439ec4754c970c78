"""Server-sent events: batches of finished frames, written as they come, one write a batch."""

from collections.abc import AsyncGenerator
from typing import Any

from antiphon.api.call import Call
from antiphon.api.errors import Headers

DONE = b"data: [DONE]\n\n"
LLAMA_STACK = b"x-llamastack-client-version"
"""Sent by Llama Stack's clients, which until 0.7 take every line for JSON and fail at `[DONE]`."""


class EventStream:
    """An answer in pieces that are framed already (`data:` lines and a blank one).

    The head is sent with the first piece: what is raised before it is an HTTP error still. When the client leaves, the
    generator is closed at once, or, if `detach` is set, read to its end by a task of its own.
    """

    def __init__(self, batches: AsyncGenerator[bytes, None], *, detach: bool = False) -> None:
        self.batches = batches
        self.detach = detach

    async def answer(self, call: Call[Any, Any]) -> None:
        """Sends all of it."""
        await call.until_gone(self._pump(call), detach=self.detach)

    async def _pump(self, call: Call[Any, Any]) -> None:
        try:
            async for batch in self.batches:
                if not call.started:
                    await call.start(200, _head())
                # The last batch closes the answer in the same write. What the generator still does, nobody waits for.
                last = batch.endswith(DONE)
                spared = last and LLAMA_STACK in call.headers
                await call.write(batch[: -len(DONE)] if spared else batch, more=not last)
        finally:
            await self.batches.aclose()
        if not call.started:
            await call.start(200, _head())
        await call.write(b"", more=False)


def _head() -> Headers:
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
