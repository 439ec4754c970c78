"""Files: a row each, and their bytes in the blob storage.

Bytes come first and the row after, so that a file that can be seen is whole. Before the bytes comes a row in
`loose_contents`, which the file's own row replaces in one transaction: whatever ends in between, the bytes are known to
belong to nobody, and `clean` removes them. A deletion goes the same way back.
"""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

from antiphon.clock import Clock
from antiphon.errors import ApiError, Conflict, Unavailable
from antiphon.ids import random_id
from antiphon.stores.blobs import Blobs
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import Listing, Table, not_found
from antiphon.stores.vector_files import file_deleted
from antiphon.stores.workers import Workers
from antiphon.wire.base import Page
from antiphon.wire.files import File, FileListQuery
from antiphon.wire.responses import ListQuery

FILES = Table("files")
LOOSE = Table("loose_contents", "since_ms")
LOOSE_S_MAX: Final = 86_400
"""How long an upload may take before its bytes count as left behind, where other servers use the same database."""
_AT_ONCE: Final = 100

log = logging.getLogger("antiphon.stores")

_COLUMNS = "id, created_at, expires_at, purpose, filename, bytes, content"
_INSERT = FILES.insert(_COLUMNS)
_GET = FILES.select(_COLUMNS)
_DELETE = FILES.delete("id = ? AND content = ?")
_LIVE = "(expires_at IS NULL OR expires_at > ?)"
_LOOSEN = LOOSE.insert("content, since_ms, worker")
_TOUCH = LOOSE.update("since_ms = ?", "content = ?")
_TIE = LOOSE.delete("content = ?")
# Every owner's: what no tenant asks for and none sees.
_EXPIRED = "SELECT owner, id, content FROM files WHERE expires_at <= ? LIMIT ?"
_LEFT_OVER = "SELECT owner, content FROM loose_contents WHERE since_ms < ? LIMIT ?"
_HOLDERS = "SELECT DISTINCT worker FROM loose_contents WHERE worker IS NOT NULL"
_LEFT_BY = "SELECT owner, content FROM loose_contents WHERE worker = ? LIMIT ?"


