"""What a storage of blobs promises, and what files promise over any storage and any migrated, empty `Database`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import Struct

from antiphon.errors import ApiError, Conflict, NotFound, TooLarge, Unavailable
from antiphon.stores.blobs import Blobs
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.testing.database_suite import refused
from antiphon.testing.stores_suite import THEM, US
from antiphon.wire.files import File, FileListQuery

LARGE = 11 * 2**20 + 7
"""Bytes that are several chunks on any storage, and no multiple of one."""
NOW = 1_000_000


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


# ---------------------------------------------------------------- files


class Place(Struct):
    """Where files are: an empty database, a storage, and a clock that the case moves."""

    database: Database
    blobs: Blobs
    now_s: float = NOW

    @property
    def files(self) -> Files:
        """The store, as another process would open it."""
        return Files(self.database, self.blobs, lambda: self.now_s)

    async def loose(self) -> list[str]:
        """The keys of bytes that belong to nobody."""
        return [key for (key,) in await self.database.all("SELECT content FROM loose_contents")]

    async def keys(self) -> list[str]:
        """The keys of bytes that belong to files."""
        return [key for (key,) in await self.database.all("SELECT content FROM files ORDER BY position")]


class Lost(Struct):
    """A storage that fails on demand: what it is asked to delete stays."""

    blobs: Blobs
    away: bool = True

    async def put(self, key: str, content: AsyncIterator[bytes]) -> int:
        """Stores."""
        return await self.blobs.put(key, content)

    async def read(self, key: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Reads."""
        return await self.blobs.read(key, start, length)

    async def delete(self, key: str) -> None:
        """Fails while it is away."""
        if self.away:
            raise Unavailable("The storage is away.")
        await self.blobs.delete(key)

    async def close(self) -> None:
        """Belongs to somebody else."""


def file(id: str, **more: object) -> Callable[[int], File]:
    """Describes a file."""
    return lambda size: File(**{"id": id, "bytes": size, "created_at": NOW, "filename": "f", "purpose": "evals"} | more)  # type: ignore[arg-type]


async def a_file_lives_and_dies_with_its_bytes(place: Place) -> None:
    """Described by the size that arrived, read in part or whole, and deleted with all that was stored."""
    files = place.files
    made = await files.create(US, pieces(b"hello ", b"world"), file("file-1"))
    assert (made.bytes, await files.get(US, "file-1")) == (11, made)
    assert await whole(files.read(US, "file-1")) == b"hello world"
    assert await whole(files.read(US, "file-1", 6)) == b"world"
    assert await whole(files.read(US, "file-1", 3, length=100)) == b"lo world"
    assert await whole(files.read(US, "file-1", 50)) == b""
    (key,) = await place.keys()
    await files.delete(US, "file-1")
    for gone in (files.get(US, "file-1"), files.read(US, "file-1"), files.delete(US, "file-1")):
        await refused(NotFound, gone)
    await refused(NotFound, place.blobs.read(key))
    assert await place.loose() == []


async def an_empty_file_is_a_file(place: Place) -> None:
    """Without bytes there is nothing to refuse."""
    assert (await place.files.create(US, pieces(), file("file-1"))).bytes == 0
    assert await whole(place.files.read(US, "file-1")) == b""


async def nobody_sees_the_files_of_others(place: Place) -> None:
    """Not by id, not in a list, and nobody deletes them."""
    files = place.files
    await files.create(THEM, pieces(b"theirs"), file("file-1"))
    for refusal in (files.get(US, "file-1"), files.read(US, "file-1"), files.delete(US, "file-1")):
        await refused(NotFound, refusal)
    assert (await files.list(US, FileListQuery())).data == []
    assert await whole(files.read(THEM, "file-1")) == b"theirs"


async def a_failed_upload_keeps_nothing(place: Place) -> None:
    """Whether the source breaks, the description refuses, or the id is taken."""
    files = place.files
    await files.create(US, pieces(b"first"), file("file-1"))

    def refuse(size: int) -> File:
        raise TooLarge(f"{size} bytes")

    await refused(TooLarge, files.create(US, pieces(b"abc", error=TooLarge("enough")), file("file-2")))
    assert (await refused(TooLarge, files.create(US, pieces(b"abc"), refuse))).message == "3 bytes"
    await refused(Conflict, files.create(US, pieces(b"second"), file("file-1")))
    assert (len(await place.keys()), await place.loose()) == (1, [])
    assert await whole(files.read(US, "file-1")) == b"first"


