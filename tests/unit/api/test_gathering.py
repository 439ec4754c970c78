"""What an answer consists of at one moment leaves in one write."""

import asyncio

from antiphon.api.gathering import HELD_BYTES_MAX, GatheringTransport


class Wire:
    """A transport that notes what it is told."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_pieces_of_one_turn_are_one_write() -> None:
    wire = Wire()
    transport = GatheringTransport(wire, asyncio.get_running_loop())
    transport.write(b"head ")
    transport.write(b"body")
    assert wire.written == []
    await asyncio.sleep(0)
    assert wire.written == [b"head body"]
    transport.write(b"more")
    await asyncio.sleep(0)
    assert wire.written == [b"head body", b"more"]


async def test_nothing_is_lost_when_it_closes() -> None:
    wire = Wire()
    transport = GatheringTransport(wire, asyncio.get_running_loop())
    transport.write(b"last")
    transport.close()
    assert (wire.written, transport.is_closing()) == ([b"last"], True)
    await asyncio.sleep(0)
    assert wire.written == [b"last"]


async def test_much_is_written_at_once() -> None:
    wire = Wire()
    transport = GatheringTransport(wire, asyncio.get_running_loop())
    transport.write(b"x" * (HELD_BYTES_MAX + 1))
    assert len(wire.written) == 1
    await asyncio.sleep(0)
    assert len(wire.written) == 1
