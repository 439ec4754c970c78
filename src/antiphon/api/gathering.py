"""The server's side of a connection: one write for all that is ready, and an end for clients that take nothing.

uvicorn writes head, body and end apart, and each write is a system call and a packet of its own: a third of the cost of
a small answer.
"""

import asyncio
from typing import Any, Final

HELD_BYTES_MAX: Final = 64 * 1024
"""How much is held back at most: what an answer that never waits for anything would otherwise pile up."""


class GatheringTransport:
    """A transport that writes once per turn of the event loop; in all else it is the one that it stands before."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._held_bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, piece: bytes) -> None:
        """Writes the piece before the event loop next waits."""
        if not self._held:
            self._loop.call_soon(self._flush)
        self._held.append(piece)
        self._held_bytes += len(piece)
        if self._held_bytes > HELD_BYTES_MAX:
            self._flush()

    def close(self) -> None:
        """Writes what is held, then closes."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        held = self._held
        if held:
            self._held, self._held_bytes = [], 0
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))


class Patience:
    """Disconnects a client that has taken nothing for `reader_s` seconds of what waits for it.

    It begins when the transport asks to be given no more, which fast readers rarely make it do: events pay nothing.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, reader_s: float) -> None:
        self._transport = transport
        self._loop = loop
        self._reader_s = reader_s
        self._waiting_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something waits that the client does not take."""
        self._waiting_bytes = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._reader_s, self._look)

    def end(self) -> None:
        """The client has taken enough, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._waiting_bytes:
            self.begin()
        else:
            self._transport.abort()
