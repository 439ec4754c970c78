"""What files promise, as cases that run over any storage and any migrated, empty `Database`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from msgspec import Struct

from antiphon.errors import ApiError, Conflict, NotFound, TooLarge, Unavailable
from antiphon.stores.blobs import Blobs
from antiphon.stores.database import Database
from antiphon.stores.files import Files
from antiphon.stores.workers import Workers
from antiphon.testing.blobs_suite import pieces, whole
from antiphon.testing.database_suite import refused
from antiphon.wire.files import File, FileListQuery
from stores_suite import THEM, US

NOW = 1_000_000


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


async def bytes_of_a_dead_worker_are_removed_at_once(place: Place) -> None:
    """Those of the living stay, however long they take, until they are a day old."""
    workers = [Workers(place.database, 60, name) for name in ("me", "other", "dead")]
    for worker in workers:
        await worker.beat()
    reached = asyncio.Semaphore(0)

    async def endless() -> AsyncIterator[bytes]:
        yield b"begun"
        reached.release()
        await asyncio.Event().wait()

    stores = [Files(place.database, place.blobs, lambda: place.now_s, workers=worker) for worker in workers]
    uploading = [asyncio.ensure_future(files.create(US, endless(), file("file-1"))) for files in stores]
    for _ in stores:
        await reached.acquire()
    await workers[0].forget("dead")
    place.now_s += 10
    await asyncio.gather(*(files.clean(NOW) for files in stores[:2]))
    rows = await place.database.all("SELECT worker FROM loose_contents ORDER BY worker")
    assert rows == [("me",), ("other",)]
    for upload in uploading:
        upload.cancel()
    await asyncio.wait(uploading)


async def an_upload_that_is_cancelled_at_its_end_is_whole_or_gone(place: Place) -> None:
    """Although nobody knows by then whether its last transaction took place: a file that is there has its bytes."""

    def cancelled(size: int) -> File:
        asyncio.get_running_loop().call_soon(uploading.cancel)
        return file("file-1")(size)

    uploading = asyncio.ensure_future(place.files.create(US, pieces(b"x"), cancelled))
    await asyncio.wait([uploading])
    for made in (await place.files.list(US, FileListQuery())).data:
        assert await whole(place.files.read(US, made.id)) == b"x"
    assert await place.loose() == []
    assert uploading.cancelled()


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


Case = Callable[[Place], Awaitable[None]]

CASES: list[Case] = [
    a_file_lives_and_dies_with_its_bytes,
    an_empty_file_is_a_file,
    nobody_sees_the_files_of_others,
    a_failed_upload_keeps_nothing,
    lists_page_by_arrival_and_filter_by_purpose,
    an_expired_file_is_gone_at_once,
    bytes_that_a_crash_left_are_removed,
    bytes_of_a_dead_worker_are_removed_at_once,
    an_upload_that_is_cancelled_at_its_end_is_whole_or_gone,
    an_upload_whose_bytes_were_given_up_fails,
    a_deletion_outlives_a_storage_that_is_away,
    bytes_that_were_lost_are_not_found,
]
