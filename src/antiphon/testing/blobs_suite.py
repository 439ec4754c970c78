"""What a storage of blobs promises, as cases that run over any empty one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from antiphon.errors import NotFound, TooLarge
from antiphon.stores.blobs import Blobs
from antiphon.testing.database_suite import refused

LARGE = 11 * 2**20 + 7
"""Bytes that are several chunks on any storage, and no multiple of one."""

Case = Callable[[Blobs], Awaitable[None]]


async def pieces(*parts: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    """These bytes, then perhaps an error."""
    for part in parts:
        yield part
    if error is not None:
        raise error


async def large() -> AsyncIterator[bytes]:
    """`LARGE` bytes in pieces as a network delivers them; no two places look alike."""
    whole = pattern()
    for start in range(0, LARGE, 65_536):
        yield whole[start : start + 65_536]


def pattern() -> bytes:
    """What `large` yields."""
    return b"".join(b"%010d" % number for number in range(LARGE // 10 + 1))[:LARGE]


async def whole(content: Awaitable[AsyncIterator[bytes]]) -> bytes:
    """All bytes of a blob that was asked for."""
    return b"".join([piece async for piece in await content])


# ---------------------------------------------------------------- blobs


async def a_blob_comes_back_as_it_was(blobs: Blobs) -> None:
    """Empty, small, and in many pieces; `put` counts."""
    assert await blobs.put("blob_0", pieces()) == 0
    assert await blobs.put("blob_1", pieces(b"", b"ab", b"", b"c")) == 3
    assert await blobs.put("blob_2", large()) == LARGE
    assert await whole(blobs.read("blob_0")) == b""
    assert await whole(blobs.read("blob_1")) == b"abc"
    assert await whole(blobs.read("blob_2")) == pattern()


async def a_range_is_cut_out(blobs: Blobs) -> None:
    """From a place to the end, or so many bytes of it, across chunks."""
    await blobs.put("blob_1", large())
    assert await whole(blobs.read("blob_1", 5, 10)) == pattern()[5:15]
    assert await whole(blobs.read("blob_1", 0, 3)) == pattern()[:3]
    assert await whole(blobs.read("blob_1", LARGE - 4)) == pattern()[-4:]
    assert await whole(blobs.read("blob_1", 2**20 - 3, 2**21)) == pattern()[2**20 - 3 :][: 2**21]


async def what_is_not_there_is_not_found_at_once(blobs: Blobs) -> None:
    """Before a byte of an answer is sent; and to delete it is no error."""
    await refused(NotFound, blobs.read("blob_unknown"))
    await blobs.delete("blob_unknown")


async def what_is_deleted_is_gone(blobs: Blobs) -> None:
    """That blob, and no other."""
    await blobs.put("blob_1", pieces(b"one"))
    await blobs.put("blob_2", pieces(b"two"))
    await blobs.delete("blob_1")
    await refused(NotFound, blobs.read("blob_1"))
    assert await whole(blobs.read("blob_2")) == b"two"


async def a_broken_upload_leaves_nothing(blobs: Blobs) -> None:
    """The error of the source comes out as it is, however much was written before it."""
    await refused(TooLarge, blobs.put("blob_1", pieces(b"abc", error=TooLarge("enough"))))
    await refused(TooLarge, blobs.put("blob_2", pieces(pattern(), pattern(), error=TooLarge("enough"))))
    for key in ("blob_1", "blob_2"):
        await refused(NotFound, blobs.read(key))


async def a_blob_is_not_seen_before_it_is_complete(blobs: Blobs) -> None:
    """Nor after its writer was cancelled in the middle."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        yield pattern()
        reached.set()
        await go_on.wait()
        yield b"end"

    writing = asyncio.ensure_future(blobs.put("blob_1", halting()))
    cancelled = asyncio.ensure_future(blobs.put("blob_2", halting()))
    await reached.wait()
    await refused(NotFound, blobs.read("blob_1"))
    cancelled.cancel()
    await asyncio.wait([cancelled])
    go_on.set()
    assert await writing == LARGE + 3
    assert await whole(blobs.read("blob_1")) == pattern() + b"end"
    await refused(NotFound, blobs.read("blob_2"))
    await blobs.delete("blob_2")


async def blobs_are_written_and_read_side_by_side(blobs: Blobs) -> None:
    """Twenty at once."""
    keys = [f"blob_{n}" for n in range(20)]
    sizes = await asyncio.gather(*(blobs.put(key, pieces(*[key.encode()] * 1000)) for key in keys))
    assert sizes == [len(key) * 1000 for key in keys]
    found = await asyncio.gather(*(whole(blobs.read(key)) for key in keys))
    assert found == [key.encode() * 1000 for key in keys]


CASES: list[Case] = [
    a_blob_comes_back_as_it_was,
    a_range_is_cut_out,
    what_is_not_there_is_not_found_at_once,
    what_is_deleted_is_gone,
    a_broken_upload_leaves_nothing,
    a_blob_is_not_seen_before_it_is_complete,
    blobs_are_written_and_read_side_by_side,
]