async def lists_page_by_arrival_and_filter_by_purpose(place: Place) -> None:
    """Both ways, true about more, whatever the clock says."""
    files = place.files
    for number in range(7):
        purpose = "batch" if number % 2 else "evals"
        place.now_s -= 10
        await files.create(US, pieces(b"x"), file(f"file-{number}", purpose=purpose, created_at=NOW - number))
    seen, query = [], FileListQuery(limit=3, order="asc")
    for more in (True, True, False):
        page = await files.list(US, query)
        seen += [each.id for each in page.data]
        assert (page.has_more, page.first_id, page.last_id) == (more, page.data[0].id, page.data[-1].id)
        query.after = page.last_id
    assert seen == [f"file-{number}" for number in range(7)]
    assert [each.id for each in (await files.list(US, FileListQuery(purpose="batch"))).data] == [
        *("file-5", "file-3", "file-1")
    ]
    assert (await files.list(US, FileListQuery(purpose="unheard of"))).data == []


async def an_expired_file_is_gone_at_once(place: Place) -> None:
    """From lists without being touched; with its bytes when it is asked for, or when somebody cleans up."""
    files = place.files
    for number in (1, 2, 3):
        await files.create(US, pieces(b"x"), file(f"file-{number}", expires_at=NOW + 10 * number))
    one, two, _ = await place.keys()
    place.now_s = NOW + 9.9
    assert len((await files.list(US, FileListQuery())).data) == 3
    place.now_s = NOW + 10
    assert [each.id for each in (await files.list(US, FileListQuery())).data] == ["file-3", "file-2"]
    await refused(NotFound, files.read(US, "file-1"))
    await refused(NotFound, place.blobs.read(one))
    place.now_s = NOW + 20
    await files.clean(0)
    assert (len(await place.keys()), await place.loose()) == (1, [])
    await refused(NotFound, place.blobs.read(two))
    await files.get(US, "file-3")
    place.now_s = NOW + 30
    await files.create(US, pieces(b"x"), file("file-4"))
    assert len(await place.keys()) == 1


async def bytes_that_a_crash_left_are_removed(place: Place) -> None:
    """Those of an earlier server, not those of an upload that goes on."""
    reached = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        reached.set()
        await asyncio.Event().wait()

    uploading = asyncio.ensure_future(place.files.create(US, endless(), file("file-1")))
    await reached.wait()
    (key,) = await place.loose()
    await place.blobs.put(key, pieces(b"left by a crash between the bytes and the row"))
    await place.files.clean(NOW)
    assert await place.loose() == [key], "an upload of this very second goes on"
    await place.files.clean(NOW + 1)
    assert await place.loose() == []
    await refused(NotFound, place.blobs.read(key))
    uploading.cancel()
    await asyncio.wait([uploading])
    assert (await place.files.list(US, FileListQuery())).data == []


async def an_upload_whose_bytes_were_given_up_fails(place: Place) -> None:
    """Rather than becoming a file without bytes."""

    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await place.files.clean(NOW + 1)

    await refused(Unavailable, place.files.create(US, slow(), file("file-1")))
    await refused(NotFound, place.files.get(US, "file-1"))


async def a_deletion_outlives_a_storage_that_is_away(place: Place) -> None:
    """The file is gone at once, its bytes with the next clean-up that reaches them."""
    await place.files.create(US, pieces(b"x"), file("file-1"))
    (key,) = await place.keys()
    lost = Lost(place.blobs)
    files = Files(place.database, lost, lambda: place.now_s)
    await files.delete(US, "file-1")
    await refused(NotFound, files.get(US, "file-1"))
    await files.clean(NOW + 1)
    assert await place.loose() == [key]
    lost.away = False
    await files.clean(NOW + 1)
    assert await place.loose() == []
    await refused(NotFound, place.blobs.read(key))


async def bytes_that_were_lost_are_not_found(place: Place) -> None:
    """With a code of their own, since the file itself is there."""
    await place.files.create(US, pieces(b"x"), file("file-1"))
    await place.blobs.delete((await place.keys())[0])
    error: ApiError = await refused(NotFound, place.files.read(US, "file-1"))
    assert error.code == "content_missing"


BlobCase = Callable[[Blobs], Awaitable[None]]
FileCase = Callable[[Place], Awaitable[None]]

BLOB_CASES: list[BlobCase] = [
    a_blob_comes_back_as_it_was,
    a_range_is_cut_out,
    what_is_not_there_is_not_found_at_once,
    what_is_deleted_is_gone,
    a_broken_upload_leaves_nothing,
    a_blob_is_not_seen_before_it_is_complete,
    blobs_are_written_and_read_side_by_side,
]
FILE_CASES: list[FileCase] = [
    a_file_lives_and_dies_with_its_bytes,
    an_empty_file_is_a_file,
    nobody_sees_the_files_of_others,
    a_failed_upload_keeps_nothing,
    lists_page_by_arrival_and_filter_by_purpose,
    an_expired_file_is_gone_at_once,
    bytes_that_a_crash_left_are_removed,
    an_upload_whose_bytes_were_given_up_fails,
    a_deletion_outlives_a_storage_that_is_away,
    bytes_that_were_lost_are_not_found,
]