class Files:
    """The files of all owners, one owner at a time. A foreign, missing or expired id raises `NotFound`."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, *, workers: Workers | None = None) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock
        self._workers = workers

    async def create(self, owner: str, content: AsyncIterator[bytes], describe: Callable[[int], File]) -> File:
        """Stores the content, then the file that `describe` makes of its size. If either raises, nothing is kept.

        Raises `Conflict` if the file's id is taken.
        """
        key, kept = random_id("blob"), False
        try:
            await self._database.execute(_LOOSEN, self._loose(owner, key))
            size = await self._blobs.put(key, content)
            file = describe(size)
            await self._keep(owner, file, key)
            kept = True
        finally:
            if not kept:
                await self._give_up(owner, key)
        await self.clean(self._clock() - LOOSE_S_MAX)
        return file

    async def get(self, owner: str, id: str) -> File:
        """The file."""
        return (await self._find(owner, id))[0]

    async def read(self, owner: str, id: str, start: int = 0, *, length: int | None = None) -> AsyncIterator[bytes]:
        """A file's bytes, all or from `start` on. Raises `NotFound` also if the storage has lost them."""
        file, key = await self._find(owner, id)
        rest = max(0, file.bytes - start)
        wanted = rest if length is None else min(length, rest)
        if wanted == file.bytes:
            return await self._blobs.read(key)
        return await self._blobs.read(key, start, wanted) if wanted else _nothing()

    async def list(self, owner: str, query: FileListQuery) -> Page[File]:
        """A page of files, the newest first unless the query wants them otherwise."""
        where, params = (
            (_LIVE, (self._now(),))
            if query.purpose is None
            else (
                f"{_LIVE} AND purpose = ?",
                (self._now(), query.purpose),
            )
        )
        paging = ListQuery(limit=query.limit, order=query.order, after=query.after)
        listing = Listing(owner=owner, query=paging, where=where, params=params)
        rows, has_more = await FILES.page(self._database, _COLUMNS, listing)
        first, last = (rows[0][0], rows[-1][0]) if rows else (None, None)
        return Page(data=[_file(row) for row in rows], first_id=first, last_id=last, has_more=has_more)

    async def delete(self, owner: str, id: str) -> None:
        """Removes the file, from all vector stores too, then its bytes."""
        _, key = await self._find(owner, id)
        if not await self._retire(owner, id, key):
            raise not_found("File", id)

    async def clean(self, loose_before_s: float) -> None:
        """Removes expired files, and bytes that belong to nobody; several processes may do this at once.

        Those are what a dead worker was uploading, and all that belonged to nobody before that moment already.
        Never raises for a storage or database that is away: what is left is removed another time.
        """
        try:
            while expired := await self._database.all(_EXPIRED, (self._now(), _AT_ONCE)):
                for owner, id, key in expired:
                    await self._retire(owner, id, key)
            await self._sweep(_LEFT_OVER, _ms(loose_before_s))
            # Who holds bytes said before that it lives: seen here first and not among the living then, it is dead.
            holders = [worker for (worker,) in await self._database.all(_HOLDERS)]
            for worker in await self._workers.gone(holders) if self._workers and holders else ():
                await self._sweep(_LEFT_BY, worker)
        except ApiError as error:
            log.warning("files were not cleaned up", extra={"exception": error.message})

    async def _sweep(self, which: str, param: int | str) -> None:
        """Removes loose bytes, until none is left or one cannot be removed now."""
        while loose := await self._database.all(which, (param, _AT_ONCE)):
            if not all([await self._remove(owner, key) for owner, key in loose]):
                return

    async def _keep(self, owner: str, file: File, key: str) -> None:
        row = (owner, file.id, file.created_at, file.expires_at, file.purpose, file.filename, file.bytes, key)
        try:
            await self._database.transaction([Statement(_TIE, (owner, key), 1), Statement(_INSERT, row)])
        except Duplicate as error:
            raise Conflict(f"A file with id '{file.id}' exists already.") from error
        except Mismatch as error:
            raise Unavailable("The upload took so long that its bytes were given up; try again.") from error

    async def _give_up(self, owner: str, key: str) -> None:
        """Removes the bytes of a failed upload, unless they do belong to a file.

        Who was cancelled in the middle of the last transaction does not know. A write to the same row comes after it.
        """
        try:
            if await self._database.execute(_TOUCH, (_ms(self._clock()), owner, key)):
                await self._remove(owner, key)
        except ApiError as error:
            log.warning("bytes of an upload stay for the next clean-up", extra={"exception": error.message})

    async def _find(self, owner: str, id: str) -> tuple[File, str]:
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("File", id)
        file, key = _file(row), row[6]
        if file.expires_at is not None and file.expires_at <= self._clock():
            await self._retire(owner, id, key)
            raise not_found("File", id)
        return file, key

    async def _retire(self, owner: str, id: str, key: str) -> bool:
        """Removes a file's row and then its bytes; whether the row was there."""
        loosen = Statement(_LOOSEN, self._loose(owner, key))
        try:
            delete = Statement(_DELETE, (owner, id, key), 1)
            await self._database.transaction([delete, loosen, *file_deleted(owner, id)])
        except Mismatch:
            return False
        await self._remove(owner, key)
        return True

    async def _remove(self, owner: str, key: str) -> bool:
        """Removes bytes that belong to nobody, and forgets them; whether that could be done now."""
        try:
            await self._blobs.delete(key)
            await self._database.execute(_TIE, (owner, key))
        except ApiError as error:
            log.warning("bytes of a file stay for the next clean-up", extra={"exception": error.message})
            return False
        return True

    def _loose(self, owner: str, key: str) -> Row:
        return (owner, key, _ms(self._clock()), self._workers and self._workers.id)

    def _now(self) -> int:
        return int(self._clock())


def _ms(time_s: float) -> int:
    """Finer than a second: a server is up again in less, and must tell its own uploads from those that were cut off."""
    return int(time_s * 1000)


def _file(row: Row) -> File:
    id, created_at, expires_at, purpose, filename, size, _ = row
    return File(id=id, created_at=created_at, expires_at=expires_at, purpose=purpose, filename=filename, bytes=size)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece
