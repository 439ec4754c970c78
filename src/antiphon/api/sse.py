"""Server-sent events: batches of finished frames, written as they come, one write a batch.

Where nothing happens for a while, a comment says that the stream lives: proxies close connections that are silent.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Final

from antiphon.api import llama_stack
from antiphon.api.errors import Headers

if TYPE_CHECKING:
    from antiphon.api.call import Call

DONE = b"data: [DONE]\n\n"
MARK: Final = b"[DONE]"
COMMENT: Final = b": keep-alive\n\n"
TICKS: Final = 4
"""How often within the time after which a comment is due the open streams are looked at."""
_FRAME_ENDS = (b"\n\n", b"\r\n\r\n")


class EventStream:
    """An answer in pieces that are framed already (`data:` lines and a blank one).

    The head is sent with the first piece: what is raised before it is an HTTP error still. When the client leaves, the
    generator is closed at once, or, if `detach` is set, read to its end by a task of its own.
    """

    def __init__(self, batches: AsyncGenerator[bytes, None], *, detach: bool = False) -> None:
        self.batches = batches
        self.detach = detach
        self.latest = b""

    async def answer(self, call: "Call[Any, Any]") -> None:
        """Sends all of it."""
        await call.until_gone(self._pump(call), detach=self.detach)

    async def _pump(self, call: "Call[Any, Any]") -> None:
        alive, batch = call.services.alive, b""
        spoken = llama_stack.Spoken() if llama_stack.HEADER in call.headers else bytes
        try:
            async for batch in self.batches:
                if not call.started:
                    await call.start(200, _head())
                    alive.add(self, call)
                self.latest = batch
                # The last batch closes the answer in the same write. What the generator still does, nobody waits for.
                last = batch.endswith(DONE)
                await call.write(spoken(batch), more=not last)
        finally:
            alive.discard(self)
            await self.batches.aclose()
        if not call.started:
            await call.start(200, _head())
        if MARK not in batch[-len(DONE) :]:
            call.fails()  # something went wrong on the way
        await call.write(b"", more=False)


class KeepAlive:
    """The open streams of a process, and the one timer that looks for silent ones: events pay nothing for it."""

    def __init__(self, silent_s: float) -> None:
        self._tick_s = silent_s / TICKS
        self._open: dict[EventStream, _Silence] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, stream: EventStream, call: "Call[Any, Any]") -> None:
        """Watches over a stream whose head was sent."""
        self._open[stream] = _Silence(call)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick)

    def discard(self, stream: EventStream) -> None:
        """Forgets a stream."""
        self._open.pop(stream, None)

    def _tick(self) -> None:
        for stream, silence in self._open.items():
            silence.look(stream)
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._tick) if self._open else None


class _Silence:
    """For how many ticks a stream has said nothing."""

    def __init__(self, call: "Call[Any, Any]") -> None:
        self._call = call
        self._ticks = 0
        self._between_frames = False

    def look(self, stream: EventStream) -> None:
        """Says that the stream lives, if nothing was said for long enough and the last frame is whole."""
        if stream.latest:
            self._between_frames = stream.latest.endswith(_FRAME_ENDS)
            self._ticks, stream.latest = 0, b""
        self._ticks += 1
        if self._ticks >= TICKS and self._between_frames:
            self._ticks = 0
            self._call.write_at_once(COMMENT)


def _head() -> Headers:
    return [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
    ]
