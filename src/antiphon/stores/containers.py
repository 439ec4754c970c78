"""Containers: a row each, a row for each of their files, and the files' bytes in the blob storage.

What a container's interpreter knows is not kept.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from antiphon.clock import Clock
from antiphon.errors import ApiError, Conflict, NotFound
from antiphon.stores.blobs import Blobs
from antiphon.stores.contents import Contents
from antiphon.stores.database import Database, Duplicate, Mismatch, Row, Statement
from antiphon.stores.table import Listing, Table, not_found
from antiphon.stores.workers import Workers
from antiphon.wire.base import Page
from antiphon.wire.containers import (
    FOLDER,
    Container,
    ContainerFile,
    ContainerFileListQuery,
    ContainerListQuery,
    ExpiresAfter,
)
from antiphon.wire.responses import ListQuery

CONTAINERS = Table("containers")
FILES = Table("container_files")
EXPIRED_KEPT_S: Final = 86_400
"""How long it is remembered of a container that it expired; its files go at once."""
_AT_ONCE: Final = 100

log = logging.getLogger("antiphon.stores")

_COLUMNS = "id, created_at, name, minutes, last_active_at, memory_limit, runs"
_USED = "last_active_at = ?, expires_at = ? + 60 * minutes, emptied = 0"
_INSERT = CONTAINERS.insert(f"{_COLUMNS}, expires_at, emptied, busy_until_ms")
_GET = CONTAINERS.select(_COLUMNS)
_DELETE = CONTAINERS.delete()
_CLAIM = CONTAINERS.update(f"busy_until_ms = ?, {_USED}", "id = ? AND busy_until_ms < ?")
_RELEASE = CONTAINERS.update(f"busy_until_ms = 0, runs = runs + ?, {_USED}", "id = ? AND busy_until_ms = ?")
_USE = CONTAINERS.update(_USED)
_EMPTIED = CONTAINERS.update("emptied = 1")
_FILE_COLUMNS = "id, container, path, bytes, created_at, source, content"
_ADD_FILE = FILES.insert(_FILE_COLUMNS)
_FILE = FILES.select(_FILE_COLUMNS, "container = ? AND id = ?")
_AT_PATH = FILES.select(_FILE_COLUMNS, "container = ? AND path = ?")
_ALL_FILES = FILES.select(_FILE_COLUMNS, "container = ? ORDER BY position")
_DROP_FILE = FILES.delete("container = ? AND id = ? AND content = ?")
# Every owner's: what no tenant asks for and none sees.
_EXPIRED = "SELECT owner, id FROM containers WHERE expires_at <= ? AND emptied = 0 LIMIT ?"
_CLEAN = "SELECT owner, id FROM containers WHERE expires_at <= ? LIMIT ?"


class Claimed(Struct, frozen=True, kw_only=True):
    """A container that is somebody's to run something in. `runs` counts what was run in it before."""

    container: Container
    runs: int
    until_ms: int


class Kept(Struct, frozen=True, kw_only=True):
    """A container's file and the key of its bytes."""

    file: ContainerFile
    content: str


class Containers:
    """The containers of all owners, one owner at a time. A foreign, missing or deleted id raises `NotFound`.

    An expired container can still be looked at for a while; all else raises `NotFound` for it.
    """

    def __init__(self, database: Database, blobs: Blobs, clock: Clock, *, workers: Workers | None = None) -> None:
        self._database = database
        self._contents = Contents(database, blobs, clock, workers=workers)
        self._clock = clock

    # ------------------------------------------------------------ containers

    async def create(self, owner: str, container: Container) -> None:
        """Stores a new container. Raises `Conflict` for an id that is taken."""
        minutes = container.expires_after.minutes
        row = (container.id, container.created_at, container.name, minutes, container.last_active_at)
        try:
            expires_at = container.last_active_at + 60 * minutes
            await self._database.execute(_INSERT, (owner, *row, container.memory_limit, 0, expires_at, 0, 0))
        except Duplicate as error:
            raise Conflict(f"A container with id '{container.id}' exists already.") from error

    async def get(self, owner: str, id: str) -> Container:
        """The container, whether expired or not."""
        return (await self._find(owner, id))[0]

    async def live(self, owner: str, id: str) -> Container:
        """The container. Raises `NotFound` for an expired one."""
        container = await self.get(owner, id)
        if container.status == "expired":
            raise NotFound(f"Container with id '{id}' is expired.", code="container_expired")
        return container

    async def list(self, owner: str, query: ContainerListQuery) -> Page[Container]:
        """A page of containers, the newest first unless the query wants them otherwise."""
        where, params = ("name = ?", (query.name,)) if query.name is not None else ("", ())
        paging = ListQuery(limit=query.limit, order=query.order, after=query.after)
        listing = Listing(owner=owner, query=paging, where=where, params=params)
        rows, has_more = await CONTAINERS.page(self._database, _COLUMNS, listing)
        first, last = (rows[0][0], rows[-1][0]) if rows else (None, None)
        containers = [self._container(row) for row in rows]
        return Page(data=containers, first_id=first, last_id=last, has_more=has_more)

    async def delete(self, owner: str, id: str) -> None:
        """Removes the container, then its files."""
        await self.get(owner, id)
        for kept in await self.kept(owner, id):
            await self._drop(owner, kept)
        if not await self._database.execute(_DELETE, (owner, id)):
            raise not_found("Container", id)

    async def revive(self, owner: str, id: str) -> None:
        """An expired container begins anew, without its files."""
        container, _ = await self._find(owner, id)
        if container.status == "running":
            return
        for kept in await self.kept(owner, id):
            await self._drop(owner, kept)
        await self._database.execute(_USE, (*self._used(), owner, id))

    async def claim(self, owner: str, id: str, busy_s: float) -> Claimed:
        """Reserves the container for a run that takes at most so long. Raises `Conflict` while another has it."""
        await self.live(owner, id)
        now_s = self._clock()
        until_ms = int((now_s + busy_s) * 1000)
        changed = await self._database.execute(_CLAIM, (until_ms, *self._used(), owner, id, int(now_s * 1000)))
        container, runs = await self._find(owner, id)
        if not changed:
            message = f"Something else is being run in container '{id}'; try again when it has ended."
            raise Conflict(message, code="container_busy")
        return Claimed(container=container, runs=runs, until_ms=until_ms)

    async def release(self, owner: str, claimed: Claimed, *, ran: bool) -> None:
        """Ends a claim; `ran`: something was run."""
        parameters = (int(ran), *self._used(), owner, claimed.container.id, claimed.until_ms)
        await self._database.execute(_RELEASE, parameters)

    # ------------------------------------------------------------ files

    async def put_file(self, owner: str, file: ContainerFile, content: AsyncIterator[bytes]) -> ContainerFile:
        """Stores a file, in the place of what was at its path; returns it with its size.

        If that fails, nothing is kept. Raises `NotFound` if its container is gone.
        """
        container = file.container_id
        await self.live(owner, container)
        row = await self._database.one(_AT_PATH, (owner, container, file.path))
        before = None if row is None else _kept(row)
        stored = file

        def rows(key: str, size: int) -> Sequence[Statement]:
            nonlocal stored
            stored = replace(file, bytes=size)
            added = (owner, file.id, container, file.path, size, file.created_at, file.source, key)
            used = Statement(_USE, (*self._used(), owner, container), 1)
            return [*(self._dropping(owner, before) if before else ()), Statement(_ADD_FILE, added), used]

        try:
            await self._contents.put(owner, content, rows)
        except (Duplicate, Mismatch) as error:
            raise Conflict(f"The container or its file at '{file.path}' changed meanwhile; try again.") from error
        if before is not None:
            await self._contents.remove(owner, before.content)
        return stored

    async def kept(self, owner: str, container: str) -> Sequence[Kept]:
        """All files of a container, and where their bytes are."""
        return [_kept(row) for row in await self._database.all(_ALL_FILES, (owner, container))]

    async def list_files(self, owner: str, container: str, query: ContainerFileListQuery) -> Page[ContainerFile]:
        """A page of a container's files."""
        await self.live(owner, container)
        paging = ListQuery(limit=query.limit, order=query.order, after=query.after)
        listing = Listing(owner=owner, query=paging, where="container = ?", params=(container,))
        rows, has_more = await FILES.page(self._database, _FILE_COLUMNS, listing)
        first, last = (rows[0][0], rows[-1][0]) if rows else (None, None)
        return Page(data=[_kept(row).file for row in rows], first_id=first, last_id=last, has_more=has_more)

    async def get_file(self, owner: str, container: str, id: str) -> Kept:
        """One file."""
        await self.live(owner, container)
        row = await self._database.one(_FILE, (owner, container, id))
        if row is None:
            raise not_found("Container file", id)
        return _kept(row)

    async def read(self, kept: Kept) -> AsyncIterator[bytes]:
        """A file's bytes. Raises `NotFound` if the storage has lost them."""
        return await self._contents.read(kept.content)

    async def delete_file(self, owner: str, container: str, id: str) -> None:
        """Removes a file."""
        if not await self._drop(owner, await self.get_file(owner, container, id)):
            raise not_found("Container file", id)

    # ------------------------------------------------------------ what is over

    async def clean(self) -> None:
        """Removes the files of expired containers, and containers that expired long ago; several may do this at once.

        Never raises for a storage or database that is away.
        """
        now = int(self._clock())
        try:
            while expired := await self._database.all(_EXPIRED, (now, _AT_ONCE)):
                for owner, id in expired:
                    for kept in await self.kept(owner, id):
                        await self._drop(owner, kept)
                    await self._database.execute(_EMPTIED, (owner, id))
            for owner, id in await self._database.all(_CLEAN, (now - EXPIRED_KEPT_S, _AT_ONCE)):
                await self._database.execute(_DELETE, (owner, id))
        except ApiError as error:
            log.warning("containers were not cleaned up", extra={"exception": error.message})

    def _used(self) -> tuple[int, int]:
        now = int(self._clock())
        return now, now

    async def _find(self, owner: str, id: str) -> tuple[Container, int]:
        row = await self._database.one(_GET, (owner, id))
        if row is None:
            raise not_found("Container", id)
        return self._container(row), row[6]

    def _container(self, row: Row) -> Container:
        id, created_at, name, minutes, last_active_at, memory_limit, _ = row
        return Container(
            id=id,
            created_at=created_at,
            name=name,
            status="expired" if last_active_at + 60 * minutes <= self._clock() else "running",
            expires_after=ExpiresAfter(anchor="last_active_at", minutes=minutes),
            last_active_at=last_active_at,
            memory_limit=memory_limit,
        )

    async def _drop(self, owner: str, kept: Kept) -> bool:
        """Removes a file's row and then its bytes; whether the row was there."""
        try:
            await self._database.transaction(self._dropping(owner, kept))
        except Mismatch:
            return False
        await self._contents.remove(owner, kept.content)
        return True

    def _dropping(self, owner: str, kept: Kept) -> Sequence[Statement]:
        file = kept.file
        drop = Statement(_DROP_FILE, (owner, file.container_id, file.id, kept.content), 1)
        return [drop, self._contents.loosened(owner, kept.content)]


def inside(path: str) -> str:
    """A file's path below the container's folder."""
    return path.removeprefix(f"{FOLDER}/")


def _kept(row: Row) -> Kept:
    id, container, path, size, created_at, source, content = row
    file = ContainerFile(id=id, bytes=size, container_id=container, created_at=created_at, path=path, source=source)
    return Kept(file=file, content=content)
