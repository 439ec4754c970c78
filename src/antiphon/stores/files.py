"""Files: a row each, and their bytes in the blob storage. `contents` sees to it that neither is without the other."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence

from antiphon.clock import Clock
from antiphon.errors import ApiError, Conflict
from antiphon.stores.blobs import Blobs
from antiphon.stores.contents import AT_ONCE, LOOSE_S_MAX, Contents
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import Listing, Table, not_found
from antiphon.stores.vector_files import file_deleted
from antiphon.stores.workers import Workers
from antiphon.wire.base import Page
from antiphon.wire.files import File, FileListQuery
from antiphon.wire.responses import ListQuery

FILES = Table("files")

log = logging.getLogger("antiphon.stores")

_COLUMNS = "id, created_at, expires_at, purpose, filename, bytes, content"
_INSERT = FILES.insert(_COLUMNS)
_GET = FILES.select(_COLUMNS)
_DELETE = FILES.delete("id = ? AND content = ?")
_LIVE = "(expires_at IS NULL OR expires_at > ?)"
# Every owner's: what no tenant asks for and none sees.
_EXPIRED = "SELECT owner, id, content FROM files WHERE expires_at <= ? LIMIT ?"


class Files:
    """The files of all owners, one owner at a time. A foreign, missing or expired id raises `NotFound`."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, *, workers: Workers | None = None) -> None:
        self._database = database
        self._clock = clock
        self.contents = Contents(database, blobs, clock, workers=workers)

    async def create(
        self,
        owner: str,
        content: AsyncIterator[bytes],
        describe: Callable[[int], File],
        *,
        along: Sequence[Statement] = (),
    ) -> File:
        """Stores the content, then the file that `describe` makes of its size. If either raises, nothing is kept.

        `along` is written in the same transaction; what it raises is passed on, with the index of the statement among
        `along`. Raises `Conflict` if the file's id is taken.
        """
        made: list[File] = []

        def rows(key: str, size: int) -> Sequence[Statement]:
            file = describe(size)
            made.append(file)
            row = (owner, file.id, file.created_at, file.expires_at, file.purpose, file.filename, file.bytes, key)
            return [*along, Statement(_INSERT, row)]

        try:
            await self.contents.put(owner, content, rows)
        except Duplicate as error:
            if error.index < len(along):
                raise
            raise Conflict(f"A file with id '{made[0].id}' exists already.") from error
        await self.clean(self._clock() - LOOSE_S_MAX)
        return made[0]

    async def get(self, owner: str, id: str) -> File:
        """The file."""
        return (await self._find(owner, id))[0]

    async def read(self, owner: str, id: str, start: int = 0, *, length: int | None = None) -> AsyncIterator[bytes]:
        """A file's bytes, all or from `start` on. Raises `NotFound` also if the storage has lost them."""
        file, key = await self._find(owner, id)
        rest = max(0, file.bytes - start)
        wanted = rest if length is None else min(length, rest)
        if wanted == file.bytes:
            return await self.contents.read(key)
        return await self.contents.read(key, start, wanted) if wanted else _nothing()

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
            while expired := await self._database.all(_EXPIRED, (self._now(), AT_ONCE)):
                for owner, id, key in expired:
                    await self._retire(owner, id, key)
            await self.contents.sweep(loose_before_s)
        except ApiError as error:
            log.warning("files were not cleaned up", extra={"exception": error.message})

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
        loosen = self.contents.loosened(owner, key)
        try:
            delete = Statement(_DELETE, (owner, id, key), 1)
            await self._database.transaction([delete, loosen, *file_deleted(owner, id)])
        except Mismatch:
            return False
        await self.contents.remove(owner, key)
        return True

    def _now(self) -> int:
        return int(self._clock())


def _file(row: Row) -> File:
    id, created_at, expires_at, purpose, filename, size, _ = row
    return File(id=id, created_at=created_at, expires_at=expires_at, purpose=purpose, filename=filename, bytes=size)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece
